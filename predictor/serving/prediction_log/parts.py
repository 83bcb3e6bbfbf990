"""What was answered becomes records, and records become the bytes of a part."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
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
class Answered:
    """A request that was answered, as the event loop leaves it."""

    id: str
    time: float
    """Seconds since 1970."""
    texts: Sequence[str]
    top: Sequence[tuple[str, float]]
    """The label of each text and the confidence in it; of a multi-label model its labels, joined by `|`."""
    shares: Sequence[Sequence[float]] | None
    """The probabilities of each text; None where there are too many labels to keep."""
    trace: Trace
    size: int
    """Bytes that it takes in memory, about."""

    @property
    def count(self) -> int:
        """How many records it becomes."""
        return len(self.texts)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Feedback that came in one request."""

    time: float
    records: Sequence[Feedback]
    size: int

    @property
    def count(self) -> int:
        """How many records it becomes."""
        return len(self.records)


Entry = Answered | Labelled


@dataclass(frozen=True)
class Source:
    """What all predictions of one server say of it."""

    revision: str
    bundle: str
    labels: Sequence[str]
    redaction: Redaction
    thresholds: NDArray[np.float32] | None = field(default=None, compare=False)
    """Of a multi-label model, the least probability of each label."""


def lines_of(entry: Answered, source: Source) -> Iterator[bytes]:
    """Yield the records of a request, `Prediction`, each as one line of JSON."""
    when, labels, trace = timestamp(entry.time), source.labels, entry.trace
    for place, text in enumerate(entry.texts):
        label, confidence = entry.top[place]
        # Not made of the class itself, which takes longer.
        record = {
            "id": text_id(entry.id, trace.numbers[place], trace.sent),
            "time": when,
            "revision": source.revision,
            "bundle": source.bundle,
            "text": redacted(text, source.redaction),
            "text_hash": text_hash(trace.cleaned[place]),
            "characters": len(text),
            "tokens": trace.tokens[place],
            "label": label,
            "confidence": confidence,
            "probabilities": dict(zip(labels, entry.shares[place], strict=True)) if entry.shares else None,
            "stage": trace.stages[place],
        }
        yield line_of(record)


def top_and_shares(
    rows: NDArray[np.float32], source: Source
) -> tuple[list[tuple[str, float]], list[list[float]] | None]:
    """Return what records keep of probabilities of shape (texts, labels): `top` and `shares` of `Answered`."""
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
    _pieces: list[bytes] = field(default_factory=list)
    _data: bytes | None = None

    def add(self, line: bytes) -> None:
        """Add a record's line."""
        self._pieces.append(self._stream.compress(line))
        self.records += 1

    def data(self) -> bytes:
        """Return the whole part; nothing can be added from then on."""
        if self._data is None:
            self._data = b"".join([*self._pieces, self._stream.flush()])
            self._pieces.clear()
        return self._data


def day_of(seconds: float) -> date:
    """Return the day in UTC of a moment in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).date()


def weight(request: str, texts: Sequence[str], trace: Trace, labels: int) -> int:
    """Return about how many bytes the parts of an entry take in memory; `labels` are those whose shares are kept."""
    strings = sum(map(str.__sizeof__, (request, *texts, *trace.cleaned)))
    return strings + (600 + 32 * labels) * len(texts)
