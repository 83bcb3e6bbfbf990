"""What each replica does for jobs: it takes chunks, has them answered beside live calls, and stores the results.

All of it runs on the event loop. A few chunks are held at a time, so that the engine has the next one while the results
of another are stored. Where Redis is away, the worker waits, and keeps what is answered until it can be stored.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import orjson
from redis.exceptions import RedisError

from predictor.errors import one_line
from predictor.serving.call import Row
from predictor.serving.jobs.answering import Answer, Stopping, answer_each
from predictor.serving.jobs.chunks import Damaged, pack_results, unpack_starts, unpack_texts
from predictor.serving.jobs.estimate import RateMeter
from predictor.serving.jobs.store import Entry, JobStore
from predictor.serving.redis.metrics import RedisMetrics

log = logging.getLogger("pigeonhole")

Result = TypeVar("Result")

MOST_DELIVERIES = 3
"""A chunk that was given to so many replicas, none of which answered it, is given up."""
# Chunks that a replica has in hand: one that runs, one that is read or stored meanwhile, and one to spare.
_HELD = 3
# Redis that is away is tried again after this many seconds, then twice as many, up to the greatest number.
_RETRY = 0.25
_MOST_RETRY = 4.0


@dataclass(frozen=True)
class Pace:
    """How soon the chunks of a dead replica are taken over: after `idle` and up to `beat` seconds."""

    beat: float = 5.0
    """Seconds between two heartbeats."""
    idle: float = 15.0
    """Seconds without a heartbeat after which a replica counts as dead."""
    stop: float = 10.0
    """How long chunks in hand are waited for when the server stops; less than `idle`, since no heartbeat comes then."""


class Worker:
    """A replica's part in the jobs.

    Args:
        store: where the jobs are.
        answer: gives the probabilities of texts, of shape (texts, labels).
        labels: how many classes there are.
        version: the bundle's.
        metrics: where chunks and texts are counted.
        pace: of its heartbeat.
    """

    def __init__(
        self, store: JobStore, answer: Answer, labels: int, version: str, metrics: RedisMetrics, pace: Pace
    ) -> None:
        self._store = store
        self._answer = answer
        self._labels = labels
        self._version = version
        self._metrics = metrics
        self._pace = pace
        self._name = f"{socket.gethostname()}-{os.urandom(6).hex()}"
        self._meter = RateMeter()
        self._held: dict[str, tuple[Entry, asyncio.Task[None]]] = {}
        self._room = asyncio.Event()
        self._stopping = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._up = True

    def start(self) -> None:
        """Begin to take chunks; the event loop runs."""
        self._loops = [asyncio.create_task(loop()) for loop in (self._read, self._beat)]

    async def stop(self) -> None:
        """Take no more chunks, wait a moment for those in hand, and leave the others to the other replicas."""
        self._stopping.set()
        self._room.set()
        if not self._loops:
            return
        _, late = await asyncio.wait(self._loops, timeout=self._pace.stop)
        for task in late:
            task.cancel()
        if self._held:
            await asyncio.wait([task for _, task in self._held.values()], timeout=self._pace.stop)
        left = list(self._held.values())
        for _, task in left:
            task.cancel()
        try:
            await self._store.leave(self._name, [entry for entry, _ in left])
        except RedisError as error:
            self._note(error)  # they are taken over when no heartbeat comes

    async def _read(self) -> None:
        """Take chunks while there is room for them."""
        wait = _RETRY
        while not self._stopping.is_set():
            if len(self._held) >= _HELD:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                for entry in await self._store.read(self._name):
                    self._take(entry)
                wait = _RETRY
            except Exception as error:  # whatever comes of a connection that breaks, the next one may be fine
                self._note(error)
                await self._pause(wait)
                wait = min(2 * wait, _MOST_RETRY)

    async def _beat(self) -> None:
        """Say at regular times that this replica lives, and take what dead ones left."""
        while not self._stopping.is_set():
            held = [entry for entry, _ in self._held.values()]
            room = max(0, _HELD - len(held))
            try:
                taken, backlog = await self._store.beat(self._name, self._meter.rate, held, room, self._pace.idle)
                self._note(None)
                lanes = (backlog.small, backlog.bulk)
                self._metrics.backlog(sum(lane.chunks for lane in lanes), sum(lane.texts for lane in lanes))
                for entry in taken:
                    self._take(entry)
            except Exception as error:
                self._note(error)
            await self._pause(self._pace.beat)

    def _take(self, entry: Entry) -> None:
        """Begin with a chunk, unless it is in hand: a group that was lost delivers everything again."""
        key = f"{entry.lane} {entry.id}"
        if key in self._held:
            return
        task = asyncio.create_task(self._work(entry))
        self._held[key] = entry, task
        task.add_done_callback(partial(self._release, key))

    def _release(self, key: str, task: asyncio.Task[None]) -> None:
        self._held.pop(key, None)
        self._room.set()
        if not task.cancelled() and (error := task.exception()):
            # Nobody has heard of it, so it is delivered again, and given up after some times.
            _log("job chunk failed", repr(error))

    async def _work(self, entry: Entry) -> None:
        """Answer a chunk and store the results."""
        if not entry.sound:
            await self._finish(entry, "", [], "the entry is not one of ours")
            return
        begun = await self._until_done(lambda: self._store.begin(entry))
        if begun is None:
            return
        try:
            starts = unpack_starts(begun.starts)
        except Damaged as damaged:
            await self._finish(entry, begun.client, None, str(damaged))
            return
        if entry.chunk >= len(starts) - 1:
            await self._finish(entry, begun.client, [], "the job has no such chunk")
            return
        size = starts[entry.chunk + 1] - starts[entry.chunk]
        self._meter.begin()
        answered = 0
        try:
            answers, reason = await self._answers(entry, begun.texts, size)
            answered = 0 if reason else len(answers)
            await self._finish(entry, begun.client, answers, reason)
        except Stopping:
            await asyncio.Event().wait()  # until `stop` ends this task and leaves the chunk to others
        finally:
            self._meter.end(answered)

    async def _answers(self, entry: Entry, texts: bytes | None, size: int) -> tuple[list[Row | str], str]:
        """Return the answers to a chunk's texts, and why it is given up, which is empty where it is not."""
        try:
            if entry.deliveries > MOST_DELIVERIES:
                raise Damaged(f"{MOST_DELIVERIES} replicas were given it and none answered")
            return await answer_each(self._answer, unpack_texts(texts, size)), ""
        except Damaged as damaged:
            return [f"the text was not answered: {damaged}"] * size, str(damaged)

    async def _finish(self, entry: Entry, client: str, answers: Sequence[Row | str] | None, reason: str) -> None:
        """Store a chunk's answers, however long Redis is away, and count what became of it.

        There are none where the job itself is damaged.
        """
        rows = -1 if answers is None else len(answers)
        failed = sum(isinstance(answer, str) for answer in answers or ())
        blob = pack_results(answers or (), self._labels, self._version)
        outcome, buried = await self._until_done(lambda: self._store.finish(entry, client, blob, rows, failed, reason))
        if buried:
            self._metrics.dead_letter()
            _log("job chunk given up", f"chunk {entry.chunk} of job {entry.job}: {reason}")
        if outcome != "dropped":
            self._metrics.texts(rows - failed, failed)
        if outcome == "done":
            self._metrics.job("done")

    async def _until_done(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Take a step as often as it needs, while Redis is away."""
        wait = _RETRY
        while True:
            try:
                return await step()
            except RedisError as error:
                self._note(error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _MOST_RETRY)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    def _note(self, error: Exception | None) -> None:
        """Publish whether Redis is there, and log when that changes."""
        up = error is None
        self._metrics.redis_up(up)
        if up != self._up:
            self._up = up
            why = "" if up else f"{type(error).__name__}: {one_line(error)}"
            _log("redis is back" if up else "redis cannot be used", why)


def _log(event: str, about: str) -> None:
    log.warning(orjson.dumps({"event": event, "about": about}).decode())
