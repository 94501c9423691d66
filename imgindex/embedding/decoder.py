"""One process that decodes, seen from the process that it works for: how it starts, is asked, and ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from io import FileIO
from typing import IO, Any

from imgindex.embedding import worker
from imgindex.errors import DecoderUnavailable, UnreadableImage
from imgindex.types import Pixels

LONGEST_TEXT = 4096
# A process keeps time by itself; this much later it is taken for lost.
GRACE = 30.0
# One processor for each process; threads of a decoder with a heap each would use its memory up; and a sixth of the time
# of a WebP went into memory that glibc gave back to the system after each picture.
SURROUNDINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}
# Room for a whole picture, which is a twentieth faster than one that both ends take turns to fill and to empty.
PIPE_BYTES = 1 << 20
NONSENSE = "the decoder gave an answer that makes no sense"


@dataclass(frozen=True, slots=True)
class Limits:
    """What decoding one picture may take: seconds of time, and bytes of memory with its process."""

    seconds: float = 60.0
    memory: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture as the network sees it, uint8 (side, side, 3), and of its file: upright width, height, and format."""

    pixels: Pixels
    width: int
    height: int
    format: str


class Died(Exception):
    """A decoder ended, or had to be ended, in the middle of a picture; late says that it took too long."""

    def __init__(self, reason: str, *, late: bool = False) -> None:
        super().__init__(reason)
        self.late = late


class Decoder:
    """One process that decodes, used by one thread at a time; `used` once it has answered for a picture."""

    def __init__(self, settings: bytes, limits: Limits, side: int) -> None:
        self.used = False
        self._ready = False
        self._limits = limits
        self._side = side
        self._process = _popen()
        self._stdin, self._stdout = _pipe(self._process.stdin), _pipe(self._process.stdout)
        with contextlib.suppress(Died):  # the first picture will tell
            self._send(worker.REQUEST.pack(len(settings)) + settings)

    def ask(self, data: bytes, turn: threading.Lock) -> Decoded:
        if not self._ready:
            self._await_ready()
        self._send(worker.REQUEST.pack(len(data)))
        self._send(data)
        kind, text = self._receive()
        if kind != worker.LARGE:
            return self._understand(kind, text)
        with turn:
            self._send(b"\1")
            return self._understand(*self._receive())

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Kill the process and let go of it; nobody may be using it."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)

    def _await_ready(self) -> None:
        try:
            kind, text = self._receive()
        except Died as death:
            kind, text = worker.NOT_READY, str(death)
        if kind != worker.READY:
            raise DecoderUnavailable(f"the process that decodes images does not start: {text}")
        self._ready = True

    def _understand(self, kind: bytes, text: str) -> Decoded:
        if kind == worker.UNREADABLE:
            self.used = True
            raise UnreadableImage(text)
        about = _about(text)
        if kind != worker.PICTURE or about is None:
            raise Died(NONSENSE)
        import numpy as np

        pixels = np.empty((self._side, self._side, 3), dtype=np.uint8)
        self._read(pixels.data.cast("B"))
        self.used = True
        return Decoded(pixels, about["width"], about["height"], about["format"])

    def _receive(self) -> tuple[bytes, str]:
        head = bytearray(worker.REPLY.size)
        self._read(memoryview(head))
        kind, length = worker.REPLY.unpack(head)
        if length > LONGEST_TEXT:
            raise Died(NONSENSE)
        text = bytearray(length)
        self._read(memoryview(text))
        return kind, text.decode(errors="replace")

    def _send(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self._wait_for(self._stdin, select.POLLOUT)
            try:
                left = left[self._stdin.write(left) or 0 :]
            except BrokenPipeError:
                raise self._death() from None

    def _read(self, into: memoryview) -> None:
        while into:
            self._wait_for(self._stdout, select.POLLIN)
            count = self._stdout.readinto(into)
            if count == 0:
                raise self._death()
            into = into[count or 0 :]

    def _wait_for(self, pipe: FileIO, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll((self._limits.seconds + GRACE) * 1000):
            raise Died("the decoder does not answer any more", late=True)

    def _death(self) -> Died:
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return Died(NONSENSE)
        if status == worker.OUT_OF_MEMORY:
            return Died(f"not enough memory to decode it (limit {self._limits.memory / 2**30:.3g} GiB)")
        if status >= 0:
            return Died(f"the decoder ended by itself (exit status {status})")
        if status == -getattr(signal, "SIGALRM", 0):
            return Died(f"decoding took more than {self._limits.seconds:g} s", late=True)
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        if name == "SIGKILL":
            return Died("the decoder was killed (SIGKILL), as the system does when memory runs out")
        return Died(f"the decoder crashed ({name})")


def _popen() -> subprocess.Popen[bytes]:
    if not sys.executable or getattr(sys, "frozen", False):
        hint = "run imgindex with an ordinary Python; this one is part of another program"
        raise DecoderUnavailable("there is no Python that images could be decoded in", hint=hint)
    # As strict with its surroundings as this one was started to be.
    strict = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    environment = {**os.environ, **SURROUNDINGS}
    try:
        return subprocess.Popen(
            [sys.executable, *(flag for flag, given in strict.items() if given), os.path.abspath(worker.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            # Ctrl-C and Ctrl-Z in a terminal are for this process; a stopped worker's time would run out.
            start_new_session=True,
        )
    except OSError as error:
        raise DecoderUnavailable(f"no process can be started to decode images in: {error.strerror}") from error


def _pipe(stream: IO[bytes] | None) -> FileIO:
    assert isinstance(stream, FileIO)
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(ImportError, AttributeError, OSError):  # Linux has this, and not for everybody
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return stream


def _about(text: str) -> dict[str, Any] | None:
    """What a worker says of a picture, if it has the form that ours give it."""
    try:
        about = json.loads(text)
        width, height, name = about["width"], about["height"], about["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    sizes = all(type(size) is int and 0 < size < 2**31 for size in (width, height))
    return about if sizes and isinstance(name, str) and len(name) <= 64 else None
