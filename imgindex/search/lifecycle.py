"""Chooses the search of an index: exact, by FAISS or by Milvus; and renews what the last two search, when it is stale.

A server searches only if the index names it. It is asked for everything but selections of fewer than 100,000 images,
which are compared exactly on this machine.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgindex.errors import CollectionNotOurs, ExtraMissing, IndexDamaged, SearchUnavailable
from imgindex.search import milvus_sync
from imgindex.storage import derived
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer
from imgindex.types import Ids, OnProgress, Progress, VectorBlock, VectorSearch

if TYPE_CHECKING:
    from imgindex.search.faiss_ivf import SearchMetadata

# Up to this many rows an exact search answers in milliseconds, and needs no file.
EXACT_ROWS = 99_999
# A search index is rebuilt when more than this share of the rows is newer than it.
STALE = 0.2
TARGET_SETTING, DEFAULT_TARGET = "target_recall", 0.99
EXACT = "exact"
# A new file is written beside the old one, which answers until the new one is committed.
NAMES = ("vectors.faiss", "vectors-2.faiss")
# What is raised where Milvus searches and cannot be asked. Only searches and `compact` end with that.
CANNOT_ASK = (SearchUnavailable, CollectionNotOurs, ExtraMissing)


def load_search(store: Store, only: Ids | None = None) -> VectorSearch:
    """Return a search over the present images, or over those of `only`; an exact one below 100,000 rows.

    That over all images is made once for each state of the index. Where Milvus searches, it is asked for more than that
    selection.

    Raises IndexDamaged, also while it searches, where a vector that it compares is damaged; SearchUnavailable,
    CollectionNotOurs or ExtraMissing where Milvus cannot be asked.
    """
    if only is None:
        return store.once(_load_search)
    return _load_search(store, only)


def _load_search(store: Store, only: Ids | None = None) -> VectorSearch:
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.search.exact import ExactSearch

    with store.reading():
        if milvus_sync.search_address(store.catalogue) is not None and (only is None or len(only) > EXACT_ROWS):
            return milvus_sync.load(store, only)
        blocks = store.blocks(only)
        found = _load(store) if _count_present(blocks) > EXACT_ROWS else None
        if found is None or not found.metadata.reached:
            return ExactSearch(blocks)
        from imgindex.search.faiss_ivf import IvfSearch

        return IvfSearch(found.index, found.metadata, blocks, found.covered)


def update_search_index(
    store: Store, writer: Writer, *, compare: bool = False, on_progress: OnProgress = lambda progress: None
) -> None:
    """Rebuild the search index if it is needed and missing, damaged or stale; or send Milvus the rows that it lacks.

    An older file stays beside the new one; `upkeep.update_search_files` removes it. compare: see
    `milvus_sync.synchronise`. Raises SearchUnavailable, CollectionNotOurs or ExtraMissing where Milvus cannot be asked.
    """
    folder = os.path.join(store.path, derived.FOLDER)
    if milvus_sync.search_address(writer.catalogue) is not None:
        derived.forget(writer.catalogue, NAMES)
        target = target_recall(writer.catalogue)
        milvus_sync.synchronise(store, writer, target=target, compare=compare, on_progress=on_progress)
        return
    if writer.catalogue.count()["images"] <= EXACT_ROWS:
        derived.forget(writer.catalogue, NAMES)
        return
    with store.reading() as view:
        blocks = store.blocks()
        covered = {number: len(stored) for number, stored in view.items()}
        old = _recorded(writer.catalogue)
        found = _load(store)
        target, stale = target_recall(writer.catalogue), STALE * _count_present(blocks)
        if found is not None and found.metadata.target == target and _newer(blocks, found.covered) <= stale:
            return
        on_progress(Progress("search index", 0, 0))
        from imgindex.search.faiss_build import build
        from imgindex.search.faiss_ivf import save

        built = build(blocks, dimension=store.segments.dimension, target=target)
    name = next(name for name in NAMES if old is None or name != old.name)
    sha256, size = derived.write(os.path.join(folder, name), lambda file: save(built.index, file))
    new = derived.DerivedFile(name, size, sha256, covered, built.metadata.to_json())
    derived.record(writer.catalogue, new, instead=NAMES)


def search_name(store: Store, search: VectorSearch) -> str:
    """Return what decides which neighbours a search finds: "exact", the SHA-256 of FAISS's file, or a collection."""
    from imgindex.search.exact import ExactSearch

    if milvus_sync.search_address(store.catalogue) is not None and not isinstance(search, ExactSearch):
        return milvus_sync.search_name(store.catalogue)

    file = _recorded(store.catalogue)
    return EXACT if isinstance(search, ExactSearch) or file is None else file.sha256


def target_recall(catalogue: Catalogue) -> float:
    """Return the share of the 10 true neighbours that a search index has to find. Raises IndexDamaged."""
    try:
        return float(catalogue.settings().get(TARGET_SETTING, DEFAULT_TARGET))
    except ValueError as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: its {TARGET_SETTING} is not a number") from error


def provenance(store: Store) -> dict[str, Any] | None:
    """Return how the search index was built and how well it answers, as `build` measured it; None without one.

    Where Milvus searches, the address of its collection is among that, and how many images it lacks; it is not asked.
    """
    if (found := milvus_sync.status(store.catalogue)) is not None:
        return found
    file = _recorded(store.catalogue)
    try:
        return None if file is None else {"bytes": file.size, **json.loads(file.provenance)}
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A search index as it was written, and how many rows of each of the current segments it was built from."""

    index: Any
    metadata: SearchMetadata
    covered: list[int]


def _load(store: Store) -> _Loaded | None:
    """Return the search index; None where there is none, it is damaged, or its segments are gone."""
    file, rows = _recorded(store.catalogue), store.catalogue.segments()
    if file is None or not all(0 <= count <= rows.get(number, -1) for number, count in file.covered.items()):
        return None
    from imgindex.search.faiss_ivf import SearchMetadata, load

    try:
        metadata = SearchMetadata.from_json(file.provenance)
    except ValueError:
        return None
    with derived.opened(os.path.join(store.path, derived.FOLDER, file.name), file.sha256, file.size) as opened:
        index = load(opened, file.size, metadata) if opened is not None else None
    if index is None:
        return None
    return _Loaded(index, metadata, [file.covered.get(number, 0) for number in rows])


def _recorded(catalogue: Catalogue) -> derived.DerivedFile | None:
    return next((file for file in derived.all_recorded(catalogue) if file.name in NAMES), None)


def _count_present(blocks: list[VectorBlock]) -> int:
    return sum(int((block.ids >= 0).sum()) for block in blocks)


def _newer(blocks: list[VectorBlock], covered: list[int]) -> int:
    return sum(int((block.ids[rows:] >= 0).sum()) for block, rows in zip(blocks, covered, strict=True))
