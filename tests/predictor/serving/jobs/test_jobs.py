"""Jobs over a real Redis, as callers see them."""

import asyncio

import pytest

from predictor.errors import EMPTY_TEXT, BadRequest, Busy, NotDone, NotServed, Overloaded, TooLarge, Unsupported
from predictor.serving.jobs import jobs as jobs_module
from predictor.serving.jobs.answering import FAULT
from tests.predictor.serving.jobs.replicas import (
    Engine,
    all_rows,
    are_answers,
    caller,
    done,
    is_empty,
    key_of,
    raw,
    replica,
    until,
)
from tests.redis_server import RedisServer

NONE = "0" * 32


def texts_of(count: int, name: str = "text") -> list[str]:
    return [f"{name} {number}" for number in range(count)]


def test_each_text_of_a_job_has_its_answer_in_its_place_whoever_gave_it(redis: RedisServer) -> None:
    async def script() -> None:
        texts = texts_of(1000)
        async with caller(redis.url) as front, replica(redis.url) as one, replica(redis.url) as other:
            first = await front.submit(texts, "me")
            assert (first.total, len(first.id)) == (1000, 32)
            last = await done(front, first.id)
            assert (last.state, last.done, last.failed, last.seconds_left) == ("done", 1000, 0, 0)
            assert are_answers(await all_rows(front, first.id, 1000), texts)
            # Any page is what it is of the whole, across the edges of chunks.
            for start, count in ((0, 1), (255, 2), (511, 400), (999, 1), (998, 50)):
                assert are_answers(await front.results(first.id, "me", start, count), texts[start : start + count])
            assert [await front.results(first.id, "me", *page) for page in ((1000, 5), (-1, 5), (5, 0))] == [[], [], []]
            assert sorted(one.engine.asked + other.engine.asked) == sorted(texts)
            assert {row.version for row in await front.results(first.id, "me", 0, 1000)} == {"v1"}
            async with raw(redis.url) as client:
                assert await is_empty(front, client)
            assert one.count("job_texts_total", result="answered") + other.count(
                "job_texts_total", result="answered"
            ) == len(texts)
            assert one.count("jobs_total", result="done") + other.count("jobs_total", result="done") == 1
            assert front.count("jobs_total", result="submitted") == 1

    asyncio.run(script())


def test_a_text_that_fails_fails_alone(redis: RedisServer) -> None:
    async def script() -> None:
        texts = ["fine", " ", "broken!", "also fine", "", "last"]
        async with replica(redis.url) as jobs:
            job = await jobs.submit(texts, "me")
            last = await done(jobs, job.id)
            assert (last.done, last.failed) == (6, 3)
            rows = await jobs.results(job.id, "me", 0, 6)
            assert [row.error for row in rows] == ["", EMPTY_TEXT, FAULT, "", EMPTY_TEXT, ""]
            assert are_answers([rows[0], rows[3], rows[5]], ["fine", "also fine", "last"])
            only_blank = await jobs.submit(["  "], "me")
            assert (await done(jobs, only_blank.id)).failed == 1

    asyncio.run(script())


def test_a_job_of_another_client_is_as_one_that_does_not_exist(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url) as jobs:
            job = (await jobs.submit(["a"], "me")).id
            await done(jobs, job)
            said = set()
            for id_, client in ((job, "you"), (job, ""), (NONE, "me"), ("../../etc", "me"), ("é" * 32, "me")):
                for ask in (jobs.status(id_, client), jobs.results(id_, client, 0, 1), jobs.cancel(id_, client)):
                    with pytest.raises(NotServed) as refused:
                        await ask
                    said.add(str(refused.value).replace(id_, "ID"))
            assert len(said) == 1
            assert (await jobs.status(job, "me")).state == "done"

    asyncio.run(script())


def test_results_are_there_only_when_the_job_is_done(redis: RedisServer) -> None:
    async def script() -> None:
        engine = Engine()
        engine.open.clear()
        async with replica(redis.url, engine) as jobs:
            job = (await jobs.submit(texts_of(300), "me")).id
            await until(lambda: _is(jobs, job, "running"))
            with pytest.raises(NotDone, match="is running and has no results"):
                await jobs.results(job, "me", 0, 10)
            engine.open.set()
            await done(jobs, job)
            assert len(await jobs.results(job, "me", 0, 300)) == 300

    asyncio.run(script())


async def _is(jobs: jobs_module.Jobs, job: str, state: str) -> bool:
    return (await jobs.status(job, "me")).state == state


def test_a_job_cancelled_while_it_runs_is_dropped_and_touches_no_other(redis: RedisServer) -> None:
    async def script() -> None:
        engine = Engine()
        engine.open.clear()
        async with replica(redis.url, engine) as jobs, raw(redis.url) as client:
            job = (await jobs.submit(texts_of(2000, "unwanted"), "me")).id
            await until(lambda: _is(jobs, job, "running"))
            other = (await jobs.submit(texts_of(300), "me")).id
            cancelled = await jobs.cancel(job, "me")
            assert (cancelled.state, cancelled.seconds_left) == ("cancelled", 0)
            engine.open.set()
            await done(jobs, other)
            assert are_answers(await all_rows(jobs, other, 300), texts_of(300))
            await until(lambda: is_empty(jobs, client))
            assert (await jobs.status(job, "me")).state == "cancelled"
            with pytest.raises(NotDone, match="is cancelled"):
                await jobs.results(job, "me", 0, 10)
            for kind in ("texts", "results"):
                assert not await client.exists(key_of(jobs, f"{kind}:{job}"))
            # Only chunks that were in hand were run.
            assert sum(text.startswith("unwanted") for text in engine.asked) <= 4 * 256
            assert (await jobs.cancel(job, "me")).state == "cancelled"
            assert (await jobs.cancel(other, "me")).state == "done"
            assert jobs.count("jobs_total", result="cancelled") == 1

    asyncio.run(script())


def test_limits_of_a_client_are_no_other_clients(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "MOST_TEXTS", 500)

    async def script() -> None:
        async with caller(redis.url) as front:
            with pytest.raises(TooLarge, match="has 501 texts: send at most 500 a job"):
                await front.submit(texts_of(501), "me")
            with pytest.raises(BadRequest, match="there are no texts"):
                await front.submit([], "me")
            ids = [(await front.submit(texts_of(1), "me")).id for _ in range(jobs_module.MOST_OPEN)]
            with pytest.raises(Overloaded, match="16 jobs of yours are not done"):
                await front.submit(texts_of(1), "me")
            await front.submit(texts_of(1), "you")
            await front.cancel(ids[0], "me")
            await front.submit(texts_of(1), "me")
            with pytest.raises(Overloaded):
                await front.submit(texts_of(1), "me")
            async with replica(redis.url):
                for id_ in ids[1:]:
                    await done(front, id_)
                await front.submit(texts_of(1), "me")

    asyncio.run(script())


def test_everything_expires_and_an_expired_job_is_unknown(redis: RedisServer) -> None:
    async def script() -> None:
        async with caller(redis.url) as front, raw(redis.url) as client:
            job = (await front.submit(texts_of(300), "me")).id
            kept = [key async for key in client.scan_iter(f"*{job}*")]
            assert len(kept) == 2
            async with replica(redis.url):
                await done(front, job)
            keys = [key async for key in client.scan_iter(f"*{job}*")]
            assert len(keys) == 2  # the job and its results; not its texts
            for key in keys:
                assert 0 < await client.ttl(key) <= 24 * 3600
            waiting = (await front.submit(texts_of(300), "me")).id
            for key in [key async for key in client.scan_iter(f"*{waiting}*")]:
                await client.delete(key)  # as its expiry does
            with pytest.raises(NotServed, match="was kept its time and is gone"):
                await front.status(waiting, "me")
            async with replica(redis.url):  # and its chunks are skipped
                await until(lambda: is_empty(front, client))
            assert await client.zcard(key_of(front, f"open:{'0' * 32}")) == 0

    asyncio.run(script())


def test_a_small_job_does_not_wait_for_a_large_one_nor_the_other_way_round(redis: RedisServer) -> None:
    async def script() -> None:
        async with replica(redis.url, Engine(0.0002)) as jobs:
            large = (await jobs.submit(texts_of(20_000), "me")).id
            await until(lambda: _is(jobs, large, "running"))
            small = (await jobs.submit(texts_of(400), "you")).id
            await done(jobs, small, "you")
            behind = await jobs.status(large, "me")
            assert behind.state == "running" and behind.done < 10_000
            # A flood of small ones does not stop the large one.
            flood = [(await jobs.submit(texts_of(2000, f"{n}"), "you")).id for n in range(10)]
            before = behind.done
            await done(jobs, flood[-1], "you")
            after = await jobs.status(large, "me")
            assert after.done - before > 5000
            await jobs.cancel(large, "me")

    asyncio.run(script())


def test_the_time_that_is_left_comes_from_rates_that_were_measured(redis: RedisServer) -> None:
    async def script() -> None:
        async with caller(redis.url) as front, raw(redis.url) as client:
            assert (await front.submit(texts_of(300), "me")).seconds_left is None
            large = (await front.submit(texts_of(10_000), "me")).id
            (now, _) = await client.time()
            rates = {"one": f"{now} 100", "two": f"{now} 50", "dead": f"{now - 100} 999", "odd": "x"}
            await client.hset(key_of(front, "replicas"), mapping=rates)
            # All 300 texts of the small lane are served before the large one's last: 10,300 texts at 150 a second.
            assert (await front.status(large, "me")).seconds_left == pytest.approx(10_300 / 150, rel=0.01)
            # A small one waits for the three chunks of its lane, and for as many of the large one, of 250 texts each.
            small = await front.submit(texts_of(212), "me")
            assert small.seconds_left == pytest.approx((512 + 3 * 250) / 150, rel=0.01)

    asyncio.run(script())


def test_a_rollout_finishes_the_jobs_of_the_bundle_that_goes(redis: RedisServer) -> None:
    async def script() -> None:
        async with caller(redis.url) as front:
            job = (await front.submit(texts_of(600), "me")).id
            async with replica(redis.url, version="v2"):
                await done(front, job)
            assert {row.version for row in await all_rows(front, job, 600)} == {"v2"}
        async with caller(redis.url, labels=["bad", "good", "new"]) as other:
            with pytest.raises(NotServed):
                await other.status(job, "me")

    asyncio.run(script())


def test_without_a_redis_and_with_one_that_is_away_a_sentence_says_so(redis: RedisServer) -> None:
    async def script() -> None:
        async with caller("") as off:
            for ask in (off.submit(["a"], ""), off.status(NONE, ""), off.results(NONE, "", 0, 1), off.cancel(NONE, "")):
                with pytest.raises(Unsupported, match="start the server with --redis-url"):
                    await ask
            off.start()
            await off.stop()
        redis.stop()
        async with caller(redis.url) as away:
            for ask in (away.submit(["a"], ""), away.status(NONE, "")):
                with pytest.raises(Busy, match="Redis is away: try again in 5 s"):
                    await ask

    asyncio.run(script())
