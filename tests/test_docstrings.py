"""The examples in the docstrings of the public API are run, in order, on an index of a few drawn images."""

from __future__ import annotations

import doctest
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import imgindex
from imgindex import ImageIndex

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `photos/cat.jpg` and other images, and `photos.imgindex`, which has them all."""
    folder = tmp_path_factory.mktemp("docstrings")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import sample_images
    finally:
        sys.path.pop(0)
    sample_images.write(folder / "photos", 12, seed=7)
    first = min((folder / "photos").iterdir())
    first.rename(folder / "photos" / "cat.jpg")
    with ImageIndex.create(folder / "photos.imgindex", recipe="vgg16-pool5", size=96) as index:
        index.add(folder / "photos")
    return folder


def members() -> Iterator[tuple[str, object]]:
    """Everything public that has a docstring: the names of the API, and the methods of its classes, as they stand."""
    from imgindex.clustering.collection import Clusterings
    from imgindex.gallery.builder import GalleryPage

    public = {name: getattr(imgindex, name) for name in imgindex.__all__}
    for name, value in {**public, "Clusterings": Clusterings, "GalleryPage": GalleryPage}.items():
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value):
            for attribute, member in vars(value).items():
                if not attribute.startswith("_") and getattr(member, "__doc__", None):
                    yield f"{name}.{attribute}", member


def test_the_examples_of_the_docstrings_print_what_they_show(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    tests, run = [], doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with ImageIndex.open("photos.imgindex") as index:
        public = {name: getattr(imgindex, name) for name in imgindex.__all__}
        for name, member in members():
            doc = inspect.getdoc(getattr(member, "__func__", getattr(member, "fget", member))) or ""
            names = {**public, "index": index, "os": os}
            tests.append(doctest.DocTestParser().get_doctest(doc, names, name, None, None))
        said: list[str] = []
        for test in tests:
            run.run(test, out=said.append, clear_globs=False)
    assert run.summarize(verbose=False).failed == 0, "".join(said)
    assert sum(bool(test.examples) for test in tests) >= 20


def test_the_methods_that_a_newcomer_tries_first_have_examples() -> None:
    for name in ("create", "add", "similar", "cluster", "duplicates", "images", "gallery", "export"):
        assert ">>>" in (getattr(ImageIndex, name).__doc__ or ""), name


def test_help_on_cluster_explains_each_of_its_parameters() -> None:
    signature, doc = inspect.signature(ImageIndex.cluster), inspect.getdoc(ImageIndex.cluster) or ""
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    assert kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    for name in set(signature.parameters) - {"self", "seed", "on_progress"}:
        assert f"{name}:" in doc or f"{name}," in doc, name
