"""The records of the prediction log: what the predictor writes of each answer, and of each true label that comes later.

They lie under one fsspec URI as parts of JSON lines, a folder a day:

    URI/<model>/predictions/date=2026-11-29/<part>.jsonl.gz
    URI/<model>/feedback/date=2026-11-29/<part>.jsonl.gz

A part appears whole. Its name is its own, so that any number of predictors write to one folder. Compacted parts are
`<part>.parquet` in the same folders, with the same columns; a reader takes both and drops what stands in both.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Literal, TypeGuard, get_args

from predictor.errors import InputError, one_line

Kind = Literal["predictions", "feedback"]
"""What a folder of parts holds."""
Stage = Literal["linear", "transformer", "cache"]
LINES, COLUMNS = ".jsonl.gz", ".parquet"
"""Endings of parts: as they were written, and compacted."""
ID_CHARACTERS = 1024
"""The most characters of a request's id that count; the text's number comes behind them."""
TEXT_CHARACTERS = 16_384
"""The most characters of a text that are kept; no model reads as many."""
MOST_PROBABILITIES = 100
"""Labels up to which all probabilities are kept: with more, a record would be mostly zeros."""
# A sum of float32 may end a little above 1.
_MOST_CONFIDENCE = 1.0001


@dataclass(frozen=True, slots=True)
class Prediction:
    """One text that was answered."""

    id: str
    """Of the request; `<id>/<n>` for the n-th text, from 0 on, of several."""
    time: str
    """When it was answered: ISO 8601 in UTC with milliseconds."""
    revision: str
    bundle: str
    """The bundle's digest."""
    text: str | None
    """As the caller sent it, cut at `TEXT_CHARACTERS`; None where it is left out."""
    text_hash: str
    """`text_hash` of the cleaned text."""
    characters: int
    """Of the text as the caller sent it."""
    tokens: int | None
    """None where the text was answered without tokenising it."""
    label: str
    """Of a multi-label model all labels of the text, joined by `|`; empty for none."""
    confidence: float
    """Of a multi-label model the probability that its least sure decision about a label is right."""
    probabilities: dict[str, float] | None
    """By label; None where the model has over `MOST_PROBABILITIES` labels, or the source does not say."""
    stage: Stage | None
    """Who answered; None where the source does not say."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """The true label of a text that was answered earlier."""

    id: str
    """Of the prediction."""
    time: str
    """When it came in, as that of a prediction."""
    label: str
    """Of a multi-label model all labels of the text, joined by `|`; empty for none."""
    source: str | None = None
    """Who says so."""


def timestamp(seconds: float) -> str:
    """Write a moment, in seconds since 1970, as records have it: `2026-11-29T21:46:21.123Z`."""
    second, microseconds = divmod(round(seconds * 1_000_000), 1_000_000)
    return f"{_second(second)}.{microseconds // 1000:03}Z"


@lru_cache(1)  # the records of a busy second have it in common
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def moment(text: str) -> datetime:
    """Read what `timestamp` wrote, or any other ISO 8601 time with an offset.

    Raises:
        InputError: it is no time, or has no offset.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"'{one_line(text, 40)}' is no ISO 8601 time: write it as {timestamp(0)}") from None
    if time.tzinfo is None:
        raise InputError(f"'{one_line(text, 40)}' has no offset from UTC: end it with Z")
    return time.astimezone(UTC)


def text_id(request: str, number: int, texts: int) -> str:
    """Return the id of the record of a request's n-th text, from 0 on; of a single text it is the request's."""
    return f"{request}/{number}" if texts > 1 else request


def text_hash(cleaned: str) -> str:
    """Return 32 hexadecimal digits that are the same for the same cleaned text, whoever asks and whichever bundle."""
    return hashlib.blake2b(cleaned.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_sampled(request: str, share: float) -> bool:
    """Whether a request belongs to a share of all: the same one in every pod, and again when it is sent again."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(request.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64


def folder_of(root: str, model: str, kind: Kind, day: date | None = None) -> str:
    """Return the folder of a model's parts, of a day or, without one, of all days."""
    above = f"{root.rstrip('/')}/{model}/{kind}"
    return above if day is None else f"{above}/date={day.isoformat()}"


def prediction_of(given: object) -> Prediction:
    """Check what was read from a part.

    Raises:
        InputError: it is no record of a prediction; the sentence says which field is wrong.
    """
    row = _object(given)
    shares = row.get("probabilities")
    if shares is not None and (
        not isinstance(shares, Mapping)
        or not all(isinstance(name, str) and _is_number(share) for name, share in shares.items())
    ):
        raise InputError("'probabilities' are no numbers by label")
    confidence = row.get("confidence")
    if not _is_number(confidence) or not 0 <= confidence <= _MOST_CONFIDENCE:
        raise InputError("'confidence' is no share of 1")
    stage = row.get("stage")
    if stage is not None and stage not in get_args(Stage):
        raise InputError(f"'stage' is none of {', '.join(get_args(Stage))}")
    return Prediction(
        id=_text(row, "id"),
        time=_time(row),
        revision=_text(row, "revision"),
        bundle=_text(row, "bundle"),
        text=_text_or_none(row, "text"),
        text_hash=_text(row, "text_hash"),
        characters=_count(row, "characters"),
        tokens=None if row.get("tokens") is None else _count(row, "tokens"),
        label=_text(row, "label"),
        confidence=float(confidence),
        probabilities=None if shares is None else {name: float(share) for name, share in shares.items()},
        stage=stage,
    )


def feedback_of(given: object) -> Feedback:
    """Check what was read from a part.

    Raises:
        InputError: it is no record of feedback; the sentence says which field is wrong.
    """
    row = _object(given)
    return Feedback(_text(row, "id"), _time(row), _text(row, "label"), _text_or_none(row, "source"))


def _object(given: object) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError("the line is no JSON object")
    return given


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(row: Mapping[str, Any], name: str) -> str:
    if not isinstance(value := row.get(name), str):
        raise InputError(f"'{name}' is no text")
    return value


def _text_or_none(row: Mapping[str, Any], name: str) -> str | None:
    return None if row.get(name) is None else _text(row, name)


def _count(row: Mapping[str, Any], name: str) -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"'{name}' is no count")
    return value


def _time(row: Mapping[str, Any]) -> str:
    text = _text(row, "time")
    moment(text)
    return text
