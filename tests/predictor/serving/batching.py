"""A batcher over an engine that a test can hold."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from predictor.serving.batcher import Batcher, TokenBudget
from predictor.serving.call import Ids
from tests.fakes.engine import FakeEngine

WIDE = TokenBudget(queue=10_000, batch=64, texts=4, padding=64)


def batcher_of(engine: FakeEngine, lanes: int = 1, budget: TokenBudget = WIDE) -> Batcher:
    return Batcher(engine, lanes, budget, lambda key, row: None, lambda batch: None)


async def ask(batcher: Batcher, texts: Sequence[Ids], keys: Sequence[bytes | None] | None = None) -> list[list[float]]:
    with batcher.call(len(texts)) as call:
        batcher.submit(call, list(zip(range(len(texts)), texts, keys or [None] * len(texts), strict=True)))
        rows = await call.rows()
        return [[float(value) for value in row] for row in rows]


def nothing_is_left(batcher: Batcher) -> None:
    assert (batcher.waiting_texts, batcher.waiting_tokens, batcher.open_calls) == (0, 0, 0)
    assert not batcher._queue._by_length and not batcher._in_flight
    assert not batcher._batches_out


def played(batcher: Batcher, script: Callable[[], Awaitable[None]]) -> None:
    """Run a script, then see that the batcher is as it was."""

    async def whole() -> None:
        await script()
        while batcher._batches_out:  # batches of callers that have gone
            await asyncio.sleep(0)
        nothing_is_left(batcher)

    try:
        asyncio.run(whole())
    finally:
        batcher.close()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")
