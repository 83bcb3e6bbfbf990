"""Tables of rows on disk: read with the checks of the data stage, written whole or not at all."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.cells import as_note, as_texts
from components.data.sources.tables import SUFFIXES, read_table
from predictor.errors import InputError, one_line
from predictor.files import whole

KINDS = (".csv", ".jsonl", ".parquet")
"""What can be written, by the end of a file's name."""


def read_rows(file: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a CSV, JSON lines or Parquet file, each cell as text or None.

    Raises:
        InputError: it cannot be read, is of another kind, has no rows, or lacks a column.
    """
    if not file.is_file() or not file.name.endswith(SUFFIXES):
        what = "is of no known kind" if file.is_file() else "is no file"
        raise InputError(f"{file} {what}: give one that ends in {', '.join(SUFFIXES)}")
    frame = read_table(file)
    for column in needed:
        if column not in frame.columns:
            found = ", ".join(map(str, frame.columns)) or "none"
            raise InputError(f"{file} has no column '{column}' (it has: {found}): rename the column that holds it")
    if frame.empty:
        raise InputError(f"{file} has no rows: give a file with at least one")
    # A list or an object in a column of the user's own is no reason to stop.
    return pd.DataFrame({str(name): _cells(frame[name], file, str(name), needed) for name in frame.columns})


def _cells(values: "pd.Series[Any]", file: Path, name: str, needed: Sequence[str]) -> "pd.Series[Any]":
    texts = as_texts(values, str(file), name) if name in needed else [as_note(value) for value in values]
    return pd.Series(texts, dtype=object)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as objects, with None where a cell is missing."""
    rows = frame.to_dict("records")
    return [{str(name): None if pd.isna(cell) else cell for name, cell in row.items()} for row in rows]


def check_writable(file: Path, source: Path, kinds: Sequence[str] = KINDS) -> None:
    """Check, before any work is done, that a file can be written.

    Args:
        file: what is to be written.
        source: what it is made from.
        kinds: how its name may end.

    Raises:
        InputError: its kind is not known, its folder is not there, or it would replace the source.
    """
    if file.suffix not in kinds:
        raise InputError(f"--out {file} is of no known kind: end its name in {', '.join(kinds)}")
    if not file.parent.is_dir():
        raise InputError(f"--out {file} cannot be written: {file.parent} is no folder")
    if file.resolve() == source.resolve():
        raise InputError(f"--out {file} is the file that is read: give another one")


def write_rows(frame: pd.DataFrame, file: Path) -> None:
    """Write rows as the kind that the file's name ends in.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with whole(file) as aside:
            if file.suffix == ".csv":
                frame.to_csv(aside, index=False, quoting=csv.QUOTE_NONNUMERIC)
            elif file.suffix == ".parquet":
                frame.to_parquet(aside, index=False)
            else:
                frame.to_json(aside, orient="records", lines=True, force_ascii=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be written ({one_line(error)}): choose another place") from error


def write_text(text: str, file: Path) -> None:
    """Write a file of text.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with whole(file) as aside:
            aside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be written ({one_line(error)}): choose another place") from error
