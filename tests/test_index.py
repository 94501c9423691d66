"""The class of the index, tested: its signatures and its docstrings."""

from __future__ import annotations

import inspect
import types
from pathlib import Path

from imgindex import ImageIndex


def test_the_index_is_one_class_whose_parameters_are_declared_in_its_signatures() -> None:
    assert [base.__module__ for base in ImageIndex.__mro__ if base.__module__.startswith("imgindex")] == [
        "imgindex.index"
    ]
    for name, member in vars(ImageIndex).items():
        if not name.startswith("_") and isinstance(member, (types.FunctionType, classmethod)):
            parameters = inspect.signature(getattr(ImageIndex, name)).parameters.values()
            assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters), name
            optional = [one.name for one in parameters if one.default is not inspect.Parameter.empty]
            by_place = [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
            # Beside the subject, whatever has a default is given by name.
            assert len(set(optional) & set(by_place)) <= 1, name


def test_every_public_function_of_the_index_says_what_it_does() -> None:
    for name, member in vars(ImageIndex).items():
        if not name.startswith("_"):
            assert getattr(member, "__doc__", None) or getattr(getattr(member, "__func__", None), "__doc__", None), name


def test_an_index_is_a_collection_of_images_that_describes_itself(index: ImageIndex, folder: Path) -> None:
    index.add([folder])
    assert [image.path for image in index] == index.paths()
    path = index.paths()[0]
    assert path in index
    assert Path(path) in index
    assert f"{folder}/nothing.png" not in index
    assert 7 not in index
    assert repr(index) == f"<ImageIndex {index.path!r}, grid at 32 px, 12 images, 0 clusterings>"
    index.cluster(2)
    index.remove(index.paths()[1:])
    assert path in index
    assert repr(index).endswith("1 image, 1 clustering>")
    index.close()
    assert repr(index) == f"<ImageIndex {index.path!r}, closed>"
