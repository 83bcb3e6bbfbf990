"""Which texts run next: a bounded queue in front of the engine's lanes.

All of this runs on the event loop, so there are no locks; only the engine runs in threads. A batch starts as soon as a
lane is free, with the texts that wait by then, so there is no timer: a single text starts at once, and the busier the
server, the closer in length are the texts of a batch.
"""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from predictor.errors import Draining, InternalError, Overloaded, TooLarge
from predictor.serving.call import Call, Ids, QueuedText, Row
from predictor.serving.queue import Queue

Run = Callable[[Sequence[Ids]], NDArray[np.float32]]
"""Runs a batch and returns a row for each text; called in as many threads at once as there are lanes."""
BatchResult = tuple[list[Row | Exception], float, float]
"""The answers of a batch, when it started, and how many seconds it ran."""

# Beyond its first batch, a request has a claim on one batch in four: a request with thousands of texts does not starve,
# and does not make requests with a single text wait.
_BULK_STEP = 4
# A background caller lets so many batches go first, and then has a claim on one batch in so many: it does not starve,
# and while others keep the lanes busy it takes a small part of them.
_BACKGROUND_WAIT = 64
_BACKGROUND_STEP = 16
# Full batches that are prepared while all lanes run, so that the next free lane does not wait for the event loop.
_AHEAD = 1


@dataclass(frozen=True)
class TokenBudget:
    """The bounds of the queue and of a batch."""

    queue: int
    """Tokens that may wait; further callers are refused."""
    batch: int
    """Tokens of a batch, padding included; a longer text runs alone."""
    texts: int
    """Texts of a batch."""
    padding: int
    """Tokens of padding that cost as much as a call of the engine: a text that adds more runs in another batch."""


@dataclass(frozen=True)
class Batch:
    """A batch that has run, for the metrics."""

    lengths: list[int]
    """Tokens of each text."""
    waited: list[float]
    """Seconds that each text waited in the queue, background texts left out."""
    seconds: float
    """Seconds in the engine."""


class Batcher:
    """Runs the texts of many callers in batches of similar length.

    The text whose turn is next leads a batch, and the texts nearest in length join it. A turn is a number of batches
    and is fixed on arrival, so a text runs after a bounded number of batches, whatever arrives later.

    Args:
        run: the engine.
        lanes: how many batches run at once.
        budget: the bounds.
        finished: called with the key and row of each answered text that has a key, before its callers get the row;
            not of background texts.
        measure: called with each batch that has run.
    """

    def __init__(
        self,
        run: Run,
        lanes: int,
        budget: TokenBudget,
        finished: Callable[[bytes, Row], None],
        measure: Callable[[Batch], None],
    ) -> None:
        self._run = run
        self._lanes = lanes
        self._budget = budget
        self._finished = finished
        self._measure = measure
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="engine")
        self._numbers = itertools.count()
        self._batches = self._batches_out = 0
        self._queue = Queue()
        self._in_flight: dict[bytes, QueuedText] = {}
        self._calls: set[Call] = set()
        self._no_calls = asyncio.Event()
        self._seconds_a_token = 0.0
        self.draining = False

    @property
    def waiting_texts(self) -> int:
        """Texts that no lane has taken yet."""
        return len(self._queue)

    @property
    def waiting_tokens(self) -> int:
        """Tokens of the texts that no lane has taken yet."""
        return self._queue.tokens

    @property
    def open_calls(self) -> int:
        """Callers that were accepted and have not finished."""
        return len(self._calls)

    @contextmanager
    def call(self, size: int, background: bool = False) -> Iterator[Call]:
        """Accept a caller with `size` texts. At its end, texts that still wait for it alone are dropped.

        Texts of a background caller come after those of others, by a bounded number of batches, and need no room in the
        queue: the caller bounds them.

        Raises:
            TooLarge, Draining, Overloaded: the caller is refused.
        """
        if self.draining:
            raise Draining("the server is stopping: send the request again, another one will take it", 1)
        if not background:
            self.admit(size)  # a text has at least one token
        call = Call(size, background)
        self._calls.add(call)
        try:
            yield call
        finally:
            self._end_call(call)

    def admit(self, tokens: int) -> None:
        """Check that the queue has room for more tokens.

        Raises:
            TooLarge: it never has.
            Overloaded: it has none now.
        """
        if tokens > self._budget.queue:
            raise TooLarge(f"the request has over {self._budget.queue} tokens: send its texts in several requests")
        waiting = self.waiting_tokens - self._queue.background_tokens
        if waiting + tokens > self._budget.queue:
            seconds = max(1, math.ceil(waiting * self._seconds_a_token))
            raise Overloaded(f"the queue is full: send the request again in {seconds} s", seconds)

    def submit(self, call: Call, texts: Sequence[tuple[int, Ids, bytes | None]]) -> None:
        """Queue texts of a call, each given by its place, token ids and key, None for no key.

        A text whose key is that of a text that waits or runs shares its run.

        Raises:
            TooLarge, Overloaded: the queue has no room for them; none was queued.
        """
        if not call.background:
            self.admit(sum(len(ids) for _, ids, key in texts if key is None or key not in self._in_flight))
        wait, step = (_BACKGROUND_WAIT, _BACKGROUND_STEP) if call.background else (0, _BULK_STEP)
        now = perf_counter()
        fresh = []
        for count, (place, ids, key) in enumerate(texts, len(call.texts)):
            turn = self._batches + wait + count // self._budget.texts * step
            text = self._in_flight.get(key) if key is not None else None
            if text is None:
                text = QueuedText(ids, key, turn, next(self._numbers), now, call.background)
                if key is not None:
                    self._in_flight[key] = text
                fresh.append(text)
            elif text.waits and (turn < text.turn or text.background > call.background):
                self._queue.remove([text])  # a single text does not wait as one of thousands
                text.turn = min(turn, text.turn)
                text.background = text.background and call.background
                self._queue.add([text])
            elif text.background:  # it runs
                text.background = call.background
            text.callers.setdefault(call, []).append(place)
            call.texts.append(text)
        self._queue.add(fresh)
        self._dispatch()

    async def drain(self) -> None:
        """Refuse new callers, and return when the accepted ones have finished."""
        self.draining = True
        while self._calls:
            self._no_calls.clear()
            await self._no_calls.wait()

    def close(self) -> None:
        """Let running batches end and stop the threads."""
        self._pool.shutdown()

    def _end_call(self, call: Call) -> None:
        self._calls.remove(call)
        unwanted = []
        for text in call.texts:
            text.callers.pop(call, None)  # it may be among the call's texts twice
            if text.waits and not text.callers:
                text.waits = False
                unwanted.append(text)
                if text.key is not None:
                    del self._in_flight[text.key]
        self._queue.remove(unwanted)
        call.texts.clear()
        if not self._calls:
            self._no_calls.set()

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            # The waiting texts are divided among the free lanes: two texts on two lanes run as two batches.
            idle = self._lanes - self._batches_out
            if idle <= 0 and (idle <= -_AHEAD or len(self._queue) < self._budget.texts):
                break
            most = min(self._budget.texts, math.ceil(len(self._queue) / max(1, idle)))
            texts = self._queue.next_batch(most, self._budget.batch, self._budget.padding)
            self._batches_out += 1
            self._batches += 1
            work = self._pool.submit(_timed, self._run, [text.ids for text in texts])
            work.add_done_callback(partial(self._hand_over, loop, texts))

    def _hand_over(self, loop: asyncio.AbstractEventLoop, texts: list[QueuedText], work: "Future[BatchResult]") -> None:
        """Hand the answers of a batch from a lane's thread to the event loop."""
        loop.call_soon_threadsafe(self._deliver, texts, work.result())

    def _deliver(self, texts: list[QueuedText], result: BatchResult) -> None:
        """Give the callers the answers of a batch; first of all start the lane's next batch."""
        answers, started, seconds = result
        self._batches_out -= 1
        self._dispatch()
        lengths = [len(text.ids) for text in texts]
        self._seconds_a_token += (seconds / sum(lengths) / self._lanes - self._seconds_a_token) / 16
        waited = [started - text.since for text in texts if not text.background]
        self._measure(Batch(lengths, waited, seconds))
        for text, answer in zip(texts, answers, strict=True):
            if text.key is not None:
                del self._in_flight[text.key]
                if not text.background and not isinstance(answer, Exception):
                    self._finished(text.key, answer)
            for call, places in text.callers.items():
                if isinstance(answer, Exception):
                    error = InternalError(f"text {places[0]} cannot be classified: the server's log says why")
                    error.__cause__ = answer
                    call.fail(error)
                else:
                    call.answer(places, answer)


def _timed(run: Run, batch: list[Ids]) -> BatchResult:
    """Run a batch in a lane's thread and time it there, since the event loop may get the answers late."""
    started = perf_counter()
    answers = _answers(run, batch)
    return answers, started, perf_counter() - started


def _answers(run: Run, batch: list[Ids]) -> list[Row | Exception]:
    """Run a batch in a lane's thread. If it fails, run its texts one by one, so that one bad text fails alone."""
    try:
        return list(run(batch))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        return [answer for ids in batch for answer in _answers(run, [ids])]
