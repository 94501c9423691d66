"""Builds the FAISS index of a large collection, and measures how well it answers before anybody relies on it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from imgindex.search.exact import ExactSearch, nearest
from imgindex.search.faiss_search import NEIGHBOURS, FaissSearch, Ids, Receipt
from imgindex.search.principal import reduction
from imgindex.types import Neighbours, Rows, Vectors

QUERIES = 500
# Candidates for each answer: more of them mend what one bit a number cannot tell apart.
REFINE = (4, 8, 16, 32)
# Rows to train one centroid on: FAISS warns below 39, and more than some dozens hardly move it.
POINTS, FEWEST_POINTS = 64, 39
SAMPLE_BYTES = 256 << 20
PIECE_BYTES = 64 << 20
# FAISS computes squared distances in float32; a row so long that they might overflow is left to the exact search.
LONGEST = float(np.finfo(np.float32).max) / 16

NO_IDS: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Built:
    """An index of FAISS with its receipt."""

    index: Any
    receipt: Receipt


def build(blocks: Sequence[Rows], *, dimension: int, target: float, seed: int = 0) -> Built:
    """Build an index over the rows that are shown, under their ids, and choose how deep searches go.

    Rows are reduced to their principal components where they are long (see `principal.py`), divided among about 4√n
    lists by k-means on a seeded sample, and kept with one bit a number, as RaBitQ (Gao and Long, SIGMOD 2024) in the
    layout of FAISS's fast scan. Rows that are not finite are left out: `FaissSearch` searches what an index does not
    hold exactly. The same rows and seed make the same index on the same machine.

    Beside the index itself (a bit a number and 16 bytes a row, for a moment up to twice that, as its lists grow) and
    what the system maps, it takes about 600 MiB, however many rows there are.

    Raises IndexDamaged when a row is not the one that was stored.
    """
    started = time.perf_counter()
    for block in blocks:
        block.check(np.flatnonzero(block.ids >= 0))
    generator = np.random.default_rng(seed)
    count = sum(int((block.ids >= 0).sum()) for block in blocks)
    queries = _sample(blocks, min(QUERIES, 1 + count // 5), dimension, generator)
    wished = 4 * math.sqrt(count)
    size = min(int(POINTS * wished), max(FEWEST_POINTS, SAMPLE_BYTES // (4 * dimension)))
    _, sample = _sample(blocks, size, dimension, generator, without=queries[0])
    nlist = max(1, min(round(wished), len(sample) // FEWEST_POINTS))
    factory = f"IVF{nlist},RaBitQfs"
    reduced = reduction(sample, seed=seed)
    index = ivf = faiss.index_factory(dimension if reduced is None else reduced.d_out, factory)
    ivf.cp.seed = seed
    ivf.cp.min_points_per_centroid = 1
    if reduced is not None:
        factory, index = f"PCA{reduced.d_out},{factory}", faiss.IndexPreTransform(reduced, ivf)
    # Without a row there is nothing to learn, and an empty index is one too.
    index.train(sample if len(sample) else np.zeros((1, dimension), np.float32))
    del sample
    for ids, vectors in _pieces(blocks, dimension):
        index.add_with_ids(vectors, ids)
    draft = Receipt(
        factory=factory,
        dimension=dimension,
        nlist=nlist,
        nprobe=nlist,
        refine=REFINE[-1],
        rows=index.ntotal,
        target=target,
        recall=0.0,
        queries=0,
        seed=seed,
        seconds=0.0,
    )
    receipt = calibrate(index, draft, blocks, *queries)
    return Built(index, replace(receipt, seconds=time.perf_counter() - started))


def calibrate(index: Any, receipt: Receipt, blocks: Sequence[Rows], ids: Ids, queries: Vectors) -> Receipt:
    """Return the receipt with nprobe and refine that reach its target, and the recall that they have.

    Stored rows that the lists were not trained on ask for their neighbours other than themselves, as a new picture
    would. With the most candidates nprobe grows from 1 until they find enough, and is doubled; then the fewest
    candidates are looked for that still do, and these are doubled: pictures of another kind, or whose neighbours were
    hidden since, find less.
    Where all lists together do not reach the target, the receipt says so.
    """
    truth = _others(ExactSearch(blocks).search(queries, NEIGHBOURS + 1), ids)
    search = FaissSearch(index, receipt, blocks, [len(block.ids) for block in blocks])

    def measured(nprobe: int, refine: int) -> Receipt:
        search.receipt = replace(receipt, nprobe=nprobe, refine=refine, queries=len(ids))
        found = _others(search.search(queries, NEIGHBOURS + 1), ids)
        return replace(search.receipt, recall=recall(found, truth))

    best = measured(1, REFINE[-1])
    while not best.reached and best.nprobe < receipt.nlist:
        best = measured(min(best.nprobe + 1 + best.nprobe // 3, receipt.nlist), REFINE[-1])
    if not best.reached:
        return best
    nprobe = min(2 * best.nprobe, receipt.nlist)
    return measured(nprobe, 2 * next(refine for refine in REFINE if measured(nprobe, refine).reached))


def recall(found: Vectors, truth: Vectors) -> float:
    """Share of true neighbours that were found, both given by distances (q, n); one equally near is as good."""
    there = int(np.isfinite(truth).sum())
    hits = np.isfinite(found) & (found <= truth[:, -1:])
    return int(hits.sum()) / there if there else 1.0


def _others(near: Neighbours, ids: Ids) -> Vectors:
    """Distances (q, 10) of the neighbours that are not the query itself."""
    distances = np.where(near.ids == ids[:, None], np.float32(np.inf), near.distances)
    return nearest(near.ids, distances, NEIGHBOURS)[1]


def _pieces(blocks: Sequence[Rows], dimension: int) -> Iterator[tuple[Ids, Vectors]]:
    """Yield the ids and, in float32, the vectors of all rows that an index can hold, a piece in memory at a time."""
    step = max(1, PIECE_BYTES // (4 * dimension))
    for block in blocks:
        for start in range(0, len(block.ids), step):
            ids = block.ids[start : start + step]
            vectors = np.ascontiguousarray(block.vectors[start : start + step], dtype=np.float32)
            kept = (ids >= 0) & _sound(vectors)
            if kept.any():
                yield ids[kept], vectors if kept.all() else vectors[kept]


def _sample(
    blocks: Sequence[Rows], size: int, dimension: int, generator: np.random.Generator, *, without: Ids = NO_IDS
) -> tuple[Ids, Vectors]:
    """Ids and vectors (≤ size, dimension) of a random choice of the rows that an index can hold."""
    shown = [np.flatnonzero((block.ids >= 0) & ~np.isin(block.ids, without)) for block in blocks]
    starts = np.cumsum([0, *map(len, shown)])
    chosen = np.sort(generator.choice(int(starts[-1]), min(size, int(starts[-1])), replace=False))
    ids, vectors = np.empty(len(chosen), np.int64), np.empty((len(chosen), dimension), np.float32)
    count = 0
    for block, rows, start, end in zip(blocks, shown, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        of_block = rows[chosen[(chosen >= start) & (chosen < end)] - start]
        for part in np.array_split(of_block, 1 + len(of_block) * dimension * 4 // PIECE_BYTES):
            picked = np.asarray(block.vectors[part], dtype=np.float32)
            sound = _sound(picked)
            end_of_part = count + int(sound.sum())
            ids[count:end_of_part], vectors[count:end_of_part] = block.ids[part][sound], picked[sound]
            count = end_of_part
    return ids[:count], vectors[:count]


def _sound(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Whether (n,) FAISS can compute with a row."""
    sound: npt.NDArray[np.bool_] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64) <= LONGEST
    return sound
