"""Windows: of a prediction log, or of a file of texts that a bundle answers now."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from components.data.cells import as_texts
from components.data.sources.tables import SUFFIXES, read_table
from components.monitoring.drift.rows import Window
from components.monitoring.log.parts import Log
from components.monitoring.log.reading import Left, read_window
from predictor.errors import InputError
from predictor.label_sets import ordered
from predictor.model.classifier import Classifier
from predictor.records import moment, timestamp

_OTHER_BUNDLE = "of another bundle"
_NAMED = 5
"""Models that a sentence names."""


def logged(url: str, model: str, bundle: str, since: datetime, until: datetime, idle: bool = False) -> Window:
    """Return what a bundle answered in a span of time, with the true labels that came back for it until now.

    Args:
        url: the prediction log's.
        model: its name in service.
        bundle: the digest; answers of others do not count.
        since: the first moment that counts.
        until: the first that does not count any more.
        idle: whether a span without answers is a window of none, as for a service that nobody asks at night.

    Raises:
        InputError: the log cannot be read, or has no answer of this bundle in this span; a service that nobody asks
            has none, but where other models have a log and this one never had, the name is wrong.
    """
    found = read_window(url, model, since, until)
    own = found.predictions[found.predictions["bundle"] == bundle]
    left_out = _left_out(found.left)
    if foreign := len(found.predictions) - len(own):
        left_out[_OTHER_BUNDLE] = foreign
    if found.predictions.empty:
        _check_name(Log(url, model))
    if own.empty and not idle:
        why = ", ".join(f"{count} {what}" for what, count in left_out.items()) or "no records at all"
        raise InputError(
            f"{url} has no answers of this bundle by {model} from {_written(since)} to {_written(until)} ({why}): look "
            "at the address, the model's name and the span"
        )
    labelled = found.labelled[found.labelled["bundle"] == bundle]
    return Window(
        ids=own["id"].tolist(),
        texts=[text if isinstance(text, str) else None for text in own["text"]],
        answers=own["label"].tolist(),
        confidence=own["confidence"].to_numpy(np.float64),
        labelled=list(zip(labelled["label"], labelled["truth"], strict=True)),
        since=_written(since if own.empty else own["time"].iloc[0].to_pydatetime()),
        until=_written(until if own.empty else own["time"].iloc[-1].to_pydatetime()),
        left_out=left_out,
    )


def answered(bundle: Path, file: Path) -> Window:
    """Return the texts of a file with the bundle's answers; a column `label` counts as what came back.

    Args:
        bundle: a bundle's folder.
        file: CSV, JSON lines or Parquet with the column `text`.

    Raises:
        InputError: the file cannot be read, has no texts, or the bundle is none.
    """
    if not file.is_file() or not file.name.endswith(SUFFIXES):
        raise InputError(f"{file} is no file of a known kind: give one that ends in {', '.join(SUFFIXES)}")
    frame = read_table(file)
    if "text" not in frame.columns:
        raise InputError(f"{file} has no column 'text': rename the column that holds the texts")
    given = as_texts(frame["text"], str(file), "text")
    classifier = Classifier(bundle)
    usable = [row for row, text in enumerate(given) if text and classifier.encoder.clean([text])[0]]
    if not usable:
        raise InputError(f"{file} has no texts with words: give a file with some")
    texts = [str(given[row]) for row in usable]
    answers = classifier.classify(texts)
    classifier.close()
    labels = as_texts(frame["label"], str(file), "label") if "label" in frame.columns else [None] * len(given)
    if classifier.thresholds is not None:  # as the answers are written
        labels = [label and ordered(label, classifier.labels) for label in labels]
    pairs = zip((answer.label for answer in answers), (labels[row] for row in usable), strict=True)
    return Window(
        ids=[str(row) for row in usable],
        texts=texts,
        answers=[answer.label for answer in answers],
        confidence=np.array([answer.confidence for answer in answers], dtype=np.float64),
        labelled=[(answer, true) for answer, true in pairs if true],
        left_out={"without words": len(given) - len(usable)} if len(given) > len(usable) else {},
    )


def instant(text: str) -> datetime:
    """Return the moment that ISO 8601 names; now where the text is empty.

    Raises:
        InputError: it is no time.
    """
    return moment(text) if text else datetime.now(UTC)


def _check_name(log: Log) -> None:
    """Refuse the name of a model that never had a log at a place where others have."""
    if not log.days("predictions") and (others := log.others()):
        raise InputError(
            f"{log.uri} has no log of a model {log.model}, but of {', '.join(others[:_NAMED])}: give the name under "
            "which it is served"
        )


def _left_out(left: Left) -> dict[str, int]:
    """Return what did not count, by reason; a text answered at another time than the window is nothing wrong."""
    counts = {
        "damaged parts": len(left.damaged),
        "lines that are no records": sum(left.bad_lines.values()),
        "written twice": left.copies,
        "days in the future": len(left.future_days),
        "feedback given again": left.repeated_feedback + left.changed_feedback,
        "feedback for an unknown id": left.unknown_feedback,
        "feedback for an id of several texts": left.ambiguous_feedback,
    }
    return {what: count for what, count in counts.items() if count}


def _written(time: datetime) -> str:
    return timestamp(time.timestamp())
