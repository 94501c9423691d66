"""Answers: each question is worked on once while its answer is kept, and few answers are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from imgindex.errors import UsageError
from imgindex.server import answers as module
from imgindex.server.answers import Answers
from imgindex.server.jobs import Jobs
from imgindex.server.problems import RequestRefused


class Opened:
    """In the place of an index."""

    def close(self) -> None:
        """Close nothing."""


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    running = Jobs(Opened, lambda job: None)  # type: ignore[arg-type]
    yield running
    running.close()


def test_a_question_is_worked_on_once_and_again_after_an_error(jobs: Jobs) -> None:
    answers, worked = Answers(jobs), []

    def work(index: Any, on_progress: Any, stop: Any) -> int:
        worked.append(1)
        if len(worked) == 1:
            raise UsageError("not now")
        return len(worked)

    async def ask_all() -> list[Any]:
        return await asyncio.gather(*(answers.ask("outliers", 5, work) for _ in range(3)))

    with pytest.raises(UsageError):
        asyncio.run(answers.ask("outliers", 5, work))
    assert asyncio.run(ask_all()) == [("2", 2)] * 3
    assert asyncio.run(answers.ask("outliers", 6, work)) == ("3", 3)
    assert asyncio.run(answers.kept("2")) == 2
    assert [job.kind for job in jobs.all()] == ["outliers"] * 3


def test_the_answers_that_were_used_least_recently_are_forgotten(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    answers = Answers(jobs)

    def ask(question: int) -> str:
        return asyncio.run(answers.ask("diff", question, lambda *_: question))[0]

    first, second = ask(1), ask(2)
    asyncio.run(answers.kept(first))
    third = ask(3)
    assert [asyncio.run(answers.kept(one)) for one in (first, third)] == [1, 3]
    with pytest.raises(RequestRefused) as refused:
        asyncio.run(answers.kept(second))
    assert refused.value.problem.status == 404
    assert jobs.get(int(second)).value is None
