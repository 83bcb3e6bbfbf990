"""Label the rows of a file with a running predictor."""

import csv
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from components.data.cells import as_json, as_texts
from components.data.sources.tables import SUFFIXES, read_lines, read_table
from pipelines.running.label_texts import check_encoding
from predictor.client import Answers, Server, ask
from predictor.errors import InputError, one_line
from predictor.files import whole

INPUT_SUFFIXES = (*SUFFIXES, ".txt", ".txt.gz")
OUTPUT_SUFFIXES = (".csv", ".jsonl", ".parquet")
_ADDED_COLUMNS = ("predicted_label", "confidence")
_SCORE_COLUMN = "predicted_score"
"""Added, too, where the labels of the model have an order."""


def predict_file(server: Server, source: Path, target: Path) -> dict[str, Any]:
    """Classify the texts of a file and write its rows with the columns `predicted_label` and `confidence`.

    A third, `predicted_score`, follows where the labels of the model have an order. They are empty in rows whose text
    has no words, or only markup.

    Args:
        server: the predictor.
        source: CSV, Parquet or JSON lines with a column `text`, or plain text with one text per line; other columns
            are kept. Predictions of an earlier call are replaced.
        target: a CSV, Parquet or JSON lines file; it is written atomically.

    Returns:
        `output`, `rows`, `labels` (rows per label), `unlabelled` (rows without words), `model`,
        `model_version` and `seconds`.

    Raises:
        InputError: a file cannot be read or written, a text is not a string, a column would be overwritten, or the
            server refuses a text.
        Unavailable: the server does not answer.
    """
    started = time.monotonic()
    if target.suffix not in OUTPUT_SUFFIXES:
        raise InputError(f"--output {target} is of no known kind: end its name in {', '.join(OUTPUT_SUFFIXES)}")
    if not target.parent.is_dir():
        raise InputError(f"--output {target} cannot be written: {target.parent} is no folder")
    frame = _read(source)
    _check_columns(frame, source)
    frame["text"] = given = as_texts(frame["text"], str(source), "text")
    texts = [text or "" for text in given]
    if not texts:
        raise InputError(f"{source} has no texts: give at least one")
    check_encoding(texts, f"{source}, row")
    answers = Answers.joined(_with_progress(ask(server, texts), len(texts)))
    frame[_ADDED_COLUMNS[0]], frame[_ADDED_COLUMNS[1]] = answers.labels, answers.confidences
    if answers.scores is not None:
        if _SCORE_COLUMN in frame.columns:
            raise InputError(f"{source} has a column '{_SCORE_COLUMN}', which the scores would overwrite: rename it")
        frame[_SCORE_COLUMN] = answers.scores
    _write(frame, target)
    unlabelled = answers.labels.count(None)
    if unlabelled:
        print(f"{unlabelled:,} of {len(frame):,} rows have no words, and got no label", file=sys.stderr)
    return {
        "output": str(target),
        "rows": len(frame),
        "labels": dict(Counter(label for label in answers.labels if label is not None).most_common()),
        "unlabelled": unlabelled,
        "model": server.model,
        "model_version": answers.version,
        "seconds": round(time.monotonic() - started, 1),
    }


def _with_progress(batches: Iterable[Answers], texts: int) -> Iterator[Answers]:
    """Yield the batches, with a progress bar on stderr."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("predict", total=texts)
        for answers in batches:
            bar.advance(task, len(answers.labels))
            yield answers


def _read(source: Path) -> pd.DataFrame:
    if not source.name.endswith(INPUT_SUFFIXES):
        raise InputError(f"--input {source} is of no known kind: give a file that ends in {', '.join(INPUT_SUFFIXES)}")
    if source.name.endswith((".txt", ".txt.gz")):
        return pd.DataFrame({"text": [line for _, line in read_lines(source)]}, dtype=object)
    return read_table(source, partial(print, file=sys.stderr))


def _check_columns(frame: pd.DataFrame, source: Path) -> None:
    if "text" not in frame.columns:
        names = ", ".join(map(str, frame.columns)) or "none"
        raise InputError(f"{source} has no column 'text' (it has: {names}): rename the column that holds it")
    # If the last columns have these names, an earlier call wrote them. A user's own columns are not overwritten.
    if tuple(frame.columns[-3:]) == (*_ADDED_COLUMNS, _SCORE_COLUMN):
        del frame[_SCORE_COLUMN]
    if tuple(frame.columns[-2:]) != _ADDED_COLUMNS and (
        own := [name for name in _ADDED_COLUMNS if name in frame.columns]
    ):
        raise InputError(f"{source} has a column '{own[0]}', which the predictions would overwrite: rename it")


def _write(frame: pd.DataFrame, target: Path) -> None:
    try:
        with whole(target) as aside:
            if target.suffix == ".csv":
                # Quoted, since the csv module does not quote a carriage return, and readers would end the row there
                _plain(frame).to_csv(aside, index=False, quoting=csv.QUOTE_NONNUMERIC)
            elif target.suffix == ".parquet":
                frame.to_parquet(aside, index=False)
            else:
                _write_lines(frame, aside)
    except (OSError, ValueError, TypeError) as error:  # the last two are pyarrow's, for a column of mixed types
        reason = one_line(error)
        raise InputError(f"--output {target} cannot be written ({reason}): choose another place or kind") from error


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with lists and objects as JSON, and bytes decoded as text."""
    plain = frame.copy(deep=False)
    for name in frame.select_dtypes(["object", "category"]):
        # As objects, since pandas turns integers beside a missing value into floats
        plain[name] = pd.Series([_cell(as_json(value)) for value in frame[name]], frame.index, dtype=object)
    return plain


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value


def _write_lines(frame: pd.DataFrame, file: Path) -> None:
    """Write JSON lines without pandas, whose writer rounds confidences."""
    with file.open("w", encoding="utf-8") as stream:
        for row in frame.astype(object).to_dict("records"):
            stream.write(json.dumps(as_json(row), ensure_ascii=False) + "\n")
