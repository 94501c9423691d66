"""Pages of results: which page a result has, and the limit of pictures on a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from page_files import page_data
from PIL import Image

import imgindex.gallery.builder
from imgindex import ImageIndex
from imgindex.gallery.model import ClusterPage, DuplicatesPage, MatchesPage, OutliersPage
from imgindex.gallery.terminal import Screen


def test_each_result_has_the_page_of_its_kind(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert isinstance(index.gallery(index.cluster(2)).page, ClusterPage)
    assert isinstance(index.gallery(index.duplicates()).page, DuplicatesPage)
    assert isinstance(index.gallery(index.outliers(n=3)).page, OutliersPage)
    assert isinstance(index.gallery(list(index.outliers(n=3))).page, OutliersPage)
    assert isinstance(index.gallery(index.answers(folder / "a/0.png")).page, MatchesPage)


def test_a_page_of_too_many_images_says_which_have_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: ImageIndex, folder: Path
) -> None:
    index.add([folder])
    monkeypatch.setattr(imgindex.gallery.builder, "SIDES", ((3, 32), (5, 16)))
    index.gallery(index.outliers(n=12)).write_html(tmp_path / "page.html")
    pictures = page_data(tmp_path / "page.html")["pictures"]
    assert sum(bool(data) for data, _, _ in pictures) == 5
    assert {reason for data, reason, _ in pictures if not data} == {"a page has pictures of at most 5 images"}


def test_a_sheet_and_a_preview_are_drawn_from_the_thumbnails_of_the_index(
    index: ImageIndex, folder: Path, tmp_path: Path
) -> None:
    index.add(folder)
    page = index.gallery(index.outliers(n=12))
    page.write_sheet(tmp_path / "first.png")
    shown = list(page.preview(Screen("kitty", 80)))
    for path in index.paths():
        Path(path).unlink()
    page.write_sheet(tmp_path / "second.png")
    np.testing.assert_allclose(pixels(tmp_path / "first.png"), pixels(tmp_path / "second.png"), atol=8)
    assert list(page.preview(Screen("kitty", 80))) == shown


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)
