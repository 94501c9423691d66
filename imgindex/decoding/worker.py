"""The program of a decoder process: reads the bytes of image files, replies with pixels or the reason for none.

`process.py` runs this file by its path, so that neither the parent's main module nor the current folder is imported.
If a file makes a decoder hang, crash or run out of memory, this process ends, and the parent loses that one image.

A request is a length and the bytes of a file; the first request is the settings, as JSON. A reply is its kind, the
length of a text, the text, and after PICTURE the pixels, whose number follows from the recipe. The text of UNREADABLE
is the reason, and in a second line the module that is missing, or nothing. For an image of more
than LARGE_PIXELS the worker first replies LARGE, and decodes it after it has received one byte.
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
OUT_OF_MEMORY = 75  # an exit status
LARGE_PIXELS = 64 * 1024**2


def main() -> None:
    """Reply to requests until the parent closes the pipe or dies."""
    requests, replies = _take_pipes()
    settings = json.loads(_read_request(requests) or "{}")
    try:
        _limit_memory(settings["memory"])
        _import_as_parent(settings["path"], settings["package"])
        worker = Worker(requests, replies, settings)
    except Exception as error:  # noqa: BLE001 - the parent raises it
        _reply(replies, NOT_READY, f"{type(error).__name__}: {error}"[:500])
        return
    worker.run()


class Worker:
    """Decodes and prepares images one after the other by a recipe, each within the same time limit."""

    def __init__(self, requests: BinaryIO, replies: BinaryIO, settings: dict[str, Any]) -> None:
        from imgindex.decoding import blank, perceptual_hash
        from imgindex.decoding.decode import decode
        from imgindex.decoding.transforms import draft_size, prepare
        from imgindex.errors import UnreadableImage
        from imgindex.recipe import Recipe

        self._requests, self._replies = requests, replies
        self._seconds: float = settings["seconds"]
        self._recipe = Recipe.from_json(settings["recipe"])
        self._draft_size = draft_size(self._recipe)
        self._draft = {"draft_factor": settings["draft_factor"]} if settings["draft_factor"] else {}
        self._with_hashes = settings["hashes"]
        self._blank, self._perceptual_hash = blank, perceptual_hash
        self._decode, self._prepare, self._unreadable = decode, prepare, UnreadableImage

    def run(self) -> None:
        _reply(self._replies, READY)
        try:
            while (data := _read_request(self._requests)) is not None:
                self._reply_to(data)
        except MemoryError:
            # Stop here: after an allocation failure a decoder's heap may be inconsistent.
            os._exit(OUT_OF_MEMORY)

    def _reply_to(self, data: bytes) -> None:
        self._start_timer()
        try:
            picture = self._decode(
                data,
                alpha=self._recipe.alpha,
                draft_size=self._draft_size,
                before_load=self._wait_if_large,
                **self._draft,
            )
            pixels = self._prepare(picture.image, self._recipe).data.cast("B")
            hashes = self._hashes(picture, data)
        except self._unreadable as error:
            self._stop_timer()
            if isinstance(error.__cause__, MemoryError) or "out of memory" in error.reason.lower():
                raise MemoryError from error
            _reply(self._replies, UNREADABLE, f"{error.reason}\n{error.decoder}")
            return
        # Before the reply: a parent that is stopped (Ctrl-Z) may read it much later.
        self._stop_timer()
        header = {
            "width": picture.width,
            "height": picture.height,
            "format": picture.format,
            "is_transparent": picture.is_transparent,
            **hashes,
        }
        _reply(self._replies, PICTURE, json.dumps(header), pixels)

    def _hashes(self, picture: Any, data: bytes) -> dict[str, Any]:
        if not self._with_hashes:
            return {"hashes": "", "blank": False}
        if self._blank.is_blank(picture.image):
            return {"hashes": self._blank.digest_of_file(data).hex(), "blank": True}
        hashes = self._perceptual_hash.of_file(data, picture, alpha=self._recipe.alpha, draft_size=self._draft_size)
        return {"hashes": hashes.hex(), "blank": False}

    def _wait_if_large(self, pixels: int) -> None:
        if pixels <= LARGE_PIXELS:
            return
        self._stop_timer()
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


def _reply(replies: BinaryIO, kind: bytes, text: str = "", pixels: memoryview | bytes = b"") -> None:
    data = text.encode(errors="replace")
    replies.write(REPLY.pack(kind, len(data)) + data)
    replies.write(pixels)
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
