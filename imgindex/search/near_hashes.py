"""Finds perceptual hashes that differ in few bits, by FAISS."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from imgindex.vectors.faiss_library import faiss

Codes = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

# Codes that are searched for at once.
QUERIES = 512
# Above so many hashes, tables of their four parts are searched instead of all hashes.
EXHAUSTIVE = 200_000
PARTS = 4


class NearHashes:
    """A search among hashes of 64 bits, uint64 (n,), for those that differ from a query in at most `bits` bits."""

    def __init__(self, codes: Codes, *, bits: int) -> None:
        self._bits = bits
        if len(codes) <= EXHAUSTIVE:
            self._index = faiss.IndexBinaryFlat(64)
        else:
            # Norouzi et al., Fast search in Hamming space with multi-index hashing, CVPR 2012: of two hashes that
            # differ in `bits` bits, one of the parts differs in at most a fourth of them.
            self._index = faiss.IndexBinaryMultiHash(64, PARTS, 64 // PARTS)
            self._index.nflip = bits // PARTS
        self._index.add(_bytes(codes))

    def each(self, codes: Codes) -> Iterator[tuple[Places, Places]]:
        """Yield for each code the places of the near hashes, and in how many bits they differ."""
        for start in range(0, len(codes), QUERIES):
            part = _bytes(codes[start : start + QUERIES])
            limits, bits, places = self._index.range_search(part, self._bits + 1)
            for first, last in zip(limits[:-1].tolist(), limits[1:].tolist(), strict=True):
                yield places[first:last].astype(np.int64), bits[first:last].astype(np.int64)


def _bytes(codes: Codes) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(codes).view(np.uint8).reshape(-1, 8)
