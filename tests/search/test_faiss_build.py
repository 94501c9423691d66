"""Building FAISS's index: it reaches its target or says so, whatever the rows are, and the same rows give the same."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from faiss_samples import DIMENSION, ROWS, clustered, in_blocks, search

from imgindex.search import faiss_build
from imgindex.search.exact import ExactSearch
from imgindex.search.faiss_build import Built, build, recall
from imgindex.search.faiss_ivf import SearchMetadata, save


def test_the_metadata_describes_the_index_which_reaches_its_target_with_few_lists(built: Built) -> None:
    metadata = built.metadata
    assert metadata.reached
    assert metadata.recall >= metadata.target == 0.99
    assert metadata.queries == faiss_build.QUERIES
    assert metadata.rows == built.index.ntotal == ROWS
    assert metadata.factory == f"IVF{metadata.nlist},RaBitQfs"
    assert metadata.nprobe < metadata.nlist / 10
    assert metadata.seconds > 0


def test_rows_that_faiss_cannot_compute_with_do_not_spoil_the_others() -> None:
    vectors = clustered(4000)
    vectors[5], vectors[50, 3], vectors[500], vectors[3000] = np.nan, np.inf, 1e18, -1e18
    now = in_blocks(vectors)
    built = build(now, dimension=DIMENSION, target=0.99)
    assert built.metadata.rows == 3996
    assert built.metadata.reached
    joined, exact = search(built, now, now), ExactSearch(now)
    near = [each.search(vectors[100:200], 10).distances for each in (joined, exact)]
    assert recall(*near) >= 0.99
    # Each of these finds itself, and all others equally far away.
    far = joined.search(vectors[[500, 3000]], 10)
    assert far.ids[:, 0].tolist() == [1501, 9001]
    np.testing.assert_array_equal(far.distances, exact.search(vectors[[500, 3000]], 10).distances)


def test_where_short_codes_rank_badly_more_candidates_are_taken() -> None:
    # Codes of 32 bits do not tell apart five thousand rows around each of a few centres.
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((6, 32), dtype=np.float32)[rng.integers(6, size=30_000)]
    vectors += 0.6 * rng.standard_normal(vectors.shape, dtype=np.float32)
    metadata = build(in_blocks(vectors), dimension=32, target=0.99).metadata
    assert metadata.reached
    assert metadata.refine > 2 * faiss_build.USUAL


def test_a_target_out_of_reach_is_not_said_to_be_reached() -> None:
    metadata = build(in_blocks(clustered(900)), dimension=DIMENSION, target=1.5).metadata
    assert not metadata.reached
    assert (metadata.nprobe, metadata.recall) == (metadata.nlist, 1.0)


@pytest.mark.parametrize("many", [1, 1000], ids=["lists found by a graph", "few lists"])
def test_same_rows_and_seed_same_index(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(faiss_build, "MANY_LISTS", many)
    now = in_blocks(clustered(4000))

    def written(seed: int) -> tuple[bytes, SearchMetadata]:
        built, file = build(now, dimension=DIMENSION, target=0.99, seed=seed), io.BytesIO()
        save(built.index, file)
        return file.getvalue(), replace(built.metadata, seconds=0.0)

    one = written(5)
    assert one == written(5)
    assert one[0] != written(6)[0]
    # However small the pieces that are read at a time.
    monkeypatch.setattr(faiss_build, "PIECE_BYTES", 4 * DIMENSION * 7)
    assert one == written(5)


def test_where_the_sample_must_be_small_there_are_fewer_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss_build, "SAMPLE_BYTES", 4 * DIMENSION * 400)
    metadata = build(in_blocks(clustered(4000)), dimension=DIMENSION, target=0.99).metadata
    assert metadata.nlist == 10
    assert metadata.reached
