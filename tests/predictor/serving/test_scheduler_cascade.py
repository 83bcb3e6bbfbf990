"""A cascade behind a scheduler: who answers, and what is counted of it."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from predictor.errors import EmptyTexts
from predictor.serving.metrics import Metrics
from predictor.serving.scheduler import Scheduler
from tests.predictor.serving.scheduling import LIMITS, SURE, FakeCascade, FakeClassifier, answers, played


def test_the_cascade_is_asked_for_a_few_of_a_crowd_at_a_time() -> None:
    cascade = FakeCascade()

    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        texts = [f"text {n}{'?' * (n % 2)}" for n in range(40)]
        found = await asyncio.gather(*(live.probabilities([text]) for text in texts))
        for number, (text, row) in enumerate(zip(texts, found, strict=True)):
            np.testing.assert_array_equal(row, SURE[None] if number % 2 else answers([text]))
        assert cascade.seen == texts and len(cascade.calls) <= 5 and max(cascade.calls) <= 16

    played(script, cascade=cascade)


def test_who_is_alone_is_answered_by_the_cascade_without_waiting_for_the_event_loop() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        alone = live.probabilities(["sure?"])
        with pytest.raises(StopIteration) as answered:
            alone.send(None)
        assert (answered.value.value == SURE).all()

    played(script, cascade=FakeCascade())


@pytest.mark.parametrize("count", [3, 200], ids=["inline", "in a thread"])
@pytest.mark.parametrize("entries", [0, 100], ids=["no cache", "cache"])
def test_a_cascade_answers_what_it_is_sure_of_and_the_transformer_the_rest(count: int, entries: int) -> None:
    cascade = FakeCascade()
    texts = [f"text {number}{'?' * (number % 2)}" for number in range(count)]

    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        for _ in range(2):
            rows = await live.probabilities([*texts, texts[1]])
            assert (rows[1::2][: count // 2] == SURE).all() and (rows[-1] == rows[1]).all()
            assert (rows[:-1:2] == answers(texts[::2])).all()
        assert not any("?" in text for text in classifier.encoder.seen)
        with pytest.raises(EmptyTexts):
            await live.probabilities(["sure?", " "])

    registry = played(script, replace(LIMITS, cache_entries=entries), cascade=cascade)
    even, odd = (count + 1) // 2, count // 2
    linear, transformer = (
        registry.get_sample_value("text_classifier_answers_total", {"model_name": "m", "revision": "r", "stage": stage})
        for stage in ("linear", "transformer")
    )
    # Answers of the linear model are not cached: they take no longer than the cache. With the cache, though, a text
    # that a request repeats is asked once.
    assert transformer == (even if entries else 2 * even)
    assert linear == 2 * (odd if entries else odd + 1)


def test_the_share_of_exits_follows_the_traffic() -> None:
    registry = CollectorRegistry()
    metrics = Metrics("m", "r", ["a", "b"], [8, 16], registry)
    who = {"model_name": "m", "revision": "r"}
    metrics.prepared(0.1, 0, 0, 1)
    assert registry.get_sample_value("text_classifier_cascade_share_ratio", who) is None
    metrics.cascades(0.5)

    def share() -> float:
        found = registry.get_sample_value("text_classifier_cascade_share_ratio", who)
        assert found is not None
        return found

    assert share() == registry.get_sample_value("text_classifier_cascade_reference_ratio", who) == 0.5
    metrics.prepared(0.1, 1000, 0, 0)  # from the cache
    assert share() == 0.5
    for _ in range(20):
        metrics.prepared(0.1, 0, 10, 10)
    assert share() == pytest.approx(0.5)
    for _ in range(10):
        metrics.prepared(0.1, 0, 0, 70)
    assert share() == pytest.approx(0.25, abs=0.01)
    metrics.prepared(0.1, 0, 100_000, 0)
    assert share() == pytest.approx(1)
