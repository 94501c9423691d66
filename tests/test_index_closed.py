"""A closed index: every method and property raises IndexClosed, also an answer that is being read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgindex import ImageIndex
from imgindex.clustering.collection import Clusterings
from imgindex.errors import ImgindexError, IndexClosed
from imgindex.results import Clustering, Duplicates

IMAGE = "pictures/a/0.png"
# A call of each method and property; a new one needs an entry.
NO_DUPLICATES = Duplicates((), 0, ("same",))
CALLS: dict[str, Callable[[ImageIndex, Clustering], Any]] = {
    "__contains__": lambda index, made: IMAGE in index,
    "__iter__": lambda index, made: iter(index),
    "__len__": lambda index, made: len(index),
    "add": lambda index, made: index.add("pictures"),
    "answers": lambda index, made: index.answers(IMAGE),
    "change_tags": lambda index, made: index.change_tags([1], add="cat"),
    "cluster": lambda index, made: index.cluster(2),
    "clusterings": lambda index, made: index.clusterings,
    "compact": lambda index, made: index.compact(),
    "duplicates": lambda index, made: index.duplicates(exact=True),
    "each_answer": lambda index, made: index.each_answer(IMAGE),
    "encoder": lambda index, made: index.encoder,
    "export": lambda index, made: index.export("vectors.npz"),
    "failures": lambda index, made: index.failures(),
    "gallery": lambda index, made: index.gallery(made),
    "ids": lambda index, made: index.ids(),
    "images": lambda index, made: index.images(),
    "import_csv": lambda index, made: index.import_csv("table.csv"),
    "label_table": lambda index, made: index.label_table(made),
    "leak": lambda index, made: index.leak("pictures/a", "pictures/b"),
    "lookup": lambda index, made: index.lookup(IMAGE),
    "map": lambda index, made: index.map(),
    "move_duplicates": lambda index, made: index.move_duplicates(NO_DUPLICATES, "spare"),
    "outliers": lambda index, made: index.outliers(),
    "paths": lambda index, made: index.paths(),
    "remove": lambda index, made: index.remove(IMAGE),
    "require": lambda index, made: index.require(),
    "similar": lambda index, made: index.similar(IMAGE),
    "status": lambda index, made: index.status(),
    "tag": lambda index, made: index.tag("cat", IMAGE),
    "tags": lambda index, made: index.tags(),
    "thumbnails": lambda index, made: index.thumbnails(),
    "to_frame": lambda index, made: index.to_frame(),
    "trash_duplicates": lambda index, made: index.trash_duplicates(NO_DUPLICATES),
    "undo_move": lambda index, made: index.undo_move("spare"),
    "vector": lambda index, made: index.vector(IMAGE),
    "vectors": lambda index, made: index.vectors(),
    "verify": lambda index, made: index.verify(),
    "write_labels": lambda index, made: index.write_labels(made, "labels.csv"),
}
OF_CLUSTERINGS: dict[str, Callable[[Clusterings, Clustering], Any]] = {
    "__getitem__": lambda found, made: found[1],
    "__iter__": lambda found, made: iter(found),
    "__len__": lambda found, made: len(found),
    "assign": lambda found, made: found.assign(),
    "delete": lambda found, made: found.delete(1),
    "diff": lambda found, made: found.diff(1, 1),
    "evaluate": lambda found, made: found.evaluate(),
    "merge": lambda found, made: found.merge([0, 1]),
    "move": lambda found, made: found.move(1, 0),
    "newest": lambda found, made: found.newest,
    "rename_cluster": lambda found, made: found.rename_cluster(0, "cats"),
    "split": lambda found, made: found.split(0),
    "undo": lambda found, made: found.undo(),
    "with_fit": lambda found, made: found.with_fit(made),
}
# These need no open index.
OTHERS = {"close", "create", "open", "repair"}


@pytest.fixture
def made(index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Clustering:
    """A clustering of the index with twelve pictures, seen from the folder that holds both."""
    monkeypatch.chdir(folder.parent)
    Path("table.csv").write_text("ImageID,year\n0,1969\n")
    index.add("pictures")
    return index.cluster(2)


def public(kind: type) -> set[str]:
    names = {name for name in dir(kind) if not name.startswith("_") and getattr(kind, name).__doc__}
    return names | ({"__contains__", "__len__", "__iter__", "__getitem__"} & vars(kind).keys())


def test_every_method_and_property_is_tried() -> None:
    assert public(ImageIndex) == CALLS.keys() | OTHERS
    assert public(Clusterings) == OF_CLUSTERINGS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_closed_index_raises_an_error_of_its_own(index: ImageIndex, made: Clustering, name: str) -> None:
    index.close()
    with pytest.raises(IndexClosed, match=r"pictures\.imgindex") as error:
        CALLS[name](index, made)
    assert isinstance(error.value, ImgindexError)
    assert "ImageIndex.open" in error.value.hint


@pytest.mark.parametrize("name", OF_CLUSTERINGS)
def test_the_clusterings_of_a_closed_index_raise_it_too(index: ImageIndex, made: Clustering, name: str) -> None:
    found = index.clusterings
    index.close()
    with pytest.raises(IndexClosed):
        OF_CLUSTERINGS[name](found, made)


@pytest.mark.parametrize("name", ["images", "failures", "each_answer"])
def test_an_answer_that_is_being_read_ends_with_it(
    index: ImageIndex, made: Clustering, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imgindex.storage.connection.ROWS_AT_ONCE", 2)
    for number in range(3):
        Path(f"pictures/bad{number}.png").write_text("no picture")
    index.add("pictures")
    answer = index.each_answer(index.paths()) if name == "each_answer" else CALLS[name](index, made)
    next(answer)
    index.close()
    with pytest.raises(IndexClosed):
        list(answer)


def test_a_page_that_was_made_before_can_still_be_written(index: ImageIndex, made: Clustering) -> None:
    page = index.gallery(made)
    index.close()
    page.write_html("page.html")
    page.write_sheet("sheet.png")
    page.write_html("page.html")


def test_an_index_may_be_closed_twice_and_keeps_its_path(index: ImageIndex) -> None:
    index.close()
    index.close()
    assert index.path.endswith("pictures.imgindex")
    assert index.recipe.dimension
    with pytest.raises(IndexClosed), index:
        len(index)
