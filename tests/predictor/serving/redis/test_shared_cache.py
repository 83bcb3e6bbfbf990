"""The cache that replicas share, over a real Redis: it is checked, never stale, and never in a request's way."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from predictor.serving.cache.shared import EXPIRY_SECONDS, SharedCache
from predictor.serving.metrics import Metrics
from predictor.serving.redis.metrics import RedisMetrics
from predictor.serving.scheduler import Scheduler
from tests.predictor.serving.batching import until
from tests.predictor.serving.scheduling import LIMITS, FakeClassifier, answers
from tests.redis_server import RedisServer

CACHED = replace(LIMITS, cache_entries=100)


class Replica:
    """A scheduler with an engine of its own, and the shared cache behind its own."""

    def __init__(self, url: str, digest: str = "ab" * 32, about: str = "abababababab:int8") -> None:
        self.registry = CollectorRegistry()
        self.classifier = FakeClassifier()
        self.classifier.bundle = SimpleNamespace(digest=digest)
        self.shared = SharedCache(url, about, 2, RedisMetrics("m", "r", self.registry).shared_cache)
        asked: Any = self.classifier
        self.scheduler = Scheduler(asked, CACHED, Metrics("m", "r", ["a", "b"], [8], self.registry), self.shared)

    def count(self, result: str) -> float:
        labels = {"model_name": "m", "revision": "r", "result": result}
        return self.registry.get_sample_value("text_classifier_shared_cache_lookups_total", labels) or 0.0

    async def usable(self) -> None:
        """Ask until Redis is used."""

        def used() -> bool:
            if not self.shared._usable:
                self.shared._ping_soon()
            return self.shared._usable

        await until(used)


@asynccontextmanager
async def replica(url: str, **about: str) -> AsyncIterator[Replica]:
    made = Replica(url, **about)
    try:
        yield made
    finally:
        made.scheduler.close()
        await made.shared.close()


def played(script: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await script()

    asyncio.run(whole())


async def keys(url: str, count: int) -> list[bytes]:
    """Wait until so many answers are kept, and return their keys."""
    async with Redis.from_url(url) as client:
        for _ in range(1000):
            found = [key async for key in client.scan_iter("pigeonhole:answers:*")]
            if len(found) == count:
                return found
            await asyncio.sleep(0.01)
    raise AssertionError(f"{len(found)} answers are kept")


def test_what_one_replica_answered_the_other_does_not_compute(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url) as one, replica(redis.url) as other:
            await one.usable()
            await other.usable()
            texts = [f"text {number}" for number in range(40)]
            first = await one.scheduler.probabilities(texts)
            stored = await keys(redis.url, 40)
            again = await other.scheduler.probabilities([*texts, "  text   3 ", "new"])
            np.testing.assert_array_equal(again, answers([*texts, "text 3", "new"]))
            assert first.tobytes() == again[:40].tobytes()
            assert other.classifier.encoder.seen == ["new"]
            assert (other.count("hit"), other.count("miss")) == (40, 1)
            async with Redis.from_url(redis.url) as client:
                for key in stored:
                    assert 0 < await client.ttl(key) <= EXPIRY_SECONDS
                await client.flushall()
            await other.scheduler.probabilities(texts)  # and it keeps them in memory now
            assert other.classifier.encoder.seen == ["new"] and other.count("hit") == 40

    played(script)


def test_an_answer_is_never_another_bundles_precisions_or_cascades(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url) as one:
            await one.usable()
            await one.scheduler.probabilities(["a text"])
            await keys(redis.url, 1)
        for about in (
            {"digest": "cd" * 32, "about": "abababababab:int8"},  # as if the start of its digest were the same
            {"about": "abababababab:fp32"},
            {"about": "abababababab:int8:cascade"},
        ):
            async with replica(redis.url, **about) as other:
                await other.usable()
                await other.scheduler.probabilities(["a text"])
                assert (other.count("hit"), other.classifier.encoder.seen) == (0, ["a text"])

    played(script)


def bytes_of(numbers: list[float]) -> bytes:
    return np.array(numbers, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    "value",
    [b"", b"odd", bytes(9), bytes_of([0.5, np.nan]), bytes_of([0.5, 0.6]),
     bytes_of([-0.5, 1.5]), bytes_of([np.inf, 0.0]), bytes_of([1.0])],
)  # fmt: skip
def test_a_poisoned_value_is_no_answer_and_does_not_stay(redis: RedisServer, value: bytes) -> None:
    async def script() -> None:
        async with replica(redis.url) as one, replica(redis.url) as other:
            await one.usable()
            await other.usable()
            await one.scheduler.probabilities(["a text"])
            (key,) = await keys(redis.url, 1)
            async with Redis.from_url(redis.url) as client:
                sound = await client.get(key)
                await client.set(key, value)
                rows = await other.scheduler.probabilities(["a text"])
                np.testing.assert_array_equal(rows, answers(["a text"]))
                assert (other.count("poisoned"), other.count("hit"), other.count("miss")) == (1, 0, 0)
                for _ in range(1000):
                    if await client.get(key) == sound:
                        break
                    await asyncio.sleep(0.01)
                assert await client.get(key) == sound

    played(script)


def test_a_redis_that_hangs_or_goes_is_in_nobodys_way_and_is_used_again_after(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url) as one:
            await one.usable()
            redis.signal(signal.SIGSTOP)
            try:
                asked = [f"text {number}" for number in range(50)]
                for text in asked:  # the first waits a moment, the others do not
                    np.testing.assert_array_equal(await one.scheduler.probabilities([text]), answers([text]))
                assert one.count("unavailable") == 50
            finally:
                redis.signal(signal.SIGCONT)
            await one.usable()
            await one.scheduler.probabilities(["after"])
            await keys(redis.url, 1)
            redis.stop()
            crowd = await asyncio.gather(*(one.scheduler.probabilities([f"crowd {n}"]) for n in range(30)))
            for number, rows in enumerate(crowd):
                np.testing.assert_array_equal(rows, answers([f"crowd {number}"]))
            redis.start()
            await one.usable()
            await one.scheduler.probabilities(["again"])
            await keys(redis.url, 2)

    played(script)


def test_answers_of_jobs_are_in_no_cache_but_are_read_from_it(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url) as one, replica(redis.url) as other:
            await one.usable()
            await other.usable()
            await one.scheduler.probabilities(["asked live"])
            await keys(redis.url, 1)
            texts = ["asked live", *(f"row {number}" for number in range(50))]
            rows = await other.scheduler.probabilities(texts, background=True)
            np.testing.assert_array_equal(rows, answers(texts))
            assert "asked live" not in other.classifier.encoder.seen
            await asyncio.sleep(0.2)
            await keys(redis.url, 1)
            assert len(other.scheduler._cache) == 0

    played(script)
