"""Finds copies among the images of an index: pairs that may be copies, and what their pixels decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from imgindex.curation.candidates import MOST_BITS, Hashes, near_hashes, near_vectors, sorted_pairs
from imgindex.curation.neighbours import StoredVectors, first_with_same_vector
from imgindex.curation.rotations import Turn
from imgindex.curation.thresholds import candidate_distance
from imgindex.curation.verification import Pair, Verifier
from imgindex.decoding.perceptual_hash import Codes
from imgindex.recipe import Recipe
from imgindex.storage.store import Store
from imgindex.types import Ids, OnProgress

# A copy that shows so much of a picture is not a part of it: a border of 2 % on each side may be cut off.
WHOLE = 0.92


class CopyFinder:
    """Proposes pairs of images, and verifies them. turns: how a copy may be turned besides.

    Blank pictures are copies only if all their pixels are equal: their vectors and hashes are equal whatever was on the
    paper.
    """

    def __init__(
        self, store: Store, recipe: Recipe, hashes: Hashes, verifier: Verifier, turns: Mapping[str, Turn]
    ) -> None:
        self._store, self._hashes, self._verifier, self._turns = store, hashes, verifier, turns
        self._within = candidate_distance(recipe)

    def candidates(self, ids: Ids, rows: StoredVectors, on_progress: OnProgress) -> list[tuple[int, int]]:
        """Return pairs of images that may be copies, ascending; ids: ascending."""
        pairs = self._first_with_same_pixels(ids)
        ids = self._not_blank(ids)
        if self._within is not None and len(ids):
            # A thousand images with one vector would be each other's nearest ones.
            distinct = first_with_same_vector(self._store, rows, ids)
            pairs += zip(ids.tolist(), distinct.tolist(), strict=True)
            near = near_vectors(self._store, np.unique(distinct), self._within, on_progress=on_progress)
            pairs += ((a, b) for a, b, _ in near)
        of = self._codes(ids)
        pairs += ((a, b) for a, b, _, _ in near_hashes(of, of, {"": Turn(), **self._turns}, on_progress))
        return sorted_pairs(pairs)

    def between(self, a: Ids, b: Ids, n: int, on_progress: OnProgress) -> list[tuple[int, int]]:
        """Return pairs of an image of a and one of b that may be copies."""
        pairs = set(self._with_same_pixels(a, b, n))
        a, b = self._not_blank(a), self._not_blank(b)
        if self._within is not None and len(a) and len(b):
            near = near_vectors(self._store, a, self._within, among=b, n=min(n, len(b)), on_progress=on_progress)
            pairs |= {(x, y) for x, y, _ in near}
        hashes = near_hashes(self._codes(a), self._codes(b), {"": Turn()}, on_progress)
        pairs |= {(x, y) for x, y, _, _ in hashes}
        return sorted(pair for pair in pairs if pair[0] != pair[1])

    def verify(self, pairs: Sequence[tuple[int, int]]) -> list[str | None]:
        """Return for each pair how the second image is turned to be a copy of the first; None for no copy."""
        found: dict[tuple[int, int], str] = {}
        upright = self._verifier.are_copies([self._pair(a, b) for a, b in pairs])
        found.update({pair: "" for pair, copy in zip(pairs, upright, strict=True) if copy})
        turned = [(pair, name) for pair in pairs if pair not in found for name in self._near_turns(*pair)]
        copies = self._verifier.are_copies([Pair(*pair, name) for pair, name in turned])
        for (pair, name), copy in zip(turned, copies, strict=True):
            if copy:
                found.setdefault(pair, name)
        return [found.get(pair) for pair in pairs]

    def show_as_much(self, pairs: Sequence[tuple[int, int]]) -> list[bool]:
        """Return for each pair of copies whether neither is a part of the other."""
        return [found.share >= WHOLE for found in self._verifier.compare([self._pair(a, b) for a, b in pairs])]

    def _pair(self, a: int, b: int) -> Pair:
        return Pair(a, b, blank=a in self._hashes.blank or b in self._hashes.blank)

    def _first_with_same_pixels(self, ids: Ids) -> list[tuple[int, int]]:
        """Return each blank image whose pixels an earlier one has, with the first one."""
        first: dict[bytes, int] = {}
        digests = ((id, self._hashes.blank.get(id)) for id in ids.tolist())
        return [(first.setdefault(digest, id), id) for id, digest in digests if digest]

    def _with_same_pixels(self, a: Ids, b: Ids, n: int) -> Iterator[tuple[int, int]]:
        """Yield each blank image of a with the first n others of b that have its pixels."""
        found: dict[bytes, list[int]] = {}
        for id in b.tolist():
            if digest := self._hashes.blank.get(id):
                found.setdefault(digest, []).append(id)
        for id in a.tolist():
            others = (other for other in found.get(self._hashes.blank.get(id, b""), ()) if other != id)
            yield from ((id, other) for other in islice(others, n))

    def _not_blank(self, ids: Ids) -> Ids:
        return np.array([id for id in ids.tolist() if id not in self._hashes.blank], dtype=np.int64)

    def _codes(self, ids: Ids) -> dict[int, Codes]:
        return {id: self._hashes.codes[id] for id in ids.tolist() if id in self._hashes.codes}

    def _near_turns(self, a: int, b: int) -> list[str]:
        """Return the turns of b after which its hashes are near to those of a."""
        codes = self._hashes.codes
        if not self._turns or a not in codes or b not in codes:
            return []
        near = []
        for name, turn in self._turns.items():
            bits = np.bitwise_count(turn.hashes(codes[b])[:, None] ^ codes[a])
            if bits.min() <= MOST_BITS:
                near.append((int(bits.min()), name))
        return [name for _, name in sorted(near)]
