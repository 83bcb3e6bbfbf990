"""One part scored: a Parquet file in, a Parquet file out, and what came of it counted; nothing else is read or written.

The bytes that come out follow from the file, the bundle, the settings and the installed versions alone. Rows are
scored in chunks that the file itself sets, so that neither the number of threads nor who calls makes a difference.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.sources.formats.parquet import chunks
from components.scoring.canary import Tally
from components.scoring.plan import Settings
from components.scoring.rows import ADDED, TRUTH, UNREADABLE, writer
from predictor.errors import InputError, one_line
from predictor.label_sets import labels_in
from predictor.model.calibration import answer_of
from predictor.model.classifier import Classifier

MISSING = "no text"
EMPTY = "nothing is left after cleaning"
BYTES = "bytes that are not UTF-8"


@dataclass(frozen=True)
class Counts:
    """What came of a part's rows."""

    rows: int
    labels: dict[str, int]
    """Rows by the label that they got; of a multi-label model a row counts for each of its labels."""
    unlabelled: dict[str, int]
    """Rows without one by reason, the place of a broken line left out."""
    canaries: Tally
    foreign: int
    """Labelled rows that do not count as canaries: the bundle does not know their label, or they have no text."""


@dataclass(frozen=True)
class _Answers:
    """The answers for a chunk; rows without a text have none."""

    names: pa.Array
    """The label of each row; of a multi-label model its labels, joined by `|`."""
    confidence: NDArray[np.float32]
    """In them, (rows,)."""
    probabilities: NDArray[np.float32]
    """Of shape (rows, labels); NaN in rows without a text."""
    reasons: list[str | None]


def score_part(
    source: Path,
    target: Path,
    classifier: Classifier,
    settings: Settings,
    done: Callable[[int], None] | None = None,
) -> Counts:
    """Score a Parquet file.

    The output has a row for each row of the input, in its order, with its columns and `predicted_label` (of a
    multi-label model all labels, joined by `|`, empty for none), `confidence` (float32), `reason` (why there is no
    answer; else null) and, if they are asked for, `probabilities` (a list in the order of the bundle's labels). Rows of
    the columns `_canary` and `_unreadable`, which `make_plan` writes, are counted; these two columns do not come out.

    Args:
        source: the file.
        target: where to write.
        classifier: what serving answers with.
        settings: the columns' names, and whether probabilities come out.
        done: called after each chunk with the rows that are finished.

    Raises:
        InputError: the file cannot be read or lacks the column.
    """
    labels: Counter[str] = Counter()
    unlabelled: Counter[str] = Counter()
    tally, foreign, rows = Tally(), 0, 0
    try:
        parquet = pq.ParquetFile(source)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{source} cannot be read ({one_line(error)}): write it again") from error
    with parquet:
        schema = _schema(parquet.schema_arrow, settings, source)
        with writer(target, schema, settings.text) as result:
            for table in chunks(parquet):
                answers = _answers(table, classifier, settings.text)
                found, strange = _tallied(table, answers.names, settings, classifier)
                tally, foreign = tally + found, foreign + strange
                out = _joined(table, answers, schema)
                result.write_table(out)
                rows += len(out)
                labels.update(_counted(out["predicted_label"], classifier))
                unlabelled.update(reason.partition(" (")[0] for reason in out["reason"].to_pylist() if reason)
                if done:
                    done(rows)
    ordered = {name: labels[name] for name in classifier.labels if labels[name]}
    return Counts(rows, ordered, dict(sorted(unlabelled.items())), tally, foreign)


def _schema(given: pa.Schema, settings: Settings, source: Path) -> pa.Schema:
    if settings.text not in given.names:
        raise InputError(f"{source} has no column '{settings.text}': name it with --column text=NAME")
    if taken := [name for name in ADDED if name in given.names]:
        raise InputError(f"{source} has a column '{taken[0]}', which scoring would write: rename it")
    kept = [field for field in given if field.name not in (TRUTH, UNREADABLE)]
    kinds = [pa.string(), pa.float32(), pa.string(), pa.list_(pa.float32())]
    added = [pa.field(name, kind) for name, kind in zip(ADDED, kinds, strict=True)]
    return pa.schema([*kept, *added[: 4 if settings.probabilities else 3]], given.metadata)


def _answers(table: pa.Table, classifier: Classifier, column: str) -> _Answers:
    texts, reasons = _texts(table[column])
    if UNREADABLE in table.schema.names:
        broken = table[UNREADABLE].to_pylist()
        reasons = [one or other for one, other in zip(broken, reasons, strict=True)]
    given = [row for row, reason in enumerate(reasons) if reason is None]
    cleaned = classifier.encoder.clean([texts[row] or "" for row in given])
    for row, text in zip(given, cleaned, strict=True):
        if not text:
            reasons[row] = EMPTY
    kept = np.array([row for row, text in zip(given, cleaned, strict=True) if text], dtype=np.int64)
    found = classifier.cleaned_probabilities([text for text in cleaned if text])
    probabilities = np.full((len(table), len(classifier.labels)), np.nan, dtype=np.float32)
    probabilities[kept] = found
    said, sure = answer_of(found, classifier.labels, classifier.thresholds)
    names: list[str | None] = [None] * len(table)
    for row, name in zip(kept.tolist(), said, strict=True):
        names[row] = name
    confidence = np.full(len(table), np.nan, dtype=np.float32)
    confidence[kept] = sure
    return _Answers(pa.array(names, pa.string()), confidence, probabilities, reasons)


def _texts(column: pa.ChunkedArray) -> tuple[list[str | None], list[str | None]]:
    """Return the texts, and why one is none."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _texts(column.cast(kind.value_type))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            return [None] * len(column), [f"a value of type {kind}"] * len(column)
        return _decoded(column)
    try:
        texts = column.to_pylist()
    except UnicodeDecodeError:  # Parquet does not look whether a text is one
        return _decoded(column.cast(pa.binary()))
    return texts, [MISSING if text is None else None for text in texts]


def _decoded(column: pa.ChunkedArray) -> tuple[list[str | None], list[str | None]]:
    texts: list[str | None] = []
    reasons: list[str | None] = []
    for raw in column.to_pylist():
        try:
            texts.append(None if raw is None else raw.decode())
            reasons.append(MISSING if raw is None else None)
        except UnicodeDecodeError:
            texts.append(None)
            reasons.append(BYTES)
    return texts, reasons


def _tallied(table: pa.Table, names: pa.Array, settings: Settings, classifier: Classifier) -> tuple[Tally, int]:
    """Return how many labelled rows are right, of those that count, and how many do not count.

    A row whose label is blank is not labelled, for a multi-label model, too.
    """
    truth: list[str | None] = [None] * len(table)
    columns = [TRUTH, *([settings.label] if settings.label != settings.text else [])]
    for column in columns:
        if column in table.schema.names and not pa.types.is_nested(table.schema.field(column).type):
            given = table[column].cast(pa.string()).to_pylist()
            truth = [one if one is not None else other for one, other in zip(truth, given, strict=True)]
    known, answers, several = set(classifier.labels), names.to_pylist(), classifier.thresholds is not None
    labelled = [row for row, label in enumerate(truth) if label]
    parts = {row: labels_in(truth[row] or "", several) for row in labelled}
    counted = [row for row in labelled if known.issuperset(parts[row]) and answers[row] is not None]
    right = sum(set(parts[row]) == set(labels_in(answers[row], several)) for row in counted)
    return Tally(len(counted), right), len(labelled) - len(counted)


def _joined(table: pa.Table, answers: _Answers, schema: pa.Schema) -> pa.Table:
    """Return the rows of the input with the columns of the output."""
    unsaid = answers.names.is_null().to_numpy(zero_copy_only=False)
    made = {
        "predicted_label": answers.names,
        "confidence": pa.array(answers.confidence, pa.float32(), mask=unsaid),
        "reason": pa.array(answers.reasons, pa.string()),
    }
    if "probabilities" in schema.names:
        made["probabilities"] = _lists(answers.probabilities, unsaid)
    columns = [made[name] if name in made else table[name] for name in schema.names]
    whole = pa.table(columns, schema=schema)
    return whole.filter(table[TRUTH].is_null()) if TRUTH in table.schema.names else whole


def _lists(probabilities: NDArray[np.float32], unsaid: NDArray[np.bool_]) -> pa.Array:
    said = ~unsaid
    ends = np.concatenate([[0], np.cumsum(said) * probabilities.shape[1]])
    values = pa.array(probabilities[said].ravel(), pa.float32())
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values, mask=pa.array(unsaid))


def _counted(column: pa.ChunkedArray, classifier: Classifier) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in pc.value_counts(column).to_pylist():
        if each["values"] is not None:
            labels = labels_in(each["values"], classifier.thresholds is not None)
            found.update(dict.fromkeys(labels, each["counts"]))
    return found
