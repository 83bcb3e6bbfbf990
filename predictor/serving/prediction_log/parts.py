"""What was answered becomes lines, and lines become the bytes of a part."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from predictor.model.calibration import answer_of
from predictor.records import (
    MOST_PROBABILITIES,
    Feedback,
    Kind,
    Stage,
    text_hash,
    text_id,
    timestamp,
)
from predictor.serving.prediction_log.redaction import Redaction, redacted

# The first level is three times as fast as the usual one, for parts that are a tenth larger.
_LEVEL = 1
_GZIP = 31
"""What zlib calls a stream with gzip's head and checksum."""
_AT_ONCE = 65_536
"""Bytes that are compressed at a time; the interpreter's lock is free meanwhile, and requests have it."""
_ENTRY_BYTES = 200
"""What an entry takes beside its lines."""


@dataclass(slots=True)
class Trace:
    """How each text of a request was answered; `Scheduler` fills it in."""

    cleaned: list[str]
    stages: list[Stage]
    tokens: list[int | None]
    numbers: Sequence[int]
    """Of each text in the request, from 0 on: empty ones may be left out."""
    sent: int
    """How many texts the request has."""

    @classmethod
    def of(cls, texts: int, numbers: Sequence[int] | None = None, sent: int = 0) -> "Trace":
        """Return an empty one for so many texts, which are all that were sent unless their numbers are given."""
        if numbers is None:
            numbers, sent = range(texts), texts
        return cls([""] * texts, ["cache"] * texts, [None] * texts, numbers, sent)

    def answered(self, place: int, stage: Stage, tokens: int | None = None) -> None:
        """Note who answers the text at a place."""
        self.stages[place] = stage
        self.tokens[place] = tokens


@dataclass(slots=True)
class Answer:
    """A request that was answered."""

    request: str
    """Its id."""
    time: float
    """Seconds since 1970."""
    texts: Sequence[str]
    """As the caller sent them."""
    rows: NDArray[np.float32]
    """Their probabilities, of shape (texts, labels)."""
    trace: Trace
    """How each was answered."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Records of one day that came in together: those of requests that were answered, or feedback."""

    kind: Kind
    time: float
    """Seconds since 1970."""
    count: int
    lines: bytes
    """A line of JSON for each; held as they will be written, they take little memory and the writer's thread hardly
    needs the interpreter's lock."""

    @property
    def size(self) -> int:
        """Bytes that it takes in memory, about."""
        return len(self.lines) + _ENTRY_BYTES


@dataclass(frozen=True)
class Source:
    """What all predictions of one server say of it."""

    revision: str
    bundle: str
    labels: Sequence[str]
    redaction: Redaction
    thresholds: NDArray[np.float32] | None = field(default=None, compare=False)
    """Of a multi-label model, the least probability of each label."""


def lines_of(answer: Answer, source: Source) -> bytes:
    """Return the records of a request, `Prediction`, each as one line of JSON.

    Args:
        answer: the request.
        source: what all records say of the server.
    """
    when, labels, trace = timestamp(answer.time), source.labels, answer.trace
    top, shares = _top_and_shares(answer.rows, source)
    lines = []
    for place, (text, (label, confidence)) in enumerate(zip(answer.texts, top, strict=True)):
        # Not made of the class itself, which takes longer.
        record = {
            "id": text_id(answer.request, trace.numbers[place], trace.sent),
            "time": when,
            "revision": source.revision,
            "bundle": source.bundle,
            "text": redacted(text, source.redaction),
            "text_hash": text_hash(trace.cleaned[place]),
            "characters": len(text),
            "tokens": trace.tokens[place],
            "label": label,
            "confidence": confidence,
            "probabilities": dict(zip(labels, shares[place], strict=True)) if shares else None,
            "stage": trace.stages[place],
        }
        lines.append(line_of(record))
    return b"".join(lines)


def _top_and_shares(
    rows: NDArray[np.float32], source: Source
) -> tuple[list[tuple[str, float]], list[list[float]] | None]:
    """Return the label of each text, with the confidence in it, and all probabilities.

    Of a multi-label model these are its labels, joined. None in place of the probabilities where there are too many
    labels to keep them.
    """
    many, labels = rows.shape[1] > MOST_PROBABILITIES, source.labels
    if many or source.thresholds is not None:
        said, sure = answer_of(rows, labels, source.thresholds)
        return list(zip(said, sure.tolist(), strict=True)), None if many else rows.tolist()
    shares = rows.tolist()  # of few numbers Python finds the greatest sooner than NumPy
    return [(labels[row.index(best := max(row))], best) for row in shares], shares


def line_of(record: Mapping[str, Any] | Feedback) -> bytes:
    """Write a record as one line of JSON."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


@dataclass
class Part:
    """A part that is being written: lines go in, gzip comes out."""

    kind: Kind
    day: date
    """Of all its records, in UTC."""
    name: str
    records: int = 0
    _stream: "zlib._Compress" = field(default_factory=lambda: zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP))
    _lines: list[bytes] = field(default_factory=list)
    _size: int = 0
    _pieces: list[bytes] = field(default_factory=list)
    _data: bytes | None = None

    def add(self, entry: Entry) -> None:
        """Add records."""
        self._lines.append(entry.lines)
        self._size += len(entry.lines)
        self.records += entry.count
        if self._size >= _AT_ONCE:
            self._compress()

    def data(self) -> bytes:
        """Return the whole part; nothing can be added from then on."""
        if self._data is None:
            self._compress()
            self._data = b"".join([*self._pieces, self._stream.flush()])
            self._pieces.clear()
        return self._data

    def _compress(self) -> None:
        self._pieces.append(self._stream.compress(b"".join(self._lines)))
        self._lines.clear()
        self._size = 0


def day_of(seconds: float) -> date:
    """Return the day in UTC of a moment in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).date()
