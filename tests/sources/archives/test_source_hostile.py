"""Archives made to do harm: nothing is written outside, memory stays small, and each has a failure with its reason."""

from __future__ import annotations

import io
import json
import os
import random
import stat
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from archived import KINDS, Zip, pack, tar_header

from imgindex.errors import UnreadableImage
from imgindex.sources.registry import ARCHIVES, find_files, read_content
from imgindex.types import Failure, FoundFile

MOST_KIB = 64 << 10
EMPTY = 70_000
FLIPS = 300
# Lists an archive and reads all that it has; prints the reasons of failures, and how much the memory has grown.
WATCHED = """
import json, sys
from collections import Counter
import tarfile, gzip, bz2, lzma, sqlite3
from imgindex.errors import UnreadableImage
from imgindex.sources.registry import find_files, read_content
from imgindex.types import Failure
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
before, reasons = peak(), Counter()
for one in find_files(sys.argv[1:]):
    try:
        reason = one.reason if isinstance(one, Failure) else (read_content(one.path), "")[1]
    except UnreadableImage as error:
        reason = error.reason
    reasons[reason] += 1
print(json.dumps([reasons, peak() - before]))
"""


def zip_of(*members: tuple[bytes, bytes], **claims: int) -> Callable[[Path], Path]:
    """Return what writes a zip of these members, with a true one behind them."""

    def write(folder: Path) -> Path:
        made = Zip()
        for name, data in members:
            made.add(name, data, **claims)
        made.add(b"good.jpg", b"good")
        return made.write(folder / "evil.zip")

    return write


def tar_of(*kinds: bytes) -> Callable[[Path], Path]:
    """Return what writes a tar of such members, with a true one behind them."""

    def write(folder: Path) -> Path:
        with tarfile.open(folder / "evil.tar", "w") as made:
            for number, kind in enumerate(kinds):
                made.addfile(tar_header(f"{number}.jpg", kind=kind))
            made.addfile(tar_header("good.jpg", 4), io.BytesIO(b"good"))
        return folder / "evil.tar"

    return write


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def bomb_by_ratio(folder: Path) -> Path:
    """A member that is honest about its gigabyte."""
    made, packed = Zip(), deflated(bytes(256 << 20))
    made.entry(b"0.jpg", made.local(b"0.jpg", packed, method=8), len(packed), 256 << 20, 0, method=8)
    made.add(b"good.jpg", b"good")
    return made.write(folder / "evil.zip")


def bomb_by_false_size(folder: Path) -> Path:
    made, packed = Zip(), deflated(bytes(256 << 20))
    made.entry(b"0.jpg", made.local(b"0.jpg", packed, method=8), len(packed), 1000, 0, method=8)
    made.add(b"good.jpg", b"good")
    return made.write(folder / "evil.zip")


def overlapping(folder: Path) -> Path:
    """A hundred entries of one member."""
    made, packed = Zip(), deflated(bytes(1 << 20))
    at = made.local(b"00.jpg", packed, method=8)
    for number in range(100):
        made.entry(b"%02d.jpg" % number, at, len(packed), 1 << 20, zlib.crc32(bytes(1 << 20)), method=8)
    made.add(b"good.jpg", b"good")
    return made.write(folder / "evil.zip")


def quoted(folder: Path) -> Path:
    """Each member begins with a stored block that quotes the header of the next one, as in David Fifield's zip bomb."""
    made, packed = Zip(), deflated(bytes(10 << 20))
    names = [b"%02d.jpg" % number for number in range(20)]
    header = 30 + len(names[0])
    body = packed
    at = (len(names) - 1) * (header + 5)
    # From the last member to the first: each has a quotation of 5 bytes and a header more.
    parts: list[bytes] = []
    for name in reversed(names):
        local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0x5043, 0, len(body), 10 << 20, len(name), 0) + name
        made.entry(name, at, len(body), 10 << 20, 0, method=8)
        quotation = b"\0" + struct.pack("<2H", header, header ^ 0xFFFF)
        parts.append(local if at == 0 else quotation + local)
        body = quotation + local + body
        at -= header + 5
    made.body.write(b"".join(reversed(parts)) + packed)
    made.add(b"good.jpg", b"good")
    return made.write(folder / "evil.zip")


def many_empty_zip(folder: Path) -> Path:
    made = Zip()
    for number in range(EMPTY):
        made.add(b"%06d.jpg" % number, b"")
    made.add(b"good.jpg", b"good")
    return made.write(folder / "evil.zip")


def many_empty_tar(folder: Path) -> Path:
    with (folder / "evil.tar").open("wb") as file:
        for number in range(EMPTY // 4):
            file.write(tar_header(f"{number}.jpg").tobuf())
        file.write(tar_header("good.jpg", 4).tobuf() + b"good" + bytes(508 + 1024))
    return folder / "evil.tar"


def compressed_bomb(ending: str) -> Callable[[Path], Path]:
    return lambda folder: pack(folder / f"evil{ending}", {"0.jpg": bytes(70 << 20), "good.jpg": b"good"})


HOSTILE = {
    "traversal": (zip_of((b"../../up.jpg", b"up"), (b"a/../../../up.jpg", b"up")), {"": 3}),
    "absolute names": (zip_of((b"/abs.jpg", b"abs"), (b"C:\\abs.jpg", b"abs")), {"": 3}),
    "control characters": (zip_of((b"nl\n\x1b[31m.jpg", b"x"), (b"nul\0.jpg", b"x")), {"": 3}),
    "bomb by ratio": (bomb_by_ratio, {"": 1, "it unpacks to more than 1,000 times its size": 1}),
    "bomb by false size": (
        bomb_by_false_size,
        {"": 1, "it unpacks to more bytes than the archive's directory promises": 1},
    ),
    "overlapping": (overlapping, {"": 1, "it shares bytes with another member, or lies beyond the members": 100}),
    "quoted": (quoted, {"": 1, "it shares bytes with another member, or lies beyond the members": 20}),
    "twice": (zip_of((b"a.jpg", b"1"), (b"a.jpg", b"2")), {"": 1, "the archive has two members of this name": 1}),
    "link in a zip": (zip_of((b"a.jpg", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), {"": 1, "it is a link": 1}),
    "encrypted": (zip_of((b"a.jpg", b"secret"), flags=1), {"": 1, "it is encrypted": 1}),
    "links in a tar": (tar_of(tarfile.SYMTYPE, tarfile.LNKTYPE), {"": 1, "it is a link": 2}),
    "devices": (tar_of(tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE), {"": 1, "it is a device": 3}),
    "bomb as tar.bz2": (compressed_bomb(".tar.bz2"), {"it unpacks to more than 1,000 times its size": 1}),
    "bomb as tar.xz": (compressed_bomb(".tar.xz"), {"it unpacks to more than 1,000 times its size": 1}),
    "many empty members in a zip": (many_empty_zip, None),
    "many empty members in a tar": (many_empty_tar, None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_archive_does_no_harm(tmp_path: Path, what: str) -> None:
    write, expected = HOSTILE[what]
    (tmp_path / "a/b").mkdir(parents=True)
    path = write(tmp_path / "a/b")
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, path],
        cwd=tmp_path / "a",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    reasons, grown = json.loads(done.stdout)
    if expected is None:
        assert reasons.pop("") == 1
        assert reasons.pop("file is empty") == 1000
        ((summary, count),) = reasons.items()
        assert (summary.endswith("further members cannot be read; the last one: file is empty"), count) == (True, 1)
    else:
        assert reasons == expected
    assert grown <= MOST_KIB
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bits_are_failures_or_change_no_bytes_that_have_a_checksum(tmp_path: Path, kind: str) -> None:
    dice = random.Random(kind)
    files = {f"{number}.jpg": dice.randbytes(200) for number in range(5)}
    path = pack(tmp_path / f"set{kind}", files)
    sound = path.read_bytes()
    found = 0
    for _ in range(FLIPS):
        data = bytearray(sound)
        at = dice.randrange(len(data))
        data[at] ^= 1 << dice.randrange(8)
        path.write_bytes(data)
        for one in find_files([str(path)]):
            try:
                read = None if isinstance(one, Failure) else read_content(one.path).data
            except UnreadableImage:
                read = None
            found += read is None
            # A plain tar has checksums of its headers only.
            if read is not None and kind != ".tar":
                assert read in files.values(), at
        ARCHIVES.forget(str(path))
    assert found
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_that_is_cut_at_any_place_has_no_end_of_its_list(tmp_path: Path, kind: str) -> None:
    path = pack(tmp_path / f"set{kind}", {f"{number}.jpg": bytes([number]) * 300 for number in range(5)})
    data = path.read_bytes()
    # The last bytes of a tar are its end mark, which is longer than it must be.
    for length in range(0, len(data.rstrip(b"\0")) if kind == ".tar" else len(data), 37):
        path.write_bytes(data[:length])
        found = list(find_files([str(path)]))
        assert isinstance(found[-1], Failure), length
        assert all(isinstance(one, FoundFile) for one in found[:-1])
        assert [one.path for one in found if isinstance(one, Failure)] == [str(path)]
        ARCHIVES.forget(str(path))
