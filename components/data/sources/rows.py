"""Chunks of any source to the columns that later steps read; a row with a value that cannot be used is counted."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.data.cells import as_note, as_text
from components.data.sources.table import BYTES, KIND, LENGTH, NULS, ORIGIN, Request, Table
from predictor.errors import InputError
from predictor.label_sets import SEPARATOR, joined, parted

REQUIRED = ("text", "label")
OURS = ("id", *REQUIRED, "source", "collected_at", "synthetic")
"""Columns that later steps know; all others come along as text."""
MOST_FIELD = 1 << 22
"""Characters of a field: more than any book has that is read as one text."""
_TRUTH: dict[object, bool] = {None: False, "": False, "0": False, "false": False, "no": False, "1": True, "true": True,
                              "yes": True}  # fmt: skip


def checked_columns(columns: Mapping[str, str]) -> None:
    """Refuse names of columns that no step reads.

    Raises:
        InputError: one of `columns` is not ours, or two of ours are the same column.
    """
    for name in columns:
        if name not in OURS:
            raise InputError(f"--column {name}={columns[name]} names no column of ours: choose from {', '.join(OURS)}")
    twice = [theirs for theirs in columns.values() if list(columns.values()).count(theirs) > 1]
    if twice:
        raise InputError(f"--column names '{twice[0]}' for two columns: give each its own")


def renamed(chunk: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    """Return the chunk with our names; a column that has one of our names and is not it becomes `input_NAME`.

    Raises:
        InputError: there is a column `input_NAME` already.
    """
    ours = {theirs: name for name, theirs in columns.items()}
    names = [str(name) for name in chunk.columns]
    new = [ours.get(name, f"input_{name}" if name in columns else name) for name in names]
    if len(set(new)) < len(new):
        name = next(name for name in new if new.count(name) > 1)
        raise InputError(
            f"the column '{name.removeprefix('input_')}' would be kept as '{name}', which there is already: rename one"
        )
    return chunk.set_axis(new, axis=1)


def require(found: Collection[str], table: Table, request: Request) -> None:
    """Refuse a table without the columns that are needed.

    Args:
        found: the names of its columns.
        table: what messages are about.
        request: the wanted columns.

    Raises:
        InputError: `text`, `label` or a column that the request names is missing.
    """
    for name in dict.fromkeys((*REQUIRED, *request.columns)):
        if request.column(name) not in found:
            raise InputError(
                f"{table.where} has no column '{request.column(name)}' (it has: {', '.join(found) or 'none'}): rename "
                f"the column that holds it, or give --column {name}=NAME"
            )


def arrow_rows(chunk: pd.DataFrame, table: Table, collected_at: str, multi_label: bool = False) -> pa.Table:
    """Return the rows of a renamed chunk that can be used; those that cannot are counted as the table's rejects.

    Args:
        chunk: rows of the table.
        table: where they are from.
        collected_at: the time, for rows that do not bring theirs.
        multi_label: whether a label is any number of labels: a text with `|` between them, or a list.

    Returns:
        Columns of text, `OURS` first, and `synthetic`, truth values.

    Raises:
        InputError: a label is a class number beyond the names of the classes, or one in a list has a `|`.
    """
    bad = np.zeros(len(chunk), dtype=bool)

    def reject(row: int, reason: str, why: str) -> None:
        if not bad[row]:
            bad[row] = True
            table.rejects.add(reason, f"{table.unit} {chunk.index[row]}{why}")

    arrays: dict[str, Any] = {}
    for name in sorted(chunk.columns, key=lambda name: (name not in OURS, OURS.index(name) if name in OURS else 0)):
        values = chunk[name].tolist()
        if name == "synthetic":
            arrays[name] = _truths(values, reject)
            continue
        if name == "label" and table.class_names:
            values = list(_named(values, table.class_names, table.where))
        if name == "label" and multi_label:
            places = (f"{table.where}, {table.unit} {number}" for number in chunk.index)
            values = [_one_text(value, where) for value, where in zip(values, places, strict=True)]
        texts = _texts(values, name, as_text if name in REQUIRED else as_note, reject)
        if name == "label":
            texts = [text.strip() or None if text else None for text in texts]
            if multi_label:
                texts = [text and joined(parted(text)) for text in texts]
        arrays[name] = _sound(texts, name, reject)
    given = arrays.keys()
    arrays |= {name: pa.nulls(len(chunk), pa.string()) for name in (*REQUIRED, "source", "collected_at")} | arrays
    for name, value in (("source", table.where), ("collected_at", collected_at)):
        arrays[name] = pc.fill_null(arrays[name], value)
    if "synthetic" not in given:
        arrays["synthetic"] = pa.array(np.zeros(len(chunk), dtype=bool))
    first = [name for name in OURS if name in arrays]
    rows = pa.table({name: arrays[name] for name in (*first, *(name for name in arrays if name not in OURS))})
    return rows.filter(pa.array(~bad)) if bad.any() else rows


def _one_text(value: object, where: str) -> object:
    """Return a list of labels as one text; anything else as it is."""
    if not isinstance(value, list | tuple | np.ndarray):
        return value
    names = [as_text(name) for name in value]
    if wrong := next((name for name in names if name and SEPARATOR in name), None):
        raise InputError(f"{where} has the label '{wrong}': rename it, since {SEPARATOR} stands between labels")
    return joined(name.strip() for name in names if name and name.strip())


_Reject = Callable[[int, str, str], None]


def _texts(values: list[Any], name: str, convert: Callable[[object], str | None], reject: _Reject) -> list[str | None]:
    if set(map(type, values)) <= {str, type(None)}:
        return values
    texts: list[str | None] = []
    for row, value in enumerate(values):
        text = None
        try:
            text = convert(value)
        except UnicodeDecodeError:
            reject(row, BYTES, f" has bytes in '{name}' that are not UTF-8")
        except TypeError:
            reject(row, KIND, f" has a value of type {type(value).__name__} in '{name}'")
        texts.append(text)
    return texts


def _sound(texts: Sequence[str | None], name: str, reject: _Reject) -> Any:
    """Return the texts as an Arrow array; a row whose text no file could hold is rejected."""
    try:
        array = pa.array(texts, pa.string())
    except UnicodeEncodeError:
        for row, text in enumerate(texts):
            if text and any("\ud800" <= character <= "\udfff" for character in text):
                reject(row, BYTES, f" has half a character in '{name}'")
        array = pa.array([text and text.encode("utf-8", "ignore").decode() for text in texts], pa.string())
    for row in _where(pc.match_substring(array, "\0")):
        reject(row, NULS, f" in '{name}'")
    for row in _where(pc.greater(pc.utf8_length(array), MOST_FIELD)):
        reject(row, LENGTH, f" has {len(texts[row] or ''):,} characters in '{name}', over {MOST_FIELD:,}")
    return array


def _where(found: Any) -> NDArray[np.int64]:
    return np.flatnonzero(np.asarray(pc.fill_null(found, False)))


def _truths(values: list[Any], reject: _Reject) -> Any:
    truths = []
    for row, value in enumerate(values):
        text = as_note(value)
        key = text.strip().lower() if text else None
        if key not in _TRUTH:
            reject(row, ORIGIN, f" has '{key[:20]}' in 'synthetic'" if key else "")
        truths.append(_TRUTH.get(key, False))
    return pa.array(truths, pa.bool_())


def _named(numbers: Iterable[object], names: Sequence[str], where: str) -> Iterator[object]:
    """Yield the name of each class number; -1 marks a withheld label in published sets."""
    for number in numbers:
        if not isinstance(number, Integral):
            yield number  # missing, or already a name
        elif int(number) < len(names):
            yield names[int(number)] if int(number) >= 0 else None
        else:
            raise InputError(f"{where} has the label {number}, but names for {len(names)} classes only: correct one")
