"""The prediction log as requests see it: calls that neither wait nor fail."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from predictor.errors import Busy
from predictor.records import Feedback, folder_of, is_sampled, timestamp
from predictor.serving.metrics import Metrics
from predictor.serving.prediction_log.parts import Answered, Labelled, Source, Trace, top_and_shares, weight
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
        self._buffer = Buffer()
        self._writer = Writer(
            self._buffer, self._store.put, partial(folder_of, self._store.root, model), source, settings.interval,
            metrics.log_written, metrics.log_dropped, metrics.log_failed,
        )  # fmt: skip
        metrics.watch_log(lambda: self._buffer.records, self._buffer.oldest_seconds)

    def start(self) -> None:
        """Start to store what is taken."""
        self._writer.start()

    def trace(self, request: str, texts: int, numbers: Sequence[int] | None = None, sent: int = 0) -> Trace | None:
        """Return what notes how a request is answered, as `Trace.of` does; None where it is not to be logged."""
        return Trace.of(texts, numbers, sent) if is_sampled(request, self._sample) else None

    def entry(self, request: str, texts: Sequence[str], rows: NDArray[np.float32], trace: Trace) -> Answered | None:
        """Return what is to be logged of a request that was answered; any thread may call it.

        Args:
            request: its id.
            texts: as the caller sent them.
            rows: their probabilities, of shape (texts, labels).
            trace: how each was answered.
        """
        try:
            top, shares = top_and_shares(rows, self._source)
            size = weight(request, texts, trace, len(shares[0]) if shares else 0)
            return Answered(request, time.time(), texts, top, shares, trace, size)
        except Exception:  # the request is answered, whatever becomes of its record
            self._metrics.log_dropped(len(texts))
            self._metrics.log_failed()
            return None

    def answered(self, entry: Answered | None) -> None:
        """Log a request that was answered, or count it as dropped where too much waits."""
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
        size = sum(500 + record.id.__sizeof__() for record in records)
        if not self._has_room(len(records), size):
            raise Busy("the prediction log cannot be written now: send the feedback again later", _RETRY_AFTER)
        when = timestamp(now)
        self._put(Labelled(now, [replace(record, time=when) for record in records], size))

    def close(self) -> None:
        """Store what waits, for `END_SECONDS` at most."""
        self._writer.close(END_SECONDS)

    def _has_room(self, records: int, size: int) -> bool:
        return self._buffer.records + records <= MOST_RECORDS and self._buffer.bytes + size <= MOST_BYTES

    def _put(self, entry: Answered | Labelled) -> None:
        self._buffer.put(entry)
        if self._buffer.records >= MOST_IN_A_PART or self._buffer.bytes >= _BYTES_OF_A_PART:
            self._writer.wake()


def new_id() -> str:
    """Return an id for a request whose caller gave none."""
    return os.urandom(16).hex()
