"""Which search answers for an index: exact up to some size, above it FAISS's, whose file is made again when need be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgindex.storage import derived
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.store import Store
from imgindex.storage.writer import Writer
from imgindex.types import Rows, VectorSearch

if TYPE_CHECKING:
    from imgindex.search.faiss_search import Receipt

# Up to so many rows an exact search answers in milliseconds, and needs no file.
EXACT_ROWS = 100_000
# A search index is made again when more than this share of the rows is newer than it.
STALE = 0.2
# A new one is written beside the old one, which answers until the new one is committed.
NAMES = ("vectors.faiss", "vectors-2.faiss")


def open_search(store: Store) -> VectorSearch:
    """Return the search over the images that are shown. Raises IndexDamaged where a vector is compared that is hurt."""
    # Not before: torch must be loaded ahead of FAISS when both are.
    from imgindex.search.exact import ExactSearch

    with store.reading():
        blocks = store.blocks()
        found = _load(store) if _shown(blocks) > EXACT_ROWS else None
        if found is None or not found.receipt.reached:
            return ExactSearch(blocks)
        from imgindex.search.faiss_search import FaissSearch

        return FaissSearch(found.index, found.receipt, blocks, found.covered)


def renew(store: Store, writer: Writer, *, say: Callable[[], None] = lambda: None) -> None:
    """Make the search index again if it is wanted and missing, damaged or stale; say is called before that work."""
    folder = os.path.join(store.path, derived.FOLDER)
    if writer.catalogue.count()["images"] <= EXACT_ROWS:
        derived.forget(writer.catalogue, NAMES)
        derived.sweep(folder, ())
        return
    with store.reading() as view:
        blocks = store.blocks()
        covered = {number: len(stored) for number, stored in view.items()}
        old = _recorded(writer.catalogue)
        derived.sweep(folder, {old.name} if old else ())
        found = _load(store)
        if found is not None and _newer(blocks, found.covered) <= STALE * _shown(blocks):
            return
        say()
        from imgindex.search.faiss_build import build
        from imgindex.search.faiss_search import save

        built = build(blocks, dimension=store.segments.dimension)
    name = next(name for name in NAMES if old is None or name != old.name)
    sha256, size = derived.write(os.path.join(folder, name), lambda file: save(built.index, file))
    new = derived.DerivedFile(name, size, sha256, covered, built.receipt.to_json())
    derived.record(writer.catalogue, new, instead=NAMES)
    derived.sweep(folder, {name})


def renew_alone(store: Store, *, wait: Callable[[], bool]) -> None:
    """Do the same where nobody is writing yet. Raises IndexLocked."""
    with store.writing(wait=wait) as writer:
        renew(store, writer)


def receipt(store: Store) -> dict[str, Any] | None:
    """Return how the search index was made and how well it answers, as `build` measured it; None without one."""
    file = _recorded(store.catalogue)
    try:
        return None if file is None else {"bytes": file.size, **json.loads(file.receipt)}
    except (ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A search index that is what was written, and of how many rows of each segment of today it was made."""

    index: Any
    receipt: Receipt
    covered: list[int]


def _load(store: Store) -> _Loaded | None:
    """Read the search index; None where there is none, or it is not sound, or its segments are gone."""
    file, rows = _recorded(store.catalogue), store.catalogue.segments()
    if file is None or not all(0 <= count <= rows.get(number, -1) for number, count in file.covered.items()):
        return None
    from imgindex.search.faiss_search import Receipt, load

    try:
        receipt = Receipt.from_json(file.receipt)
    except ValueError:
        return None
    with derived.opened(os.path.join(store.path, derived.FOLDER, file.name), file.sha256, file.size) as opened:
        index = load(opened, file.size, receipt) if opened is not None else None
    if index is None:
        return None
    return _Loaded(index, receipt, [file.covered.get(number, 0) for number in rows])


def _recorded(catalogue: Catalogue) -> derived.DerivedFile | None:
    return next((file for file in derived.all_recorded(catalogue) if file.name in NAMES), None)


def _shown(blocks: list[Rows]) -> int:
    return sum(int((block.ids >= 0).sum()) for block in blocks)


def _newer(blocks: list[Rows], covered: list[int]) -> int:
    return sum(int((block.ids[rows:] >= 0).sum()) for block, rows in zip(blocks, covered, strict=True))
