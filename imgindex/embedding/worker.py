"""The process that decodes: bytes of an image file in, the pixels that the network sees out, or why there are none.

`sandbox.py` runs this file by its path, so that no main module and no current folder is imported here. What a file
does to a decoder (a hang, a crash, a hunger for memory) ends this process and costs that one image.

A request is its length and the bytes of a file; the first one is the settings, as JSON. A reply is its kind, the
length of a text, the text, and after a PICTURE the pixels, whose number the recipe tells beforehand. A picture of
more than LARGE_PIXELS is announced, and decoded when one byte gives leave.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import struct
import sys
from typing import Any, BinaryIO

REQUEST = struct.Struct("!Q")
REPLY = struct.Struct("!cI")
READY, NOT_READY, PICTURE, UNREADABLE, LARGE = b"R", b"N", b"P", b"U", b"L"
OUT_OF_MEMORY = 75  # the exit status that says so
LARGE_PIXELS = 64 * 1024**2


def main() -> None:
    """Answer requests until their end, which is also that of the parent."""
    requests, replies = _channels()
    settings = json.loads(_request(requests) or "{}")
    try:
        _limit_memory(settings["memory"])
        _import_as_the_parent(settings["path"], settings["package"])
        worker = Worker(requests, replies, settings)
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent tells it
        _reply(replies, NOT_READY, f"{type(error).__name__}: {error}"[:500])
        return
    worker.run()


class Worker:
    """Decodes and prepares one picture after the other by a recipe, each within the same time."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO, settings: dict[str, Any]) -> None:
        from imgindex.embedding.prepare import fit, prepare
        from imgindex.embedding.recipe import Recipe
        from imgindex.errors import UnreadableImage
        from imgindex.images.decode import decode

        self._requests, self._replies = requests, replies
        self._seconds: float = settings["seconds"]
        self._recipe = Recipe.from_json(settings["recipe"])
        self._fit = fit(self._recipe)
        self._decode, self._prepare, self._unreadable = decode, prepare, UnreadableImage

    def run(self) -> None:
        _reply(self._replies, READY)
        try:
            while (data := _request(self._requests)) is not None:
                self._answer(data)
        except MemoryError:
            # Not to be gone on with: what was left of the memory may be in pieces.
            os._exit(OUT_OF_MEMORY)

    def _answer(self, data: bytes) -> None:
        self._start_clock()
        try:
            picture = self._decode(data, alpha=self._recipe.alpha, fit=self._fit, before_load=self._ask_leave)
            pixels = self._prepare(picture.image, self._recipe).data.cast("B")
        except self._unreadable as error:
            self._stop_clock()
            if isinstance(error.__cause__, MemoryError) or "out of memory" in error.reason.lower():
                raise MemoryError from error
            _reply(self._replies, UNREADABLE, error.reason)
            return
        # Not before the reply is under way: a parent that is stopped (Ctrl-Z) may take it much later.
        self._stop_clock()
        about = {"width": picture.width, "height": picture.height, "format": picture.format}
        _reply(self._replies, PICTURE, json.dumps(about), pixels)

    def _ask_leave(self, pixels: int) -> None:
        if pixels <= LARGE_PIXELS:
            return
        self._stop_clock()
        _reply(self._replies, LARGE)
        if not self._requests.read(1):
            sys.exit()
        self._start_clock()

    def _start_clock(self) -> None:
        # SIGALRM does by default what no code in C can hold up: it ends the process.
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def _stop_clock(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _channels() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout away to where no decoder that prints or reads can meddle with them."""
    channels = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b", buffering=0) as nothing:
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    return channels


def _limit_memory(most: int) -> None:
    with contextlib.suppress(ImportError):
        import resource

        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, most)):
            # Some systems have the one or the other in name only.
            with contextlib.suppress(ValueError, OSError):
                hard = resource.getrlimit(limit)[1]
                resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    # When the whole machine runs out of memory, rather this process than the run that it belongs to.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _import_as_the_parent(path: list[str], package: str) -> None:
    """Import from where the parent does, and this very package wherever that lies."""
    sys.path[:] = path
    spec = importlib.util.spec_from_file_location("imgindex", os.path.join(package, "__init__.py"))
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {package}")
    sys.modules["imgindex"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _request(requests: BinaryIO) -> bytes | None:
    head = requests.read(REQUEST.size)
    if len(head) < REQUEST.size:
        return None
    (length,) = REQUEST.unpack(head)
    data = requests.read(length)
    return data if len(data) == length else None


def _reply(replies: BinaryIO, kind: bytes, text: str = "", pixels: memoryview | bytes = b"") -> None:
    data = text.encode(errors="replace")
    replies.write(REPLY.pack(kind, len(data)) + data)
    replies.write(pixels)
    replies.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGALRM"):
        # A parent may have it ignored or blocked, and that is inherited.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    with contextlib.suppress(BrokenPipeError):
        main()
    # At once: what a decoder left running could hold up a tidy end for ever.
    os._exit(0)
