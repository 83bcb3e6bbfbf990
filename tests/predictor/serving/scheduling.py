"""A scheduler over a classifier that a test can hold, and that says what it was asked."""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from predictor.serving.metrics import Metrics
from predictor.serving.scheduler import Limits, Scheduler

LIMITS = Limits(queue_tokens=20_000, timeout=30, cache_entries=0, body_bytes=1024)


class FakeEncoder:
    """One token a character; remembers what it tokenised, and where."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.threads: set[str] = set()

    def clean(self, texts: Sequence[str]) -> list[str]:
        return [" ".join(text.split()) for text in texts]

    def encode(self, cleaned: Sequence[str]) -> list[list[int]]:
        self.seen += cleaned
        self.threads.add(threading.current_thread().name)
        return [[ord(letter) for letter in text] for text in cleaned]


SURE = np.array([0.75, 0.25], dtype=np.float32)


class FakeCascade:
    """Sure of texts with a "?", which it puts into the first class."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.calls: list[int] = []

    def __call__(self, cleaned: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        self.seen += cleaned
        self.calls.append(len(cleaned))
        return np.tile(SURE, (len(cleaned), 1)), np.array(["?" in text for text in cleaned])


class FakeClassifier:
    """Two classes; the confidence tells the text, and a text with a "!" breaks the engine."""

    precision = "int8"
    lanes = 2
    bundle = SimpleNamespace(digest="ab" * 32)
    cascade: FakeCascade | None = None

    def __init__(self, labels: int = 2) -> None:
        self.labels = [str(number) for number in range(labels)]
        self.encoder = FakeEncoder()
        self.gate: queue.SimpleQueue[None] | None = None
        self.runs = 0

    def run(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        if self.gate:
            self.gate.get(timeout=30)
        self.runs += 1
        if any(ord("!") in text for text in ids):
            raise RuntimeError("the model's own words")
        first = np.array([sum(text) % 997 / 997 for text in ids], dtype=np.float32)
        return np.stack([first, 1 - first], axis=1)

    def close(self) -> None:
        pass


def answers(texts: Sequence[str]) -> NDArray[np.float32]:
    cleaned = FakeEncoder().clean(texts)
    return FakeClassifier().run([[ord(letter) for letter in text] for text in cleaned])


def played(
    script: Callable[[Scheduler, FakeClassifier], Awaitable[None]],
    limits: Limits = LIMITS,
    labels: int = 2,
    cascade: FakeCascade | None = None,
) -> CollectorRegistry:
    registry = CollectorRegistry()
    classifier = FakeClassifier(labels)
    classifier.cascade = cascade

    async def whole() -> None:
        asked: Any = classifier
        live = Scheduler(asked, limits, Metrics("m", "r", ["a", "b"], [8, 16], registry))
        await script(live, classifier)
        assert (live.batcher.waiting_tokens, live.batcher.open_calls) == (0, 0)
        live.close()

    asyncio.run(whole())
    return registry
