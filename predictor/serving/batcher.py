"""Which texts run next: a bounded queue in front of the engine's lanes.

All of it is touched on the event loop alone, so there are no locks; only the engine runs in threads. A batch leaves as
soon as a lane is free, with whatever waits by then, so there is no timer either: a lone text starts at once, and the
busier the server, the better sorted its batches.
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
"""Answers a batch, a row for each text; called in a thread, in as many at once as there are lanes."""
Ran = tuple[list[Row | Exception], float, float]
"""The answers of a batch, when it began to run, and for how many seconds it ran."""

# The texts of a request beyond its first batch have a claim on one batch in four: a request of thousands neither
# starves nor makes those wait who ask for one text.
_BULK_STEP = 4
# A full batch is laid ready while the lanes run: the one that is done next need not wait for the event loop.
_AHEAD = 1


@dataclass(frozen=True)
class TokenBudget:
    """What the queue and a batch may hold."""

    queue: int
    """Tokens that wait; beyond it callers are refused."""
    batch: int
    """Tokens of a batch, padding included; a longer text runs alone."""
    texts: int
    """Texts of a batch."""
    padding: int
    """Tokens of padding that cost as much as a call of the engine: a text that brings more with it runs elsewhere."""


@dataclass(frozen=True)
class Batch:
    """What was run, for whoever measures."""

    lengths: list[int]
    """Tokens of each text."""
    waited: list[float]
    """Seconds each text stood in the queue."""
    seconds: float
    """In the engine."""


class Batcher:
    """Runs the texts of many callers in batches of like length.

    The text whose turn it is leads a batch; those nearest to it in length fill it up. Turns count batches and are
    handed out on arrival, so a text is run after a known number of batches whatever else arrives.

    Args:
        run: the engine.
        lanes: batches that run at once.
        budget: the bounds.
        finished: told each answered text that has a key, before its callers are.
        measure: told each batch that was run.
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
        self._quiet = asyncio.Event()
        self._seconds_a_token = 0.0
        self.draining = False

    @property
    def waiting_texts(self) -> int:
        """Texts that no lane has taken yet."""
        return len(self._queue)

    @property
    def waiting_tokens(self) -> int:
        """Tokens of these texts."""
        return self._queue.tokens

    @property
    def open_calls(self) -> int:
        """Callers that were accepted and have not left."""
        return len(self._calls)

    @contextmanager
    def call(self, size: int) -> Iterator[Call]:
        """Accept a caller of so many texts; what still waits for it alone when it leaves is not run.

        Raises:
            TooLarge, Draining, Overloaded: the caller is refused.
        """
        if self.draining:
            raise Draining("the server is stopping: send the request again, another one will take it", 1)
        self.admit(size)  # a text has one token at least
        call = Call(size)
        self._calls.add(call)
        try:
            yield call
        finally:
            self._leave(call)

    def admit(self, tokens: int) -> None:
        """Refuse what the queue has no room for.

        Raises:
            TooLarge, Overloaded: it never has, or not now.
        """
        if tokens > self._budget.queue:
            raise TooLarge(f"the request has over {self._budget.queue} tokens: send its texts in several requests")
        if self.waiting_tokens + tokens > self._budget.queue:
            seconds = max(1, math.ceil(self.waiting_tokens * self._seconds_a_token))
            raise Overloaded(f"the queue is full: send the request again in {seconds} s", seconds)

    def submit(self, call: Call, texts: Sequence[tuple[int, Ids, bytes | None]]) -> None:
        """Queue more texts of a call: for each its place, its token ids and its key, None for none.

        Texts with equal keys are run once while the first of them waits or runs.

        Raises:
            TooLarge, Overloaded: there is no room for them; none was queued.
        """
        self.admit(sum(len(ids) for _, ids, key in texts if key is None or key not in self._in_flight))
        now = perf_counter()
        fresh = []
        for count, (place, ids, key) in enumerate(texts, len(call.texts)):
            turn = self._batches + count // self._budget.texts * _BULK_STEP
            text = self._in_flight.get(key) if key is not None else None
            if text is None:
                text = QueuedText(ids, key, turn, next(self._numbers), now)
                if key is not None:
                    self._in_flight[key] = text
                fresh.append(text)
            elif text.waits and turn < text.turn:  # whoever wants it alone does not wait as one of thousands
                self._queue.remove([text])
                text.turn = turn
                self._queue.add([text])
            text.callers.setdefault(call, []).append(place)
            call.texts.append(text)
        self._queue.add(fresh)
        self._dispatch()

    async def drain(self) -> None:
        """Refuse new callers, and return when those that were accepted have left."""
        self.draining = True
        while self._calls:
            self._quiet.clear()
            await self._quiet.wait()

    def close(self) -> None:
        """Let running batches end and stop the threads."""
        self._pool.shutdown()

    def _leave(self, call: Call) -> None:
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
            self._quiet.set()

    def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            # Shared out among the free lanes: two texts and two lanes are two batches, not one and an idle lane.
            idle = self._lanes - self._batches_out
            if idle <= 0 and (idle <= -_AHEAD or len(self._queue) < self._budget.texts):
                break
            most = min(self._budget.texts, math.ceil(len(self._queue) / max(1, idle)))
            texts = self._queue.next_batch(most, self._budget.batch, self._budget.padding)
            self._batches_out += 1
            self._batches += 1
            work = self._pool.submit(_timed, self._run, [text.ids for text in texts])
            work.add_done_callback(partial(self._return, loop, texts))

    def _return(self, loop: asyncio.AbstractEventLoop, texts: list[QueuedText], work: "Future[Ran]") -> None:
        """Bring answers from a lane's thread to the event loop."""
        loop.call_soon_threadsafe(self._settle, texts, work.result())

    def _settle(self, texts: list[QueuedText], ran: Ran) -> None:
        """Hand out the answers of a batch, and put its lane to work again first."""
        answers, started, seconds = ran
        self._batches_out -= 1
        self._dispatch()
        lengths = [len(text.ids) for text in texts]
        self._seconds_a_token += (seconds / sum(lengths) / self._lanes - self._seconds_a_token) / 16
        self._measure(Batch(lengths, [started - text.since for text in texts], seconds))
        for text, answer in zip(texts, answers, strict=True):
            if text.key is not None:
                del self._in_flight[text.key]
                if not isinstance(answer, Exception):
                    self._finished(text.key, answer)
            for call, places in text.callers.items():
                if isinstance(answer, Exception):
                    error = InternalError(f"text {places[0]} cannot be classified: the server's log says why")
                    error.__cause__ = answer
                    call.fail(error)
                else:
                    call.answer(places, answer)


def _timed(run: Run, batch: list[Ids]) -> Ran:
    """Run a batch in a lane's thread and time it there: until the event loop hears of it, others may have run."""
    started = perf_counter()
    answers = _answers(run, batch)
    return answers, started, perf_counter() - started


def _answers(run: Run, batch: list[Ids]) -> list[Row | Exception]:
    """Run a batch in a lane's thread; where it fails, run its texts one by one, so that one bad text fails alone."""
    try:
        return list(run(batch))
    except Exception as error:
        if len(batch) == 1:
            return [error]
        return [answer for ids in batch for answer in _answers(run, [ids])]
