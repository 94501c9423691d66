"""Zips: every honest form is read, and every lie of a directory is found."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from archived import CREATED, Zip, pack

from imgindex.errors import UnreadableImage
from imgindex.sources.archives.members import ArchiveDamaged, Member
from imgindex.sources.archives.zip import each_member, read_member


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def listed(path: Path) -> list[Member]:
    with opened(path) as descriptor:
        return list(each_member(descriptor))


def read(path: Path, member: Member, most: int | None = None) -> bytes:
    with opened(path) as descriptor:
        return read_member(descriptor, member, most=most)


def only(path: Path) -> Member:
    (member,) = listed(path)
    return member


@pytest.mark.parametrize("name", ["stored.zip", "deflated.zip"])
def test_members_are_listed_and_read(tmp_path: Path, name: str) -> None:
    files = {"a/1.jpg": b"one" * 500_000, "é.jpg": os.urandom(100), "2.jpg": b"x"}
    path = pack(tmp_path / name, files)
    members = listed(path)
    assert {member.path: read(path, member) for member in members} == files
    assert [(member.size, member.version) for member in members] == [
        (len(data), f"crc32:{zlib.crc32(data):08x}") for data in files.values()
    ]
    assert {member.mtime_ns for member in members} == {1_580_702_706 * 10**9}
    assert read(path, members[0], 4) == b"oneo"
    assert read(path, members[2], 64) == b"x"


def test_a_zip_in_the_form_for_large_files_behind_a_program_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(b"#!/bin/sh\nexit\n")
    with zipfile.ZipFile(path, "a") as made:
        with made.open(zipfile.ZipInfo("big.jpg", CREATED), "w", force_zip64=True) as member:
            member.write(b"data")
        made.comment = b"a comment with PK\5\6 in it, and more behind it"
    (member,) = listed(path)
    assert read(path, member) == b"data"


def test_numbers_beyond_32_bits_are_in_the_extra_field(tmp_path: Path) -> None:
    made = Zip()
    at = made.local(b"a.jpg", b"data")
    extra = struct.pack("<2H3Q", 1, 24, 4, 4, at)
    made.entry(b"a.jpg", 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, zlib.crc32(b"data"), extra=extra)
    assert read(made.write(tmp_path / "a.zip"), only(tmp_path / "a.zip")) == b"data"


def test_the_end_of_a_large_zip_is_found_by_its_locator(tmp_path: Path) -> None:
    path = pack(tmp_path / "stored.zip", {"a.jpg": b"data"})
    data = path.read_bytes()
    end = data.rfind(b"PK\5\6")
    *_, size, offset, _ = struct.unpack("<4s4H2LH", data[end:])
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    short = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:end] + end64 + locator + short)
    assert read(path, only(path)) == b"data"


@pytest.mark.parametrize(
    ("raw", "flags", "host", "path"),
    [
        ("café.jpg".encode(), 0x800, 0, "café.jpg"),
        ("café.jpg".encode(), 0, 3, "café.jpg"),
        ("café.jpg".encode("cp437"), 0, 0, "café.jpg"),
        ("café.jpg".encode("cp437"), 0, 3, "café.jpg"),
        (b"caf\xff.jpg", 0x800, 0, "caf\udcff.jpg"),
        (b"cat\\1.jpg", 0, 0, "cat/1.jpg"),
        (b"cat\\1.jpg", 0, 3, "cat\\1.jpg"),
    ],
)
def test_names_are_read_as_they_were_written(tmp_path: Path, raw: bytes, flags: int, host: int, path: str) -> None:
    made = Zip()
    made.add(raw, b"data", flags=flags, host=host)
    assert only(made.write(tmp_path / "a.zip")).path == path
    assert read(tmp_path / "a.zip", only(tmp_path / "a.zip")) == b"data"


def test_a_name_and_a_time_in_extra_fields_come_first(tmp_path: Path) -> None:
    made, raw = Zip(), b"caf_.jpg"
    name = struct.pack("<BL", 1, zlib.crc32(raw)) + "café.jpg".encode()
    extra = struct.pack("<2H", 0x7075, len(name)) + name + struct.pack("<2HBl", 0x5455, 5, 1, 1_000_000_000)
    made.entry(raw, made.local(raw, b"data"), 4, 4, zlib.crc32(b"data"), extra=extra)
    member = only(made.write(tmp_path / "a.zip"))
    assert (member.path, member.mtime_ns) == ("café.jpg", 10**18)


def test_folders_are_no_members(tmp_path: Path) -> None:
    assert [member.path for member in listed(pack(tmp_path / "stored.zip", {"a/": b"", "a/1.jpg": b"x"}))] == [
        "a/1.jpg"
    ]


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"flags": 1}, "it is encrypted"),
        ({"mode": stat.S_IFLNK | 0o777}, "it is a link"),
        ({"mode": stat.S_IFBLK}, "it is not a regular file"),
        ({"method": 12}, "it is compressed by a method that is not read: bzip2"),
        ({"method": 77}, "it is compressed by a method that is not read: number 77"),
        ({"method": 8, "size": 65 << 20}, "it unpacks to more than 1,000 times its size"),
        ({"size": 9}, "its entry in the directory is damaged"),
    ],
)
def test_what_an_entry_says_may_be_the_problem(tmp_path: Path, claims: dict[str, int], problem: str) -> None:
    made = Zip()
    made.add(b"a.jpg", b"data", **claims)
    assert only(made.write(tmp_path / "a.zip")).problem == problem


def test_a_member_that_unpacks_to_more_than_it_promises_is_stopped(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=-15)
    bomb = packer.compress(bytes(50 << 20)) + packer.flush()
    made = Zip()
    made.entry(b"a.jpg", made.local(b"a.jpg", bomb, method=8), len(bomb), 10, 0, method=8)
    path = made.write(tmp_path / "a.zip")
    with pytest.raises(UnreadableImage, match="more bytes than the archive's directory promises"):
        read(path, only(path))


@pytest.mark.parametrize(
    ("name", "place", "problem"),
    [
        ("stored.zip", 40, "do not have the checksum"),
        ("deflated.zip", 36, "damaged|checksum|fewer"),
        ("stored.zip", 0, "header in the archive is damaged"),
        ("stored.zip", 31, "another name than the directory"),
    ],
)
def test_a_flipped_bit_is_found(tmp_path: Path, name: str, place: int, problem: str) -> None:
    path = pack(tmp_path / name, {"a.jpg": b"data" * 100})
    member = only(path)
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(UnreadableImage, match=problem):
        read(path, member)


@pytest.mark.parametrize("keep", [0, 10, 200, -1, -30])
def test_a_zip_that_is_cut_off_is_not_listed(tmp_path: Path, keep: int) -> None:
    path = pack(tmp_path / "stored.zip", {f"{number}.jpg": b"data" for number in range(10)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArchiveDamaged, match="cut off"):
        listed(path)


def test_the_members_before_a_damaged_entry_are_listed(tmp_path: Path) -> None:
    path = pack(tmp_path / "stored.zip", {f"{number}.jpg": b"data" for number in range(10)})
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\1\2")
    data[data.find(b"PK\1\2", at + 1)] = 0
    path.write_bytes(data)
    with opened(path) as descriptor:
        members = each_member(descriptor)
        assert next(members).path == "0.jpg"
        with pytest.raises(ArchiveDamaged, match="its directory is damaged"):
            next(members)


def test_a_directory_with_fewer_members_than_its_end_says_is_incomplete(tmp_path: Path) -> None:
    path = pack(tmp_path / "stored.zip", {"a.jpg": b"data"})
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 10] = 2
    path.write_bytes(data)
    with pytest.raises(ArchiveDamaged, match="has 1 members, and its end says 2"):
        listed(path)
