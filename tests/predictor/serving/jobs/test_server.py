"""Servers with a Redis, as users start them, take part in the jobs of their model and share what they answered."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from prometheus_client import CollectorRegistry

from predictor.model.classifier import Classifier
from predictor.serving.jobs.jobs import Jobs
from predictor.serving.redis.metrics import RedisMetrics
from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import many, metric
from tests.predictor.serving.jobs.replicas import done, until
from tests.redis_server import RedisServer


async def _nothing(texts: Any) -> Any:
    raise AssertionError("this one only takes jobs")


def test_two_servers_answer_a_job_as_they_answer_live_calls(bundle: Path, redis: RedisServer, tmp_path: Path) -> None:
    classifier = Classifier(bundle)
    url = redis.url.replace("redis://", "redis://default:@")
    texts = [*many(700), " "]

    async def script(servers: list[Server]) -> None:
        front = Jobs(redis.url, "toy", classifier.labels, "", _nothing, RedisMetrics("toy", "r", CollectorRegistry()))
        job = await front.submit(texts, "me")
        last = await done(front, job.id)
        assert (last.done, last.failed) == (701, 1)
        rows = await front.results(job.id, "me", 0, 701)
        single = httpx.post(f"{servers[0].http}/v1/models/toy:predict", json=_asking(texts[:700]), timeout=60).json()
        for row, answer in zip(rows[:700], single["predictions"], strict=True):
            assert row.probabilities is not None
            best = int(row.probabilities.argmax())
            assert (classifier.labels[best], float(row.probabilities[best])) == (answer["label"], answer["confidence"])
        assert rows[700].error and {row.version for row in rows} == {classifier.bundle.digest[:12]}
        np.testing.assert_array_equal(rows[0].probabilities, classifier.probabilities(texts[:1])[0])
        await front.close()

    with (
        serving(bundle, tmp_path / "one", "--redis-url", url) as one,
        serving(bundle, tmp_path / "two", "--redis-url", url) as two,
    ):
        asyncio.run(script([one, two]))
        answered = [
            value
            for server in (one, two)
            for key, value in metric(server, "text_classifier_job_texts_total").items()
            if 'result="answered"' in key
        ]
        assert sum(answered) == 700
        # What one server answered live, the other finds in the shared cache; a busy Redis is left alone for a while.
        for start in range(0, 700, 50):
            asyncio.run(_up([one, two]))
            asking = _asking(texts[start : start + 50])
            httpx.post(f"{two.http}/v1/models/toy:predict", json=asking, timeout=60).raise_for_status()
        (hits,) = (v for k, v in metric(two, "text_classifier_shared_cache_lookups_total").items() if '"hit"' in k)
        assert hits >= 50
        # A Redis that hangs stops neither live answers nor the end of the server.
        redis.signal(signal.SIGSTOP)
        fresh = [f"fresh {number}" for number in range(50)]
        httpx.post(f"{one.http}/v1/models/toy:predict", json=_asking(fresh), timeout=60).raise_for_status()
        assert two.stop() == 0
        redis.signal(signal.SIGCONT)
    for log in (tmp_path / "one", tmp_path / "two"):
        assert "default:" not in log.read_text() and f"redis: redis://127.0.0.1:{redis.port}/0" in log.read_text()


async def _up(servers: list[Server]) -> None:
    async def up() -> bool:
        return all(list(metric(server, "text_classifier_redis_up").values()) == [1] for server in servers)

    await until(up)


def _asking(texts: list[str]) -> dict[str, Any]:
    return {"instances": texts}
