"""One decoder process as its parent sees it: starts it, sends it files, reads its replies, explains its death.

`worker.py` is what runs inside the process.
"""

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

from imgindex.decoding import worker
from imgindex.errors import DecoderUnavailable, UnreadableImage
from imgindex.types import Pixels

MAX_TEXT_BYTES = 4096
# A process ends itself when an image takes too long. If it is silent for this many seconds more, it is given up.
GRACE = 30.0
# OMP, OPENBLAS: each process has one processor. ARENA_MAX: a heap for every thread would use up its memory.
# MMAP, TRIM: otherwise glibc returns memory to the system after each picture, a sixth of the time of a WebP.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}
# Room for all pixels of a reply: 5 % faster than a pipe that both ends fill and empty in turns.
PIPE_BYTES = 1 << 20
INVALID_REPLY = "the decoder sent an invalid reply"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding one image may take: seconds of time, and bytes of memory for the whole process."""

    seconds: float = 60.0
    memory: int = 4 << 30


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The pixels that the network sees, uint8 (side, side, 3), and the upright width, height and format of the file.

    is_transparent: whether the file has pixels that are not opaque. blank: whether the picture has one colour, or
    nearly so. hashes: see `perceptual_hash.hashes`, and `blank.digest_of_file` for a blank one. Empty and False where
    the pool does not compute them.
    """

    pixels: Pixels
    width: int
    height: int
    format: str
    is_transparent: bool = False
    hashes: bytes = b""
    blank: bool = False


class DecoderDied(Exception):
    """A decoder process ended, or had to be ended, during an image; `timed_out`: because it took too long."""

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class DecoderProcess:
    """One process that decodes, used by one thread at a time; `used` is True after its first reply to an image."""

    def __init__(self, settings: bytes, limits: DecodeLimits, side: int) -> None:
        self.used = False
        self._ready = False
        self._limits = limits
        self._side = side
        self._process = _start_worker()
        self._stdin, self._stdout = _nonblocking(self._process.stdin), _nonblocking(self._process.stdout)
        with contextlib.suppress(DecoderDied):  # the first image raises it again
            self._send(worker.REQUEST.pack(len(settings)) + settings)

    def decode(self, data: bytes, large_image_lock: threading.Lock) -> DecodedImage:
        """Return the picture in a file's bytes; an image of more than LARGE_PIXELS waits for the lock first.

        Raises UnreadableImage, DecoderDied, or DecoderUnavailable if the process never became ready.
        """
        if not self._ready:
            self._await_ready()
        self._send(worker.REQUEST.pack(len(data)))
        self._send(data)
        kind, text = self._receive()
        if kind != worker.LARGE:
            return self._picture(kind, text)
        with large_image_lock:
            self._send(b"\1")
            return self._picture(*self._receive())

    def kill(self) -> None:
        """Kill the process; a thread that waits for it gets DecoderDied."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and release its pipes; no thread may be using it."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)

    def _await_ready(self) -> None:
        try:
            kind, text = self._receive()
        except DecoderDied as death:
            kind, text = worker.NOT_READY, str(death)
        if kind != worker.READY:
            raise DecoderUnavailable(f"the process that decodes images does not start: {text}")
        self._ready = True

    def _picture(self, kind: bytes, text: str) -> DecodedImage:
        """Return the picture that a reply announces, whose pixels are read here, or raise what the reply says."""
        if kind == worker.UNREADABLE:
            self.used = True
            reason, _, decoder = text.partition("\n")
            raise UnreadableImage(reason, decoder=decoder)
        header = _parsed_header(text)
        if kind != worker.PICTURE or header is None:
            raise DecoderDied(INVALID_REPLY)
        import numpy as np

        pixels = np.empty((self._side, self._side, 3), dtype=np.uint8)
        self._read(pixels.data.cast("B"))
        self.used = True
        return DecodedImage(pixels, **header)

    def _receive(self) -> tuple[bytes, str]:
        head = bytearray(worker.REPLY.size)
        self._read(memoryview(head))
        kind, length = worker.REPLY.unpack(head)
        if length > MAX_TEXT_BYTES:
            raise DecoderDied(INVALID_REPLY)
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
            raise DecoderDied("the decoder does not answer any more", timed_out=True)

    def _death(self) -> DecoderDied:
        """Return the reason why the process ended, by its exit status."""
        try:
            status = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return DecoderDied(INVALID_REPLY)
        if status == worker.OUT_OF_MEMORY:
            return DecoderDied(f"not enough memory to decode it (limit {self._limits.memory / 2**30:.3g} GiB)")
        if status >= 0:
            return DecoderDied(f"the decoder ended by itself (exit status {status})")
        if status == -getattr(signal, "SIGALRM", 0):
            return DecoderDied(f"decoding took more than {self._limits.seconds:g} s", timed_out=True)
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        if name == "SIGKILL":
            return DecoderDied("the decoder was killed (SIGKILL), as the system does when memory runs out")
        return DecoderDied(f"the decoder crashed ({name})")


def _start_worker() -> subprocess.Popen[bytes]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise DecoderUnavailable(
            "images are decoded in separate Python processes, but no Python interpreter can be started",
            hint="run imgindex with an ordinary Python; this one is built into another program",
        )
    # The same isolation from the user's environment that this interpreter was started with.
    isolation = {"-I": sys.flags.isolated, "-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site}
    environment = {**os.environ, **ENVIRONMENT}
    try:
        return subprocess.Popen(
            [sys.executable, *(flag for flag, given in isolation.items() if given), os.path.abspath(worker.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            # Ctrl-C and Ctrl-Z in a terminal must reach only the parent: a stopped worker would exceed its time.
            start_new_session=True,
        )
    except OSError as error:
        raise DecoderUnavailable(f"cannot start a process to decode images: {error.strerror}") from error


def _nonblocking(stream: IO[bytes] | None) -> FileIO:
    assert isinstance(stream, FileIO)
    os.set_blocking(stream.fileno(), False)
    with contextlib.suppress(ImportError, AttributeError, OSError):  # only Linux has this, and it has a quota
        import fcntl

        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return stream


def _parsed_header(text: str) -> dict[str, Any] | None:
    """Return what a reply says about a picture; None if it does not have the worker's form."""
    try:
        header = json.loads(text)
        width, height, name = header["width"], header["height"], header["format"]
        flags = {key: bool(header[key]) for key in ("is_transparent", "blank")}
        hashes = bytes.fromhex(header["hashes"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    valid = all(type(length) is int and 0 < length < 2**31 for length in (width, height))
    if not valid or not isinstance(name, str) or len(name) > 64:
        return None
    return {"width": width, "height": height, "format": name, "hashes": hashes, **flags}
