"""Files that appear when they are whole: a run that fails leaves what was there before."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Open a file for writing that takes the place of `path` when the block ends well.

    What is no regular file (a pipe, /dev/stdout) is written to directly. Raises OSError as `open` does, naming `path`.
    """
    try:
        with _replacing(path) as file:
            yield file
    except OSError as error:
        if error.errno is None:
            raise
        # By the name that the caller knows, not by that of a file of ours.
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
        # mkstemp makes files that only their owner can read.
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
