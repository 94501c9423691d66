"""Write files atomically: a run that fails leaves the file that was there before."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import IO

from imgindex.storage.paths import absolute

STANDARD = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
# Links that the system follows before it gives up.
LINKS = 40


@contextlib.contextmanager
def replacing(path: str, *, approve: Callable[[str], None] = lambda temporary: None) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing, and rename it to `path` when the block ends without an exception.

    A pipe or a device, such as /dev/stdout, is written to directly. approve: called with the name of the complete
    temporary file before it is renamed; the file at `path` stays if it raises. Raises OSError as `open` does, with
    `path` as the name of the file.
    """
    try:
        with _replacing(absolute(path), approve) as file:
            yield file
    except OSError as error:
        if error.errno is None:
            raise
        # Name the file of the caller, not the temporary one.
        raise OSError(error.errno, error.strerror, path) from error


def is_stream(path: str) -> bool:
    """Whether a path names a pipe, a character device or an open file of this process, such as /dev/stdout."""
    if descriptor_of(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def descriptor_of(path: str) -> int | None:
    """Return the number of the open file of this process that a path such as /dev/stdout or /dev/fd/3 names, or None.

    stdout may be a regular file that a shell has opened for appending: the system would open it again, and empty it.
    """
    pattern = rf"/dev/fd/(\d+)|/proc/(?:self|thread-self|{os.getpid()})/fd/(\d+)"
    for _ in range(LINKS):
        path = os.path.abspath(path)
        if path in STANDARD:
            return STANDARD[path]
        if match := re.fullmatch(pattern, path):
            return int(match[1] or match[2])
        try:
            path = os.path.join(os.path.dirname(path), os.readlink(path))
        except (OSError, ValueError):
            return None
    return None


@contextlib.contextmanager
def _replacing(path: str, approve: Callable[[str], None]) -> Iterator[IO[bytes]]:
    number = descriptor_of(path)
    if number is not None or (os.path.exists(path) and not os.path.isfile(path)):
        with open(path if number is None else os.dup(number), "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    descriptor, temporary = tempfile.mkstemp(prefix=".imgindex-", dir=os.path.dirname(target))
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        approve(temporary)
        # mkstemp creates files that only their owner can read.
        os.chmod(temporary, _mode(target))
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask
