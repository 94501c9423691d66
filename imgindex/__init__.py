"""Turn folders of images into a searchable, clusterable index: the public API, each name loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from imgindex._version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from imgindex.bench import BenchReport as BenchReport
    from imgindex.bench import benchmark as benchmark
    from imgindex.curation.disposal import undo_move as undo_move
    from imgindex.errors import ImgindexError as ImgindexError
    from imgindex.export.folders import LinkedFolders as LinkedFolders
    from imgindex.export.folders import link_folders as link_folders
    from imgindex.index import ImageIndex as ImageIndex
    from imgindex.recipe import RECIPES as RECIPES
    from imgindex.recipe import Recipe as Recipe
    from imgindex.results import AddReport as AddReport
    from imgindex.results import Answer as Answer
    from imgindex.results import Assigned as Assigned
    from imgindex.results import Assignment as Assignment
    from imgindex.results import Cluster as Cluster
    from imgindex.results import Clustering as Clustering
    from imgindex.results import ClusteringDiff as ClusteringDiff
    from imgindex.results import ClusteringSummary as ClusteringSummary
    from imgindex.results import CompactReport as CompactReport
    from imgindex.results import Disposal as Disposal
    from imgindex.results import DisposedFile as DisposedFile
    from imgindex.results import Duplicate as Duplicate
    from imgindex.results import Duplicates as Duplicates
    from imgindex.results import Evaluation as Evaluation
    from imgindex.results import Fit as Fit
    from imgindex.results import Group as Group
    from imgindex.results import ImportReport as ImportReport
    from imgindex.results import KScore as KScore
    from imgindex.results import LabelFormat as LabelFormat
    from imgindex.results import Leak as Leak
    from imgindex.results import LookupResult as LookupResult
    from imgindex.results import Match as Match
    from imgindex.results import MovedImage as MovedImage
    from imgindex.results import Outlier as Outlier
    from imgindex.results import RepairReport as RepairReport
    from imgindex.results import TagChange as TagChange
    from imgindex.results import TagReport as TagReport
    from imgindex.search.query import Mix as Mix
    from imgindex.types import CustomEncoder as CustomEncoder
    from imgindex.types import Encoder as Encoder
    from imgindex.types import Engine as Engine
    from imgindex.types import Failure as Failure
    from imgindex.types import Image as Image
    from imgindex.types import Progress as Progress

# The module that defines each public name. Type checkers read the imports above, which say the same.
_HOMES = {
    "BenchReport": "imgindex.bench",
    "benchmark": "imgindex.bench",
    "ImgindexError": "imgindex.errors",
    "undo_move": "imgindex.curation.disposal",
    "LinkedFolders": "imgindex.export.folders",
    "link_folders": "imgindex.export.folders",
    "ImageIndex": "imgindex.index",
    "RECIPES": "imgindex.recipe",
    "Recipe": "imgindex.recipe",
    "AddReport": "imgindex.results",
    "Answer": "imgindex.results",
    "Assigned": "imgindex.results",
    "Assignment": "imgindex.results",
    "Cluster": "imgindex.results",
    "Clustering": "imgindex.results",
    "ClusteringDiff": "imgindex.results",
    "ClusteringSummary": "imgindex.results",
    "CompactReport": "imgindex.results",
    "Disposal": "imgindex.results",
    "DisposedFile": "imgindex.results",
    "Duplicate": "imgindex.results",
    "Duplicates": "imgindex.results",
    "Evaluation": "imgindex.results",
    "Fit": "imgindex.results",
    "Group": "imgindex.results",
    "ImportReport": "imgindex.results",
    "KScore": "imgindex.results",
    "LabelFormat": "imgindex.results",
    "Leak": "imgindex.results",
    "LookupResult": "imgindex.results",
    "Match": "imgindex.results",
    "MovedImage": "imgindex.results",
    "Outlier": "imgindex.results",
    "RepairReport": "imgindex.results",
    "TagChange": "imgindex.results",
    "TagReport": "imgindex.results",
    "Mix": "imgindex.search.query",
    "CustomEncoder": "imgindex.types",
    "Encoder": "imgindex.types",
    "Engine": "imgindex.types",
    "Failure": "imgindex.types",
    "Image": "imgindex.types",
    "Progress": "imgindex.types",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604  each is a string


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
