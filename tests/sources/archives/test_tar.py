"""Tars: every form of header and of compression is read, and what is cut off or hostile is found."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from archived import TARS, pack, tar_header

from imgindex.sources.archives.members import ArchiveDamaged, Member
from imgindex.sources.archives.tar import CUT_OFF, Plain, Unpacker, compression, each_member

FILES = {"a/1.jpg": b"one" * 500_000, "é" * 200 + ".jpg": os.urandom(1000), "2.jpg": b"x", "unnamed": b"GIF89a" * 99}


def zst(path: Path, files: dict[str, bytes]) -> Path:
    zstandard = pytest.importorskip("zstandard")
    data = pack(path.with_suffix(""), files).read_bytes()
    path.write_bytes(zstandard.ZstdCompressor().compress(data))
    return path


def listed(path: Path) -> list[Member]:
    kind = compression(path.read_bytes()[:8])
    if kind is not None:
        return list(each_member(Unpacker(str(path), kind), None))
    with path.open("rb") as file:
        return list(each_member(Plain(file.fileno()), path.stat().st_size))


def damage(path: Path) -> str:
    with pytest.raises(ArchiveDamaged) as caught:
        listed(path)
    return str(caught.value)


@pytest.mark.parametrize("ending", [*TARS, ".tar.zst"])
def test_members_are_listed_and_read_in_any_order(tmp_path: Path, ending: str) -> None:
    path = zst(tmp_path / "set.tar.zst", FILES) if ending == ".tar.zst" else pack(tmp_path / f"set{ending}", FILES)
    members = listed(path)
    assert {member.path: member.size for member in members} == {name: len(data) for name, data in FILES.items()}
    assert {member.mtime_ns for member in members} == {1_600_000_000 * 10**9}
    kind = compression(path.read_bytes()[:8])
    assert (kind is None) == (ending == ".tar")
    with path.open("rb") as file:
        reader = Plain(file.fileno()) if kind is None else Unpacker(str(path), kind)
        for member in (members[1], members[2], members[0], members[3]):
            assert reader.at(member.offset, member.size) == FILES[member.path]
    # What has no ending is recognised without unpacking the archive once more.
    assert [member.data for member in members] == [None] * 3 + [None if kind is None else FILES["unnamed"][:64]]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_exact_times_of_each_format_are_read(tmp_path: Path, format: int) -> None:
    name = "/".join(["folder" * 10] * (2 if format == tarfile.USTAR_FORMAT else 5)) + "/1.jpg"
    info = tar_header(name, 4)
    info.mtime = 1.25 if format == tarfile.PAX_FORMAT else 1
    with tarfile.open(tmp_path / "set.tar", "w", format=format, encoding="utf-8") as made:
        made.addfile(info, io.BytesIO(b"data"))
    (member,) = listed(tmp_path / "set.tar")
    assert (member.path, member.size) == (name, 4)
    assert member.mtime_ns == (1_250_000_000 if format == tarfile.PAX_FORMAT else 10**9)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (tarfile.LNKTYPE, "it is a link"),
        (tarfile.SYMTYPE, "it is a link"),
        (tarfile.CHRTYPE, "it is a device"),
        (tarfile.BLKTYPE, "it is a device"),
        (tarfile.FIFOTYPE, "it is a device"),
        (tarfile.GNUTYPE_SPARSE, "it is a sparse file"),
        (b"Z", "it is not a regular file"),
        (tarfile.REGTYPE, "file is empty"),
    ],
)
def test_what_is_no_regular_file_is_a_problem_and_the_next_member_is_read(
    tmp_path: Path, kind: bytes, problem: str
) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as made:
        made.addfile(tar_header("a.jpg", kind=kind))
        made.addfile(tar_header("b.jpg", 4), io.BytesIO(b"data"))
    assert [(member.path, member.problem) for member in listed(tmp_path / "set.tar")] == [
        ("a.jpg", problem),
        ("b.jpg", ""),
    ]


def test_folders_are_no_members(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as made:
        made.addfile(tar_header("./a", kind=tarfile.DIRTYPE))
        made.addfile(tar_header("./a/b.jpg", 4), io.BytesIO(b"data"))
    assert [member.path for member in listed(tmp_path / "set.tar")] == ["a/b.jpg"]


@pytest.mark.parametrize("ending", TARS)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_a_tar_that_is_cut_off_is_incomplete(tmp_path: Path, ending: str, keep: float) -> None:
    path = pack(tmp_path / f"set{ending}", {f"{number}.jpg": os.urandom(5000) for number in range(20)})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data.rstrip(b"\0")) * keep)])
    assert "cut off" in damage(path) or "compressed bytes are damaged" in damage(path)


def test_a_tar_that_ends_without_its_mark_is_incomplete(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.tar", {"a.jpg": b"data"})
    path.write_bytes(path.read_bytes()[:1024])
    assert damage(path) == CUT_OFF


def test_what_is_not_a_tar_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    path.write_bytes(b"a text" * 1000)
    assert "it is not a tar" in damage(path)


def test_a_damaged_header_ends_the_list_behind_the_members_before_it(tmp_path: Path) -> None:
    path = pack(tmp_path / "set.tar", {"a.jpg": b"data", "b.jpg": b"data"})
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    with path.open("rb") as file:
        members = each_member(Plain(file.fileno()), len(data))
        assert next(members).path == "a.jpg"
        with pytest.raises(ArchiveDamaged, match="the header of a member is damaged"):
            next(members)


@pytest.mark.parametrize("size", [-1, 1 << 62, 1 << 70])
def test_a_size_that_cannot_be_right_is_damage(tmp_path: Path, size: int) -> None:
    info = tar_header("a.jpg")
    info.size = size
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "set.tar").write_bytes(header + bytes(1024))
    assert "size cannot be right" in damage(tmp_path / "set.tar")


def test_a_header_for_a_name_has_a_bounded_size(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as made:
        made.addfile(tar_header("x", 1 << 20, tarfile.GNUTYPE_LONGNAME), io.BytesIO(bytes(1 << 20)))
    assert damage(tmp_path / "set.tar") == "the header of a member has 1,048,576 bytes"


@pytest.mark.parametrize("record", [b"99 path=a.jpg\n", b"0 path=a.jpg\n", b"x path=a\n", b"14 path=a.jpg "])
def test_a_record_of_a_wrong_length_is_damage(tmp_path: Path, record: bytes) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as made:
        made.addfile(tar_header("x", len(record), tarfile.XHDTYPE), io.BytesIO(record))
        made.addfile(tar_header("b.jpg", 4), io.BytesIO(b"data"))
    assert "a record has a wrong length" in damage(tmp_path / "set.tar")


@pytest.mark.parametrize("ending", [".tar.bz2", ".tar.xz"])
def test_a_tar_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path, ending: str) -> None:
    path = pack(tmp_path / f"set{ending}", {"a.jpg": bytes(80 << 20)})
    assert damage(path) == "it unpacks to more than 1,000 times its size"


def test_without_zstandard_the_problem_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    (tmp_path / "set.tar.zst").write_bytes(b"(\xb5/\xfd")
    assert "pip install zstandard" in damage(tmp_path / "set.tar.zst")


def test_numbers_that_octal_digits_do_not_hold_are_binary(tmp_path: Path) -> None:
    info = tar_header("a.jpg", 4)
    info.mtime = -5
    old = tar_header("\udcff.jpg", 4).tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    # As programs wrote it that took bytes as signed.
    signed = sum(byte - 256 * (byte > 127) for byte in old[:148] + b" " * 8 + old[156:])
    old = old[:148] + b"%06o\0 " % signed + old[156:]
    data = b"data" + bytes(508)
    (tmp_path / "set.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + data + old + data + bytes(1024))
    assert [(one.path, one.mtime_ns) for one in listed(tmp_path / "set.tar")] == [
        ("a.jpg", -5 * 10**9),
        ("\udcff.jpg", 1_600_000_000 * 10**9),
    ]


@pytest.mark.parametrize(("place", "what"), [(130, "a number cannot be read"), (0, "its checksum is wrong")])
def test_a_header_that_is_not_as_it_was_written_is_damage(tmp_path: Path, place: int, what: str) -> None:
    path = pack(tmp_path / "set.tar", {"a.jpg": b"data"})
    data = bytearray(path.read_bytes())
    data[place] ^= 0x18
    path.write_bytes(data)
    assert damage(path) == f"it is not a tar: {what}"


@pytest.mark.parametrize("ending", [ending for ending in TARS if ending != ".tar"])
def test_damage_is_raised_again_and_no_library_is_asked_after_it(tmp_path: Path, ending: str) -> None:
    path = pack(tmp_path / f"set{ending}", FILES)
    data = bytearray(path.read_bytes())
    data[60] ^= 255
    path.write_bytes(data)
    unpacker = Unpacker(str(path), compression(bytes(data)) or "")
    for _ in range(3):
        with pytest.raises(ArchiveDamaged, match="compressed bytes are damaged"):
            unpacker.check_to_the_end()
