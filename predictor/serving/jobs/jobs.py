"""Jobs as callers see them: submitted, watched, read and cancelled at any replica."""

import asyncio
import os
from bisect import bisect_right
from collections.abc import Awaitable, Sequence
from typing import TypeVar, cast, get_args

from redis.exceptions import RedisError

from predictor.errors import BadRequest, Busy, NotDone, NotServed, Overloaded, TooLarge, Unsupported, one_line
from predictor.serving.jobs.answering import Answer
from predictor.serving.jobs.chunks import Damaged, cut, unpack_results, unpack_starts
from predictor.serving.jobs.estimate import seconds_left
from predictor.serving.jobs.status import MOST_TEXTS, JobState, JobStatus, RowResult
from predictor.serving.jobs.store import JobStore, Look, is_id
from predictor.serving.jobs.worker import Pace, Worker
from predictor.serving.redis.client import connect
from predictor.serving.redis.metrics import RedisMetrics

Result = TypeVar("Result")

MOST_OPEN = 16
"""Jobs of a client that are not done yet."""
# A job of more texts or characters waits behind other large ones, and not before small ones.
_SMALL_TEXTS = 2048
_SMALL_CHARACTERS = 2**20
_RETRY_AFTER = 5
_OFF = "asynchronous jobs are off: start the server with --redis-url"
_DAMAGED = "the result was damaged in Redis: send the text again"


class Jobs:
    """Asynchronous jobs of one model.

    A client is an opaque key of who calls. A job of another client is answered as one that does not exist.

    Args:
        url: of the Redis; empty where there is none, and then every call is refused.
        model: the model's name.
        labels: the classes, in the order of a row.
        version: the bundle's.
        answer: gives the probabilities of texts in the background.
        metrics: where jobs, chunks and texts are counted.
        pace: how soon the chunks of a dead replica are taken over.

    Raises:
        InputError: it is no URL of a Redis.
    """

    def __init__(
        self,
        url: str,
        model: str,
        labels: Sequence[str],
        version: str,
        answer: Answer,
        metrics: RedisMetrics,
        pace: Pace | None = None,
    ) -> None:
        self._labels = len(labels)
        self._metrics = metrics
        # A crowd of callers must not keep the worker from a connection.
        self._clients = [connect(url) for _ in range(2)] if url else []
        self._store: JobStore | None = None
        self._worker: Worker | None = None
        if url:
            metrics.expects_redis()
            callers, worker = (JobStore(client, model, labels) for client in self._clients)
            self._store = callers
            self._worker = Worker(worker, answer, len(labels), version, metrics, pace or Pace())

    @property
    def on(self) -> bool:
        """Whether there is a Redis for them, be it away or not."""
        return self._store is not None

    def start(self) -> None:
        """Begin to work on jobs; the event loop runs."""
        if self._worker:
            self._worker.start()

    async def stop(self) -> None:
        """Work on no more jobs, and leave to others what is not finished in time. Callers are still answered."""
        if self._worker:
            await self._worker.stop()

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.aclose()

    async def submit(self, texts: Sequence[str], client: str) -> JobStatus:
        """Take a job.

        Raises:
            BadRequest: there are no texts.
            TooLarge: there are too many.
            Overloaded: the client has too many open jobs.
            Busy, Unsupported: Redis is away, or there is none.
        """
        store = self._on()
        if not texts:
            raise BadRequest("there are no texts: send at least one")
        if len(texts) > MOST_TEXTS:
            raise TooLarge(f"the job has {len(texts)} texts: send at most {MOST_TEXTS} a job, in several jobs")
        pieces = await asyncio.get_running_loop().run_in_executor(None, cut, texts, self._labels)
        job = os.urandom(16).hex()
        bulk = len(texts) > _SMALL_TEXTS or sum(map(len, texts)) > _SMALL_CHARACTERS
        if not await self._asked(store.submit(job, client, pieces, bulk, MOST_OPEN)):
            raise Overloaded(
                f"{MOST_OPEN} jobs of yours are not done: wait for one of them, or cancel one", _RETRY_AFTER
            )
        self._metrics.job("submitted")
        return await self.status(job, client)

    async def status(self, job: str, client: str) -> JobStatus:
        """Return how far a job is.

        Raises:
            NotServed: there is no such job of this client.
            Busy, Unsupported: Redis is away, or there is none.
        """
        look = await self._look(job, client)
        state, lane = _text(look, "state"), _text(look, "lane")
        total, done, failed, position = (_count(look, name) for name in ("total", "done", "failed", "position"))
        if state not in get_args(JobState) or None in (total, done, failed):
            raise _unknown(job)
        left = 0.0 if state in ("done", "cancelled") else None
        if left is None:
            own, other = look.backlog.lane(lane), look.backlog.other(lane)
            left = seconds_left((total or 0) - (done or 0), position or 0, own, other, look.rates)
        return JobStatus(job, cast(JobState, state), total or 0, done or 0, failed or 0, left)

    async def results(self, job: str, client: str, start: int, count: int) -> list[RowResult]:
        """Return up to `count` rows of a job that is done, from number `start` on; none beyond the last.

        Raises:
            NotServed: there is no such job of this client.
            NotDone: it is not done, or was cancelled.
            Busy, Unsupported: Redis is away, or there is none.
        """
        look = await self._look(job, client)
        if (state := _text(look, "state")) != "done":
            hint = "send its texts again" if state == "cancelled" else "ask for its status, and again when it is done"
            raise NotDone(f"job {job} is {state} and has no results: {hint}")
        try:
            starts = unpack_starts(look.fields["starts"])
        except Damaged:
            raise _unknown(job) from None
        end = min(start + count, starts[-1])
        if not 0 <= start < end:
            return []
        chunks = range(bisect_right(starts, start) - 1, bisect_right(starts, end - 1))
        blobs = await self._asked(self._on().results(job, chunks))
        if any(blob is None for blob in blobs):
            raise _unknown(job)
        rows: list[RowResult] = []
        for chunk, blob in zip(chunks, blobs, strict=True):
            size = starts[chunk + 1] - starts[chunk]
            try:
                rows += unpack_results(blob or b"", size, self._labels)
            except Damaged:
                self._metrics.damaged()
                rows += [RowResult(None, _DAMAGED)] * size
        first = starts[chunks[0]]
        return rows[start - first : end - first]

    async def cancel(self, job: str, client: str) -> JobStatus:
        """Cancel a job unless it is done, and return its status: its results are dropped, and its texts not run.

        Raises:
            NotServed: there is no such job of this client.
            Busy, Unsupported: Redis is away, or there is none.
        """
        await self._look(job, client)
        if await self._asked(self._on().cancel(job, client)):
            self._metrics.job("cancelled")
        return await self.status(job, client)

    async def _look(self, job: str, client: str) -> Look:
        store = self._on()
        if not is_id(job) or (look := await self._asked(store.look(job, client))) is None:
            raise _unknown(job)
        return look

    def _on(self) -> JobStore:
        if self._store is None:
            raise Unsupported(_OFF)
        return self._store

    async def _asked(self, asking: Awaitable[Result]) -> Result:
        try:
            return await asking
        except RedisError:
            raise Busy(
                f"jobs cannot be reached now, since Redis is away: try again in {_RETRY_AFTER} s", _RETRY_AFTER
            ) from None


def _unknown(job: str) -> NotServed:
    return NotServed(f"there is no job '{one_line(job, 40)}': its id is wrong, or it was kept its time and is gone")


def _text(look: Look, name: str) -> str:
    return (look.fields[name] or b"").decode("ascii", "replace")


def _count(look: Look, name: str) -> int | None:
    value = look.fields[name] or b""
    return int(value) if value.isdigit() and len(value) < 16 else None
