"""Who gets which answer, when, and from whom."""

import asyncio
import queue
from dataclasses import replace

import numpy as np
import pytest

from predictor.errors import EmptyTexts, InternalError, TooLate
from predictor.serving.scheduler import Limits, Scheduler
from tests.predictor.serving.scheduling import LIMITS, FakeClassifier, answers, played


def test_short_texts_are_tokenised_on_the_spot_and_long_ones_in_threads() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        np.testing.assert_array_equal(await live.probabilities(["a  b", "c"]), answers(["a  b", "c"]))
        assert classifier.encoder.threads == {"MainThread"}
        many = [f"text {n}" for n in range(500)]
        classifier.encoder.threads.clear()
        np.testing.assert_array_equal(await live.probabilities(many), answers(many))
        assert "MainThread" not in classifier.encoder.threads

    played(script)


@pytest.mark.parametrize("texts", [["x" * 150_000], [str(number) for number in range(1100)]], ids=["long", "many"])
def test_what_takes_long_to_prepare_is_prepared_one_at_a_time(texts: list[str]) -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        await asyncio.gather(*(live.probabilities(texts) for _ in range(4)))
        (thread,) = classifier.encoder.threads
        assert thread.startswith("long")

    played(script, replace(LIMITS, queue_tokens=1_000_000))


def test_when_a_crowd_comes_at_once_others_get_their_turn_every_few_texts() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        async def health() -> None:
            while len(classifier.encoder.seen) < 50:
                counts.append(len(classifier.encoder.seen))
                await asyncio.sleep(0)

        counts: list[int] = []
        crowd = [asyncio.create_task(live.probabilities([f"text {n}"])) for n in range(50)]
        watching = asyncio.create_task(health())
        for place in (1, 2, 20):  # who goes while it waits for its turn does not keep it
            crowd[place].cancel()
        late = asyncio.create_task(live.probabilities(["three", "more"]))
        later = asyncio.create_task(live.probabilities(["texts"]))
        await asyncio.gather(*crowd, watching, late, later, return_exceptions=True)
        assert max(np.diff([*counts, 50])) <= 9
        np.testing.assert_array_equal(late.result(), answers(["three", "more"]))

    played(script)


def test_many_short_texts_count_as_many_however_few_their_characters() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        async def health() -> None:
            while len(classifier.encoder.seen) < 256:
                counts.append(len(classifier.encoder.seen))
                await asyncio.sleep(0)

        counts = [0]
        crowd = [live.probabilities([f"{n} {text}" for text in range(32)]) for n in range(8)]
        await asyncio.gather(*crowd, health())
        assert max(np.diff([*counts, 256])) <= 32

    played(script)


def test_a_text_asked_again_is_answered_without_tokenising_or_running_it() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        first = await live.probabilities(["a b", "c d", "e"])
        runs = classifier.runs
        classifier.encoder.seen.clear()
        np.testing.assert_array_equal(await live.probabilities(["c   d", "e", "a b"]), first[[1, 2, 0]])
        assert (classifier.runs, classifier.encoder.seen) == (runs, [])
        await live.probabilities(["f", "e"])
        assert classifier.encoder.seen == ["f"]

    registry = played(script, Limits(20_000, 30, 100, 1024))
    who = {"model_name": "m", "revision": "r"}
    lookups = "text_classifier_cache_lookups_total"
    assert registry.get_sample_value(lookups, {**who, "result": "hit"}) == 4
    assert registry.get_sample_value(lookups, {**who, "result": "miss"}) == 4
    assert sum(
        registry.get_sample_value("text_classifier_predictions_total", {**who, "category": label}) or 0
        for label in "ab"
    ) == len("abcceafe")


def test_a_text_that_many_callers_send_at_once_runs_once_even_if_the_first_goes() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        classifier.gate = queue.SimpleQueue()
        callers = [asyncio.create_task(live.probabilities(["same"])) for _ in range(5)]
        while live.batcher.open_calls < 5:
            await asyncio.sleep(0)
        callers[0].cancel()
        await asyncio.wait([callers[0]])
        classifier.gate.put(None)
        for caller in callers[1:]:
            np.testing.assert_array_equal(await caller, answers(["same"]))
        assert classifier.runs == 1

    played(script, Limits(20_000, 30, 100, 1024))


def test_all_empty_texts_are_named_at_once_and_nobody_else_hears_of_them() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        classifier.gate = queue.SimpleQueue()
        other = asyncio.create_task(live.probabilities(["a", "b"]))
        for texts in (["x", " ", "", "y"], ["x" * 100, " ", "", *["y" * 100] * 100]):
            with pytest.raises(EmptyTexts, match=r"text 1 and 1 more are empty after cleaning: send only") as caught:
                await live.probabilities(texts)
            assert caught.value.places == [1, 2]
        with pytest.raises(EmptyTexts, match="text 0 and 1999 more are empty") as caught:
            await live.probabilities([""] * 2000)
        assert caught.value.places == list(range(2000))
        for _ in range(2):
            classifier.gate.put(None)
        np.testing.assert_array_equal(await other, answers(["a", "b"]))
        assert set(classifier.encoder.seen) <= {"a", "b", "x" * 100} and classifier.runs <= 2

    played(script)


def test_a_failure_is_not_kept() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        for _ in range(2):
            with pytest.raises(InternalError):
                await live.probabilities(["poison!"])
        assert classifier.runs == 2

    played(script, Limits(20_000, 30, 100, 1024))


def test_past_its_deadline_a_request_is_given_up_and_its_waiting_texts_are_not_run() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        classifier.gate = queue.SimpleQueue()
        blocking = asyncio.create_task(live.probabilities(["a", "b"]))
        while live.batcher.open_calls < 1:
            await asyncio.sleep(0)
        with pytest.raises(TooLate, match=r"no answer within 0\.01 s"):
            await live.probabilities(["late"], 0.01)
        assert live.batcher.waiting_texts == 0
        for _ in range(2):
            classifier.gate.put(None)
        await blocking
        assert classifier.runs == 2

    played(script)
