"""Labels for texts of the command line or of a file, from a predictor that runs somewhere."""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from components.data.sources import read_table
from pipelines.asking import Answers, Server, ask
from predictor.errors import InputError

READ = (".csv", ".csv.gz", ".jsonl", ".parquet", ".parquet.gz", ".txt")
WRITTEN = (".csv", ".jsonl", ".parquet")
_LABEL, _CONFIDENCE = "predicted_label", "confidence"


def predict_texts(server: Server, texts: Sequence[str]) -> dict[str, Any]:
    """Ask for texts and return their answers.

    Raises:
        InputError: a text is blank, or the server refuses one.
        ServerFailed: the server does not answer.
    """
    _check(texts, "text")
    answers = _asked(server, texts)
    rows = zip(texts, answers.labels, answers.confidences, strict=True)
    predictions = [{"text": text, "label": label, "confidence": confidence} for text, label, confidence in rows]
    return {"model": server.model, "model_version": answers.version, "predictions": predictions}


def predict_file(server: Server, source: Path, target: Path) -> dict[str, Any]:
    """Ask for the texts of a file and write its rows, each with `predicted_label` and `confidence`.

    Args:
        server: the predictor.
        source: CSV, Parquet or JSON lines with a column `text`, or plain text, a line each; other columns are kept.
        target: a CSV, Parquet or JSON lines file; it appears when it is whole.

    Returns:
        `output`, `rows`, `labels` (how often each was given), `model`, `model_version` and `seconds`.

    Raises:
        InputError: a file cannot be read or written, a text is missing, or the server refuses one.
        ServerFailed: the server does not answer.
    """
    started = time.monotonic()
    if target.suffix not in WRITTEN:
        raise InputError(f"--output {target} is of no known kind: end its name in {', '.join(WRITTEN)}")
    if not target.parent.is_dir():
        raise InputError(f"--output {target} cannot be written: {target.parent} is no folder")
    frame = _read(source)
    texts = frame["text"].tolist()
    _check(texts, f"{source}, row")
    answers = _asked(server, texts)
    frame[_LABEL], frame[_CONFIDENCE] = answers.labels, answers.confidences
    _write(frame, target)
    return {
        "output": str(target),
        "rows": len(frame),
        "labels": dict(Counter(answers.labels).most_common()),
        "model": server.model,
        "model_version": answers.version,
        "seconds": round(time.monotonic() - started, 1),
    }


def _asked(server: Server, texts: Sequence[str]) -> Answers:
    labels: list[str] = []
    confidences: list[float] = []
    versions: set[str] = set()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task("predict", total=len(texts))
        for answers in ask(server, texts):
            labels += answers.labels
            confidences += answers.confidences
            versions.add(answers.version)
            bar.update(task, completed=len(labels))
    return Answers(labels, confidences, ", ".join(sorted(versions)))  # several while a rollout is under way


def _read(source: Path) -> pd.DataFrame:
    if not source.name.endswith(READ):
        raise InputError(f"--input {source} is of no known kind: give a file that ends in {', '.join(READ)}")
    if source.suffix not in (".jsonl", ".txt"):
        frame = read_table(source)
    else:
        try:
            lines = source.read_text(encoding="utf-8-sig").split("\n")  # not splitlines: texts may hold U+2028
            rows = [{"text": line} if source.suffix == ".txt" else json.loads(line) for line in lines if line.strip()]
            frame = pd.DataFrame(rows, dtype=object)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{source} cannot be read ({' '.join(str(error).split())[:200]}): give UTF-8, one "
                f"{'text' if source.suffix == '.txt' else 'JSON object with a text'} a line"
            ) from error
    if "text" not in frame.columns:
        names = ", ".join(map(str, frame.columns)) or "none"
        raise InputError(f"{source} has no column 'text' (it has: {names}): rename the column that holds it")
    return frame


def _check(texts: Sequence[object], where: str) -> None:
    """Refuse missing and blank texts before the first request, which a predictor would refuse in its midst."""
    if not texts:
        raise InputError(f"{where.removesuffix(', row')} has no texts: give at least one")
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where} {number} has no words: remove it or fill it in")


def _write(frame: pd.DataFrame, target: Path) -> None:
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.suffix == ".csv":
            frame.to_csv(aside, index=False)
        elif target.suffix == ".parquet":
            frame.to_parquet(aside, index=False)
        else:
            _write_lines(frame, aside)
        os.replace(aside, target)
    except (OSError, ValueError, TypeError) as error:  # the last two are pyarrow's, for a column of mixed types
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"--output {target} cannot be written ({reason}): choose another place or kind") from error
    finally:
        aside.unlink(missing_ok=True)


def _write_lines(frame: pd.DataFrame, file: Path) -> None:
    """Write JSON lines; pandas' own writer rounds confidences."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[call-overload]
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
