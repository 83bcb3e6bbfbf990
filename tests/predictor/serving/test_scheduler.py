import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from predictor.errors import EmptyTexts, InternalError, Overloaded, TooLarge, TooLate
from predictor.serving.cache.memory import AnswerCache
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
    cascade: "FakeCascade | None" = None

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


def test_the_cascade_is_asked_for_a_few_of_a_crowd_at_a_time() -> None:
    cascade = FakeCascade()

    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        texts = [f"text {n}{'?' * (n % 2)}" for n in range(40)]
        found = await asyncio.gather(*(live.probabilities([text]) for text in texts))
        for number, (text, row) in enumerate(zip(texts, found, strict=True)):
            np.testing.assert_array_equal(row, SURE[None] if number % 2 else answers([text]))
        assert cascade.seen == texts and len(cascade.calls) <= 5 and max(cascade.calls) <= 16

    played(script, cascade=cascade)


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


def test_more_tokens_than_the_queue_ever_holds_are_refused_for_good() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        for texts in (["x" * 15_000, "y" * 15_000], ["z"] * 100_000):
            with pytest.raises(TooLarge):
                await live.probabilities(texts)
        assert classifier.runs == 0

    played(script)


def test_an_answer_of_too_many_probabilities_is_refused_before_any_text_is_run() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        with pytest.raises(TooLarge, match="210 texts: send 209 at a time"):
            await live.probabilities([f"{n}" for n in range(210)])
        assert (classifier.runs, classifier.encoder.seen) == (0, [])
        assert len(await live.probabilities([f"{n}" for n in range(209)])) == 209

    played(script, labels=5000)


def test_answers_in_work_are_bounded_in_all_and_make_room_again() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        texts = [str(n) for n in range(30)]
        for _ in range(2):
            classifier.gate = queue.SimpleQueue()
            callers = [asyncio.create_task(live.probabilities(texts)) for _ in range(140)]
            done, _ = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(Overloaded, match="all the answers it can"):
                await done.pop()
            for caller in callers:
                caller.cancel()
            for _ in range(1000):
                classifier.gate.put(None)
            answered = await asyncio.gather(*callers, return_exceptions=True)
            assert sum(isinstance(answer, Overloaded) for answer in answered) == 4  # 64 times 2**20 in all

    played(script, Limits(1_000_000, 30, 0, 1024), labels=16_384)


def test_a_refusal_does_not_wait_for_the_last_text_to_be_tokenised() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        with pytest.raises(TooLarge):
            await live.probabilities([f"{n:010d}" for n in range(10_000)])
        assert 2000 <= len(classifier.encoder.seen) < 3000

    played(script)


def test_large_requests_in_preparation_are_bounded_and_make_room_again() -> None:
    async def script(live: Scheduler, classifier: FakeClassifier) -> None:
        gate = threading.Event()
        clean = classifier.encoder.clean

        def gated(texts: Sequence[str]) -> list[str]:
            gate.wait(30)
            return clean(texts)

        classifier.encoder.clean = gated  # type: ignore[method-assign]
        large = ["x" * 100] * 30
        for _ in range(2):
            gate.clear()
            callers = [asyncio.create_task(live.probabilities(large, 30)) for _ in range(33)]
            done, _ = await asyncio.wait(callers, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(Overloaded, match="32 large requests"):
                await done.pop()
            gate.set()
            answered = await asyncio.gather(*callers, return_exceptions=True)
            assert sum(isinstance(answer, Overloaded) for answer in answered) == 1

    played(script, Limits(1_000_000, 30, 0, 1024))


def test_the_cache_is_bounded_in_bytes_whatever_a_row_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.serving.cache.memory.MOST_BYTES", 100_000)
    kept = {}
    for labels in (4, 2000):
        cache = AnswerCache("00" * 32, 10)
        keys = [cache.key(str(number)) or b"" for number in range(20)]
        for key in keys * 2:
            cache.put(key, np.zeros(labels, dtype=np.float32))
        rows = [row for key in keys if (row := cache.get(key)) is not None]
        assert sum(row.nbytes for row in rows) <= 100_000
        kept[labels] = len(rows)
    assert kept[4] == 10 and 10 < kept[2000] + 2 <= 13


def test_the_cache_keeps_the_latest_and_no_more_than_it_may() -> None:
    cache = AnswerCache("00" * 32, 2)
    rows = {text: np.array([n], dtype=np.float32) for n, text in enumerate("abc")}
    keys = {text: cache.key(text) for text in rows}
    for text in "ab":
        cache.put(keys[text] or b"", rows[text])
    assert cache.get(keys["a"]) is not None
    cache.put(keys["c"] or b"", rows["c"])
    assert [text for text in "abc" if cache.get(keys[text]) is not None] == ["a", "c"]
    assert len(cache) == 2
    cache.put(keys["a"] or b"", rows["a"])  # answered anew is as good as asked for
    cache.put(keys["b"] or b"", rows["b"])
    assert [text for text in "abc" if cache.get(keys[text]) is not None] == ["a", "b"]
    batch = np.zeros((8, 3), dtype=np.float32)
    cache.put(keys["c"] or b"", batch[0])
    kept = cache.get(keys["c"])
    assert kept is not None and kept.base is None  # a view would keep the batch
    assert AnswerCache("11" * 32, 2).key("a") != keys["a"]
    assert AnswerCache("00" * 32, 0).key("a") is None


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
