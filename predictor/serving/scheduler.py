"""A classifier for many callers at once: the same cleaning, encoder and engine, behind a cache and a batcher."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import compress
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictor.errors import EmptyTexts, Overloaded, TooLarge, TooLate
from predictor.model.classifier import BATCH, Classifier
from predictor.serving.batcher import Batcher, TokenBudget
from predictor.serving.cache.memory import AnswerCache
from predictor.serving.cache.shared import SharedCache
from predictor.serving.call import Call, Ids, Row
from predictor.serving.inline import Inline
from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log.parts import Trace

# Calls a function here or in a thread, and returns its result.
RunStep = Callable[..., Awaitable[Any]]

# The most characters that are cleaned and tokenised in one iteration of the event loop: half a millisecond's work. A
# thread would make a single short text wait longer, since handing it over costs a good part of that time.
_INLINE_CHARS = 2048
# What a text counts for there at least, for the request around it. A request of many short texts may so count for more
# than fits, and has an iteration of its own.
_TEXT_CHARS = 256
# A longer text takes milliseconds to clean.
_LONG_CHARS = 131_072
# More texts also keep a thread busy for long, and the queue for much longer: a second thread would not help.
_MANY_TEXTS = 1024
# Texts that a thread prepares at a time. Between two portions smaller requests run, and lost callers are noticed.
_PORTION = 32
# Texts that are queued, or answers that are counted, without a pause: a millisecond's work, since many requests may run
# before a health check does.
_SLICE = 128
# Requests that may be prepared in threads at a time: their texts are not in the queue yet, so it does not bound them.
_PREPARING = 32
# The most probabilities of one request, and of all requests at a time. A million take 4 MB here, 20 MB as JSON, and
# tens of milliseconds to write. With few labels the bound on tokens is reached long before.
MOST_VALUES = 2**20
_MOST_RESERVED = 64 * MOST_VALUES

# Tokens, texts and padding of a batch. On a CPU, batches of more than a few hundred tokens are no faster per token, and
# batches of at most a twentieth of a second keep all waits short. A call costs about as much as 15 tokens, so a text
# that adds more than half of that in padding runs in another batch. A GPU needs more of all three.
_CPU_BATCH = (512, BATCH, 8)
_GPU_BATCH = (16_384, 128, 4096)


@dataclass(frozen=True)
class Limits:
    """The bounds of a server."""

    queue_tokens: int
    """Tokens that may wait; further callers are refused and may try again."""
    timeout: float
    """Seconds after which a request is given up; a caller may ask for fewer."""
    cache_entries: int
    """The most answers that the cache keeps, within its bound of bytes; 0 for no cache."""
    body_bytes: int
    """The longest request body or gRPC message."""


class Scheduler:
    """Answers many callers at once. All but tokenising and the engine runs on the event loop.

    Args:
        classifier: the bundle's classifier.
        limits: the bounds.
        metrics: where texts, answers and batches are counted.
        shared: the cache of all replicas; None where there is none.
    """

    def __init__(
        self, classifier: Classifier, limits: Limits, metrics: Metrics, shared: SharedCache | None = None
    ) -> None:
        self._classifier = classifier
        self._encoder = classifier.encoder
        self._cascade = classifier.cascade
        self._limits = limits
        self._metrics = metrics
        self._cache = AnswerCache(classifier.bundle.digest, limits.cache_entries)
        self._shared = shared if limits.cache_entries else None
        tokens, texts, padding = _GPU_BATCH if classifier.precision == "torch" else _CPU_BATCH
        budget = TokenBudget(limits.queue_tokens, tokens, texts, padding)
        self.batcher = Batcher(classifier.run, classifier.lanes, budget, self._keep, metrics.ran)
        self._threads = ThreadPoolExecutor(classifier.lanes, thread_name_prefix="tokenise")
        self.long_tasks = ThreadPoolExecutor(1, thread_name_prefix="long")
        """One thread for work that holds the interpreter's lock for milliseconds: health waits for one at a time."""
        self._labels = len(classifier.labels)
        # A text has at least one token.
        self.most_texts = max(1, min(limits.queue_tokens, MOST_VALUES // self._labels))
        """Texts of a request; one with more is always refused."""
        self._reserved = 0
        self._preparing = 0
        self._inline = Inline(_INLINE_CHARS)
        metrics.watch(lambda: self.batcher.waiting_texts, lambda: self.batcher.waiting_tokens)

    async def probabilities(
        self,
        texts: Sequence[str],
        timeout: float | None = None,
        spent: float = 0.0,
        trace: Trace | None = None,
        background: bool = False,
    ) -> NDArray[np.float32]:
        """Return calibrated class probabilities, float32 of shape (texts, labels), at least one text.

        Args:
            texts: as the caller sent them.
            timeout: seconds that the caller waits; the server's limit holds as well.
            spent: how many of these seconds have passed.
            trace: notes how each text is answered, where somebody wants to know.
            background: whether other callers go first; there is no deadline then.

        Raises:
            TooLarge, Overloaded, Draining: the texts were refused.
            EmptyTexts: some are empty after cleaning; none was run.
            TooLate: the deadline passed; texts that still waited are not run.
            InternalError: the engine cannot answer one of the texts.
        """
        seconds = self.seconds(timeout)
        try:
            async with asyncio.timeout(None if background else seconds - spent):
                with self.batcher.call(len(texts), background) as call, self._answer_memory(len(texts)):
                    await self._prepare(call, texts, trace)
                    rows = await call.rows()
        except TimeoutError:
            raise TooLate(f"no answer within {seconds:g} s: allow more time, or send fewer texts") from None
        for start in range(0, len(rows), _SLICE):
            self._metrics.answered(rows[start : start + _SLICE])
            if len(rows) > _SLICE:
                await asyncio.sleep(0)
        return rows

    def seconds(self, timeout: float | None) -> float:
        """Return how long a caller who waits so long is going to get: the server's limit holds as well."""
        return min(self._limits.timeout, timeout or self._limits.timeout)

    @contextmanager
    def _answer_memory(self, texts: int) -> Iterator[None]:
        """Reserve the memory of an answer, which always has a number for each label.

        Raises:
            TooLarge: no answer may have so many texts.
            Overloaded: there is not enough memory now.
        """
        if texts > self.most_texts:
            raise TooLarge(f"the request has {texts} texts: send {self.most_texts} at a time")
        values = texts * self._labels
        if self._reserved + values > _MOST_RESERVED:
            raise Overloaded("the server holds all the answers it can: send the request again in 1 s", 1)
        self._reserved += values
        try:
            yield
        finally:
            self._reserved -= values

    async def drain(self) -> None:
        """Accept no more texts, and return when the accepted ones are answered."""
        await self.batcher.drain()

    def close(self) -> None:
        """Let running work end and stop the threads."""
        self.batcher.close()
        self._threads.shutdown()
        self.long_tasks.shutdown()
        self._classifier.close()

    async def _prepare(self, call: Call, texts: Sequence[str], trace: Trace | None) -> None:
        """Answer a call's texts from the cache and queue the others, here or with the help of a thread."""
        if len(texts) <= _PORTION and sum(map(len, texts)) <= _INLINE_CHARS:
            await self._inline.turn(sum(max(len(text), _TEXT_CHARS) for text in texts))
            # Who is alone has nobody to share a call with, and need not wait for the next iteration.
            ask = self._inline.ask if self.batcher.open_calls > 1 else _run_inline
            await self._answer_or_submit(call, texts, trace, len(texts), _run_inline, ask)
            return
        if self._preparing == _PREPARING:
            raise Overloaded(f"{_PREPARING} large requests are being prepared: send the request again in 1 s", 1)
        self._preparing += 1
        slow = len(texts) > _MANY_TEXTS or max(map(len, texts)) > _LONG_CHARS
        threads = self.long_tasks if slow else self._threads
        try:
            run_in_thread = partial(asyncio.get_running_loop().run_in_executor, threads)
            await self._answer_or_submit(call, texts, trace, _PORTION, run_in_thread, run_in_thread)
        finally:
            self._preparing -= 1

    async def _answer_or_submit(
        self, call: Call, texts: Sequence[str], trace: Trace | None, portion: int, do: RunStep, ask: RunStep
    ) -> None:
        """Clean the texts and answer them from the cache or by the cascade's first stage, or else queue their tokens.

        `ask` runs that stage, `do` each other step.
        """
        seconds = 0.0
        tokens = hits = exits = 0
        queued: list[tuple[int, Ids, bytes | None]] = []
        empty: list[int] = []
        first: dict[bytes, int] = {}
        for start in range(0, len(texts), portion):
            started = perf_counter()
            unknown: list[tuple[int, str, bytes | None]] = []
            for place, (cleaned, key) in enumerate(await do(self._clean, texts[start : start + portion]), start):
                if trace:
                    trace.cleaned[place] = cleaned
                if not cleaned:
                    empty.append(place)
                elif key is not None and first.setdefault(key, place) != place:
                    call.repeat(place, first[key])
                    hits += 1
                elif (row := self._cache.get(key)) is None:
                    unknown.append((place, cleaned, key))
                else:
                    call.answer(place, row)
                    hits += 1
            seconds += perf_counter() - started
            if unknown and not empty and self._shared:
                found = await self._shared.get([key for _, _, key in unknown if key is not None])
                for (place, _, key), row in zip(unknown, found, strict=True):
                    if key is not None and row is not None:
                        if not call.background:
                            self._cache.put(key, row)
                        call.answer(place, row)
                        hits += 1
                unknown = [text for text, row in zip(unknown, found, strict=True) if row is None]
            started = perf_counter()
            if unknown and not empty and self._cascade:
                rows, sure = await ask(self._cascade, [cleaned for _, cleaned, _ in unknown])
                for (place, _, _), row in zip(compress(unknown, sure), rows[sure], strict=True):
                    call.answer(place, row)
                    if trace:
                        trace.answered(place, "linear")
                unknown = list(compress(unknown, ~sure))
                exits += int(sure.sum())
            if unknown and not empty:
                ids = await do(self._encoder.encode, [cleaned for _, cleaned, _ in unknown])
                queued += [(place, text, key) for (place, _, key), text in zip(unknown, ids, strict=True)]
                tokens += sum(map(len, ids))
                if trace:
                    for (place, _, _), text in zip(unknown, ids, strict=True):
                        trace.answered(place, "transformer", len(text))
                if not call.background:
                    self.batcher.admit(tokens)  # refuse now, and not after the last of a hundred thousand texts
            seconds += perf_counter() - started
        if empty:
            raise EmptyTexts(empty)
        self._metrics.prepared(seconds, hits, exits, len(queued))
        for start in range(0, len(queued), _SLICE):
            self.batcher.submit(call, queued[start : start + _SLICE])
            if len(queued) > _SLICE:
                await asyncio.sleep(0)

    def _keep(self, key: bytes, row: Row) -> None:
        """Keep an answer for those who ask the same again, here and at the other replicas."""
        self._cache.put(key, row)
        if self._shared:
            self._shared.put(key, row)

    def _clean(self, texts: Sequence[str]) -> list[tuple[str, bytes | None]]:
        return [(cleaned, self._cache.key(cleaned)) for cleaned in self._encoder.clean(texts)]


async def _run_inline(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)
