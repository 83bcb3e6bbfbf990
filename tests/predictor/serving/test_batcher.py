import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.errors import Draining, InternalError, Overloaded
from predictor.serving.batcher import Batch, Batcher, TokenBudget
from predictor.serving.call import Ids
from tests.fakes.engine import FakeEngine, GatedEngine
from tests.predictor.serving.batching import WIDE, ask, batcher_of, played, until


def expected(texts: Sequence[Ids]) -> list[list[float]]:
    return [[len(text), sum(text)] for text in texts]


TEXTS = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=30), min_size=1, max_size=25)


@settings(max_examples=60)
@given(
    st.lists(TEXTS, min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(20, 90),
    st.integers(0, 20),
)
def test_every_text_gets_its_own_answer_in_order_and_within_the_budget(
    requests: list[list[list[int]]], lanes: int, most: int, tokens: int, padding: int
) -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, lanes, TokenBudget(100_000, tokens, most, padding))

    async def script() -> None:
        answers = await asyncio.gather(*(ask(batcher, texts) for texts in requests))
        assert answers == [expected(texts) for texts in requests]

    played(batcher, script)
    assert sorted(list(text) for batch in engine.batches for text in batch) == sorted(
        text for texts in requests for text in texts
    )
    for batch in engine.batches:
        assert len(batch) <= most
        assert len(batch) == 1 or max(map(len, batch)) * len(batch) <= tokens
        assert max(map(len, batch)) * len(batch) - sum(map(len, batch)) <= padding * (len(batch) - 1)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXTS, st.booleans(), st.integers(0, 3)), min_size=1, max_size=12), st.integers(1, 2))
def test_callers_that_go_leave_nothing_behind(requests: list[tuple[list[list[int]], bool, int]], lanes: int) -> None:
    batcher = batcher_of(FakeEngine(), lanes)

    async def script() -> None:
        tasks = [asyncio.create_task(ask(batcher, texts, [bytes(text) for text in texts])) for texts, _, _ in requests]
        for task, (_, goes, patience) in zip(tasks, requests, strict=True):
            for _ in range(patience):
                await asyncio.sleep(0)
            if goes:
                task.cancel()
        for task, (texts, goes, _) in zip(tasks, requests, strict=True):
            try:
                assert await task == expected(texts)
            except asyncio.CancelledError:
                assert goes

    played(batcher, script)


def test_what_nobody_waits_for_any_more_is_not_run() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine)

    async def script() -> None:
        first = asyncio.create_task(ask(batcher, [[1]]))
        gone = asyncio.create_task(ask(batcher, [[2], [3]]))
        stays = asyncio.create_task(ask(batcher, [[4]]))
        await until(lambda: batcher.waiting_tokens == 3)
        gone.cancel()
        await asyncio.wait([gone])
        assert batcher.waiting_tokens == 1
        engine.open()
        assert [await first, await stays] == [[[1, 1]], [[1, 4]]]

    played(batcher, script)
    assert engine.batches == [[[1]], [[4]]]


def test_a_full_batch_is_laid_ready_while_the_lanes_run_and_no_more() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine)

    async def script() -> None:
        asked = [asyncio.create_task(ask(batcher, [[0]]))]
        await until(lambda: batcher._batches_out == 1)
        asked.append(asyncio.create_task(ask(batcher, [[1]] * 3)))
        await until(lambda: batcher.waiting_texts == 3)
        assert batcher._batches_out == 1  # not full: others may come
        asked.append(asyncio.create_task(ask(batcher, [[2]] * 9)))
        await until(lambda: batcher.waiting_texts == 8)
        assert batcher._batches_out == 2
        engine.open()
        await asyncio.gather(*asked)

    played(batcher, script)
    assert list(map(len, engine.batches)) == [1, 4, 4, 4]


def test_free_lanes_share_what_waits() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, lanes=2)

    async def script() -> None:
        await ask(batcher, [[1], [2], [3], [4]])

    played(batcher, script)
    assert sorted(map(len, engine.batches)) == [2, 2]


def test_a_large_request_neither_starves_nor_holds_up_small_ones() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=TokenBudget(10_000, 10_000, 1, 0))
    finished: list[str] = []

    async def one(name: str, texts: list[Ids]) -> None:
        await ask(batcher, texts)
        finished.append(name)

    async def script() -> None:
        tasks = [asyncio.create_task(one("large", [[n] for n in range(20)]))]
        for step in range(200):  # a small one for every batch: more than one lane can do
            tasks.append(asyncio.create_task(one(str(step), [[step]])))
            await until(lambda want=step + 2: len(batcher._calls) + len(finished) >= want)  # type: ignore[misc]
            engine.gate.put(None)
            await until(lambda want=step + 1: len(engine.batches) >= want)  # type: ignore[misc]
        engine.open()
        await asyncio.gather(*tasks)

    played(batcher, script)
    assert finished[0] == "0"  # it came second and did not wait for the twenty before it
    assert 20 <= finished.index("large") <= 100


def test_one_poison_text_fails_alone() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine)

    async def script() -> None:
        lead = asyncio.create_task(ask(batcher, [[0]]))
        await until(lambda: batcher._batches_out == 1)
        good = [asyncio.create_task(ask(batcher, [[n]])) for n in (1, 2)]
        bad = asyncio.create_task(ask(batcher, [[3], [666]]))
        await until(lambda: batcher.open_calls == 4)
        engine.open()
        assert [await lead, await good[0], await good[1]] == [[[1, 0]], [[1, 1]], [[1, 2]]]
        with pytest.raises(InternalError, match="text 1 cannot be classified"):
            await bad
        assert await ask(batcher, [[5]]) == [[1, 5]]

    played(batcher, script)


def test_equal_texts_that_wait_or_run_are_run_once_and_outlive_the_first_caller() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=TokenBudget(10_000, 64, 8, 64))

    async def script() -> None:
        running = [asyncio.create_task(ask(batcher, [[1]], [b"1"])) for _ in range(3)]
        waiting = [asyncio.create_task(ask(batcher, [[2], [3], [2]], [b"2", None, b"2"])) for _ in range(3)]
        await until(lambda: batcher.open_calls == 6)
        running[0].cancel(), waiting[0].cancel()
        await asyncio.wait([running[0], waiting[0]])
        engine.open()
        for task in running[1:]:
            assert await task == [[1, 1]]
        for task in waiting[1:]:
            assert await task == [[1, 2], [1, 3], [1, 2]]

    played(batcher, script)
    assert sorted(list(text) for batch in engine.batches for text in batch) == [[1], [2], [3], [3]]


def test_whoever_shares_a_text_of_a_large_request_does_not_wait_for_its_turn() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=TokenBudget(10_000, 10_000, 1, 0))

    async def script() -> None:
        texts = [[n] for n in range(50)]
        large = asyncio.create_task(ask(batcher, texts, [bytes(text) for text in texts]))
        await until(lambda: bool(batcher._batches_out))
        small = asyncio.create_task(ask(batcher, [[40]], [bytes([40])]))
        await until(lambda: batcher.open_calls == 2)
        for _ in range(3):
            engine.gate.put(None)
        await small
        engine.open()
        await large

    played(batcher, script)


def test_draining_refuses_newcomers_and_ends_when_the_accepted_are_served() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine)

    async def script() -> None:
        accepted = [asyncio.create_task(ask(batcher, [[n]] * 9)) for n in range(3)]
        await until(lambda: batcher.open_calls == 3)
        draining = asyncio.create_task(batcher.drain())
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await ask(batcher, [[5]])
        assert not draining.done()
        engine.open()
        await draining
        assert [await task for task in accepted] == [expected([[n]] * 9) for n in range(3)]

    played(batcher, script)


def test_batches_and_keyed_rows_are_told() -> None:
    batches: list[Batch] = []
    rows: dict[bytes, list[float]] = {}
    batcher = Batcher(
        FakeEngine(), 1, WIDE, lambda key, row: rows.update({key: [float(value) for value in row]}), batches.append
    )

    async def script() -> None:
        await ask(batcher, [[1, 2], [3, 4, 5]], [b"a", None])

    played(batcher, script)
    assert rows == {b"a": [2, 3]}
    assert [batch.lengths for batch in batches] == [[2, 3]]
    assert len(batches[0].waited) == 2


async def in_background(batcher: Batcher, texts: Sequence[Ids]) -> None:
    with batcher.call(len(texts), background=True) as call:
        batcher.submit(call, [(place, ids, None) for place, ids in enumerate(texts)])
        await call.rows()


def test_live_texts_go_before_background_texts_that_came_first() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine)

    async def script() -> None:
        job = asyncio.create_task(in_background(batcher, [[2] * 16] * 40))
        await until(lambda: batcher._batches_out == 2)  # one runs, and one is prepared
        calls = [asyncio.create_task(ask(batcher, [[1]])) for _ in range(3)]
        await until(lambda: batcher.open_calls == 4)
        engine.open()
        await asyncio.gather(job, *calls)
        assert engine.batches[2].count([1]) == 3

    played(batcher, script)


def test_background_texts_do_not_starve_while_live_ones_never_end() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine)

    async def script() -> None:
        async def live() -> None:
            while not job.done():
                await ask(batcher, [[1]] * 8)

        job = asyncio.create_task(in_background(batcher, [[2] * 16] * 8))
        await asyncio.gather(live(), live(), live())
        lengths = [len(batch[0]) for batch in engine.batches]
        assert lengths.count(16) == 2  # four of 16 tokens fill a batch
        assert lengths.index(1) < lengths.index(16) or lengths.index(16) < 2
        assert len(lengths) < 200

    played(batcher, script)


def test_background_texts_leave_the_room_in_the_queue_to_live_ones() -> None:
    engine = GatedEngine()
    batcher = batcher_of(engine, budget=TokenBudget(queue=100, batch=64, texts=4, padding=64))

    async def script() -> None:
        async def behind() -> None:
            with batcher.call(1000, background=True) as call:
                batcher.submit(call, [(place, [1] * 10, None) for place in range(1000)])
                await call.rows()

        job = asyncio.create_task(behind())
        await until(lambda: batcher.waiting_tokens > 9000)
        calls = [asyncio.create_task(ask(batcher, [[2] * 50])) for _ in range(2)]
        while batcher.open_calls < 3:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="the queue is full"):
            await ask(batcher, [[3] * 10])
        engine.open()
        assert await asyncio.gather(*calls) == [[[50.0, 100.0]]] * 2
        assert not job.done()
        job.cancel()
        await asyncio.wait([job])

    played(batcher, script)
