"""Arguments of a wrong type: the error names the parameter and what it accepts, in each method of the API."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgindex import Engine, ImageIndex, LabelFormat, Mix
from imgindex.arguments import checked
from imgindex.clustering.collection import Clusterings
from imgindex.errors import UsageError
from imgindex.results import Clustering

IMAGE = "pictures/a/0.png"
WRONG: dict[str, tuple[str, Callable[[ImageIndex], Any]]] = {
    "add": ("type int is not a path", lambda index: index.add(3)),  # type: ignore[arg-type]
    "add several": ("type int is not a path", lambda index: index.add([IMAGE, 3])),  # type: ignore[list-item]
    "add exclude": ("exclude must be text or a list, not 3", lambda index: index.add(".", exclude=3)),  # type: ignore[arg-type]
    "add stop": ("stop must be a function, not 3", lambda index: index.add(".", stop=3)),  # type: ignore[arg-type]
    "progress": ("on_progress must be a function", lambda index: index.add(".", on_progress=True)),  # type: ignore[arg-type]
    "n": ("n must be a whole number, not '3'", lambda index: index.similar(IMAGE, n="3")),  # type: ignore[call-overload]
    "n float": ("n must be a whole number, not 2.5", lambda index: index.similar(IMAGE, n=2.5)),  # type: ignore[call-overload]
    "n None": ("n must be a whole number, not None", lambda index: index.similar(IMAGE, n=None)),  # type: ignore[call-overload]
    "n True": ("n must be a whole number, not True", lambda index: index.similar(IMAGE, n=True)),
    "distance": ("max_distance must be a number, not 'far'", lambda index: index.answers(IMAGE, max_distance="far")),  # type: ignore[arg-type]
    "where": ("where must be text, not 3", lambda index: index.images(where=3)),  # type: ignore[arg-type]
    "k": ("k must be a whole number or a range, not 'five'", lambda index: index.cluster("five")),  # type: ignore[arg-type]
    "anchors": ("anchors must be a mapping, not \\['a'\\]", lambda index: index.cluster(anchors=["a"])),  # type: ignore[arg-type]
    "label_format": ("must be a LabelFormat, not 'name'", lambda index: index.cluster(2, label_format="name")),  # type: ignore[arg-type]
    "tag": ("name must be text, not 3", lambda index: index.tag(3, IMAGE)),  # type: ignore[arg-type]
    "ids": ("ids must be an iterable, not 'ab'", lambda index: index.thumbnails("ab")),  # type: ignore[arg-type]
    "csv": ("type int is not a path", lambda index: index.import_csv(3)),  # type: ignore[arg-type]
    "found": ("found must be a Duplicates", lambda index: index.move_duplicates("x", "spare")),  # type: ignore[arg-type]
    "gallery": ("found must be a Clustering or a Duplicates or a list, not 3", lambda index: index.gallery(3)),  # type: ignore[arg-type]
    "matches": ("type Match cannot be shown", lambda index: index.gallery(index.similar(IMAGE))),  # type: ignore[arg-type]
    "label": ("label must be a whole number", lambda index: index.clusterings.rename_cluster("x", "a")),  # type: ignore[arg-type]
    "name": ("name must be text, not 3", lambda index: index.clusterings.rename_cluster(0, 3)),  # type: ignore[arg-type]
    "truth": ("type int is not a path", lambda index: index.clusterings.evaluate(3)),  # type: ignore[arg-type]
    "open": ("type NoneType is not a path", lambda index: ImageIndex.open(None)),  # type: ignore[arg-type]
    "recipe": ("recipe must be text or a Recipe, not 3", lambda index: ImageIndex.create("n", recipe=3)),  # type: ignore[arg-type]
    "size": ("size must be a whole number, not '96'", lambda index: ImageIndex.create("n", size="96")),  # type: ignore[arg-type]
    "engine": ("engine must be an Engine, not 'cpu'", lambda index: ImageIndex.create("n", engine="cpu")),  # type: ignore[arg-type]
    "mix": ("type int is not a path", lambda index: Mix(plus=[3])),  # type: ignore[list-item]
}


@pytest.mark.parametrize("name", WRONG)
def test_the_error_names_the_parameter_and_what_it_accepts(
    index: ImageIndex, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(folder.parent)
    index.add("pictures")
    index.cluster(2)
    expected, call = WRONG[name]
    with pytest.raises(UsageError, match=expected):
        call(index)


def test_numbers_of_numpy_are_accepted(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    found = index.similar(folder / "a/0.png", n=np.int64(3), max_distance=np.float32(9))  # type: ignore[arg-type]
    assert len(found) == 3
    assert index.cluster(np.uint8(2), seed=np.int32(7)).k == 2  # type: ignore[arg-type]


def test_one_glob_may_be_excluded(index: ImageIndex, folder: Path) -> None:
    assert index.add([folder], exclude="b").found == 6


def test_signatures_and_docstrings_stay_as_they_are_declared() -> None:
    assert list(inspect.signature(ImageIndex.similar).parameters)[:3] == ["self", "image", "n"]
    assert next(iter(inspect.signature(ImageIndex.open).parameters)) == "path"
    assert (ImageIndex.similar.__doc__ or "").startswith("Return the n images nearest")
    assert Clusterings.diff.__name__ == "diff"


@checked
class Sample:
    """Methods with each kind of annotation."""

    def method(
        self,
        k: int | range | None = None,
        *several: int,
        ratio: float = 1.0,
        names: Sequence[str] = (),
        by_name: Mapping[str, int | list[int]] | None = None,
        engine: Engine | None = None,
        format: LabelFormat | Clustering | None = None,
        call: Callable[[], bool] | None = None,
        free: Any = None,
        flag: bool = False,
    ) -> tuple[Any, ...]:
        return k, ratio, names, by_name, engine, format, call, free, flag, several


def test_each_kind_of_annotation_is_checked() -> None:
    sample = Sample()
    right = sample.method(range(3), ratio=2, names=["a"], by_name={"a": [1]}, engine=Engine(), call=bool, free=object)
    assert (right[0], right[1], right[6]) == (range(3), 2.0, bool)
    assert type(right[1]) is float
    assert sample.method(3, 4, 5)[-1] == (4, 5)
    for wrong in (
        {"k": "3"},
        {"k": 2.0},
        {"ratio": "1"},
        {"ratio": None},
        {"ratio": True},
        {"names": "abc"},
        {"names": 3},
        {"by_name": ["a"]},
        {"engine": "cpu"},
        {"format": "csv"},
        {"call": 3},
    ):
        (name,) = wrong
        with pytest.raises(UsageError, match=f"{name} must be "):
            sample.method(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        sample.method(other=1)  # type: ignore[call-arg]
