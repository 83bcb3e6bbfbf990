"""The prediction log as requests see it: calls that neither wait nor fail."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from predictor.errors import Busy
from predictor.records import Feedback, folder_of, is_sampled, timestamp
from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log.parts import Answer, Entry, Source, Trace, line_of, lines_of
from predictor.serving.prediction_log.redaction import Redaction
from predictor.serving.prediction_log.store import Store
from predictor.serving.prediction_log.writer import MOST_IN_A_PART, Buffer, Writer

MOST_RECORDS = 100_000
"""Records that may wait while the store is away."""
MOST_BYTES = 64 * 2**20
"""Memory that they may take, about."""
_BYTES_OF_A_PART = MOST_BYTES // 4
"""Memory beyond which a part is written before its time: long texts fill it with far fewer records than short ones."""
END_SECONDS = 4.0
"""How long the end of the server waits for the store."""
_RETRY_AFTER = 10
# Lines of requests are made once they have so many together.
_RECORDS_AT_ONCE, _CHARACTERS_AT_ONCE = 128, 32_768
# Or after so many seconds, however few there are; flushes come by as much sooner.
_SOON = 0.1

Later = Callable[[float, Callable[[], None]], object]


@dataclass(frozen=True)
class LogSettings:
    """What is logged, and where to."""

    url: str
    """A folder, or an fsspec URI."""
    sample: float = 1.0
    """Share of the requests."""
    redaction: Redaction = Redaction.NONE
    interval: float = 10.0
    """Seconds between two flushes: what a kill loses at most."""


class PredictionLog:
    """Takes answers and feedback from the event loop; a thread stores them.

    Args:
        settings: what is logged, and where to.
        model: the model's name, which is a folder's.
        source: what all predictions say of the server.
        metrics: where records are counted.

    Raises:
        InputError: there is no driver for the URI.
    """

    def __init__(self, settings: LogSettings, model: str, source: Source, metrics: Metrics) -> None:
        self._sample, self._source = settings.sample, source
        self._metrics = metrics
        self._store = Store(settings.url)
        self._soon = min(_SOON, settings.interval / 10)
        self._buffer = Buffer()
        self._answers: list[Answer] = []
        self._records = self._characters = 0
        self._due = False
        self._writer = Writer(
            self._buffer, self._store.put, partial(folder_of, self._store.root, model), settings.interval - self._soon,
            metrics.log_written, metrics.log_failed,
        )  # fmt: skip
        metrics.watch_log(self._waiting, self._buffer.oldest_seconds)

    def start(self) -> None:
        """Start to store what is taken."""
        self._writer.start()

    def trace(self, request: str, texts: int, numbers: Sequence[int] | None = None, sent: int = 0) -> Trace | None:
        """Return what notes how a request is answered, as `Trace.of` does; None where it is not to be logged."""
        return Trace.of(texts, numbers, sent) if is_sampled(request, self._sample) else None

    def takes_long(self, answer: Answer) -> bool:
        """Return whether `entry` had better be called in a thread: a record takes ten microseconds, masked more."""
        return len(answer.texts) > _RECORDS_AT_ONCE or sum(map(len, answer.texts)) > _CHARACTERS_AT_ONCE

    def answered(self, answer: Answer, later: Later) -> None:
        """Log a request that was answered, or count it as dropped where too much waits.

        Its lines are made together with those of the next requests: code that runs a little at a time, between the much
        that a request needs, takes three times as long.

        Args:
            answer: one that does not take long.
            later: calls a function on the event loop, after so many seconds.
        """
        if not self._has_room(len(answer.texts)):
            self._metrics.log_dropped(len(answer.texts))
            return
        if self._answers and _day(self._answers[0]) != _day(answer):
            self.make_lines()
        self._answers.append(answer)
        self._records += len(answer.texts)
        self._characters += sum(map(len, answer.texts))
        if self._records >= _RECORDS_AT_ONCE or self._characters >= _CHARACTERS_AT_ONCE:
            self.make_lines()
        elif not self._due:
            self._due = True
            later(self._soon, self._when_due)

    def _when_due(self) -> None:
        self._due = False
        self.make_lines()

    def make_lines(self) -> None:
        """Make the lines of the requests that `answered` got."""
        answers, self._answers = self._answers, []
        self._records = self._characters = 0
        if answers:
            self.put(self.entry(answers))

    def entry(self, answers: Sequence[Answer]) -> Entry | None:
        """Return the records of requests of one day, at least one; any thread may call it."""
        lines, count = [], 0
        for answer in answers:
            try:
                lines.append(lines_of(answer, self._source))
                count += len(answer.texts)
            except Exception as error:  # the request is answered, whatever becomes of its record
                self._metrics.log_dropped(len(answer.texts))
                self._writer.complain(error)
        return Entry("predictions", answers[0].time, count, b"".join(lines)) if count else None

    def put(self, entry: Entry | None) -> None:
        """Log requests that were answered, or count them as dropped where too much waits."""
        if entry is None:
            return
        if self._has_room(entry.count, entry.size):
            self._put(entry)
        else:
            self._metrics.log_dropped(entry.count)

    def labelled(self, records: Sequence[Feedback]) -> None:
        """Log true labels; their time is set here.

        Raises:
            Busy: too much waits to be stored. Feedback is sent once, so it is not dropped unsaid.
        """
        now = time.time()
        when = timestamp(now)
        lines = b"".join(line_of(replace(record, time=when)) for record in records)
        entry = Entry("feedback", now, len(records), lines)
        if not self._has_room(entry.count, entry.size):
            raise Busy("the prediction log cannot be written now: send the feedback again later", _RETRY_AFTER)
        self._put(entry)

    def close(self) -> None:
        """Store what waits, for `END_SECONDS` at most."""
        self.make_lines()
        self._writer.close(END_SECONDS)

    def _has_room(self, records: int, size: int = 0) -> bool:
        buffer = self._buffer
        return self._waiting() + records <= MOST_RECORDS and buffer.bytes + size <= MOST_BYTES

    def _waiting(self) -> int:
        return self._buffer.records + self._records

    def _put(self, entry: Entry) -> None:
        self._buffer.put(entry)
        if self._buffer.records >= MOST_IN_A_PART or self._buffer.bytes >= _BYTES_OF_A_PART:
            self._writer.wake()


def _day(answer: Answer) -> int:
    return int(answer.time // 86_400)


def new_id() -> str:
    """Return an id for a request whose caller gave none."""
    return os.urandom(16).hex()
