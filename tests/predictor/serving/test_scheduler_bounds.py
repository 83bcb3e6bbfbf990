"""What a scheduler refuses, and that there is room again afterwards."""

import asyncio
import queue
import threading
from collections.abc import Sequence

import pytest

from predictor.errors import Overloaded, TooLarge
from predictor.serving.scheduler import Limits, Scheduler
from tests.predictor.serving.scheduling import FakeClassifier, played


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
