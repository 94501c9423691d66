"""Answers to questions that take longer than a request may: each is a job, and is kept for those who ask it again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from imgindex.server.jobs import Job, Jobs, Work
from imgindex.server.problems import RequestRefused

# The answers that stay: a page goes on in one of them.
MOST = 8


class Answers:
    """The answers of a server, each with the id of its job."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._kept: OrderedDict[str, tuple[Hashable, Job]] = OrderedDict()

    async def ask(self, kind: str, question: Hashable, work: Work) -> tuple[str, Any]:
        """Return the id of an answer, and the answer: what `work` returns in a job of a kind.

        question: what the answer depends on. While it is kept, the same question is not worked on again.
        """
        question = (kind, question)
        for id, (known, job) in self._kept.items():
            if known == question and job.error is None and not job.is_cancelled:
                self._kept.move_to_end(id)
                return id, await self._jobs.wait(job)
        job = self._jobs.submit(kind, work)
        self._kept[str(job.id)] = (question, job)
        while len(self._kept) > MOST:
            _, (_, oldest) = self._kept.popitem(last=False)
            if oldest.ended.done():
                oldest.value = None
        return str(job.id), await self._jobs.wait(job)

    async def kept(self, id: str) -> Any:
        """Return an answer by its id. Raises RequestRefused where there is none, or none any more."""
        if id not in self._kept:
            raise RequestRefused(404, "AnswerNotFound", "this answer is not kept any more", hint="ask again")
        self._kept.move_to_end(id)
        return await self._jobs.wait(self._kept[id][1])
