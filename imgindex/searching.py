"""Which search answers for an index: exact up to some size, above it FAISS's, whose file is made again when need be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from imgindex.errors import IndexDamaged, UsageError
from imgindex.storage import compact as compaction
from imgindex.storage import derived
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.store import Ids, Store
from imgindex.storage.writer import Writer
from imgindex.types import CompactReport, Rows, VectorSearch

if TYPE_CHECKING:
    from imgindex.search.faiss_search import Receipt

# Up to so many rows an exact search answers in milliseconds, and needs no file.
EXACT_ROWS = 100_000
# A search index is made again when more than this share of the rows is newer than it.
STALE = 0.2
TARGET_SETTING, DEFAULT_TARGET = "target_recall", 0.99
# A new one is written beside the old one, which answers until the new one is committed.
NAMES = ("vectors.faiss", "vectors-2.faiss")


def open_search(store: Store, only: Ids | None = None) -> VectorSearch:
    """Return the search over the images that are shown, or over those of `only`, an exact one where these are few.

    Raises IndexDamaged where a vector is compared that is hurt.
    """
    # Not before: torch must be loaded ahead of FAISS when both are.
    from imgindex.search.exact import ExactSearch

    with store.reading():
        blocks = store.blocks(only)
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
        target, stale = target_recall(writer.catalogue), STALE * _shown(blocks)
        if found is not None and found.receipt.target == target and _newer(blocks, found.covered) <= stale:
            return
        say()
        from imgindex.search.faiss_build import build
        from imgindex.search.faiss_search import save

        built = build(blocks, dimension=store.segments.dimension, target=target)
    name = next(name for name in NAMES if old is None or name != old.name)
    sha256, size = derived.write(os.path.join(folder, name), lambda file: save(built.index, file))
    new = derived.DerivedFile(name, size, sha256, covered, built.receipt.to_json())
    derived.record(writer.catalogue, new, instead=NAMES)
    derived.sweep(folder, {name})


def renew_alone(store: Store, *, wait: Callable[[], bool]) -> None:
    """Do the same where nobody is writing yet. Raises IndexLocked."""
    with store.writing(wait=wait) as writer:
        renew(store, writer)


def compact(store: Store, *, target_recall: float | None, wait: Callable[[], bool]) -> CompactReport:
    """Free the room of vectors of no image, and make the search index again where it does not fit what is left.

    target_recall: see `target_recall`; None leaves it as it is. Raises UsageError, IndexLocked or IndexDamaged.
    """
    if target_recall is not None:
        if not 0 < target_recall <= 1:
            raise UsageError(f"a recall of {target_recall} cannot be reached", hint="give a share in (0, 1], say 0.99")
        with store.writing(wait=wait) as writer, writer.catalogue.atomic():
            writer.catalogue.set_setting(TARGET_SETTING, repr(float(target_recall)))
    report = compaction.compact(store, wait=wait)
    renew_alone(store, wait=wait)
    return report


def target_recall(catalogue: Catalogue) -> float:
    """Return the share of the 10 true neighbours that a search index of this collection is to find."""
    try:
        return float(catalogue.settings().get(TARGET_SETTING, DEFAULT_TARGET))
    except ValueError as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: its {TARGET_SETTING} is no number") from error


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
