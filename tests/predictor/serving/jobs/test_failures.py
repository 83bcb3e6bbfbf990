"""What happens to jobs when a replica dies, Redis goes, or somebody writes there what is not ours."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from predictor.errors import Busy, Draining, NotServed
from predictor.serving.jobs.chunks import pack_results
from predictor.serving.jobs.store import JobStore
from tests.predictor.serving.jobs.replicas import (
    Engine,
    all_rows,
    are_answers,
    caller,
    done,
    is_empty,
    key_of,
    other_process,
    raw,
    replica,
    row_of,
    until,
)
from tests.predictor.serving.jobs.test_jobs import texts_of
from tests.redis_server import MISSING, RedisServer, running


def test_a_replica_killed_in_the_middle_loses_nothing(redis: RedisServer) -> None:
    async def script() -> None:
        texts = texts_of(4000)
        async with caller(redis.url) as front, raw(redis.url) as client:
            job = (await front.submit(texts, "me")).id

            async def half() -> bool:
                return (await front.status(job, "me")).done > 1000

            with other_process(redis.url, 0.0005) as victim:
                await until(half)
                victim.send_signal(signal.SIGKILL)
                victim.wait()
                left = await front.status(job, "me")
                assert left.state == "running" and left.done < 4000
                pending = await client.xpending(key_of(front, "bulk"), "replicas")
                assert pending["pending"] > 0  # what it had in hand
            async with replica(redis.url) as survivor:
                last = await done(front, job)
                assert (last.done, last.failed) == (4000, 0)
                assert are_answers(await all_rows(front, job, 4000), texts)
                await until(lambda: is_empty(front, client))
                assert survivor.count("job_dead_letters_total") == 0

    asyncio.run(script())


def test_a_replica_that_stops_leaves_its_chunks_to_others_at_once(redis: RedisServer) -> None:
    class Refusing(Engine):
        async def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
            self.asked += texts
            raise Draining("the server is stopping", 1)

    async def script() -> None:
        async with caller(redis.url) as front, raw(redis.url) as client:
            job = (await front.submit(texts_of(600), "me")).id
            for _ in range(5):  # more often than a chunk may be lost
                engine = Refusing()
                async with replica(redis.url, engine) as leaving:
                    leaving._worker._pace = type(leaving._worker._pace)(0.1, 1000, 0.2)  # type: ignore[union-attr]
                    await until(lambda engine=engine: _true(len(engine.asked) >= 600))  # type: ignore[misc]
            async with replica(redis.url) as staying:
                last = await done(front, job)
                assert (last.done, last.failed, staying.count("job_dead_letters_total")) == (600, 0, 0)
            assert not await client.hkeys(key_of(front, "replicas"))

    asyncio.run(script())


async def _true(value: bool) -> bool:
    return value


def test_a_chunk_delivered_twice_is_counted_once_and_keeps_its_first_answer(redis: RedisServer) -> None:
    async def script() -> None:
        async with caller(redis.url) as front, raw(redis.url) as client:
            job = (await front.submit(["a", "b", "c"], "me")).id
            store = front._store
            assert isinstance(store, JobStore)
            await store.beat("one", 0, [], 0, 1)
            (entry,) = await store.read("one")
            begun = await store.begin(entry)
            assert begun
            answers = pack_results([row_of(text) for text in "abc"], 2, "v1")
            others = pack_results(["lost"] * 3, 2, "v2")
            assert await store.finish(entry, begun.client, answers, 3, 0) == ("done", False)
            assert await store.finish(entry, begun.client, others, 3, 3, "given up") == ("dropped", False)
            assert await store.begin(entry) is None
            status = await front.status(job, "me")
            assert (status.state, status.done, status.failed) == ("done", 3, 0)
            assert are_answers(await front.results(job, "me", 0, 3), ["a", "b", "c"])
            assert await is_empty(front, client) and not await client.exists(key_of(front, "dead"))

    asyncio.run(script())


def test_redis_restarted_in_the_middle_is_waited_for(redis: RedisServer) -> None:
    async def script() -> None:
        texts = texts_of(3000)
        engine = Engine(0.0002)
        async with replica(redis.url, engine) as one, replica(redis.url, Engine(0.0002)), raw(redis.url) as client:
            job = (await one.submit(texts, "me")).id
            for _ in range(2):
                before = (await one.status(job, "me")).done
                await until(lambda before=before: _more(one, job, before))  # type: ignore[misc]
                redis.stop()
                with pytest.raises(Busy):
                    await one.status(job, "me")
                await until(lambda: _true(one.count("redis_up") == 0))
                redis.start()
            last = await done(one, job)
            assert (last.done, last.failed) == (3000, 0)
            assert are_answers(await all_rows(one, job, 3000), texts)
            await until(lambda: is_empty(one, client))
            await until(lambda: _true(one.count("redis_up") == 1))

    asyncio.run(script())


async def _more(jobs: object, job: str, before: int) -> bool:
    return bool((await jobs.status(job, "me")).done > before)  # type: ignore[attr-defined]


def test_jobs_that_redis_forgot_are_unknown_and_new_ones_are_answered(redis: RedisServer) -> None:
    async def script() -> None:
        engine = Engine()
        engine.open.clear()
        async with replica(redis.url, engine) as jobs, raw(redis.url) as client:
            job = (await jobs.submit(texts_of(600), "me")).id
            await until(lambda: _true(bool(engine.asked)))
            await client.flushall()
            engine.open.set()
            with pytest.raises(NotServed):
                await jobs.status(job, "me")
            again = (await jobs.submit(texts_of(600), "me")).id
            await done(jobs, again)
            await until(lambda: is_empty(jobs, client))

    asyncio.run(script())


def test_a_chunk_that_no_replica_survives_becomes_a_dead_letter(redis: RedisServer) -> None:
    async def script() -> None:
        async with caller(redis.url) as front, raw(redis.url) as client:
            job = (await front.submit(texts_of(300), "me")).id
            store = front._store
            assert store
            await store.beat("victim 0", 0, [], 0, 1)
            entries = await store.read("victim 0")
            entries += await store.read("victim 0")
            assert [entry.chunk for entry in entries] == [0, 1]
            second = entries[1]
            begun = await store.begin(second)
            assert begun
            await store.finish(
                second, begun.client, pack_results([row_of(f"text {n}") for n in range(256, 300)], 2, ""), 44, 0
            )
            for number in (1, 2):  # each takes the chunk over from one that has died
                await asyncio.sleep(0.01)
                ((entry,), _) = await store.beat(f"victim {number}", 0, [], 5, 0.001)
                assert (entry.chunk, entry.deliveries) == (0, number + 1)
            async with replica(redis.url) as survivor:
                last = await done(front, job)
                assert (last.state, last.done, last.failed) == ("done", 300, 256)
                assert not survivor.engine.asked
                assert survivor.count("job_dead_letters_total") == 1
                assert survivor.count("job_texts_total", result="failed") == 256
            rows = await all_rows(front, job, 300)
            assert all("3 replicas were given it and none answered" in row.error for row in rows[:256])
            assert are_answers(rows[256:], texts_of(300)[256:])
            ((_, dead),) = await client.xrange(key_of(front, "dead"))
            assert (dead[b"job"].decode(), dead[b"chunk"]) == (job, b"0")
            assert await is_empty(front, client)

    asyncio.run(script())


@pytest.mark.parametrize(
    "poison",
    ["texts", "no texts", "starts", "numbers", "job", "texts key", "stream", "counts", "replicas", "entries"],
)
def test_what_others_write_under_our_names_stops_nobody(redis: RedisServer, poison: str) -> None:
    async def script() -> None:
        async with caller(redis.url) as front, raw(redis.url) as client:
            job = (await front.submit(texts_of(300), "me")).id
            job_key, texts_key = key_of(front, f"job:{job}"), key_of(front, f"texts:{job}")
            small = key_of(front, "small")
            match poison:
                case "texts":
                    await client.hset(texts_key, "0", b"not packed")
                case "no texts":
                    await client.delete(texts_key)
                case "starts":
                    await client.hset(job_key, "starts", b"\x07\x00\x00\x00odd")
                case "numbers":
                    await client.hset(job_key, mapping={"left": "many", "done": "-1"})
                case "job" | "texts key":
                    await client.set(job_key if poison == "job" else texts_key, "poison")
                case "stream":
                    await client.set(small, "poison")
                case "counts" | "replicas":
                    await client.set(key_of(front, poison), "poison")
                case "entries":
                    for fields in ({"a": "b"}, {"job": job, "chunk": "99", "texts": "x"}, {"job": "\0" * 500}):
                        await client.xadd(small, fields)
                    await client.xadd(small, {"job": job, "chunk": "1" * 30, "texts": "-5"})
            async with replica(redis.url) as jobs:
                fine = (await jobs.submit(texts_of(300), "me")).id
                await done(front, fine)
                assert are_answers(await all_rows(front, fine, 300), texts_of(300))
                await until(lambda: is_empty(front, client))
                dead = await client.xlen(key_of(front, "dead"))
                assert jobs.count("job_dead_letters_total") == dead
                if poison in ("counts", "replicas", "entries"):
                    last = await front.status(job, "me")
                    assert (last.state, last.failed) == ("done", 0)
                    assert are_answers(await all_rows(front, job, 300), texts_of(300))
                if poison in ("texts", "no texts"):
                    last = await front.status(job, "me")
                    assert (last.done, last.failed) == (300, 256 if poison == "texts" else 300)
                # An entry for a job that is done by then is no dead letter, nor one of a job that was found damaged.
                least = {"texts": 1, "no texts": 2, "starts": 1, "texts key": 2, "entries": 3}.get(poison, 0)
                assert least <= dead <= {"starts": 2, "entries": 4}.get(poison, least)
                if poison in ("starts", "numbers", "job"):
                    with pytest.raises(NotServed):
                        await front.status(job, "me")

    asyncio.run(script())


def test_poisoned_results_are_rows_that_say_so(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url) as jobs, raw(redis.url) as client:
            job = (await jobs.submit(texts_of(900), "me")).id
            await done(jobs, job)
            results = key_of(jobs, f"results:{job}")
            sound = await client.hget(results, "1")
            assert sound
            bad = [b"", b"{}\n", b"\xff" * 100, sound[:-4], sound[:-4] + np.float32(np.nan).tobytes(), sound + b"1234"]
            for number, value in enumerate(bad, 1):
                await client.hset(results, "1", value)
                rows = await all_rows(jobs, job, 900)
                assert {row.error for row in rows[256:512]} == {"the result was damaged in Redis: send the text again"}
                assert are_answers(rows[:256] + rows[512:], texts_of(256) + texts_of(900)[512:])
                assert jobs.count("job_damaged_results_total") >= number
            await client.hdel(results, "1")
            with pytest.raises(NotServed):
                await jobs.results(job, "me", 300, 1)
            await client.hset(key_of(jobs, f"job:{job}"), "done", "x")
            with pytest.raises(NotServed):
                await jobs.status(job, "me")

    asyncio.run(script())


def test_a_full_redis_refuses_new_jobs_and_finishes_those_it_has(tmp_path: Path) -> None:
    settings = ("--maxmemory", "6mb", "--maxmemory-policy", "noeviction")
    words = [" ".join(str(hash((n, k))) for k in range(20)) for n in range(2000)]

    async def script(url: str) -> None:
        async with caller(url) as front, raw(url) as client:
            taken: list[tuple[str, str]] = []
            with pytest.raises(Busy):
                for _ in range(200):
                    client_name = f"{len(taken) // 10}"
                    taken.append((client_name, (await front.submit(words, client_name)).id))
            assert taken
            async with replica(url):
                for name, job in taken:
                    await done(front, job, name)
                    assert are_answers(await front.results(job, name, 0, 2000), words)
                await until(lambda: is_empty(front, client))

    if MISSING:
        pytest.skip(MISSING)
    with running(tmp_path / "small", *settings) as small:
        asyncio.run(script(small.url))
