"""How much may wait, and what is said to those for whom there is no room."""

import asyncio

import pytest

from predictor.errors import Overloaded, TooLarge
from predictor.serving.batcher import TokenBudget
from tests.fakes.engine import GatedEngine
from tests.predictor.serving.batching import ask, batcher_of, played, until

NARROW = TokenBudget(queue=10, batch=64, texts=4, padding=64)


def test_the_queue_is_bounded_in_tokens() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=NARROW)

    async def script() -> None:
        running = asyncio.create_task(ask(batcher, [[1] * 4]))
        await until(lambda: batcher._batches_out == 1)
        waiting = asyncio.create_task(ask(batcher, [[2] * 8]))
        await until(lambda: batcher.waiting_tokens == 8)
        with pytest.raises(Overloaded) as refused:
            await ask(batcher, [[3] * 3])
        assert refused.value.retry_after >= 1
        for texts in ([[4] * 11], [[4]] * 11):
            with pytest.raises(TooLarge, match="over 10 tokens"):
                await ask(batcher, texts)
        assert batcher.waiting_tokens == 8
        engine.open()
        await asyncio.gather(running, waiting)
        assert await ask(batcher, [[3] * 3]) == [[3, 9]]

    played(batcher, script)


def test_the_queue_may_be_filled_to_the_last_token() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=NARROW)

    async def script() -> None:
        running = asyncio.create_task(ask(batcher, [[1]]))
        await until(lambda: batcher._batches_out == 1)
        waiting = [asyncio.create_task(ask(batcher, [[2] * 7])), asyncio.create_task(ask(batcher, [[3] * 3]))]
        await until(lambda: batcher.waiting_tokens == 10)
        with pytest.raises(Overloaded):
            await ask(batcher, [[4]])
        engine.open()
        await asyncio.gather(running, *waiting)
        assert await ask(batcher, [[5] * 10]) == [[10, 50]]

    played(batcher, script)


def test_who_asks_for_what_waits_already_takes_no_room() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=NARROW)

    async def script() -> None:
        running = asyncio.create_task(ask(batcher, [[1]]))
        await until(lambda: batcher._batches_out == 1)
        same = [asyncio.create_task(ask(batcher, [[2] * 8], [b"2"])) for _ in range(3)]
        await until(lambda: batcher.open_calls == 4)
        assert batcher.waiting_tokens == 8
        engine.open()
        assert await asyncio.gather(running, *same) == [[[1, 1]], *[[[8, 16]]] * 3]

    played(batcher, script)


def test_the_longer_the_queue_the_later_a_refused_caller_comes_again() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=NARROW)

    async def script() -> None:
        batcher._seconds_a_token = 2.0
        running = asyncio.create_task(ask(batcher, [[1]]))
        await until(lambda: batcher._batches_out == 1)
        asked, waits = [running], []
        for tokens, waiting in ((4, 4), (5, 9)):
            asked.append(asyncio.create_task(ask(batcher, [[2] * tokens])))
            await until(lambda want=waiting: batcher.waiting_tokens == want)  # type: ignore[misc]
            with pytest.raises(Overloaded) as refused:
                await ask(batcher, [[3] * 8])
            waits.append(refused.value.retry_after)
        assert waits == [8, 18] and "in 18 s" in str(refused.value)
        engine.open()
        await asyncio.gather(*asked)

    played(batcher, script)
