"""What headers state beside the picture: camera, capture time, lossless or not, further pictures."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from archived import pack
from PIL import Image

from imgindex.decoding import plugins
from imgindex.decoding.header import FileHeader, read_header

TAKEN = "2019:05:01 12:00:00"


def picture() -> Image.Image:
    cells = np.random.default_rng(1).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((64, 48))


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[271], tags[272] = "Apple", "iPhone 12"
    tags.get_ifd(0x8769)[36867] = TAKEN
    return tags


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "heic", "avif"])
def test_camera_and_capture_time_are_read_from_the_exif(tmp_path: Path, ending: str) -> None:
    plugins._load_heif()
    path = tmp_path / f"a.{ending}"
    picture().save(path, exif=exif().tobytes())
    header = read_header(str(path))
    assert (header.has_camera, header.taken) == (True, "2019-05-01 12:00:00")
    picture().save(path)
    header = read_header(str(path))
    assert (header.has_camera, header.taken) == (False, "")


def test_the_header_of_a_member_of_an_archive_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.jpg", exif=exif().tobytes())
    archive = pack(tmp_path / "deflated.zip", {"a.jpg": (tmp_path / "a.jpg").read_bytes()})
    assert read_header(f"{archive}/a.jpg") == read_header(str(tmp_path / "a.jpg"))
    assert read_header(f"{archive}/b.jpg") == FileHeader()


def test_the_camera_of_a_tiff_is_read(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.tif", tiffinfo={271: "Apple"})
    assert read_header(str(tmp_path / "a.tif")).has_camera


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "2019-05-01", "", "    :  :     :  :  "])
def test_what_is_not_a_time_is_none(tmp_path: Path, text: str) -> None:
    tags = Image.Exif()
    tags.get_ifd(0x8769)[36867] = text
    picture().save(tmp_path / "a.jpg", exif=tags.tobytes())
    assert read_header(str(tmp_path / "a.jpg")) == FileHeader()


@pytest.mark.parametrize(
    ("name", "options", "lossless"),
    [
        ("a.jpg", {}, False),
        ("a.png", {}, True),
        ("a.bmp", {}, True),
        ("a.ppm", {}, True),
        ("a.gif", {}, False),
        ("a.webp", {}, False),
        ("a.webp", {"lossless": True}, True),
        ("a.tif", {}, True),
        ("a.tif", {"compression": "tiff_lzw"}, True),
        ("a.tif", {"compression": "jpeg"}, False),
    ],
)
def test_which_files_are_lossless(tmp_path: Path, name: str, options: dict[str, object], lossless: bool) -> None:
    picture().save(tmp_path / name, **options)
    assert read_header(str(tmp_path / name)).is_lossless == lossless


def test_a_palette_is_not_lossless(tmp_path: Path) -> None:
    picture().quantize(16).save(tmp_path / "a.png")
    assert not read_header(str(tmp_path / "a.png")).is_lossless


@pytest.mark.parametrize("ending", ["gif", "tif", "png", "webp", "heic", "avif"])
def test_pages_and_frames_are_more_than_the_picture(tmp_path: Path, ending: str) -> None:
    plugins._load_heif()
    path = str(tmp_path / f"a.{ending}")
    picture().save(path)
    assert not read_header(path).has_more
    picture().save(path, save_all=True, append_images=[picture().rotate(90)])
    assert read_header(path).has_more


def test_a_film_behind_a_picture_is_more(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description GCamera:MotionPhoto="1"/></x:xmpmeta>'
    picture().save(tmp_path / "a.jpg", xmp=xmp)
    assert read_header(str(tmp_path / "a.jpg")).has_more


FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)


@pytest.mark.parametrize("mark", [b"MotionPhoto_Data", b"\0\0\n0\x10\0\0\0MotionPhoto_Data", b""])
@pytest.mark.parametrize("ending", ["jpg", "heic"])
def test_a_film_without_xmp_is_more(tmp_path: Path, ending: str, mark: bytes) -> None:
    plugins._load_heif()
    path = tmp_path / f"a.{ending}"
    picture().save(path)
    photo = path.read_bytes()
    # The mark may lie across two blocks that are read.
    filler = bytes((1 << 20) - len(photo) - 7)
    for between in (b"", filler):
        path.write_bytes(photo + between)
        assert not read_header(str(path)).has_more
        path.write_bytes(photo + between + mark + FILM)
        assert read_header(str(path)).has_more


def test_the_film_of_a_heic_may_be_a_box(tmp_path: Path) -> None:
    plugins._load_heif()
    picture().save(tmp_path / "a.heic", exif=exif().tobytes())
    with (tmp_path / "a.heic").open("ab") as file:
        file.write(struct.pack(">I4s", 8 + 100, b"mpvd") + bytes(100))
    found = read_header(str(tmp_path / "a.heic"))
    assert (found.has_more, found.has_camera) == (True, True)


def test_thumbnails_and_tiles_of_a_heic_are_no_further_pictures(tmp_path: Path) -> None:
    import pillow_heif

    heif = pillow_heif.from_pillow(picture().resize((1024, 768)))
    heif.save(tmp_path / "thumbnails.heic", thumbnails=[256, 128])
    assert not read_header(str(tmp_path / "thumbnails.heic")).has_more
    picture().convert("RGBA").save(tmp_path / "opacity.heic")
    assert not read_header(str(tmp_path / "opacity.heic")).has_more
    heif.add_from_pillow(picture())
    heif.save(tmp_path / "two.heic", thumbnails=[256])
    assert read_header(str(tmp_path / "two.heic")).has_more


def test_damage_is_never_an_error(tmp_path: Path) -> None:
    plugins._load_heif()
    chance = random.Random(3)
    for ending in ("jpg", "png", "webp", "heic", "tif", "gif"):
        path = tmp_path / f"a.{ending}"
        picture().save(path, **({} if ending == "gif" else {"exif": exif().tobytes()}))
        whole = path.read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(chance.randrange(8)):
                data[chance.randrange(min(len(data), 700))] = chance.randrange(256)
            path.write_bytes(data[: chance.randrange(len(data))])
            assert isinstance(read_header(str(path)), FileHeader)


def test_a_header_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0" + b"\0\0" + b"\x08\0\0\0")
    assert read_header(str(tmp_path / "a.tif")).taken == ""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + b"\xff" * 100_000)
    assert read_header(str(tmp_path / "a.jpg")) == FileHeader(has_more=True)


def test_a_file_that_cannot_be_read_states_nothing(tmp_path: Path) -> None:
    for path in (str(tmp_path / "absent"), str(tmp_path), "\0"):
        assert read_header(path) == FileHeader()
