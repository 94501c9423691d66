"""The rules by which the original of a group is kept, one after the other, each with its reason."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from grid_mean import GRID_RECIPE
from PIL import Image as Picture
from PIL import ImageOps

from imgindex.curation.keep_policy import Candidate, KeepPolicy
from imgindex.decoding import plugins
from imgindex.errors import UsageError
from imgindex.types import Image

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".heic": "HEIF", ".tif": "TIFF", ".dng": "RAW", ".gif": "GIF"}


@pytest.fixture(autouse=True)
def _heif() -> None:
    plugins._load_heif()


def photo(size: tuple[int, int] = (160, 120)) -> Picture.Image:
    cells = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Picture.fromarray(cells).resize(size, Picture.Resampling.BICUBIC)


def camera(taken: str = "") -> bytes:
    tags = Picture.Exif()
    tags[271] = "Apple"
    if taken:
        tags.get_ifd(0x8769)[36867] = taken
    return tags.tobytes()


def dated(taken: str) -> bytes:
    tags = Picture.Exif()
    tags.get_ifd(0x8769)[36867] = taken
    return tags.tobytes()


def save(path: Path, picture: Picture.Image | None = None, *, time: int = 5000, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (picture or photo()).save(path, **options)
    os.utime(path, (time, time))
    return path


def record(path: Path, id: int) -> Image:
    """The record of a file as `add` makes it."""
    data, info = path.read_bytes(), path.stat()
    with Picture.open(path) as opened:
        width, height = opened.size
    sha256 = hashlib.sha256(data).hexdigest()
    format = FORMATS.get(path.suffix.lower(), "JPEG")
    return Image(id, str(path), info.st_size, info.st_mtime_ns, sha256, width, height, format)


def ranked(*paths: Path, keep: str = "original", prefer: tuple[str, ...] = ()) -> list[Candidate]:
    policy = KeepPolicy(keep, prefer, GRID_RECIPE, lambda progress: None)
    found = policy.inspect([record(path, number) for number, path in enumerate(paths, 1)])
    (group,) = policy.ranked([found])
    return group


def kept(*paths: Path, keep: str = "original", prefer: tuple[str, ...] = ()) -> tuple[str, str]:
    """The name of the kept file, and why; the order of the files must not matter."""
    first, second = (ranked(*order, keep=keep, prefer=prefer)[0] for order in (paths, paths[::-1]))
    assert (first.image.path, first.why) == (second.image.path, second.why)
    return Path(first.image.path).name, first.why


def test_the_heic_of_a_camera_is_kept_before_the_larger_jpeg_that_a_messenger_made_of_it(tmp_path: Path) -> None:
    heic = save(tmp_path / "IMG_1.HEIC", exif=camera(), quality=20)
    jpeg = save(tmp_path / "IMG-WA0001.jpg", quality=100)
    assert jpeg.stat().st_size > heic.stat().st_size
    assert kept(jpeg, heic) == ("IMG_1.HEIC", "has the EXIF of a camera, the next has not")
    first, other = ranked(jpeg, heic)
    assert (first.protected, other.protected) == ("", "")
    assert other.why == "another one is kept: has the EXIF of a camera, the next has not"


def test_a_heic_is_kept_before_a_jpeg(tmp_path: Path) -> None:
    heic = save(tmp_path / "a.heic", quality=20)
    assert kept(save(tmp_path / "b.jpg", photo((320, 240)), quality=100), heic) == ("a.heic", "HEIC, the next JPEG")


def test_a_camera_counts_more_than_pixels(tmp_path: Path) -> None:
    large, small = save(tmp_path / "large.jpg", photo((640, 480))), save(tmp_path / "small.jpg", exif=camera())
    assert kept(large, small)[0] == "small.jpg"


def test_a_raw_file_is_never_the_disposable_copy_of_its_jpeg(tmp_path: Path) -> None:
    raw, jpeg = save(tmp_path / "a.tif").rename(tmp_path / "a.dng"), save(tmp_path / "a.jpg", exif=camera())
    assert kept(raw, jpeg) == ("a.dng", "a camera raw file, the next JPEG")
    for keep, prefer in (("largest", ("*.jpg",)), ("original", ("*.jpg",)), ("oldest", ("*.jpg",))):
        first, other = ranked(raw, jpeg, keep=keep, prefer=prefer)
        assert Path(first.image.path).name == "a.jpg"
        assert other.protected == "a camera raw file: an original is not a copy of what was made from it"


def test_a_heic_is_never_the_disposable_copy_of_a_jpeg(tmp_path: Path) -> None:
    heic, jpeg = save(tmp_path / "a.heic"), save(tmp_path / "a.jpg", photo((640, 480)), exif=camera())
    first, other = ranked(heic, jpeg)
    assert Path(first.image.path).name == "a.jpg"
    assert other.protected == "HEIC: an original is not a copy of what was made from it"


def test_a_raw_file_with_the_same_bytes_is_disposable_and_another_one_is_not(tmp_path: Path) -> None:
    raw = save(tmp_path / "a.tif").rename(tmp_path / "a.dng")
    same = Path(shutil.copy2(raw, tmp_path / "b.dng"))
    other = save(tmp_path / "c.tif", photo((80, 60))).rename(tmp_path / "c.dng")
    protected = {Path(one.image.path).name: bool(one.protected) for one in ranked(raw, same, other)}
    assert protected == {"a.dng": False, "b.dng": False, "c.dng": True}


def test_a_file_of_several_pages_is_disposable_only_as_the_same_bytes(tmp_path: Path) -> None:
    pages = save(tmp_path / "pages.tif", save_all=True, append_images=[photo().rotate(90, expand=True)])
    same = Path(shutil.copy2(pages, tmp_path / "zzz.tif"))
    single = save(tmp_path / "photo.jpg", photo((320, 240)))
    group = {Path(one.image.path).name: one.protected for one in ranked(pages, single)}
    assert group == {"photo.jpg": "", "pages.tif": "it holds more than this picture: pages, frames or a film"}
    assert [one.protected for one in ranked(pages, same)] == ["", ""]


def test_more_pixels_are_kept(tmp_path: Path) -> None:
    large, small = save(tmp_path / "large.jpg", photo((320, 240)), quality=30), save(tmp_path / "small.jpg", quality=99)
    assert kept(large, small) == ("large.jpg", "largest: 320 × 240 pixels, the next 160 × 120 pixels")


@pytest.mark.parametrize("border", [(30, 30, 30, 30), (0, 100, 0, 100), (2, 2, 2, 2)])
def test_borders_are_not_pixels(tmp_path: Path, border: tuple[int, int, int, int]) -> None:
    plain = save(tmp_path / "plain.png", time=9000)
    framed = save(tmp_path / "framed.png", ImageOps.expand(photo(), border, "black"))
    assert kept(plain, framed) == ("plain.png", "without the border of the next")


def test_a_larger_picture_in_a_border_is_kept(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.png")
    framed = save(tmp_path / "framed.png", ImageOps.expand(photo((320, 240)), 40, "white"))
    name, why = kept(plain, framed)
    assert name == "framed.png"
    assert why.startswith("largest: about 3")
    assert why.endswith(" pixels inside its border, the next 160 × 120 pixels")


def test_lossless_is_kept_before_lossy(tmp_path: Path) -> None:
    png, jpeg = save(tmp_path / "b.png", time=9000), save(tmp_path / "a.jpg", quality=100)
    assert kept(png, jpeg) == ("b.png", "lossless, the next JPEG")


def test_the_earlier_capture_date_is_kept_and_then_the_older_file(tmp_path: Path) -> None:
    early = save(tmp_path / "early.jpg", exif=dated("2018:01:01 10:00:00"), time=9000)
    late = save(tmp_path / "late.jpg", exif=dated("2019:01:01 10:00:00"))
    undated = save(tmp_path / "undated.jpg", time=1000)
    assert kept(early, late) == ("early.jpg", "taken earlier: 2018-01-01 10:00:00, the next 2019-01-01 10:00:00")
    assert kept(early, undated) == ("early.jpg", "has a capture date, 2018-01-01 10:00:00, the next has none")
    copy = Path(shutil.copy(undated, tmp_path / "again.jpg"))
    name, why = kept(undated, copy)
    assert (name, why[:18]) == ("undated.jpg", "oldest: 1970-01-01")


def test_then_more_bytes_and_then_the_first_path(tmp_path: Path) -> None:
    fine, coarse = save(tmp_path / "b.jpg", quality=95), save(tmp_path / "a.jpg", quality=40)
    sizes = f"{fine.stat().st_size:,} bytes, the next {coarse.stat().st_size:,} bytes"
    assert kept(fine, coarse) == ("b.jpg", sizes)
    copy = Path(shutil.copy2(fine, tmp_path / "c.jpg"))
    assert kept(fine, copy) == ("b.jpg", "equal to the next, and before it in the order of paths")


@pytest.mark.parametrize("glob", ["*/album/*", "album", "album/*", "*.png", "b.png", "*b.png"])
def test_what_is_preferred_is_kept_first(tmp_path: Path, glob: str) -> None:
    original, copy = save(tmp_path / "dcim/a.jpg", photo((320, 240)), exif=camera()), save(tmp_path / "album/b.png")
    assert kept(original, copy)[0] == "a.jpg"
    assert kept(original, copy, prefer=(glob,)) == ("b.png", "preferred by a glob")
    assert kept(original, copy, prefer=("*/dcim/*", glob))[0] == "a.jpg"
    assert kept(original, copy, prefer=("nothing", glob))[0] == "b.png"


def test_an_empty_glob_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty glob"):
        kept(save(tmp_path / "a.png"), save(tmp_path / "b.png"), prefer=("",))


def test_two_paths_of_one_file_free_its_bytes_once(tmp_path: Path) -> None:
    a = save(tmp_path / "a.png")
    b = Path(shutil.copy2(a, tmp_path / "b.png"))
    c = tmp_path / "c.png"
    c.hardlink_to(b)
    frees = {Path(one.image.path).name: one.frees for one in ranked(a, b, c)}
    assert sorted(frees.items()) == [("a.png", 0), ("b.png", a.stat().st_size), ("c.png", 0)]


def test_a_link_is_never_disposable(tmp_path: Path) -> None:
    a = save(tmp_path / "a.png")
    b = Path(shutil.copy2(a, tmp_path / "b.png"))
    (tmp_path / "0.png").symlink_to("b.png")
    protected = {Path(one.image.path).name: one.protected for one in ranked(a, b, tmp_path / "0.png")}
    assert protected == {"a.png": "", "b.png": "", "0.png": "a link, which takes no space"}


def test_a_file_replaced_with_the_same_size_and_time_is_a_problem(tmp_path: Path) -> None:
    a = save(tmp_path / "a.png")
    b = Path(shutil.copy2(a, tmp_path / "b.png"))
    policy = KeepPolicy("original", (), GRID_RECIPE, lambda progress: None)
    images = [record(a, 1), record(b, 2)]
    info, data = b.stat(), bytearray(b.read_bytes())
    data[-1] ^= 1
    b.write_bytes(data)
    os.utime(b, ns=(info.st_atime_ns, info.st_mtime_ns))
    (group,) = policy.ranked([policy.inspect(images)])
    assert [one.problem for one in group] == ["", "changed since it was added: run `imgindex add`"]
    assert group[0].why == "the only one that can be read now"
