"""The program of a decoder process: reads image files, or gets their bytes, and decodes them for its parent.

`process.py` runs this file by its path, so that neither the parent's main module nor the current folder is imported.
If a file makes a decoder hang, crash or run out of memory, this process ends, and the parent loses that one image.

A request is the length of a text, and the text: JSON. The first one is the settings, each other one a lot of tasks and
the number of a block of memory that the parent shares (`Block`). A task names a file to read, or gives the number of
bytes that follow the text. What comes of a task, JSON too, and its pixels are left in the block. So is the number of
the task that the process is at, by which the parent knows which file ended it. A reply is its kind and the length of a
text, and the text. DONE says that all tasks of a lot are done. For an image of more than LARGE_PIXELS the worker first
replies LARGE, decodes it after it has received one byte, and replies LARGE_DONE.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import mmap
import os
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

REQUEST = struct.Struct("!Q")
REPLY = struct.Struct("!cI")
READY, NOT_READY, DONE, LARGE, LARGE_DONE = b"R", b"N", b"D", b"L", b"l"
OUT_OF_MEMORY = 75  # an exit status
LARGE_PIXELS = 64 * 1024**2
# Characters of a reason; JSON may write each of them as six bytes.
MAX_REASON = 600


class Block:
    """Memory that a decoder process and its parent share: how far a lot has come, and a text and pixels for each task.

    tasks: how many a lot may have. number: which one of the blocks in the file. A process has several, because the
    pictures of a lot may stay where they are until the network has had them. It can write to the block of the lot that
    it is at only, so one that a file has corrupted changes nothing else.
    """

    STATE = struct.Struct("=qq")  # the number of the task, and whether its file is being read
    LENGTH = struct.Struct("=I")
    TEXT_BYTES = 4096

    def __init__(self, descriptor: int, tasks: int, picture_bytes: int, number: int) -> None:
        size = self.size(tasks, picture_bytes)
        self._memory = mmap.mmap(descriptor, size, offset=number * size)
        self._texts = self.STATE.size
        self._pixels = self._texts + tasks * (self.LENGTH.size + self.TEXT_BYTES)
        self._picture_bytes = picture_bytes

    @classmethod
    def size(cls, tasks: int, picture_bytes: int) -> int:
        """Return how many bytes the block of so many tasks has: whole pages."""
        size = cls.STATE.size + tasks * (cls.LENGTH.size + cls.TEXT_BYTES + picture_bytes)
        return -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY

    @contextlib.contextmanager
    def writable(self) -> Iterator[None]:
        """Let this process write to the block only within the context."""
        self.protect(mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            yield
        finally:
            self.protect(mmap.PROT_READ)

    def protect(self, access: int) -> None:
        """Let this process only read the block (PROT_READ), or write to it too, where the system can do that."""
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import ctypes

            start = ctypes.byref(ctypes.c_char.from_buffer(self._memory))
            ctypes.CDLL(None).mprotect(start, ctypes.c_size_t(len(self._memory)), access)

    @property
    def state(self) -> tuple[int, bool]:
        """The number of the task that the process is at, and whether it is reading that task's file."""
        task, is_reading = self.STATE.unpack_from(self._memory)
        return task, bool(is_reading)

    @state.setter
    def state(self, state: tuple[int, bool]) -> None:
        self.STATE.pack_into(self._memory, 0, *state)

    def put(self, task: int, text: str) -> None:
        """Leave the text of a task, cut to TEXT_BYTES."""
        data = text.encode(errors="replace")[: self.TEXT_BYTES]
        at = self._texts + task * (self.LENGTH.size + self.TEXT_BYTES)
        self.LENGTH.pack_into(self._memory, at, len(data))
        self._memory[at + self.LENGTH.size : at + self.LENGTH.size + len(data)] = data

    def text(self, task: int) -> str:
        """Return the text of a task; nothing if its length cannot be right."""
        at = self._texts + task * (self.LENGTH.size + self.TEXT_BYTES)
        (length,) = self.LENGTH.unpack_from(self._memory, at)
        start = at + self.LENGTH.size
        return self._memory[start : start + length].decode(errors="replace") if length <= self.TEXT_BYTES else ""

    def put_pixels(self, task: int, pixels: memoryview) -> None:
        """Leave the pixels of a task, at most those of a whole picture."""
        at = self._pixels + task * self._picture_bytes
        self._memory[at : at + len(pixels)] = pixels

    def pixels(self, tasks: int) -> memoryview:
        """Return the memory of the pixels of the first tasks."""
        return memoryview(self._memory)[self._pixels : self._pixels + tasks * self._picture_bytes]

    def close(self) -> None:
        """Release the memory, unless something still refers to it."""
        with contextlib.suppress(BufferError):
            self._memory.close()


def main() -> None:
    """Do what the parent asks for until it closes the pipe or dies."""
    requests, replies = _take_pipes()
    settings = json.loads(_read_request(requests) or b"{}")
    try:
        _limit_memory(settings["memory"])
        shared = settings["descriptor"], settings["tasks"], settings["picture_bytes"]
        blocks = [Block(*shared, number) for number in range(settings["blocks"])]
        for block in blocks:
            block.protect(mmap.PROT_READ)
        # Some decoders print; none may reach the blocks by their number.
        os.close(settings["descriptor"])
        _import_as_parent(settings["path"], settings["package"])
        worker = Worker(requests, replies, blocks, settings)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        _reply(replies, NOT_READY, f"{type(error).__name__}: {error}"[:500])
        return
    worker.run()


class Worker:
    """Reads, decodes and prepares images one after the other by a recipe, each decoded within the same time limit."""

    def __init__(
        self, requests: BinaryIO, replies: BinaryIO, blocks: Sequence[Block], settings: dict[str, Any]
    ) -> None:
        from imgindex.decoding import blank, perceptual_hash
        from imgindex.decoding.decode import decode
        from imgindex.decoding.transforms import draft, prepare
        from imgindex.errors import UnreadableImage
        from imgindex.recipe import Recipe
        from imgindex.sources.content import read_content

        self._requests, self._replies, self._blocks = requests, replies, blocks
        self._block = blocks[0]
        self._seconds: float = settings["seconds"]
        self._recipe = Recipe.from_json(settings["recipe"])
        self._draft = draft(self._recipe)
        self._with_hashes = settings["hashes"]
        self._blank, self._perceptual_hash = blank, perceptual_hash
        self._read, self._decode, self._prepare, self._unreadable = read_content, decode, prepare, UnreadableImage

    def run(self) -> None:
        _reply(self._replies, READY)
        try:
            while (request := _read_request(self._requests)) is not None:
                lot = json.loads(request)
                self._block = self._blocks[lot["block"]]
                with self._block.writable():
                    self._work(lot["tasks"])
                _reply(self._replies, DONE)
        except MemoryError:
            # Stop here: after an allocation failure a decoder's heap may be inconsistent.
            os._exit(OUT_OF_MEMORY)

    def _work(self, tasks: list[dict[str, Any]]) -> None:
        """Do the tasks of a lot; leave what comes of them in the block."""
        # What follows the text is read before the first task: the parent may be sending it still.
        data = [self._requests.read(task.get("bytes", 0)) for task in tasks]
        for number, task in enumerate(tasks):
            self._block.state = number, "path" in task
            self._is_large = False
            self._block.put(number, json.dumps(self._outcome(number, task, data[number])))
            data[number] = b""
            if self._is_large:
                _reply(self._replies, LARGE_DONE)
        self._block.state = len(tasks), False

    def _outcome(self, number: int, task: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Do a task; return what the file is, what its picture is, or why it cannot be read or decoded."""
        outcome: dict[str, Any] = {}
        try:
            if "path" in task:
                content = self._read(task["path"])
                data, sha256 = content.data, content.sha256.hex()
                if task.get("sha256", sha256) != sha256:
                    raise self._unreadable("file changed while it was read", stage="read")
                numbers = [content.size, content.mtime_ns, content.ctime_ns, content.inode]
                outcome["file"] = [*numbers, sha256]
                self._block.state = number, False
            if task["decode"]:
                outcome["picture"] = self._picture(number, data)
        except self._unreadable as error:
            if isinstance(error.__cause__, MemoryError) or "out of memory" in error.reason.lower():
                raise MemoryError from error
            outcome["failure"] = [error.stage, error.reason[:MAX_REASON], error.decoder]
        return outcome

    def _picture(self, number: int, data: bytes) -> dict[str, Any]:
        """Decode a picture, leave its pixels in the block, and return what else is known of it."""
        self._start_timer()
        try:
            picture = self._decode(data, alpha=self._recipe.alpha, draft=self._draft, before_load=self._wait_if_large)
            pixels = self._prepare(picture.image, self._recipe).data.cast("B")
            hashes = self._hashes(picture, data)
        finally:
            # Before the reply: a parent that is stopped (Ctrl-Z) may read it much later.
            self._stop_timer()
        self._block.put_pixels(number, pixels)
        return {
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "is_transparent": picture.is_transparent,
            **hashes,
        }

    def _hashes(self, picture: Any, data: bytes) -> dict[str, Any]:
        if not self._with_hashes:
            return {"hashes": "", "blank": False}
        if self._blank.is_blank(picture.image):
            return {"hashes": self._blank.digest_of_file(data).hex(), "blank": True}
        hashes = self._perceptual_hash.of_file(data, picture, alpha=self._recipe.alpha, draft=self._draft)
        return {"hashes": hashes.hex(), "blank": False}

    def _wait_if_large(self, pixels: int) -> None:
        if pixels <= LARGE_PIXELS:
            return
        self._stop_timer()
        self._is_large = True
        _reply(self._replies, LARGE)
        if not self._requests.read(1):
            sys.exit()
        self._start_timer()

    def _start_timer(self) -> None:
        # By default SIGALRM ends the process, even while it runs C code.
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def _stop_timer(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return stdin and stdout under other numbers, and close 0 to 2: decoders in C print there and read there."""
    pipes = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b", buffering=0) as null:
        for number in range(3):
            os.dup2(null.fileno(), number)
    return pipes


def _limit_memory(max_bytes: int) -> None:
    with contextlib.suppress(ImportError):
        import resource

        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, max_bytes)):
            # Some systems define a limit that they do not support.
            with contextlib.suppress(ValueError, OSError):
                hard = resource.getrlimit(limit)[1]
                resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    # If the whole machine runs out of memory, the system kills this process before its parent.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _import_as_parent(path: list[str], package: str) -> None:
    """Import modules from the parent's path, and imgindex from the parent's folder, even if that is not on the path."""
    sys.path[:] = path
    spec = importlib.util.spec_from_file_location("imgindex", os.path.join(package, "__init__.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {package}")
    sys.modules["imgindex"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _read_request(requests: BinaryIO) -> bytes | None:
    head = requests.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return None
    (length,) = REQUEST.unpack(head)
    data = requests.read(length)
    return data if len(data) == length else None


def _reply(replies: BinaryIO, kind: bytes, text: str = "") -> None:
    data = text.encode(errors="replace")
    replies.write(REPLY.pack(kind, len(data)) + data)
    replies.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        # The process inherits it if the parent ignores or blocks this signal.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with contextlib.suppress(BrokenPipeError):
        main()
    # Without cleaning up: a thread that a decoder left running could block that for ever.
    os._exit(0)
