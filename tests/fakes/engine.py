"""Engines without a model, of the type that the batcher asks for (`predictor.serving.batcher.Run`)."""

import queue
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from predictor.serving.call import Ids


class FakeEngine:
    """Says of each text its length and sum, keeps every batch, and fails on a text with the id 666."""

    def __init__(self) -> None:
        self.batches: list[list[Ids]] = []

    def __call__(self, ids: Sequence[Ids]) -> NDArray[np.float32]:
        self.batches.append(list(ids))
        if any(666 in text for text in ids):
            raise RuntimeError("cannot say 666")
        return np.array([[len(text), sum(text)] for text in ids], dtype=np.float32)


class GatedEngine(FakeEngine):
    """Runs a batch only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __call__(self, ids: Sequence[Ids]) -> NDArray[np.float32]:
        self.gate.get(timeout=30)
        return super().__call__(ids)

    def open(self) -> None:
        for _ in range(10_000):
            self.gate.put(None)
