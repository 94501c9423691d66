"""Turn folders of images into a searchable, clusterable index: the public API, each name loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from imgindex._version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from imgindex.answers.clusterings import Clustering as Clustering
    from imgindex.answers.curation import Checked as Checked
    from imgindex.answers.curation import Duplicate as Duplicate
    from imgindex.answers.curation import Duplicates as Duplicates
    from imgindex.answers.curation import Group as Group
    from imgindex.answers.curation import Leak as Leak
    from imgindex.benching import BenchReport as BenchReport
    from imgindex.benching import bench as bench
    from imgindex.embedding.recipe import RECIPES as RECIPES
    from imgindex.embedding.recipe import Recipe as Recipe
    from imgindex.errors import ImgindexError as ImgindexError
    from imgindex.index import ImageIndex as ImageIndex
    from imgindex.querying import Mix as Mix
    from imgindex.reports.folders import Arrangement as Arrangement
    from imgindex.reports.folders import arrange as arrange
    from imgindex.types import AddReport as AddReport
    from imgindex.types import Answer as Answer
    from imgindex.types import CompactReport as CompactReport
    from imgindex.types import Embedder as Embedder
    from imgindex.types import Engine as Engine
    from imgindex.types import Failure as Failure
    from imgindex.types import Image as Image
    from imgindex.types import Match as Match
    from imgindex.types import Progress as Progress
    from imgindex.types import RepairReport as RepairReport

_HOMES = {
    "ImageIndex": "imgindex.index",
    "bench": "imgindex.benching",
    "BenchReport": "imgindex.benching",
    "RECIPES": "imgindex.embedding.recipe",
    "Recipe": "imgindex.embedding.recipe",
    "ImgindexError": "imgindex.errors",
    "Arrangement": "imgindex.reports.folders",
    "arrange": "imgindex.reports.folders",
    "Checked": "imgindex.answers.curation",
    "Duplicate": "imgindex.answers.curation",
    "Duplicates": "imgindex.answers.curation",
    "Group": "imgindex.answers.curation",
    "Leak": "imgindex.answers.curation",
    "Mix": "imgindex.querying",
    "AddReport": "imgindex.types",
    "Answer": "imgindex.types",
    "Clustering": "imgindex.answers.clusterings",
    "CompactReport": "imgindex.types",
    "Embedder": "imgindex.types",
    "Engine": "imgindex.types",
    "Failure": "imgindex.types",
    "Image": "imgindex.types",
    "Match": "imgindex.types",
    "Progress": "imgindex.types",
    "RepairReport": "imgindex.types",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  each is a string


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
