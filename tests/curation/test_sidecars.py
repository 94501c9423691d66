"""Which files belong to an image."""

from __future__ import annotations

from pathlib import Path

import pytest

from imgindex.curation.sidecars import Folder, is_sidecar


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("a.xmp", "a.jpg"),
        ("A.XMP", "a.jpg"),
        ("a.jpg.xmp", "a.jpg"),
        ("IMG_1.AAE", "IMG_1.HEIC"),
        ("IMG_1.MOV", "IMG_1.HEIC"),
        ("IMG_1.mov", "IMG_1.JPG"),
        ("a.jpg.json", "a.jpg"),
        ("a.jpg.supplemental-metadata.json", "a.jpg"),
        ("a.jpg.supplemental-met.json", "a.jpg"),
        ("a.jpg.s.json", "a.jpg"),
        ("a.jpg(1).json", "a(1).jpg"),
        ("a.jpg.supplemental-metadata(2).json", "a(2).jpg"),
        ("a-very-long-name-of-a-photo-that-someone-gave-.json", "a-very-long-name-of-a-photo-that-someone-gave-it.jpg"),
    ],
)
def test_sidecars_are_known_by_their_names(name: str, image: str) -> None:
    assert is_sidecar(name, image)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("b.xmp", "a.jpg"),
        ("a.png.xmp", "a.jpg"),
        ("a.mov", "a.png"),
        ("a.mp4", "a.jpg"),
        ("a.json", "a.jpg"),
        ("a.jpg(1).json", "a.jpg"),
        ("a.jpg.json", "a(1).jpg"),
        ("a.jpg.settings.json", "a.jpg"),
        ("package.json", "p.jpg"),
        ("ab.xmp", "a.jpg"),
    ],
)
def test_other_files_are_not_sidecars(name: str, image: str) -> None:
    assert not is_sidecar(name, image)


def folder(path: Path, *names: str) -> Folder:
    for name in names:
        (path / name).write_text("x")
    return Folder(str(path))


def test_a_sidecar_that_another_image_needs_stays(tmp_path: Path) -> None:
    here = folder(tmp_path, "a.jpg", "a.CR2", "a.xmp", "a.jpg.xmp", "a.mov", "b.heic", "b.mov", "b.jpg", "b.aae")
    assert here.sidecars("a.jpg") == ["a.jpg.xmp", "a.mov"]
    assert here.sidecars("b.jpg") == []
    here.remove("b.heic")
    assert here.sidecars("b.jpg") == ["b.aae", "b.mov"]


def test_links_and_folders_are_not_sidecars(tmp_path: Path) -> None:
    (tmp_path / "a.xmp").symlink_to("elsewhere")
    (tmp_path / "a.aae").mkdir()
    assert folder(tmp_path, "a.jpg").sidecars("a.jpg") == []
