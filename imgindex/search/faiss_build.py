"""Builds the FAISS index of a large collection, and measures its recall before it is used."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from imgindex.search.exact import ExactSearch, nearest
from imgindex.search.faiss_codes import new_codes
from imgindex.search.faiss_ivf import NEIGHBOURS, IvfSearch, Parts, SearchMetadata, joined
from imgindex.types import Ids, Neighbours, VectorBlock, Vectors
from imgindex.vectors.faiss_library import faiss
from imgindex.vectors.faiss_threads import limited_threads
from imgindex.vectors.pca import faiss_reduction

QUERIES = 500
# Candidates for each answer: with more of them, fewer neighbours are lost to codes of one bit a number. More than USUAL
# are only tried where these do not reach the target: rows of 64 numbers have codes of 64 bits.
REFINE, USUAL = (4, 8, 16, 32, 64, 128), 32
# Rows to train each centroid on: FAISS warns below 39, and more than a few dozen hardly move it.
POINTS, FEWEST_POINTS = 64, 39
# From so many lists on a graph leads to the nearest ones. Each has so many links, of the nearest of so many; a search
# looks at so many at least. With 40 compared instead of 200, one query in 200 missed its nearest list.
MANY_LISTS, LINKS, COMPARED, LOOKED_AT = 3000, 16, 200, 64
SAMPLE_BYTES = 256 << 20
PIECE_BYTES = 64 << 20
# FAISS computes squared distances in float32; a row so long that they might overflow is left to the exact search.
LONGEST = float(np.finfo(np.float32).max) / 16

NO_IDS: Ids = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Built:
    """An index of FAISS with its metadata."""

    index: Any
    metadata: SearchMetadata


def build(blocks: Sequence[VectorBlock], *, dimension: int, target: float, seed: int = 0) -> Built:
    """Build an index over the rows of present images, under their ids, and choose how many lists a search visits.

    Long rows are reduced to their principal components (see `faiss_reduction`), of which the index also keeps eight
    bits each, to rank candidates with. Rows are divided among about 4√n lists by k-means on a seeded sample, and stored
    with one bit a number, as RaBitQ (Gao and Long, SIGMOD 2024) in the layout of FAISS's fast scan. Rows that are not
    finite are left out: `IvfSearch` searches exactly what an index lacks. The same rows and seed give the same index on
    the same machine.

    Memory: about 600 MiB for any number of rows, beside the index itself (a bit a number and 16 bytes a row, and up to
    twice that while its lists grow) and the pages that the system maps.

    Raises IndexDamaged when a row is not what was stored.
    """
    started = time.perf_counter()
    for block in blocks:
        block.check(np.flatnonzero(block.ids >= 0))
    generator = np.random.default_rng(seed)
    count = sum(int((block.ids >= 0).sum()) for block in blocks)
    queries = sample_rows(blocks, min(QUERIES, 1 + count // 5), dimension, generator)
    wanted_lists = 4 * math.sqrt(count)

    def draw(reduction: Any | None = None) -> Vectors:
        most = SAMPLE_BYTES // (4 * (dimension if reduction is None else reduction.d_out))
        size = min(int(POINTS * wanted_lists), max(FEWEST_POINTS, most))
        return sample_rows(blocks, size, dimension, generator, without=queries[0], reduction=reduction)[1]

    sample, codes = draw(), None
    reduction = faiss_reduction(sample, seed=seed)
    if reduction is not None:
        del sample
        # Of short points more fit in memory, so there can be more lists.
        sample = draw(reduction)
        codes = new_codes(sample)
    nlist = max(1, min(round(wanted_lists), len(sample) // FEWEST_POINTS))
    lists = f"IVF{nlist}{f'_HNSW{LINKS}' * (nlist >= MANY_LISTS)},RaBitQfs"
    factory = lists if reduction is None else f"PCA{reduction.d_out},{lists},Refine(SQ8)"
    ivf = faiss.index_factory(sample.shape[1], f"IVF{nlist},RaBitQfs")
    ivf.cp.seed = seed
    ivf.cp.min_points_per_centroid = 1
    # An index of no rows is trained on a row of zeros.
    ivf.train(sample if len(sample) else np.zeros((1, dimension), np.float32))
    del sample
    if nlist >= MANY_LISTS:
        _find_lists_by_graph(ivf)
    for ids, vectors in _pieces(blocks, dimension):
        points = vectors if reduction is None else reduction.apply(vectors)
        ivf.add_with_ids(points, ids)
        if codes is not None:
            codes.add_with_ids(points, ids)
    index = joined(Parts(ivf, reduction, codes))
    draft = SearchMetadata(
        factory=factory,
        dimension=dimension,
        nlist=nlist,
        nprobe=nlist,
        refine=REFINE[-1],
        rows=ivf.ntotal,
        target=target,
        recall=0.0,
        queries=0,
        seed=seed,
        seconds=0.0,
    )
    metadata = calibrate(index, draft, blocks, *queries)
    return Built(index, replace(metadata, seconds=time.perf_counter() - started))


def _find_lists_by_graph(ivf: Any) -> None:
    """Let an index that is trained find its nearest lists by a graph of the centroids (HNSW).

    One thread makes the graph: with several, it would be another one each time.
    """
    flat, graph = ivf.quantizer, faiss.IndexHNSWFlat(ivf.d, LINKS)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = COMPARED, LOOKED_AT
    with limited_threads(1):
        graph.add(flat.reconstruct_n(0, flat.ntotal))
    ivf.quantizer = graph
    graph.this.disown()  # FAISS frees it with the index, and would have freed the other one
    faiss.Index.__swig_destroy__(flat)


def calibrate(
    index: Any, metadata: SearchMetadata, blocks: Sequence[VectorBlock], ids: Ids, queries: Vectors
) -> SearchMetadata:
    """Return the metadata with nprobe and refine that reach its target, and with the recall that they have.

    The queries are stored rows that the lists were not trained on; as for a new picture, each counts only neighbours
    other than itself. With many candidates nprobe grows from 1 until the target is reached, and is doubled. Then the
    fewest candidates that still reach the target are found, and doubled too: pictures of another kind, or whose
    neighbours were removed since, have a lower recall.
    Where all lists together do not reach the target, the recall of the metadata is below it.
    """
    truth = other_distances(ExactSearch(blocks).search(queries, NEIGHBOURS + 1), ids)
    search = IvfSearch(index, metadata, blocks, [len(block.ids) for block in blocks])

    def measured(nprobe: int, refine: int) -> SearchMetadata:
        search.metadata = replace(metadata, nprobe=nprobe, refine=refine, queries=len(ids))
        found = other_distances(search.search(queries, NEIGHBOURS + 1), ids)
        return replace(search.metadata, recall=recall(found, truth))

    for most in REFINE[REFINE.index(USUAL) :]:
        best = measured(1, most)
        while not best.reached and best.nprobe < metadata.nlist:
            best = measured(min(best.nprobe + 1 + best.nprobe // 3, metadata.nlist), most)
        if best.reached:
            break
    else:
        return best
    nprobe = min(2 * best.nprobe, metadata.nlist)
    return measured(nprobe, 2 * next(refine for refine in REFINE if measured(nprobe, refine).reached))


def recall(found: Vectors, truth: Vectors) -> float:
    """Return the share of true neighbours found, both given by distances (q, n); one equally near counts as found."""
    there = int(np.isfinite(truth).sum())
    hits = np.isfinite(found) & (found <= truth[:, -1:])
    return int(hits.sum()) / there if there else 1.0


def other_distances(near: Neighbours, ids: Ids) -> Vectors:
    """Return distances (q, 10) of the neighbours other than the query itself."""
    distances = np.where(near.ids == ids[:, None], np.float32(np.inf), near.distances)
    return nearest(near.ids, distances, NEIGHBOURS)[1]


def _pieces(blocks: Sequence[VectorBlock], dimension: int) -> Iterator[tuple[Ids, Vectors]]:
    """Yield ids and float32 vectors of all rows that an index can hold, with one piece in memory at a time."""
    step = max(1, PIECE_BYTES // (4 * dimension))
    for block in blocks:
        for start in range(0, len(block.ids), step):
            ids = block.ids[start : start + step]
            vectors = np.ascontiguousarray(block.vectors[start : start + step], dtype=np.float32)
            kept = (ids >= 0) & _sound(vectors)
            if kept.any():
                yield ids[kept], vectors if kept.all() else vectors[kept]


def sample_rows(
    blocks: Sequence[VectorBlock],
    size: int,
    dimension: int,
    generator: np.random.Generator,
    *,
    without: Ids = NO_IDS,
    reduction: Any | None = None,
) -> tuple[Ids, Vectors]:
    """Return ids and vectors (≤ size, d) of a random sample of the rows that an index can hold.

    reduction: FAISS's transform of rows, whose points are returned instead; d is then their dimension.
    """
    usable = [np.flatnonzero((block.ids >= 0) & ~np.isin(block.ids, without)) for block in blocks]
    starts = np.cumsum([0, *map(len, usable)])
    chosen = np.sort(generator.choice(int(starts[-1]), min(size, int(starts[-1])), replace=False))
    width = dimension if reduction is None else reduction.d_out
    ids, vectors = np.empty(len(chosen), np.int64), np.empty((len(chosen), width), np.float32)
    count = 0
    for block, rows, start, end in zip(blocks, usable, starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        of_block = rows[chosen[(chosen >= start) & (chosen < end)] - start]
        for part in np.array_split(of_block, 1 + len(of_block) * dimension * 4 // PIECE_BYTES):
            picked = np.asarray(block.vectors[part], dtype=np.float32)
            sound = _sound(picked)
            end_of_part = count + int(sound.sum())
            ids[count:end_of_part] = block.ids[part][sound]
            vectors[count:end_of_part] = picked[sound] if reduction is None else reduction.apply(picked[sound])
            count = end_of_part
    return ids[:count], vectors[:count]


def _sound(vectors: Vectors) -> npt.NDArray[np.bool_]:
    """Return whether (n,) FAISS can compute with a row."""
    sound: npt.NDArray[np.bool_] = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64) <= LONGEST
    return sound
