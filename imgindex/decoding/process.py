"""One decoder process as its parent sees it: starts it, sends it tasks, takes what comes of them, explains its death.

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
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from typing import IO, Any

from imgindex.decoding import worker
from imgindex.decoding.sizes import shape_of
from imgindex.errors import DecoderUnavailable, UnreadableImage
from imgindex.recipe import Recipe
from imgindex.sources.base import Content
from imgindex.types import Pixels

# If a process gets no further for so many seconds more than an image may take, it is given up.
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
# Room for a whole file in the pipe to a process: without it, the two ends fill and empty it in turns.
PIPE_BYTES = 1 << 20
# Blocks of shared memory for each process. The pictures of a lot stay in its block until nothing uses them. When all
# other blocks are in use, a lot is done in the first one, and its pictures are copied out of it.
BLOCKS = 4
INVALID_REPLY = "the decoder sent an invalid reply"


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What decoding one image may take: seconds of time, and bytes of memory for the whole process."""

    seconds: float = 60.0
    memory: int = 4 << 30


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The prepared pixels (see `transforms.prepare`), and the upright width, height and format of the file.

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


@dataclass(frozen=True, slots=True)
class Task:
    """What a decoder process does for one image: it reads the file of this machine at `path`, or is given the `data`.

    sha256: the bytes that the file must have. decode: whether to decode it too.
    """

    path: str = ""
    data: bytes = b""
    sha256: bytes = b""
    decode: bool = True


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a task: the file without its data, if the process read it, and the picture, if it decoded it."""

    content: Content | None
    picture: DecodedImage | None


Outcome = Done | UnreadableImage


class DecoderDied(Exception):
    """A decoder process ended, or had to be ended, during a lot; `timed_out`: because an image took too long.

    outcomes: of the tasks before the one that it was at. None: what it sent was invalid, so it could be any task.
    """

    def __init__(self, reason: str, *, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.outcomes: list[Outcome] | None = None


class DecoderProcess:
    """One process that decodes, used by one thread at a time; `used` is True after its first image.

    settings: those of `worker.py`, the recipe among them, without the block of shared memory, which is made here for
    lots of so many tasks.
    """

    def __init__(self, settings: Mapping[str, Any], limits: DecodeLimits, recipe: Recipe, tasks: int) -> None:
        self.used = False
        self._ready = False
        self._limits = limits
        self._recipe = recipe
        picture_bytes = 3 * recipe.side**2
        with _shared_memory(BLOCKS * worker.Block.size(tasks, picture_bytes)) as descriptor:
            self._blocks = [worker.Block(descriptor, tasks, picture_bytes, number) for number in range(BLOCKS)]
            self._process = _start_worker(descriptor)
            shared = {"descriptor": descriptor, "blocks": BLOCKS, "tasks": tasks, "picture_bytes": picture_bytes}
        self._number = 0
        # The pixels in each block but the first, while something uses them.
        self._pixels: list[weakref.ref[Pixels] | None] = [None] * BLOCKS
        self._stdin, self._stdout = _nonblocking(self._process.stdin), _nonblocking(self._process.stdout)
        with contextlib.suppress(DecoderDied):  # the first image raises it again
            self._request({**settings, **shared})

    def work(self, tasks: Sequence[Task], large_image_lock: threading.Lock) -> list[Outcome]:
        """Return what came of each task of a lot; an image of more than LARGE_PIXELS waits for the lock first.

        Raises DecoderDied, or DecoderUnavailable if the process never became ready.
        """
        if not self._ready:
            self._await_ready()
        self._number = self._free_block()
        self._block.state = 0, False
        try:
            self._request({"block": self._number, "tasks": [_task_settings(task) for task in tasks]})
            for task in tasks:
                self._send(task.data)
            while (kind := self._receive()[0]) == worker.LARGE:
                with large_image_lock:
                    self._send(b"\1")
                    self._expect(worker.LARGE_DONE)
            if kind != worker.DONE:
                raise DecoderDied(INVALID_REPLY)
            return self._outcomes(tasks)
        except DecoderDied as death:
            if str(death) != INVALID_REPLY:
                with contextlib.suppress(DecoderDied):
                    death.outcomes = self._outcomes(tasks[: min(max(self._block.state[0], 0), len(tasks) - 1)])
            raise

    def kill(self) -> None:
        """Kill the process; a thread that waits for it gets DecoderDied."""
        self._process.kill()

    def end(self) -> None:
        """Kill the process and release its pipes and memory; no thread may be using it."""
        self._process.kill()
        self._stdin.close()
        self._stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        for block in self._blocks:
            block.close()

    def _await_ready(self) -> None:
        try:
            kind, text = self._receive()
        except DecoderDied as death:
            kind, text = worker.NOT_READY, str(death)
        if kind != worker.READY:
            raise DecoderUnavailable(f"the process that decodes images does not start: {text}")
        self._ready = True

    @property
    def _block(self) -> worker.Block:
        """The block of the lot that the process is at."""
        return self._blocks[self._number]

    def _free_block(self) -> int:
        """Return the number of a block whose pixels nothing uses any more; 0 if there is none."""
        for number, pixels in enumerate(self._pixels[1:], start=1):
            if pixels is None or pixels() is None:
                return number
        return 0

    def _outcomes(self, tasks: Sequence[Task]) -> list[Outcome]:
        """Return what came of the first tasks of a lot. Raises DecoderDied for what the worker cannot have left."""
        import numpy as np

        count = len(tasks) if any(task.decode for task in tasks) else 0
        pixels = np.frombuffer(self._block.pixels(count), np.uint8)
        if self._number:
            self._pixels[self._number] = weakref.ref(pixels)
        else:
            # The process writes the pixels of another lot in their place.
            pixels = pixels.copy()
        lot = pixels.reshape(-1, 3 * self._recipe.side**2)
        pictures = lot if count else [lot] * len(tasks)
        # One text, because a call of the parser costs more than what it reads of an image.
        texts = ",".join([self._block.text(task) for task in range(len(tasks))])
        try:
            outcomes = json.loads(f"[{texts}]")
            found = [
                _outcome(outcome, task, pixels, self._recipe)
                for outcome, task, pixels in zip(outcomes, tasks, pictures, strict=True)
            ]
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DecoderDied(INVALID_REPLY) from None
        self.used = self.used or bool(found)
        return found

    def _request(self, message: Any) -> None:
        text = json.dumps(message).encode()
        self._send(worker.REQUEST.pack(len(text)) + text)

    def _expect(self, expected: bytes) -> None:
        if self._receive()[0] != expected:
            raise DecoderDied(INVALID_REPLY)

    def _receive(self) -> tuple[bytes, str]:
        head = bytearray(worker.REPLY.size)
        self._read(memoryview(head))
        kind, length = worker.REPLY.unpack(head)
        if length > worker.Block.TEXT_BYTES:
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
        """Wait for a pipe. Raises DecoderDied if the process gets no further with one image for too long."""
        poll = select.poll()
        poll.register(pipe, event)
        before = self._block.state
        while not poll.poll((self._limits.seconds + GRACE) * 1000):
            now = self._block.state
            # A file may be read from a slow network: that takes as long as it takes.
            if now == before and not now[1]:
                raise DecoderDied("the decoder does not answer any more", timed_out=True)
            before = now

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


def _start_worker(descriptor: int) -> subprocess.Popen[bytes]:
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
            pass_fds=[descriptor],
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


@contextmanager
def _shared_memory(size: int) -> Iterator[int]:
    """Lend the number of a file without a name, of so many zeros, that uses memory only where something is written."""
    try:
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("imgindex-decoder")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
    except OSError as error:
        raise DecoderUnavailable(f"cannot share memory with a decoder: {error.strerror}") from error
    try:
        os.ftruncate(descriptor, size)
        yield descriptor
    finally:
        os.close(descriptor)


def _task_settings(task: Task) -> dict[str, Any]:
    settings: dict[str, Any] = {"decode": task.decode}
    if task.path:
        settings["path"] = task.path
        if task.sha256:
            settings["sha256"] = task.sha256.hex()
    else:
        settings["bytes"] = len(task.data)
    return settings


def _outcome(outcome: dict[str, Any], task: Task, pixels: Pixels, recipe: Recipe) -> Outcome:
    """Return what a process left of a task. Raises ValueError, TypeError or KeyError for what no worker leaves."""
    if "failure" in outcome:
        stage, reason, decoder = map(str, outcome["failure"])
        return UnreadableImage(reason, stage=stage, decoder=decoder)
    if ("file" in outcome) != bool(task.path) or ("picture" in outcome) != task.decode:
        raise ValueError
    content = _content(*outcome["file"]) if task.path else None
    return Done(content, _picture(pixels, recipe, **outcome["picture"]) if task.decode else None)


def _content(size: int, mtime_ns: int, ctime_ns: int, inode: int, sha256: str) -> Content:
    return Content(b"", bytes.fromhex(sha256), int(size), int(mtime_ns), int(ctime_ns), int(inode))


def _picture(
    pixels: Pixels,
    recipe: Recipe,
    *,
    width: int,
    height: int,
    format: str,
    hashes: str,
    is_transparent: bool,
    blank: bool,
) -> DecodedImage:
    if type(width) is not int or type(height) is not int or not (0 < width < 2**31 and 0 < height < 2**31):
        raise ValueError
    if len(format) > 64:
        raise ValueError
    shape = shape_of(recipe, width, height)
    own = pixels[: shape[0] * shape[1] * shape[2]].reshape(shape)
    if own.nbytes < pixels.nbytes:
        # Otherwise a small picture would keep the memory of the largest one.
        own = own.copy()
    return DecodedImage(own, width, height, str(format), bool(is_transparent), bytes.fromhex(hashes), bool(blank))
