"""Paths in the Python API: one path is one path in every method, however it is written and by whichever links."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grid_mean import GridMean
from pictures import draw

import imgindex
from imgindex import ImageIndex, LabelFormat, Mix, benchmark, link_folders, undo_move
from imgindex.clustering.collection import Clusterings
from imgindex.errors import ImgindexError, PathNotFound, UnreadableImage, UsageError
from imgindex.gallery.builder import GalleryPage

NFC, NFD = (unicodedata.normalize(form, "\u00e9t\u00e9") for form in ("NFC", "NFD"))


@pytest.fixture
def here(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `pictures` in `index`, a table `t.csv` and a clustering."""
    monkeypatch.chdir(folder.parent)
    index.add("pictures")
    index.cluster(k=2)
    rows = "".join(f"{number},{number % 2}\n" for number in range(12))
    (folder.parent / "t.csv").write_text("ImageID,label\n" + rows)
    return folder.parent


def relative(paths: list[str]) -> list[str]:
    return [os.path.relpath(path) for path in paths]


def _size(index: ImageIndex) -> int:
    with index:
        return len(index)


def _created(path: Any) -> str:
    with ImageIndex.create(path, encoder=GridMean()) as index:
        where = index.path
    shutil.rmtree(where)
    return where


def _removed(index: ImageIndex, path: Any) -> list[str]:
    removed = [image.path for image in index.remove(path)]
    index.add("pictures")
    return removed


def _moved(index: ImageIndex, folder: Any, undo: Callable[..., Any] = undo_move, back: Any = "spare") -> int:
    """Move a copy to a folder and back, and return how many files came back."""
    shutil.copy("pictures/a/0.png", "pictures/a/copy.png")
    index.add("pictures")
    try:
        index.move_duplicates(index.duplicates(exact=True), folder)
        return len(undo(back).files)
    finally:
        shutil.rmtree("spare", ignore_errors=True)
        Path("pictures/a/copy.png").unlink(missing_ok=True)
        index.add("pictures")


def _matches(answers: Any) -> list[Any]:
    return [answer.matches for answer in answers]


def _written(path: Any, write: Callable[..., None], index: ImageIndex) -> bytes:
    write(index.clusterings.newest, path)
    return Path("out.csv").read_bytes()


def _page(index: ImageIndex, **options: Any) -> GalleryPage:
    return index.gallery(index.answers([IMAGE], n=2), **options)


def _names(index: ImageIndex, path: Any) -> list[str]:
    return [card.name for card in _page(index, relative_to=path).page.cards()]


def _exported(index: ImageIndex, path: Any) -> str:
    index.export("out.csv", relative_to=path)
    return Path("out.csv").read_text()


def _evaluated(index: ImageIndex, path: Any) -> int:
    Path("paths.csv").write_text(f"ImageID,class\n{IMAGE},x\n")
    return index.clusterings.evaluate("paths.csv", id_kind="path", relative_to=path).images


def _moved_to_the_other(index: ImageIndex, path: Any) -> list[str]:
    made = index.clusterings.newest
    at = made.paths.index(os.path.abspath(IMAGE))
    moved = index.clusterings.move(path, 1 - int(made.labels[at]))
    try:
        return [one.path for one in index.clusterings.diff(made.id or 0, moved.id or 0).moved]
    finally:
        index.clusterings.undo()


def _split(index: ImageIndex, path: Any) -> tuple[int, ...]:
    made = index.clusterings.newest
    label = int(made.labels[made.paths.index(os.path.abspath(IMAGE))])
    split = index.clusterings.split(label, 2, anchors={"x": path})
    index.clusterings.undo()
    return split.sizes


# For each parameter of the public API that takes a path: a path that it takes, and a call that returns what it did.
Case = tuple[str, Callable[[ImageIndex, Any], object]]
IMAGE, FOLDER = "pictures/a/0.png", "pictures/a"
CASES: dict[tuple[object, str], Case] = {
    (ImageIndex.create, "path"): ("new.imgindex", lambda index, path: _created(path)),
    (ImageIndex.open, "path"): ("pictures.imgindex", lambda index, path: _size(ImageIndex.open(path))),
    (ImageIndex.repair, "path"): ("pictures.imgindex", lambda index, path: ImageIndex.repair(path).mended),
    (ImageIndex.add, "paths"): (FOLDER, lambda index, path: index.add(path).found),
    (ImageIndex.remove, "paths"): (FOLDER, _removed),
    (ImageIndex.similar, "image"): (IMAGE, lambda index, path: index.similar(path, n=3)),
    (ImageIndex.vector, "image"): (IMAGE, lambda index, path: np.atleast_2d(index.vector(path)).tolist()),
    (ImageIndex.answers, "images"): (IMAGE, lambda index, path: _matches(index.answers(path, n=3))),
    (ImageIndex.each_answer, "images"): (IMAGE, lambda index, path: _matches(index.each_answer(path, n=3))),
    (ImageIndex.cluster, "anchors"): (IMAGE, lambda index, path: index.cluster(2, anchors={"x": path}).sizes),
    (ImageIndex.write_labels, "out"): ("out.csv", lambda index, path: _written(path, index.write_labels, index)),
    (ImageIndex.lookup, "images"): (FOLDER, lambda index, path: [one.match for one in index.lookup(path)]),
    (ImageIndex.leak, "a"): (IMAGE, lambda index, path: index.leak(path, "pictures/b", similar=True, distance=9.0)),
    (ImageIndex.leak, "b"): (IMAGE, lambda index, path: index.leak("pictures/b", path, similar=True, distance=9.0)),
    (ImageIndex.move_duplicates, "folder"): ("spare", _moved),
    (ImageIndex.undo_move, "folder"): ("spare", lambda index, path: _moved(index, "spare", index.undo_move, path)),
    (undo_move, "folder"): ("spare", lambda index, path: _moved(index, "spare", undo_move, path)),
    (ImageIndex.tag, "paths"): (FOLDER, lambda index, path: index.tag("x", path).images),
    (ImageIndex.import_csv, "path"): ("t.csv", lambda index, path: index.import_csv(path).images),
    (ImageIndex.gallery, "relative_to"): (".", _names),
    (ImageIndex.export, "out"): ("out.npy", lambda index, path: index.export(path)),
    (ImageIndex.export, "relative_to"): (".", _exported),
    (Clusterings.move, "images"): (IMAGE, _moved_to_the_other),
    (Clusterings.split, "anchors"): (IMAGE, _split),
    (Clusterings.evaluate, "truth"): ("t.csv", lambda index, path: index.clusterings.evaluate(path).images),
    (Clusterings.evaluate, "relative_to"): (".", _evaluated),
    (GalleryPage.write_html, "out"): ("out.html", lambda index, path: _page(index).write_html(path)),
    (GalleryPage.write_sheet, "out"): ("out.png", lambda index, path: len(_page(index).write_sheet(path))),
    (Mix, "plus"): (IMAGE, lambda index, path: index.similar(Mix(path), n=3)),
    (Mix, "minus"): (IMAGE, lambda index, path: index.similar(Mix("pictures/b/6.png", path), n=3)),
    (benchmark, "paths"): ("pictures", lambda index, path: benchmark(path, recipe="vgg16-pool5", size=32).images),
    (link_folders, "where"): ("links", lambda index, path: len(link_folders(path, {"x": [IMAGE]}, dry_run=True).made)),
    (link_folders, "groups"): (IMAGE, lambda index, path: len(link_folders("links", {"x": path}, dry_run=True).made)),
}
# These take seconds, and one form is enough for them.
SLOW = {benchmark}


def path_parameters() -> Iterator[tuple[object, str]]:
    """Yield each parameter of a public function that is annotated as a path, or holds paths."""
    functions: list[object] = [getattr(imgindex, name) for name in imgindex.__all__ if name != "__version__"]
    owners = [one for one in functions if inspect.isclass(one)] + [Clusterings, GalleryPage]
    functions += [
        getattr(owner, name)
        for owner in owners
        for name in vars(owner)
        if not name.startswith("_") and callable(getattr(owner, name))
    ]
    for function in functions:
        if not callable(function) or (inspect.isclass(function) and issubclass(function, BaseException)):
            continue
        try:
            parameters = inspect.signature(function).parameters
        except ValueError:  # a protocol or a type alias
            continue
        yield from (
            (function, name)
            for name, one in parameters.items()
            if re.search(r"\b(Path|ImageInput)\b", str(one.annotation))
        )


def test_every_parameter_that_takes_a_path_is_tried_here() -> None:
    found = {(getattr(function, "__qualname__", ""), name) for function, name in path_parameters()}
    assert found == {(getattr(function, "__qualname__", ""), name) for function, name in CASES}


@pytest.mark.parametrize(
    "case", [case for case in CASES if case[0] not in SLOW], ids=lambda case: f"{case[0].__qualname__}-{case[1]}"
)
def test_one_path_is_one_path_however_it_is_written(
    case: tuple[object, str], index: ImageIndex, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here))
    path, call = CASES[case]
    (here / "up").symlink_to("pictures/a")
    forms: list[Any] = [Path(path), f"./{path}", f"~/{path}", f"//{here}/{path}", Path(here, path), f"up/../../{path}"]
    if "Iterable" in str(inspect.signature(case[0]).parameters[case[1]].annotation):
        forms += [[path], (Path(path),), iter([path])]
    expected = call(index, path)
    for form in forms:
        assert call(index, form) == expected, form


def takes_bytes(case: tuple[Any, str]) -> bool:
    """Whether bytes are the content of an image there."""
    return "ImageInput" in str(inspect.signature(case[0]).parameters[case[1]].annotation)


@pytest.mark.parametrize("case", list(CASES), ids=lambda case: f"{case[0].__qualname__}-{case[1]}")
@pytest.mark.parametrize("wrong", ["", b"pictures"], ids=["empty", "bytes"])
def test_an_empty_path_and_bytes_are_refused_in_one_line(
    case: tuple[object, str], wrong: Any, index: ImageIndex, here: Path
) -> None:
    before = index.paths()
    if wrong and takes_bytes(case):
        wrong = b""
    with pytest.raises(UsageError) as caught:
        CASES[case][1](index, wrong)
    assert "\n" not in str(caught.value)
    assert index.paths() == before


def test_the_current_folder_is_one_path_in_add_and_remove(
    index: ImageIndex, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here / FOLDER)
    assert [Path(image.path).name for image in index.remove("./")] == [f"{number}.png" for number in range(6)]
    report = index.add("./")
    assert (report.found, report.reused + report.added) == (6, 6)
    assert index.tag("x", "./").images == 6
    assert len(index) == 12
    with pytest.raises(UnreadableImage, match="it is a folder"):
        index.similar("./")


# Links.


@pytest.mark.parametrize("first", ["pictures", "link", "pictures/link to 0.png"])
def test_a_file_is_one_image_by_whichever_path_it_was_added_first(
    first: str, index: ImageIndex, folder: Path, encoder: GridMean, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("link").symlink_to("pictures")
    (folder / "link to 0.png").symlink_to("a/0.png")
    index.add(first)
    ids = {image.id for image in index.images()}
    for root in ("pictures", "link", "link/a", "pictures/link to 0.png", "pictures/a/0.png"):
        report = index.add(root)
        assert report.reused == report.removed == report.failed == report.updated == 0
    assert len(index) == 12
    assert encoder.embedded == 12
    assert ids <= {image.id for image in index.images()}
    assert index.add(["pictures", "link"]).unchanged == 12
    for path in ("pictures/a/0.png", "link/a/0.png", "pictures/link to 0.png"):
        (match,) = index.similar(path, n=1, include_self=True)
        assert match.distance == 0
        assert match.id not in {other.id for other in index.similar(path, n=11)}
        assert [(one.how, one.id) for one in index.lookup(path)] == [("same", match.id)]
        assert index.tag("zero", path).images == 1
        assert [image.id for image in index.images(where="tags match 'zero'")] == [match.id]
    assert len(index.remove("link/b")) == 6
    assert len(index.remove("pictures/link to 0.png")) == 1
    assert len(index) == 5


def test_a_file_that_changes_is_updated_through_a_link_under_its_id(index: ImageIndex, folder: Path) -> None:
    index.add(folder)
    (folder.parent / "link").symlink_to("pictures")
    before = index.paths()
    draw(folder / "a/0.png", 77)
    assert index.add(folder.parent / "link").updated == 1
    assert index.paths() == before
    (folder / "a/0.png").unlink()
    assert index.add(folder.parent / "link").removed == 1


def test_an_image_survives_the_link_by_which_it_was_found(index: ImageIndex, folder: Path) -> None:
    (folder.parent / "link").symlink_to("pictures")
    index.add(folder.parent / "link")
    (folder.parent / "link").unlink()
    report = index.add(folder)
    assert (report.renamed, len(index)) == (12, 12)
    assert index.paths()[0] == str(folder / "a/0.png")


def test_a_hard_link_is_a_file_of_its_own(index: ImageIndex, folder: Path) -> None:
    (folder / "hard.png").hardlink_to(folder / "a/0.png")
    assert (index.add(folder).reused, len(index)) == (1, 13)


# Unicode.


def test_an_image_is_named_in_either_unicode_form(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    Path("a/0.png").rename(f"a/{NFD}.png")
    index.add(folder)
    for name in (f"a/{NFC}.png", f"a/{NFD}.png"):
        (match,) = index.similar(name, n=1, include_self=True)
        assert Path(match.path).name == f"{NFD}.png"
        assert index.add(name).unchanged == 1
        assert index.tag("x", name).images == 1
        assert len(list(index.images(where=f"name = '{name[2:]}' and path like '%/{name[2:-4]}%'"))) == 1
    Path(f"a/{NFD}.png").unlink()
    assert index.similar(f"a/{NFC}.png", n=1, include_self=True)[0].id == match.id
    assert len(index.remove(f"a/{NFC}.png")) == 1


def test_two_files_that_differ_only_in_their_unicode_form_are_two_images(index: ImageIndex, folder: Path) -> None:
    for number, name in enumerate((NFC, NFD), 50):
        draw(folder / f"{name}.png", number)
    assert index.add(folder).added == 14
    assert len(index.remove(folder / f"{NFC}.png")) == 1
    assert [Path(path).name for path in index.paths()][-1] == f"{NFD}.png"
    index.add(folder)
    mixed = folder / "e\u0301t\u00e9.png"
    with pytest.raises(ImgindexError, match="differ only in how an accent is written"):
        index.similar(mixed)
    with pytest.raises(PathNotFound):
        index.add(mixed)


def test_ids_of_tables_match_in_either_unicode_form(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "b")
    (folder / "a/0.png").rename(folder / f"a/{NFD}.png")
    index.add(folder)
    rows = "".join(f"{number},{number % 2}\r\n" for number in range(1, 6))
    (tmp_path / "t.csv").write_bytes(f"\ufeffImageID,label\r\n{NFC},0\r\n{rows}".encode())
    assert index.import_csv(tmp_path / "t.csv").unknown == ()
    clustering = index.cluster(k=2)
    assert index.clusterings.evaluate(tmp_path / "t.csv").unknown == ()
    table = index.label_table(clustering, LabelFormat(like=(tmp_path / "t.csv").read_text(encoding="utf-8-sig")))
    assert [row["ImageID"] for row in table.rows] == [NFC, "1", "2", "3", "4", "5"]
    (tmp_path / "t.csv").write_text(f"ImageID,label\n{NFC},0\n{NFD},1\n", encoding="utf-8")
    with pytest.raises(UsageError, match="are the same image"):
        index.import_csv(tmp_path / "t.csv")


def test_ids_that_are_paths_may_be_any_path_to_the_image(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add(folder)
    (tmp_path / "link").symlink_to("pictures")
    paths = ["pictures/a/0.png", "./pictures/a/1.png", f"/{folder}/a/2.png", "link/a/3.png", "pictures//a/../a/4.png"]
    (tmp_path / "t.csv").write_text("path,x\n" + "".join(f"{path},1\n" for path in paths))
    report = index.import_csv(tmp_path / "t.csv", id="path")
    assert (report.images, report.unknown) == (5, ())


@pytest.mark.parametrize("use", ["csv", "truth", "like"])
def test_a_table_without_a_header_is_explained(use: str, index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    index.add(folder)
    clustering = index.cluster(k=2)
    (tmp_path / "t.csv").write_text("".join(f"{number},{number % 2}\n" for number in range(12)))
    call: Callable[[], object] = {
        "csv": lambda: index.import_csv(tmp_path / "t.csv"),
        "truth": lambda: index.clusterings.evaluate(tmp_path / "t.csv"),
        "like": lambda: index.label_table(clustering, LabelFormat(like=(tmp_path / "t.csv").read_text())),
    }[use]
    with pytest.raises(ImgindexError, match="no header: its first line begins with '0'") as caught:
        call()
    assert "ImageID,label" in str(caught.value.hint)


def test_an_image_may_be_called_like_the_header(index: ImageIndex, folder: Path, tmp_path: Path) -> None:
    (folder / "a/0.png").rename(folder / "a/id.png")
    index.add(folder)
    (tmp_path / "t.csv").write_text("id,x\n1,1\n")
    assert index.import_csv(tmp_path / "t.csv").images == 1
