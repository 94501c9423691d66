from __future__ import annotations

from collections.abc import Iterator

import faiss
import pytest

from imgindex.vectors.faiss_threads import WORTH_A_THREAD, limited_threads, threads_for


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    yield
    faiss.omp_set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("count", "used"), [(0.5, 1), (1, 1), (2.9, 2), (1000, 3)])
def test_threads_are_limited_within_the_block_and_at_least_one(count: float, used: int) -> None:
    with limited_threads(count):
        assert faiss.omp_get_max_threads() == used
    assert faiss.omp_get_max_threads() == 3


def test_small_work_is_worth_one_thread() -> None:
    assert int(threads_for(1797 * 10 * 64)) == 1
    assert threads_for(3 * WORTH_A_THREAD) == 4
