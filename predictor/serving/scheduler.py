"""The classifier under load: the same cleaning, encoder, engine and softmax, behind a cache and a batcher."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.errors import EmptyTexts, Overloaded, TooLarge, TooLate
from predictor.model.classifier import BATCH, Classifier
from predictor.serving.batcher import Batcher, TokenBudget
from predictor.serving.cache import AnswerCache
from predictor.serving.call import Call, Ids
from predictor.serving.metrics import Metrics

# Does something, here or in a thread.
RunStep = Callable[..., Awaitable[Any]]

# Characters that are cleaned and tokenised on the event loop: half a millisecond's work. The way to a thread and back
# costs a good part of that and would make a lone short text wait longer; more than this never blocks the loop.
_INLINE_CHARS = 2048
# A text of more characters takes milliseconds to clean.
_LONG_CHARS = 131_072
# So many texts keep a thread busy for as long, and the queue for much longer: nobody gains by two threads.
_MANY_TEXTS = 1024
# Texts a thread prepares at a time: between two portions smaller requests get their turn, and a caller that has gone is
# noticed.
_PORTION = 32
# Texts that are queued, and answers that are counted, at a time: a millisecond's work, since each of many requests may
# have its turn before health has.
_SLICE = 128
# Requests that may be in preparation in the threads: the bodies they hold stand in no queue yet.
_PREPARING = 32
# Probabilities of one request, and of all that are in work: a million take 4 MB here, 20 MB as JSON, and some tens of
# milliseconds of the event loop to write. With a few labels a request's tokens are its bound long before.
MOST_VALUES = 2**20
_HELD_VALUES = 64 * MOST_VALUES

# Tokens, texts and padding. A lane of a CPU is as fast in tokens from a few hundred tokens on, and a batch that is no
# longer than a twentieth of a second keeps everybody's wait short; a call costs it about as much as 15 tokens, so who
# pads by more than half of that had better run with others. A GPU wants more of all three.
_CPU_BATCH = (512, BATCH, 8)
_GPU_BATCH = (16_384, 128, 4096)


@dataclass(frozen=True)
class Limits:
    """What a server takes upon itself."""

    queue_tokens: int
    """Tokens that may wait; beyond it callers are told to come again."""
    timeout: float
    """Seconds after which a request is given up, unless the caller wants it sooner."""
    cache_entries: int
    """Answers to keep, as long as they fit into the cache's bytes; 0 for none."""
    body_bytes: int
    """The longest request body or gRPC message."""


class Scheduler:
    """Answers for many callers at once. All of it but tokenising and the engine runs on the event loop.

    Args:
        classifier: what answers.
        limits: what is taken upon it.
        metrics: told what happens.
    """

    def __init__(self, classifier: Classifier, limits: Limits, metrics: Metrics) -> None:
        self._classifier = classifier
        self._encoder = classifier.encoder
        self._limits = limits
        self._metrics = metrics
        self._cache = AnswerCache(classifier.bundle.digest, limits.cache_entries)
        tokens, texts, padding = _GPU_BATCH if classifier.precision == "torch" else _CPU_BATCH
        budget = TokenBudget(limits.queue_tokens, tokens, texts, padding)
        self.batcher = Batcher(classifier.run, classifier.lanes, budget, self._cache.put, metrics.ran)
        self._threads = ThreadPoolExecutor(classifier.lanes, thread_name_prefix="tokenise")
        self.long_tasks = ThreadPoolExecutor(1, thread_name_prefix="long")
        """For what keeps the interpreter to itself for milliseconds: one thing at a time, or health waits for more."""
        self._labels = len(classifier.labels)
        # A text has one token at least.
        self.most_texts = max(1, min(limits.queue_tokens, MOST_VALUES // self._labels))
        """Of a request; one with more never fits."""
        self._held = 0
        self._preparing = 0
        self._inline = asyncio.Lock()
        metrics.watch(lambda: self.batcher.waiting_texts, lambda: self.batcher.waiting_tokens)

    async def probabilities(
        self, texts: Sequence[str], timeout: float | None = None, spent: float = 0.0
    ) -> NDArray[np.float32]:
        """Return calibrated class probabilities, float32 of shape (texts, labels), at least one text.

        Args:
            texts: as the caller sent them.
            timeout: seconds the caller is ready to wait; the server's own limit holds as well.
            spent: those of them that have gone by.

        Raises:
            TooLarge, Overloaded, Draining: the texts were not taken.
            EmptyTexts: cleaning leaves nothing of some; none was run.
            TooLate: the deadline passed; texts that still waited are not run.
            InternalError: the engine cannot answer one of the texts.
        """
        seconds = min(self._limits.timeout, timeout or self._limits.timeout)
        try:
            async with asyncio.timeout(seconds - spent):
                with self.batcher.call(len(texts)) as call, self._answer_memory(len(texts)):
                    await self._prepare(call, texts)
                    rows = await call.rows()
        except TimeoutError:
            raise TooLate(f"no answer within {seconds:g} s: allow more time, or send fewer texts") from None
        for start in range(0, len(rows), _SLICE):
            self._metrics.answered(rows[start : start + _SLICE])
            if len(rows) > _SLICE:
                await asyncio.sleep(0)
        return rows

    @contextmanager
    def _answer_memory(self, texts: int) -> Iterator[None]:
        """Hold the memory of an answer, which has a number for each label whatever of it was asked for.

        Raises:
            TooLarge, Overloaded: there never is so much of it, or not now.
        """
        if texts > self.most_texts:
            raise TooLarge(f"the request has {texts} texts: send {self.most_texts} at a time")
        values = texts * self._labels
        if self._held + values > _HELD_VALUES:
            raise Overloaded("the server holds all the answers it can: send the request again in 1 s", 1)
        self._held += values
        try:
            yield
        finally:
            self._held -= values

    async def drain(self) -> None:
        """Take no more texts, and return when those that were taken are answered."""
        await self.batcher.drain()

    def close(self) -> None:
        """Let running work end and stop the threads."""
        self.batcher.close()
        self._threads.shutdown()
        self.long_tasks.shutdown()
        self._classifier.close()

    async def _prepare(self, call: Call, texts: Sequence[str]) -> None:
        """Answer a call's texts from the cache, and queue the others."""
        if len(texts) <= _PORTION and sum(map(len, texts)) <= _INLINE_CHARS:
            # One a round of the loop: when a crowd comes at once, health and answers get their turn in between.
            await self._inline.acquire()
            asyncio.get_running_loop().call_soon(self._inline.release)
            await self._answer_or_submit(call, texts, len(texts), _run_inline)
            return
        if self._preparing == _PREPARING:
            raise Overloaded(f"{_PREPARING} large requests are being prepared: send the request again in 1 s", 1)
        self._preparing += 1
        slow = len(texts) > _MANY_TEXTS or max(map(len, texts)) > _LONG_CHARS
        threads = self.long_tasks if slow else self._threads
        try:
            await self._answer_or_submit(
                call, texts, _PORTION, partial(asyncio.get_running_loop().run_in_executor, threads)
            )
        finally:
            self._preparing -= 1

    async def _answer_or_submit(self, call: Call, texts: Sequence[str], portion: int, do: RunStep) -> None:
        seconds = 0.0
        tokens = 0
        queued: list[tuple[int, Ids, bytes | None]] = []
        empty: list[int] = []
        first: dict[bytes, int] = {}
        for start in range(0, len(texts), portion):
            started = perf_counter()
            unknown: list[tuple[int, str, bytes | None]] = []
            for place, (cleaned, key) in enumerate(await do(self._clean, texts[start : start + portion]), start):
                if not cleaned:
                    empty.append(place)
                elif key is not None and first.setdefault(key, place) != place:
                    call.repeat(place, first[key])
                elif (row := self._cache.get(key)) is None:
                    unknown.append((place, cleaned, key))
                else:
                    call.answer(place, row)
            if unknown and not empty:
                ids = await do(self._encoder.encode, [cleaned for _, cleaned, _ in unknown])
                queued += [(place, text, key) for (place, _, key), text in zip(unknown, ids, strict=True)]
                tokens += sum(map(len, ids))
                self.batcher.admit(tokens)  # a refusal should not wait for the last of a hundred thousand texts
            seconds += perf_counter() - started
        if empty:
            raise EmptyTexts(empty)
        self._metrics.prepared(seconds, len(texts) - len(queued), len(queued))
        for start in range(0, len(queued), _SLICE):
            self.batcher.submit(call, queued[start : start + _SLICE])
            if len(queued) > _SLICE:
                await asyncio.sleep(0)

    def _clean(self, texts: Sequence[str]) -> list[tuple[str, bytes | None]]:
        return [(cleaned, self._cache.key(cleaned)) for cleaned in self._encoder.clean(texts)]


async def _run_inline(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)
