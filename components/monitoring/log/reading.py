"""Reads a window of a log by time: each prediction once, the true labels that came for it, and what was left out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from components.monitoring.log.parts import Log, Part, Record
from predictor.errors import InputError
from predictor.records import Feedback, Kind, Prediction, moment

_DAY = timedelta(days=1)
_TIMES = pd.DatetimeTZDtype("ns", "UTC")


@dataclass
class Left:
    """What was left out of a window, and why."""

    parts: int = 0
    """Parts that were read, damaged ones among them."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Parts that were skipped or whose end is missing, each with the reason."""
    bad_lines: Counter[str] = field(default_factory=Counter)
    """Lines that are no records, by reason."""
    copies: int = 0
    """Records that stand twice, as after a compaction that was killed."""
    outside: int = 0
    """Predictions of the days that were read whose time is not in the window."""
    future_days: list[str] = field(default_factory=list)
    """Days after tomorrow that have records: the clock of a predictor is, or was, wrong."""
    repeated_feedback: int = 0
    """The same label again for the same prediction."""
    changed_feedback: int = 0
    """Another label for the same prediction: the last one counts."""
    unknown_feedback: int = 0
    """Labels for ids that no prediction of the window has: never logged, or answered before it."""
    ambiguous_feedback: int = 0
    """Labels for an id that several different texts were answered under: nobody knows which of them is meant."""


@dataclass(frozen=True)
class Window:
    """What a log has of some time."""

    start: datetime
    end: datetime
    predictions: pd.DataFrame
    """The fields of `Prediction`, by time; `time` is a column of times in UTC."""
    labelled: pd.DataFrame
    """Those of them whose true label is known, with the columns `truth`, `truth_time` and `truth_source`."""
    left: Left


def read_window(
    uri: str, model: str, start: datetime, end: datetime, until: datetime | None = None, now: datetime | None = None
) -> Window:
    """Read the predictions of a time, and the true labels that have come for them.

    Args:
        uri: the log's folder or URI.
        model: the model's name.
        start: the first moment; needs a time zone, as do the others.
        end: the first moment after it.
        until: labels that came later do not count; none: all that there are.
        now: what time it is; none: the clock's.

    Raises:
        InputError: the window is none, or the storage cannot be read.
    """
    if start.tzinfo is None or end.tzinfo is None or start >= end:
        raise InputError(f"the window from {start} to {end} is none: give two times with a zone, the earlier one first")
    log, left = Log(uri, model), Left()
    now = now or datetime.now(UTC)
    left.future_days = [day.isoformat() for day in log.days("predictions") if day > (now.astimezone(UTC) + _DAY).date()]
    predictions = _predictions(log, start, end, left)
    truths = _truths(log, start, until or now + _DAY, left)
    return Window(start, end, _frame(predictions), _labelled(predictions, truths, left), left)


def _predictions(log: Log, start: datetime, end: datetime, left: Left) -> list[Prediction]:
    """Return the predictions of a window, each once, by time."""
    found = []
    for record in _records(log, _around(log, "predictions", start, end), left):
        assert isinstance(record, Prediction)
        time = moment(record.time)
        if start <= time < end:
            found.append((time, record))
        else:
            left.outside += 1
    found.sort(key=lambda pair: pair[0])
    return [record for _, record in found]


def _truths(log: Log, start: datetime, until: datetime, left: Left) -> dict[str, Feedback]:
    """Return the last label for each id."""
    rows = []
    for record in _records(log, _around(log, "feedback", start, until), left):
        assert isinstance(record, Feedback)
        if (time := moment(record.time)) < until:
            rows.append((time, record))
    rows.sort(key=lambda pair: pair[0])
    last: dict[str, Feedback] = {}
    for _, record in rows:
        before = last.get(record.id)
        if before is not None:
            left.repeated_feedback += before.label == record.label
            left.changed_feedback += before.label != record.label
        last[record.id] = record
    return last


def read_predictions(uri: str, model: str, left: Left | None = None) -> Iterator[Prediction]:
    """Yield all predictions of a log, each once, in the order of the days; `left` counts what was left out.

    Raises:
        InputError: the storage cannot be read.
    """
    log = Log(uri, model)
    for record in _records(log, log.parts("predictions"), left or Left()):
        assert isinstance(record, Prediction)
        yield record


def read_feedback(uri: str, model: str, left: Left | None = None) -> Iterator[Feedback]:
    """Yield all true labels of a log as they came, as `read_predictions` does."""
    log = Log(uri, model)
    for record in _records(log, log.parts("feedback"), left or Left()):
        assert isinstance(record, Feedback)
        yield record


def _around(log: Log, kind: Kind, start: datetime, end: datetime) -> Iterator[Part]:
    """Yield the parts of a window, and of a day more at either end: clocks may differ."""
    return log.parts(kind, (start.astimezone(UTC) - _DAY).date(), (end.astimezone(UTC) + _DAY).date())


def _records(log: Log, parts: Iterable[Part], left: Left) -> Iterator[Record]:
    """Yield the records of some parts, each once."""
    seen: set[tuple[str, ...]] = set()
    for part in parts:
        try:
            content = log.read(part)
        except FileNotFoundError:
            raise InputError(
                f"{part.name} of the log at {log.uri} went away while it was read: it is being compacted; read again"
            ) from None
        left.parts += 1
        left.bad_lines.update(content.bad_lines)
        if content.fault:
            left.damaged[part.name] = content.fault
        for record in content.records:
            if (key := key_of(record)) in seen:
                left.copies += 1
                continue
            seen.add(key)
            yield record


def key_of(record: Record) -> tuple[str, ...]:
    """Return what two copies of one record share. Not the id alone: some callers send the same one each time."""
    if isinstance(record, Prediction):
        return record.id, record.time, record.text_hash
    return record.id, record.time, record.label, record.source or ""


def _labelled(predictions: list[Prediction], truths: dict[str, Feedback], left: Left) -> pd.DataFrame:
    """Put the true labels beside the predictions that they are for."""
    by_id: dict[str, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        if prediction.id in truths:
            by_id[prediction.id].append(prediction)
    left.unknown_feedback = len(truths) - len(by_id)
    rows, known = [], []
    for id_, same in by_id.items():
        if len({prediction.text_hash for prediction in same}) > 1:
            left.ambiguous_feedback += 1
            continue
        rows.append(same[-1])  # sent again, as a client does after a broken connection
        known.append(truths[id_])
    frame = _frame(rows)
    frame["truth"] = pd.Series([truth.label for truth in known], dtype="object")
    frame["truth_time"] = pd.Series(pd.to_datetime([truth.time for truth in known], utc=True), dtype=_TIMES)
    frame["truth_source"] = pd.Series([truth.source for truth in known], dtype="object")
    return frame


def _frame(rows: list[Prediction]) -> pd.DataFrame:
    columns: dict[str, Any] = {name.name: [getattr(row, name.name) for row in rows] for name in fields(Prediction)}
    frame = pd.DataFrame({name: pd.Series(values, dtype="object") for name, values in columns.items()})
    frame["time"] = pd.Series(pd.to_datetime(frame["time"], utc=True, format="ISO8601"), dtype=_TIMES)
    return frame.astype({"characters": "int64", "tokens": "Int64", "confidence": "float64"})


def counts(left: Left) -> dict[str, Any]:
    """Return what was left out as numbers and names, for a report."""
    return asdict(left)
