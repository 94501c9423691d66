"""A decoder that does what a file orders: it stands in for pillow_jxl, and decodes all files that begin as JPEG XL.

Tests copy it as `pillow_jxl.py` to a folder of their path; a file that it reads is made by `deed`. It leaves a file
`begun PID` there for every process that it was at work in.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

from PIL import Image, ImageFile

HOME = os.path.dirname(os.path.abspath(__file__))


def deed(name: str, more: bytes = b"") -> bytes:
    """A file that makes this decoder do what the function of that name does."""
    return b"\xff\x0a" + name.encode() + b"\n" + more


def paint() -> None:
    """Nothing: decode to black."""


def hang() -> None:
    """For ever, in C code that never lets go of the interpreter's lock."""
    ctypes.PyDLL(None).pause()


def eat() -> None:
    hoard = []
    while True:
        hoard.append(bytes(64 << 20))


def crash() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave() -> None:
    os._exit(0)


def be_killed() -> None:
    os.kill(os.getpid(), 9)


def shout() -> None:
    """As C libraries do that complain, on the numbers that are stdout and stderr by custom; and read stdin."""
    for number in (1, 2):
        os.write(number, b"warning: a warning\n" * 10_000)
    assert os.read(0, 100) == b""


def babble() -> None:
    """Into every pipe that is open, wherever it leads."""
    for number in range(3, 20):
        try:
            os.write(number, b"P\0\0\0\x02{}" + bytes(1000))
        except OSError:
            continue


def boast() -> None:
    """Announce a text of 4 GiB."""
    for number in range(3, 20):
        try:
            os.write(number, b"P\xff\xff\xff\xff")
        except OSError:
            continue


def poison() -> None:
    """Decode well, and leave something behind that the next picture dies of."""
    ImageFile.ImageFile.load = lambda self: ctypes.string_at(0)


def scribble() -> None:
    """Over all memory that it shares with its parent, as far as it may write there."""
    with open("/proc/self/maps", encoding="ascii") as maps:
        for line in maps:
            places, access = line.split()[:2]
            if "imgindex-decoder" in line and "w" in access:
                start, end = (int(place, 16) for place in places.split("-"))
                ctypes.memset(start, 0x55, end - start)


def nap() -> None:
    time.sleep(0.5)


def hold() -> None:
    """Fail if another process is here at the same time."""
    here = os.path.join(HOME, "here")
    os.close(os.open(here, os.O_CREAT | os.O_EXCL))
    time.sleep(0.05)
    os.unlink(here)


class Hostile(ImageFile.ImageFile):
    format = "JXL"
    format_description = "What a test wants"

    def _open(self) -> None:
        self._size, self._mode = (64, 64), "RGB"
        self._deed = self.fp.read()[2:].partition(b"\n")[0].decode()
        if self._deed == "huge":
            self._size, self._deed = (10_000, 10_000), "hold"

    def load(self) -> object:
        open(os.path.join(HOME, f"begun {os.getpid()}"), "w").close()
        getattr(sys.modules[__name__], self._deed)()
        self._size = (64, 64)
        self.im = Image.core.fill("RGB", self.size, 0)
        return None


if __name__ == "pillow_jxl":
    Image.register_open("JXL", Hostile, lambda prefix: prefix.startswith(b"\xff\x0a"))
