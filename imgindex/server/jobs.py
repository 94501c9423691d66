"""Jobs: what takes longer than a request may, one at a time, with progress, and until it is done or cancelled."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from imgindex.errors import ImgindexError
from imgindex.index import ImageIndex
from imgindex.server.problems import Problem, RequestRefused, refusal_of
from imgindex.types import OnProgress, Progress

# The jobs that have ended and are still listed.
MOST_ENDED = 50
# Seconds between two events of one job.
PAUSE = 0.2
QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"

# What a job does: with an open index, a function for its progress, and one that says whether it was cancelled.
Work = Callable[[ImageIndex, OnProgress, Callable[[], bool]], Any]


class JobCancelled(ImgindexError):
    """The job was cancelled before it was done."""


@dataclass(slots=True)
class Job:
    """One job.

    value: what it made, for those who wait for it. result: instead, what its JSON has of that: a listed job must not
    hold the arrays of a clustering.
    """

    id: int
    kind: str
    state: str = QUEUED
    progress: Progress | None = None
    result: Any = None
    problem: Problem | None = None
    value: Any = None
    error: BaseException | None = None
    ended: Future[None] = field(default_factory=Future)
    is_cancelled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the job as JSON has it."""
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "progress": None if self.progress is None else asdict(self.progress),
            "result": self.result,
            "problem": None if self.problem is None else asdict(self.problem),
        }


class Jobs:
    """The jobs of a server, done one after the other in a thread with an open index of its own.

    open_index: opens it, when the first job begins. publish: called with each change of a job.
    """

    def __init__(self, open_index: Callable[[], ImageIndex], publish: Callable[[dict[str, Any]], None]) -> None:
        self._open_index = open_index
        self._publish = publish
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="imgindex-jobs")
        self._index: ImageIndex | None = None
        self._jobs: dict[int, Job] = {}
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def submit(self, kind: str, work: Work, *, result: Callable[[Any], Any] | None = None) -> Job:
        """Begin a job as soon as those before it have ended.

        result: from what the work returns to its JSON; None to keep what it returns as `value`.
        """
        with self._lock:
            job = Job(next(self._ids), kind)
            self._jobs[job.id] = job
            ended = [one.id for one in self._jobs.values() if one.ended.done()]
            for id in ended[:-MOST_ENDED]:
                del self._jobs[id]
        self._publish(job.to_dict())
        self._thread.submit(self._do, job, work, result)
        return job

    async def wait(self, job: Job) -> Any:
        """Return what the work of a job returned. Raises what it raised, or JobCancelled."""
        # Shielded: a client that leaves does not end the job for the others.
        await asyncio.shield(asyncio.wrap_future(job.ended))
        if job.error is not None:
            raise job.error
        return job.value

    def get(self, id: int) -> Job:
        """Return a job. Raises RequestRefused where there is none."""
        try:
            return self._jobs[id]
        except KeyError:
            raise RequestRefused(404, "JobNotFound", f"the job {id} does not exist") from None

    def all(self) -> list[Job]:
        """Return the jobs, the oldest first."""
        return list(self._jobs.values())

    def cancel(self, id: int) -> Job:
        """End a job: at once if it has not begun, else at its next step."""
        job = self.get(id)
        job.is_cancelled = True
        return job

    def close(self) -> None:
        """Cancel all jobs, and close their index after the one in progress."""
        for job in self.all():
            job.is_cancelled = True
        self._thread.submit(self._close_index)
        self._thread.shutdown(wait=False)

    def _close_index(self) -> None:
        if self._index is not None:
            self._index.close()

    def _do(self, job: Job, work: Work, result: Callable[[Any], Any] | None) -> None:
        published = 0.0

        def on_progress(progress: Progress) -> None:
            nonlocal published
            if job.is_cancelled and job.kind != "add":  # `add` ends by itself, after its batch
                raise JobCancelled("the job was cancelled")
            job.progress = progress
            if time.monotonic() - published > PAUSE:
                published = time.monotonic()
                self._publish(job.to_dict())

        try:
            if job.is_cancelled:
                raise JobCancelled("the job was cancelled")
            job.state = RUNNING
            self._publish(job.to_dict())
            if self._index is None:
                self._index = self._open_index()
            made = work(self._index, on_progress, lambda: job.is_cancelled)
            if result is None:
                job.value = made
            else:
                job.result = result(made)
            job.state = CANCELLED if job.is_cancelled and job.kind == "add" else DONE
        except BaseException as error:  # noqa: BLE001  whatever happens, those who wait for the job are answered
            error.__traceback__ = None  # its frames may hold most of the memory
            job.error = error
            job.state = CANCELLED if isinstance(error, JobCancelled) else FAILED
            job.problem = None if isinstance(error, JobCancelled) else refusal_of(error).problem
        finally:
            job.ended.set_result(None)
            self._publish(job.to_dict())
