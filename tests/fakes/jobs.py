"""Asynchronous jobs in the memory of one server, for tests of the routes in front of them.

    python -m tests.fakes.jobs serve BUNDLE ...

is `pigeonhole serve` with these jobs. A job with the text `hold` never ends by itself.
"""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.errors import EmptyTexts, NotDone, NotServed, Overloaded, TooLarge
from predictor.serving.jobs.status import JobState, JobStatus, RowResult

MOST_TEXTS = 5000
MOST_OPEN = 2
_CHUNK = 16


@dataclass
class _Job:
    texts: Sequence[str]
    client: str
    state: JobState = "queued"
    results: list[RowResult] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None


class MemoryJobs:
    """What the routes ask of jobs."""

    on = True

    def __init__(self, model: Any) -> None:
        self._model = model
        self._jobs: dict[str, _Job] = {}

    async def submit(self, texts: Sequence[str], client: str) -> JobStatus:
        if len(texts) > MOST_TEXTS:
            raise TooLarge(f"the job has over {MOST_TEXTS} texts: send them in several jobs")
        if sum(job.client == client and job.state in ("queued", "running") for job in self._jobs.values()) >= MOST_OPEN:
            raise Overloaded(f"you have {MOST_OPEN} open jobs: wait for one to end, or cancel it", 1)
        name, job = secrets.token_hex(16), _Job(texts, client)
        self._jobs[name] = job
        job.task = asyncio.create_task(self._work(job))
        return self._said(name, job)

    async def status(self, job: str, client: str) -> JobStatus:
        return self._said(job, self._of(job, client))

    async def results(self, job: str, client: str, start: int, count: int) -> list[RowResult]:
        found = self._of(job, client)
        if found.state != "done":
            raise NotDone(f"the job is {found.state}: ask for its status until it is done")
        return found.results[start : start + count]

    async def cancel(self, job: str, client: str) -> JobStatus:
        found = self._of(job, client)
        if found.task and found.state != "done":
            found.task.cancel()
            found.state = "cancelled"
        return self._said(job, found)

    def start(self) -> None:
        """Do nothing: jobs begin when they are submitted."""

    async def stop(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def _of(self, job: str, client: str) -> _Job:
        found = self._jobs.get(job)
        if found is None or found.client != client:
            raise NotServed("there is no such job: it is unknown, has expired, or is another caller's")
        return found

    def _said(self, name: str, job: _Job) -> JobStatus:
        failed = sum(result.probabilities is None for result in job.results)
        left = None if not job.results else (len(job.texts) - len(job.results)) / 100
        return JobStatus(name, job.state, len(job.texts), len(job.results), failed, left)

    async def _work(self, job: _Job) -> None:
        await asyncio.sleep(0)
        job.state = "running"
        for start in range(0, len(job.texts), _CHUNK):
            for text in job.texts[start : start + _CHUNK]:
                if text == "hold":
                    await asyncio.Event().wait()
                job.results.append(await self._answered(text))
        job.state = "done"

    async def _answered(self, text: str) -> RowResult:
        try:
            (row,) = await self._model._scheduler.probabilities([text])
        except EmptyTexts:
            return RowResult(None, "the text is empty after cleaning", self._model.version)
        return RowResult(row, version=self._model.version)


def _serve() -> None:
    from pipelines.cli.app import main
    from predictor.serving import server

    server._import_kserve()
    from predictor.serving.kserve_model import TextClassifier

    made = TextClassifier.__init__

    def with_jobs(self: Any, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        self.jobs = MemoryJobs(self)

    TextClassifier.__init__ = with_jobs  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    _serve()
