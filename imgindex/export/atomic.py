"""Write files atomically: a run that fails leaves the file that was there before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Open a temporary file for writing, and rename it to `path` when the block ends without an exception.

    A pipe or a device, such as /dev/stdout, is written to directly. Raises OSError as `open` does, with `path` as the
    name of the file.
    """
    try:
        with _replacing(path) as file:
            yield file
    except OSError as error:
        if error.errno is None:
            raise
        # Name the file of the caller, not the temporary one.
        raise OSError(error.errno, error.strerror, path) from error


@contextlib.contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as file:
            yield file
        return
    target = os.path.realpath(path)
    descriptor, temporary = tempfile.mkstemp(prefix=".imgindex-", dir=os.path.dirname(target))
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
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
