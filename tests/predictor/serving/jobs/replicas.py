"""Replicas without a model: in this process, and in one of their own that a test can kill.

python -m tests.predictor.serving.jobs.replicas URL SECONDS_A_TEXT
"""

import asyncio
import contextlib
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from predictor.errors import EmptyTexts
from predictor.serving.jobs.jobs import Jobs
from predictor.serving.jobs.status import JobStatus, RowResult
from predictor.serving.jobs.worker import Pace
from predictor.serving.redis.metrics import RedisMetrics

LABELS = ["bad", "good"]
QUICK = Pace(beat=0.1, idle=1.0, stop=5.0)
"""So that tests do not wait as long as production does."""


def row_of(text: str) -> NDArray[np.float32]:
    """What the stand-in says of a text: every text has a row of its own."""
    share = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) / 2**32
    return np.array([share, 1 - share], dtype=np.float32)


class Engine:
    """Answers texts, remembers them, and waits where a test says so. A "!" breaks it, as a blank text does."""

    def __init__(self, seconds_a_text: float = 0.0) -> None:
        self.seconds_a_text = seconds_a_text
        self.asked: list[str] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if blank := [place for place, text in enumerate(texts) if not text.strip()]:
            raise EmptyTexts(blank)
        self.asked += texts
        await self.open.wait()
        await asyncio.sleep(len(texts) * self.seconds_a_text)
        if any("!" in text for text in texts):
            raise RuntimeError("the engine's own words")
        return np.stack([row_of(text) for text in texts])


class Replica(Jobs):
    """Jobs with a stand-in for the engine, and numbers of their own."""

    def __init__(self, url: str, engine: Engine | None = None, version: str = "v1", labels: Sequence[str] = LABELS):
        self.engine = engine or Engine()
        self.registry = CollectorRegistry()
        metrics = RedisMetrics("toy", "r", self.registry)
        super().__init__(url, "toy", labels, version, self.engine, metrics, QUICK)

    def count(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(
            f"text_classifier_{name}", {"model_name": "toy", "revision": "r", **labels}
        )
        assert value is not None, name
        return value


@asynccontextmanager
async def replica(url: str, engine: Engine | None = None, version: str = "v1") -> AsyncIterator[Replica]:
    """A replica that works."""
    jobs = Replica(url, engine, version)
    jobs.start()
    try:
        yield jobs
    finally:
        await jobs.stop()
        await jobs.close()


@asynccontextmanager
async def caller(url: str, labels: Sequence[str] = LABELS) -> AsyncIterator[Replica]:
    """A replica that takes jobs and works on none."""
    jobs = Replica(url, labels=labels)
    try:
        yield jobs
    finally:
        await jobs.close()


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Any]:
    """What anybody else does with Redis."""
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


@contextmanager
def other_process(url: str, seconds_a_text: float) -> Iterator["subprocess.Popen[bytes]"]:
    """A replica that a test may kill."""
    command = [sys.executable, "-m", "tests.predictor.serving.jobs.replicas", url, str(seconds_a_text)]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def until(ready: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not await ready():
            await asyncio.sleep(0.02)


async def done(jobs: Jobs, job: str, client: str = "me", seconds: float = 60) -> JobStatus:
    """Wait until a job is done; a Redis that is away meanwhile is waited for."""

    async def ready() -> bool:
        with contextlib.suppress(Exception):
            return (await jobs.status(job, client)).state == "done"
        return False

    await until(ready, seconds)
    return await jobs.status(job, client)


async def all_rows(jobs: Jobs, job: str, total: int, client: str = "me") -> list[RowResult]:
    """Read a job's results in pages."""
    rows = []
    for start in range(0, total, 300):
        rows += await jobs.results(job, client, start, 300)
    return rows


def are_answers(rows: Sequence[RowResult], texts: Sequence[str]) -> bool:
    """Whether each text has its own row, bit for bit."""
    return len(rows) == len(texts) and all(
        row.probabilities is not None and (row.probabilities == row_of(text)).all()
        for row, text in zip(rows, texts, strict=True)
    )


def key_of(jobs: Replica, name: str) -> str:
    """Return the name of a key in Redis."""
    assert jobs._store
    return f"{jobs._store.tag}:{name}"


async def is_empty(jobs: Replica, redis: Any) -> bool:
    """Whether no chunk is left in either stream, and none is in a replica's hand."""
    for lane in ("small", "bulk"):
        if await redis.xlen(key_of(jobs, lane)):
            return False
        pending = await redis.xpending(key_of(jobs, lane), "replicas")
        if pending["pending"]:
            return False
    return True


async def _serve(url: str, seconds_a_text: float) -> None:
    async with replica(url, Engine(seconds_a_text)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], float(sys.argv[2])))
