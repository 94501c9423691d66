"""Jobs: one after the other, with their progress, until they are done, fail or are cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from imgindex.errors import UsageError
from imgindex.server import jobs as module
from imgindex.server.jobs import JobCancelled, Jobs
from imgindex.server.problems import RequestRefused
from imgindex.types import Progress


class Opened:
    """In the place of an index: which thread opened it and closed it."""

    def __init__(self) -> None:
        self.opened_in = threading.get_ident()
        self.closed = threading.Event()

    def close(self) -> None:
        assert threading.get_ident() == self.opened_in
        self.closed.set()


@pytest.fixture
def published() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def jobs(published: list[dict[str, Any]]) -> Iterator[Jobs]:
    running = Jobs(Opened, published.append)  # type: ignore[arg-type]
    yield running
    running.close()


def test_jobs_are_done_one_after_the_other_in_the_thread_of_their_index(
    jobs: Jobs, published: list[dict[str, Any]]
) -> None:
    order: list[int] = []

    def work(number: int) -> Any:
        def do(index: Any, on_progress: Any, stop: Any) -> int:
            assert index.opened_in == threading.get_ident()
            order.append(number)
            return number

        return do

    made = [jobs.submit("cluster", work(number), result=str if number else None) for number in range(5)]
    assert [asyncio.run(jobs.wait(job)) for job in made] == [0, None, None, None, None]
    assert order == [0, 1, 2, 3, 4]
    assert [job.to_dict()["result"] for job in jobs.all()] == [None, "1", "2", "3", "4"]
    states = [job["state"] for job in published if job["id"] == 1]
    assert (states[0], states[-1]) == ("queued", "done")


def test_progress_is_published_but_not_each_of_many_steps(jobs: Jobs, published: list[dict[str, Any]]) -> None:
    def work(index: Any, on_progress: Any, stop: Any) -> None:
        for done in range(10_000):
            on_progress(Progress("read", done, 10_000))

    job = jobs.submit("map", work)
    asyncio.run(jobs.wait(job))
    assert job.progress == Progress("read", 9_999, 10_000)
    assert 3 <= len(published) < 100


def test_a_job_that_fails_has_the_problem_and_raises_for_those_who_wait(jobs: Jobs) -> None:
    def work(index: Any, on_progress: Any, stop: Any) -> None:
        raise UsageError("k is 0")

    job = jobs.submit("cluster", work)
    with pytest.raises(UsageError, match="k is 0"):
        asyncio.run(jobs.wait(job))
    assert (job.state, job.problem and job.problem.type) == ("failed", "urn:imgindex:UsageError")
    done = jobs.submit("cluster", lambda index, on_progress, stop: 1)
    assert asyncio.run(jobs.wait(done)) == 1


def test_a_running_job_is_cancelled_at_its_next_step_and_a_waiting_one_never_begins(jobs: Jobs) -> None:
    began, go_on = threading.Event(), threading.Event()

    def work(index: Any, on_progress: Any, stop: Any) -> None:
        began.set()
        go_on.wait(20)
        on_progress(Progress("read", 1, 2))
        raise AssertionError

    running, waiting = jobs.submit("map", work), jobs.submit("map", work)
    assert began.wait(20)
    jobs.cancel(running.id)
    jobs.cancel(waiting.id)
    go_on.set()
    for job in (running, waiting):
        with pytest.raises(JobCancelled):
            asyncio.run(jobs.wait(job))
        assert (job.state, job.problem) == ("cancelled", None)


def test_an_add_ends_by_itself_and_keeps_its_report(jobs: Jobs) -> None:
    began, go_on = threading.Event(), threading.Event()

    def work(index: Any, on_progress: Any, stop: Any) -> str:
        began.set()
        go_on.wait(20)
        on_progress(Progress("embed", 1, 2))
        return "interrupted" if stop() else "done"

    job = jobs.submit("add", work, result=str)
    assert began.wait(20)
    jobs.cancel(job.id)
    go_on.set()
    asyncio.run(jobs.wait(job))
    assert (job.state, job.result) == ("cancelled", "interrupted")


def test_a_client_that_leaves_does_not_end_the_job(jobs: Jobs) -> None:
    go_on = threading.Event()
    job = jobs.submit("map", lambda index, on_progress, stop: go_on.wait(20))

    async def leave() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(jobs.wait(job), 0.05)
        go_on.set()
        assert await jobs.wait(job) is True

    asyncio.run(leave())


def test_only_so_many_ended_jobs_are_listed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 3)
    for _ in range(6):
        asyncio.run(jobs.wait(jobs.submit("map", lambda index, on_progress, stop: 1)))
    assert [job.id for job in jobs.all()] == [3, 4, 5, 6]
    with pytest.raises(RequestRefused):
        jobs.get(1)


def test_closing_cancels_what_runs_and_closes_the_index(published: list[dict[str, Any]]) -> None:
    opened: list[Opened] = []

    def open_index() -> Opened:
        opened.append(Opened())
        return opened[0]

    jobs = Jobs(open_index, published.append)  # type: ignore[arg-type]
    began = threading.Event()

    def work(index: Any, on_progress: Any, stop: Any) -> None:
        began.set()
        while True:
            on_progress(Progress("read", 1, 2))

    job = jobs.submit("map", work)
    assert began.wait(20)
    jobs.close()
    assert opened[0].closed.wait(20)
    assert job.state == "cancelled"
