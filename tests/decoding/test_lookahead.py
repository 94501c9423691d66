"""map_ahead: in order, bounded, no further ahead than `depth`, and errors at their place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from imgindex.decoding import lookahead
from imgindex.decoding.lookahead import map_ahead, worker_count


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Items:
    """Numbers from 0, and how many of them were asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pulled = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.pulled += 1
            yield number


def double(number: int) -> int:
    return 2 * number


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 100])
def test_all_results_come_in_the_order_of_items(pool: ThreadPoolExecutor, depth: int) -> None:
    assert list(map_ahead(pool, double, range(50), depth=depth)) == [2 * number for number in range(50)]


def test_no_items_give_no_results(pool: ThreadPoolExecutor) -> None:
    assert list(map_ahead(pool, double, [], depth=4)) == []


def test_order_is_kept_though_later_items_finish_first(pool: ThreadPoolExecutor) -> None:
    done = [threading.Event() for _ in range(4)]
    finished = []

    def backwards(number: int) -> int:
        if number < 3:
            assert done[number + 1].wait(30)
        finished.append(number)
        done[number].set()
        return number

    assert list(map_ahead(pool, backwards, range(4), depth=8)) == [0, 1, 2, 3]
    assert finished == [3, 2, 1, 0]


@pytest.mark.parametrize("depth", [1, 3, 16])
def test_no_more_than_depth_items_are_pulled_before_the_first_result_is_taken(
    pool: ThreadPoolExecutor, depth: int
) -> None:
    items = Items(1_000_000)
    results = map_ahead(pool, double, items, depth=depth)
    assert items.pulled == 0
    for taken in range(20):
        assert next(results) == 2 * taken
        assert items.pulled <= taken + depth
    results.close()


def test_items_are_worked_on_before_their_turn_comes(pool: ThreadPoolExecutor) -> None:
    last = threading.Event()

    def note(number: int) -> int:
        if number == 4:
            last.set()
        return number

    results = map_ahead(pool, note, range(9), depth=5)
    assert next(results) == 0
    assert last.wait(30)
    results.close()


def test_bytes_in_flight_are_bounded(pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "MAX_BYTES_IN_FLIGHT", 1000)
    items = Items(40)
    results = map_ahead(pool, double, items, depth=30, size=lambda number: 300)
    for taken in range(20):
        assert next(results) == 2 * taken
        # The fourth one exceeds the bound, which stops the pulling.
        assert items.pulled - taken <= 4
    assert list(results) == [2 * number for number in range(20, 40)]


def test_an_item_larger_than_the_bound_is_in_flight_alone(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookahead, "MAX_BYTES_IN_FLIGHT", 1000)
    items = Items(6)
    results = map_ahead(pool, double, items, depth=30, size=lambda number: 5000)
    for taken in range(6):
        assert next(results) == 2 * taken
        assert items.pulled == taken + 1


def test_the_bytes_of_finished_items_are_no_longer_counted(
    pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookahead, "MAX_BYTES_IN_FLIGHT", 1000)
    items = Items(30)
    results = map_ahead(pool, double, items, depth=8, size=lambda number: 5000 if number == 0 else 1)
    assert next(results) == 0
    assert items.pulled == 1
    assert next(results) == 2
    assert items.pulled >= 8
    results.close()


class Laggard(ThreadPoolExecutor):
    """Never begins: its futures stay pending until they are cancelled or given a result by hand."""

    def __init__(self) -> None:
        super().__init__(1)
        self.futures: list[Future[int]] = []

    def submit(self, *arguments: object, **options: object) -> Future[int]:  # type: ignore[override]
        self.futures.append(Future())
        return self.futures[-1]


def test_closing_stops_pulling_and_cancels_what_has_not_begun() -> None:
    items = Items(100)
    with Laggard() as pool:
        results = map_ahead(pool, double, items, depth=6)
        first = threading.Timer(0.05, lambda: [future.set_result(0) for future in pool.futures[:1]])
        first.start()
        assert next(results) == 0
        first.join()
        results.close()
        assert items.pulled == len(pool.futures) == 6
        assert [future.cancelled() for future in pool.futures] == [False] + [True] * 5


def test_an_error_comes_at_its_items_place_and_ends_the_work(pool: ThreadPoolExecutor) -> None:
    items = Items(100)

    def fail_at_three(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError("three")
        return number

    results = map_ahead(pool, fail_at_three, items, depth=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="three"):
        next(results)
    assert items.pulled < 10
    assert list(results) == []


def test_an_error_of_the_items_themselves_passes(pool: ThreadPoolExecutor) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise LookupError("no more files")

    with pytest.raises(LookupError, match="no more files"):
        list(map_ahead(pool, double, items(), depth=4))


def test_one_pipeline_feeds_another(pool: ThreadPoolExecutor) -> None:
    items = Items(1000)
    doubled = map_ahead(pool, double, items, depth=4)
    results = map_ahead(pool, double, doubled, depth=8)
    assert [next(results) for _ in range(5)] == [0, 4, 8, 12, 16]
    assert items.pulled <= 5 + 4 + 8
    results.close()
    doubled.close()


def test_as_many_workers_as_asked_for_else_at_least_two() -> None:
    assert worker_count(1) == 1
    assert worker_count(7) == 7
    assert 2 <= worker_count(None) <= 32


def test_workers_follow_the_processors_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert worker_count(None) == 6
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(200)), raising=False)
    assert worker_count(None) == 32
