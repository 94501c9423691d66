"""Pairs of images that may show the same picture: near vectors, or perceptual hashes that differ in few bits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import numpy as np

from imgindex.curation.neighbours import each_nearest
from imgindex.curation.rotations import Turn
from imgindex.curation.verification import compute_missing_hashes
from imgindex.decoding import blank, perceptual_hash
from imgindex.decoding.perceptual_hash import Codes
from imgindex.decoding.pool import DecoderPool
from imgindex.search.near_hashes import NearHashes
from imgindex.storage import comparisons
from imgindex.storage.store import Store
from imgindex.types import Failure, Ids, OnProgress, counted

# Different pictures differ in 17 bits or more of 63, where 40 photographs were compared; copies mostly in less than 10.
MOST_BITS = 12
# How many neighbours of an image by its vector, and by its hashes, are compared with it.
NEAREST, NEAREST_HASHES = 8, 32


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hashes of images by id; of blank ones, instead, the digests of all their pixels; failures: not computed.

    A digest is empty where the pixels of a file cannot be compared: see `decode_as_stored`.
    """

    codes: Mapping[int, Codes]
    blank: Mapping[int, bytes]
    failures: tuple[Failure, ...]


def read_hashes(
    store: Store, decoders: DecoderPool, ids: Ids, *, on_progress: OnProgress, wait: Callable[[], bool]
) -> Hashes:
    """Return the hashes of images; those that an older imgindex did not compute are computed now, and stored."""
    stored = comparisons.hashes_by_image(store.catalogue)
    codes: dict[int, Codes] = {}
    digests: dict[int, bytes] = {}

    def take(id: int, data: bytes | None, is_blank: int | None) -> bool:
        """Take the hashes or the digest of an image; return whether there are any."""
        if is_blank and (digest := blank.parse(data)) is not None:
            digests[id] = digest
        elif is_blank == 0 and (parsed := perceptual_hash.parse(data)) is not None:
            codes[id] = parsed
        else:
            return False
        return True

    unknown = [id for id in ids.tolist() if not take(id, stored[id].hashes, stored[id].blank)]
    if not unknown:
        return Hashes(codes, digests, ())
    images = store.catalogue.records(unknown)
    computed, failures = compute_missing_hashes(store, decoders, images, on_progress=on_progress, wait=wait)
    for image in images:
        take(image.id, *computed.get(image.sha256, (None, None)))
    return Hashes(codes, digests, tuple(failures))


def near_hashes(
    queries: Mapping[int, Codes],
    among: Mapping[int, Codes],
    turns: Mapping[str, Turn],
    on_progress: OnProgress = lambda progress: None,
) -> Iterator[tuple[int, int, str, int]]:
    """Yield pairs of a query and another image whose hashes are near, with the turn of the query, and the bits.

    Of each query the nearest NEAREST_HASHES images, by the nearest of their hashes.
    """
    if not among or not queries:
        return
    ids, codes = _flat(among)
    search = NearHashes(codes, bits=MOST_BITS)
    of, of_queries = _flat(queries)
    for name, turn in turns.items():
        each = zip(of.tolist(), search.each(turn.hashes(of_queries)), strict=True)
        by_query = counted(groupby(each, itemgetter(0)), len(queries), "compare hashes", on_progress)
        for query, found in by_query:
            best: dict[int, int] = {}
            for _, (places, bits) in found:
                for id, differing in zip(ids[places].tolist(), bits.tolist(), strict=True):
                    if id != query and differing < best.get(id, MOST_BITS + 1):
                        best[id] = differing
            yield from _nearest(query, best, name)


def _flat(hashes: Mapping[int, Codes]) -> tuple[Ids, Codes]:
    """Return the id of the image of each hash, and all hashes."""
    counts = [len(codes) for codes in hashes.values()]
    return np.repeat(np.fromiter(hashes, np.int64), counts), np.concatenate(list(hashes.values()))


def _nearest(query: int, best: Mapping[int, int], name: str) -> Iterator[tuple[int, int, str, int]]:
    for id, bits in sorted(best.items(), key=lambda item: (item[1], item[0]))[:NEAREST_HASHES]:
        yield query, id, name, bits


def near_vectors(
    store: Store,
    only: Ids,
    distance: float,
    *,
    among: Ids | None = None,
    n: int = NEAREST,
    on_progress: OnProgress = lambda progress: None,
) -> Iterator[tuple[int, int, float]]:
    """Yield pairs of an image of `only` and one of its n nearest within the distance, and their distance."""
    for ids, near in each_nearest(store, n, only, among=among, on_progress=on_progress):
        within = (near.ids >= 0) & (near.distances <= distance)
        first = np.repeat(ids, within.sum(axis=1))
        found = zip(first.tolist(), near.ids[within].tolist(), near.distances[within].tolist(), strict=True)
        yield from found


def sorted_pairs(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return each pair once, the smaller id first."""
    return sorted({(min(pair), max(pair)) for pair in pairs if pair[0] != pair[1]})
