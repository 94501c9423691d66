"""Pages of searches, outliers and duplicates: their titles, paths and links."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from grid_mean import GridMean
from page_files import page_data

from imgindex import ImageIndex, Mix


def links(page: Path) -> set[str]:
    """The absolute paths of the files that a page links to."""
    return {os.path.normpath(page.parent / unquote(item[-1])) for item in page_data(page)["items"]}


def shown(page: Path) -> set[str]:
    return {item[1] for item in page_data(page)["items"]}


def test_an_empty_result_has_the_page_of_its_kind(tmp_path: Path) -> None:
    with ImageIndex.create(tmp_path / "it.imgindex", encoder=GridMean()) as index:
        for found, text in (
            (index.outliers(), "No outliers"),
            (index.duplicates(), "No two images duplicate each other among 0 images"),
            (index.answers([]), "No image was compared"),
        ):
            index.gallery(found).write_html(tmp_path / "page.html")
            assert text in (tmp_path / "page.html").read_text(encoding="utf-8")
            assert index.gallery(found).write_sheet(tmp_path / "sheet.png") == [str(tmp_path / "sheet.png")]


def test_paths_are_shown_relative_to_a_folder_and_links_open_the_files_from_anywhere(
    index: ImageIndex, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([folder])
    monkeypatch.chdir(tmp_path)
    absolute = index.outliers(n=12)
    relative = [replace(one, path=os.path.relpath(one.path), nearest=os.path.relpath(one.nearest)) for one in absolute]
    files = {one.path for one in absolute}
    names = {os.path.relpath(path) for path in files}
    pages = {
        "absolute": (index.gallery(absolute), files),
        "shortened": (index.gallery(relative), files),
        "relative": (index.gallery(absolute, relative_to=tmp_path), names),
        "both": (index.gallery(relative, relative_to="."), names),
        "below": (index.gallery(absolute, relative_to=folder), {name.partition("/")[2] for name in names}),
        "answers": (index.gallery(index.answers(["pictures/a/0.png"], n=12), relative_to="."), names),
    }
    clusters = index.gallery(index.cluster(1), relative_to=".")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name, (page, expected) in pages.items():
        page.write_html(f"{name}.html")
        assert shown(Path(f"{name}.html").absolute()) == expected, name
        assert links(Path(f"{name}.html").absolute()) == files, name
    clusters.write_html("clusters.html")
    assert shown(Path("clusters.html").absolute()) <= names
    assert links(Path("clusters.html").absolute()) <= files


def test_a_mix_of_images_has_no_picture_of_its_own_and_says_so(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add([folder])
    page = index.gallery(index.answers(Mix([folder / "a/0.png", folder / "a/1.png"]), n=2))
    page.write_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "a mix of several images" in text
    assert "No such file" not in text
    assert page.write_sheet(tmp_path / "sheet.png")


def test_one_image_is_not_written_as_several(index: ImageIndex, folder: Path) -> None:
    index.add([folder / "a/0.png", folder / "a/1.png"])
    outliers = index.gallery(index.outliers(n=1)).page
    assert (outliers.title, outliers.note.split(";")[0]) == ("The image least like any other", "among 2 images")
    index.remove([folder / "a/1.png"])
    assert index.gallery(index.cluster(1)).page.title == "1 cluster of 1 image"
    assert index.gallery(index.duplicates()).page.empty == "No two images duplicate each other among 1 image"
    assert index.gallery(index.answers([folder / "a/0.png"])).page.note == "among 1 image"


def test_a_page_of_outliers_says_where_none_of_them_is_far_from_the_others(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    found = index.outliers(n=3)
    near, far = ([replace(one, times=times) for one in found] for times in (1.4, 3.0))
    assert index.gallery(near).page.note.endswith("; none stands far out")
    assert "none" not in index.gallery(far).page.note


def test_matches_are_explained_by_the_typical_distance_of_the_index(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    vectors = index.vectors()
    first, second = np.triu_indices(len(vectors), 1)
    typical = np.median(np.linalg.norm(vectors[first] - vectors[second], axis=1))
    legend = index.gallery(index.answers([folder / "a/0.png"])).page.legend
    assert f"Two images of this index are typically {typical:.2f} apart." in legend
