"""Keeps a Milvus collection the same as the segments, and records in the catalogue how far that has come.

Rows of segments are never changed, only appended. So the catalogue records how many of each segment Milvus has, and
only those behind them are sent. Where that does not tell, ids and CRC32s of both sides are compared. Milvus keeps the
vectors of missing images too: they may return at any time. Those of removed images are deleted when they are many, and
by `compact`.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from imgindex.errors import IndexDamaged, SearchUnavailable, UsageError
from imgindex.search.milvus_address import MilvusAddress, milvus_address
from imgindex.storage.catalogue import Catalogue
from imgindex.storage.records import Location
from imgindex.storage.store import FEW, Store
from imgindex.storage.writer import Writer
from imgindex.types import Ids, OnProgress, Progress, VectorBlock, Vectors, VectorSearch

if TYPE_CHECKING:
    from imgindex.search.milvus import Collection

# Settings of the index: the address of the collection, what it has, and the name by which it knows the index.
ADDRESS, STATE, INDEX_ID = "search", "search_state", "index_id"
# Rows that are sent before it is recorded that Milvus has them.
PIECE = 65_536
# Milvus indexes no fewer rows than that; it compares all of so few.
UNFLUSHED = 1024
# The recall is measured again when the number of rows has changed by more than this share. So many rows of removed
# images, as a share of all, are deleted at once.
STALE, GONE = 0.2, 0.01
# Stored rows that are searched for to measure the recall.
QUERIES = 500
# From few to many; the first that reaches the target is doubled, because other pictures may be harder to find.
EFS = (32, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True, slots=True)
class SearchState:
    """What a collection has, and how well it answers.

    address: of the collection. kind: of its index; ef: how many rows HNSW keeps on its way. recall: the share of the 10
    true neighbours that were found, for `queries` stored rows, when the collection had `measured` rows. covered:
    segment number → how many of its first rows Milvus has, as far as they are images'. rows: how many it holds.
    unflushed: how many of them may not be in its storage. synced_at: when it was changed last, in seconds since 1970.
    seconds: how long its last synchronisation took.
    """

    address: str
    kind: str
    ef: int = EFS[-1]
    target: float = 0.0
    recall: float = 0.0
    queries: int = 0
    measured: int = -1
    covered: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    unflushed: int = 0
    synced_at: float = 0.0
    seconds: float = 0.0

    @property
    def rows_of(self) -> dict[int, int]:
        return {int(number): rows for number, rows in self.covered.items()}

    def is_settled(self) -> bool:
        """Return whether the last change is so long ago that Milvus has made it, however it is asked."""
        from imgindex.search.milvus import SETTLED

        return self.synced_at + SETTLED < time.time()


NOTHING = SearchState("", "")

# Seconds for which a server that did not accept a connection is not asked again.
REMEMBERED = 10.0
# Until when a server is not asked, and why.
_outages: dict[MilvusAddress, tuple[float, str]] = {}
# The open connection of each store.
_connections: WeakKeyDictionary[Store, Collection] = WeakKeyDictionary()


def search_address(catalogue: Catalogue) -> MilvusAddress | None:
    """Return the collection that searches for an index, None where this machine does. Raises IndexDamaged."""
    text = catalogue.settings().get(ADDRESS)
    try:
        return None if text is None else milvus_address(text)
    except UsageError as error:
        raise IndexDamaged(f"{catalogue.path} is damaged: {text!r} is not the address of a search") from error


def search_state(catalogue: Catalogue) -> SearchState:
    """Return what the collection has; `NOTHING` where that is not known."""
    import msgspec

    settings = catalogue.settings()
    try:
        found = msgspec.json.decode(settings[STATE], type=SearchState)
        rows, covered = catalogue.segments(), found.rows_of
    except (KeyError, ValueError, msgspec.MsgspecError):
        return NOTHING
    is_current = found.address == settings.get(ADDRESS) and all(
        0 <= count <= rows.get(number, -1) for number, count in covered.items()
    )
    return found if is_current else NOTHING


def count_behind(catalogue: Catalogue) -> int:
    """Return how many present images the collection lacks; 0 where this machine searches."""
    if search_address(catalogue) is None:
        return 0
    return catalogue.count_beyond(search_state(catalogue).rows_of)


def status(catalogue: Catalogue) -> dict[str, Any] | None:
    """Return which collection searches, how well, and how far it is behind; None where this machine searches."""
    address = search_address(catalogue)
    if address is None:
        return None
    state = search_state(catalogue)
    names = ("kind", "ef", "rows", "target", "recall", "queries", "seconds")
    known = {name: getattr(state, name) for name in names}
    return {"address": str(address), **known, "behind": count_behind(catalogue)}


def chosen(catalogue: Catalogue) -> dict[str, str]:
    """Return the settings that `choose` changes, for `restore`."""
    return {name: value for name, value in catalogue.settings().items() if name in (ADDRESS, STATE)}


def choose(store: Store, writer: Writer, address: MilvusAddress | None) -> None:
    """Let a collection search from now on, None for this machine; the caller synchronises it afterwards."""
    settings = writer.catalogue.settings()
    if address is not None and settings.get(ADDRESS) == str(address):
        return
    restore(store, writer, {} if address is None else {ADDRESS: str(address)})
    if INDEX_ID not in settings:
        with writer.catalogue.atomic():
            writer.catalogue.set_setting(INDEX_ID, uuid.uuid4().hex)


def restore(store: Store, writer: Writer, before: dict[str, str]) -> None:
    """Let search what did before, see `chosen`."""
    with writer.catalogue.atomic():
        for name in (ADDRESS, STATE):
            writer.catalogue.remove_setting(name)
        for name, value in before.items():
            writer.catalogue.set_setting(name, value)
    _disconnect(store)


def forget_state(writer: Writer) -> None:
    """Forget what the collection has: the catalogue was rewritten, so the next synchronisation compares everything."""
    with writer.catalogue.atomic():
        writer.catalogue.remove_setting(STATE)


def load(store: Store, only: Ids | None) -> VectorSearch:
    """Return a search by the collection, for one state of the index.

    Raises SearchUnavailable, CollectionNotOurs, ExtraMissing or IndexDamaged.
    """
    return _search(store, _connected(store, store.catalogue), search_state(store.catalogue), only)


def search_name(catalogue: Catalogue) -> str:
    """Return what decides which neighbours the collection finds, for `lifecycle.search_name`."""
    state = search_state(catalogue)
    return f"{state.address} {state.kind} {state.ef}"


def synchronise(store: Store, writer: Writer, *, target: float, compare: bool, on_progress: OnProgress) -> None:
    """Send what the collection lacks, delete what it should not have, and measure the recall where that is due.

    target: the recall that is wanted. compare: compare all ids and CRC32s, not only those that may differ. Raises
    SearchUnavailable, CollectionNotOurs, ExtraMissing or IndexDamaged. What was sent before that is recorded.
    """
    started = time.perf_counter()
    with store.reading():
        _Synchronisation(store, writer, target, on_progress).run(compare)
    _record(writer, replace(search_state(writer.catalogue), seconds=round(time.perf_counter() - started, 3)))


class _Synchronisation:
    """One synchronisation of the collection of an index, within one `store.reading()`."""

    def __init__(self, store: Store, writer: Writer, target: float, on_progress: OnProgress) -> None:
        self._store, self._writer, self._target, self._on_progress = store, writer, target, on_progress
        self._catalogue = writer.catalogue
        self._state = search_state(self._catalogue)

    def run(self, compare: bool) -> None:
        from imgindex.search.milvus import FLAT, FLAT_ROWS, HNSW

        counts = self._catalogue.count()
        wanted = counts["images"] + counts["missing"]
        kind = FLAT if wanted <= FLAT_ROWS else HNSW
        self._collection = _connected(self._store, self._catalogue, create=kind)
        held_kind = self._collection.kind()
        if self._state.kind != held_kind:  # nothing is known of it, or it was made again since
            self._state, compare = SearchState(str(self._collection.address), held_kind), True
        if not compare:
            self._send_newer()
            held = self._collection.count()
            compare = held < wanted or held - wanted > GONE * wanted
            self._save(rows=held)
        if compare:
            self._compare(wanted)
        if self._state.kind != kind:
            self._collection.set_kind(kind)
            self._save(kind=kind, measured=-1)
        if self._state.unflushed >= UNFLUSHED:
            self._on_progress(Progress("search index", 0, 0))
            self._collection.flush()
            self._collection.wait_until_indexed()
            self._save(unflushed=0)
        growth = abs(wanted - self._state.measured)
        if self._state.target != self._target or growth > STALE * self._state.measured:
            self._measure(wanted)

    def _send_newer(self) -> None:
        """Send the rows behind those that the collection has, and record from time to time that it has them."""
        table = self._catalogue.location_table_beyond(self._state.rows_of, include_missing=True)
        table = table[np.lexsort((table[:, 2], table[:, 1]))]
        for piece in self._sent(table):
            reached = {str(number): int(rows) + 1 for number, rows in piece[:, 1:3].tolist()}
            self._save(
                covered={**self._state.covered, **reached},
                rows=self._state.rows + len(piece),
                unflushed=self._state.unflushed + len(piece),
            )

    def _compare(self, wanted: int) -> None:
        """Make the collection the same as the catalogue, by comparing ids and CRC32s."""
        self._on_progress(Progress("search index", 0, 0))
        covered = {str(number): rows for number, rows in self._catalogue.segments().items()}
        table = self._catalogue.location_table_beyond({}, include_missing=True)
        ids, crcs = self._collection.stored(self._catalogue.last_id())
        at = np.searchsorted(ids, table[:, 0]).clip(max=max(0, len(ids) - 1))
        same = (ids[at] == table[:, 0]) & (crcs[at] == table[:, 3]) if len(ids) else np.zeros(len(table), np.bool_)
        sent = 0
        for piece in self._sent(table[~same]):
            sent += len(piece)
        self._collection.delete(ids[~np.isin(ids, table[:, 0])])
        held = self._collection.count()
        if held < wanted:  # more of them do no harm
            raise SearchUnavailable(f"{self._collection.address} has {held:,} rows after {wanted:,} were sent")
        self._save(covered=covered, rows=held, unflushed=max(self._state.unflushed, sent))

    def _sent(self, table: Any) -> Iterator[Any]:
        """Send the rows of a table of locations, and yield it piece by piece once Milvus has these."""
        progress = partial(Progress, "search index", total=len(table))
        self._on_progress(progress(done=0))
        with self._store.reading() as view:
            for start in range(0, len(table), PIECE):
                piece = table[start : start + PIECE]
                for place in range(0, len(piece), FEW):
                    part = piece[place : place + FEW]
                    vectors = self._store.segments.read([Location(*row) for row in part.tolist()], view)
                    self._collection.put(part[:, 0], part[:, 3], vectors)
                    self._on_progress(progress(done=start + place + len(part)))
                yield piece

    def _measure(self, wanted: int) -> None:
        """Measure the recall, and choose ef by it, as FAISS's indexes choose how many lists they visit."""
        from imgindex.search.exact import ExactSearch
        from imgindex.search.faiss_build import other_distances, sample_rows
        from imgindex.search.faiss_ivf import NEIGHBOURS
        from imgindex.search.milvus import HNSW

        if self._state.kind == HNSW:
            # A server takes up an index that is new within some seconds; until then other rows would be measured.
            self._collection.wait_until_indexed()
            self._collection.reload()
        blocks, dimension = self._store.blocks(), self._store.segments.dimension
        ids, queries = sample_rows(blocks, QUERIES, dimension, np.random.default_rng(0))
        truth = other_distances(ExactSearch(blocks).search(queries, NEIGHBOURS + 1), ids)
        best = self._state
        for ef in EFS:
            best = self._measured(ef, ids, queries, truth)
            if best.recall >= self._target or best.kind != HNSW:
                break
        if best.recall >= self._target and best.kind == HNSW:
            best = self._measured(2 * best.ef, ids, queries, truth)
        self._save(ef=best.ef, target=self._target, recall=best.recall, queries=len(ids), measured=wanted)

    def _measured(self, ef: int, ids: Ids, queries: Vectors, truth: Vectors) -> SearchState:
        """Return the state with an ef and with the recall that it has."""
        from imgindex.search.faiss_build import other_distances, recall
        from imgindex.search.faiss_ivf import NEIGHBOURS

        state = replace(self._state, ef=ef)
        found = _search(self._store, self._collection, state, None).search(queries, NEIGHBOURS + 1)
        return replace(state, recall=recall(other_distances(found, ids), truth))

    def _save(self, **changes: Any) -> None:
        """Record a change of the state; where rows were sent, searches wait for them for some seconds."""
        if "rows" in changes:
            changes["synced_at"] = time.time()
        self._state = replace(self._state, **changes)
        _record(self._writer, self._state)


def _search(store: Store, collection: Collection, state: SearchState, only: Ids | None) -> VectorSearch:
    # Imported late: where both are loaded, torch must come before FAISS.
    from imgindex.search.exact import ExactSearch
    from imgindex.search.faiss_ivf import NEIGHBOURS
    from imgindex.search.milvus import MOST
    from imgindex.search.milvus_search import Candidates, MilvusSearch

    def ask(queries: Vectors, n: int) -> Ids:
        ef = math.ceil(state.ef * max(1.0, n / NEIGHBOURS))
        return collection.search(queries, n, kind=state.kind, ef=ef, strong=not state.is_settled())

    return MilvusSearch(
        Candidates(state.rows, MOST, ask),
        lambda ids: list(_copies(store, ids)),
        store.blocks_beyond(state.rows_of),
        lambda: ExactSearch(store.blocks(only)),
        None if only is None else np.unique(only),
    )


def _copies(store: Store, ids: Ids) -> Iterator[VectorBlock]:
    """Yield copies of the rows of present images; no table of all images is read."""
    for start in range(0, len(ids), FEW):
        yield from store.blocks(ids[start : start + FEW])


def _record(writer: Writer, state: SearchState) -> None:
    import msgspec

    with writer.catalogue.atomic():
        writer.catalogue.set_setting(STATE, msgspec.json.encode(state).decode())


def _connected(store: Store, catalogue: Catalogue, *, create: str = "") -> Collection:
    """Return the collection of an index, connected and checked, and made with that kind of index if it is missing."""
    from imgindex.search.milvus import Owner

    settings, address = catalogue.settings(), search_address(catalogue)
    if address is None:
        raise AssertionError("this machine searches")
    collection = _connections.get(store)
    if collection is not None and collection.address != address:
        _disconnect(store)
        collection = None
    if collection is not None and not create:
        return collection
    collection = _connections[store] = collection or _connect(address)
    owner = Owner(settings.get(INDEX_ID, ""), settings.get("recipe_digest", ""))
    try:
        if not collection.exists(owner, store.segments.dimension):
            if not create:
                raise SearchUnavailable(f"{address} is gone", hint="make it again with `imgindex compact`")
            collection.create(owner, store.segments.dimension, create)
    except BaseException:
        _disconnect(store)
        raise
    return collection


def _connect(address: MilvusAddress) -> Collection:
    from imgindex.search.milvus import Collection

    until, reason = _outages.get(address, (0.0, ""))
    if time.monotonic() < until:
        raise SearchUnavailable(reason)
    try:
        return Collection.connect(address)
    except SearchUnavailable as error:
        _outages[address] = time.monotonic() + REMEMBERED, str(error)
        raise


def forget_outages() -> None:
    """Let every server be asked again."""
    _outages.clear()


def _disconnect(store: Store) -> None:
    if (found := _connections.pop(store, None)) is not None:
        found.close()
