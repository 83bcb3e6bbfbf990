"""The table of annotations: one row for each answer that counts, and a count of those that do not, by reason."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.cells import same_labels
from components.labelling.exports import EMPTY, Answer, read_answers
from components.labelling.label_studio import CONTROL, ROW_ID, config_labels
from predictor.errors import InputError, one_line

COLUMNS = ("id", "text", "annotator", "label", "at", "source", "picked", "predicted")
NO_ID, NO_TEXT, NO_ANNOTATOR = "task without an id", "task without a text", "without an annotator"
UNKNOWN, AGAIN = "unknown label", "answered again by the same annotator (the last answer counts)"


@dataclass(frozen=True)
class Annotations:
    """Answers that count, with the columns COLUMNS, and what was found beside them."""

    rows: pd.DataFrame
    report: dict[str, Any]


def known_labels(place: Path) -> list[str]:
    """Return the labels of a bundle, of a prepared dataset, or of a labeling config.

    Raises:
        InputError: the place is none of these.
    """
    wrong = f"{place} has no labels: give a bundle, a prepared dataset, or the labeling config that suggest wrote"
    try:
        if place.suffix == ".xml":
            return config_labels(place.read_text(encoding="utf-8"))
        for name in ("serving.json", "labels.json"):
            if (place / name).is_file():
                found = json.loads((place / name).read_text(encoding="utf-8"))
                return [str(label) for label in (found["labels"] if isinstance(found, dict) else found)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{wrong} ({one_line(error)})") from error
    raise InputError(wrong)


def import_answers(
    file: Path,
    labels: Sequence[str] | None = None,
    asked: Path | None = None,
    annotators: Sequence[str] = (),
    control: str = CONTROL,
) -> Annotations:
    """Return the answers of a file that count.

    Args:
        file: see `components.labelling.exports.read_answers`.
        labels: the labels that are known; None takes all.
        asked: the tasks that suggest wrote; the report says which of them have no answer, as one that was skipped by
            all or deleted meanwhile.
        annotators: columns of annotators, for a table with a row a text.
        control: the name of the choices in the labeling config.

    Raises:
        InputError: the file is no export, mixes projects, one id stands for two texts, or no answer counts.
    """
    answers = read_answers(file, annotators, control)
    known = None if labels is None else set(labels)
    names_of = _names({answer.label.strip() for answer in answers if answer.label}, known)
    texts: dict[str, str] = {}
    found: dict[tuple[str, str], dict[str, str | None]] = {}
    rejected: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    names: Counter[str] = Counter()
    unanswered = 0
    for answer in answers:
        if answer.annotator:
            names[answer.annotator] += 0  # one who never answers is in the report, too
        elif not answer.label:
            unanswered += 1
            continue
        label = names_of.get((answer.label or "").strip(), "")
        fault = _fault(answer, label, known)
        if fault == UNKNOWN:
            unknown[label] += 1
        if answer.row_id and answer.text and texts.setdefault(answer.row_id, answer.text) != answer.text:
            raise InputError(
                f"{file} has two texts with the id '{answer.row_id}': import the exports of two projects each alone"
            )
        if fault:
            rejected[fault] += 1
            continue
        row = _row(answer, label, file)
        place = (str(row["id"]), str(row["annotator"]))
        before = found.get(place)
        rejected[AGAIN] += before is not None
        if before is None or not _earlier(row["at"], before["at"]):
            found[place] = row
    names.update(row["annotator"] or "" for row in found.values())
    if not found:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items() if count)
        raise InputError(f"{file} has no answer that counts ({reasons or f'{unanswered:,} tasks without one'})")
    rows = pd.DataFrame(list(found.values()), columns=list(COLUMNS), dtype=object)
    answered = set(rows["id"])
    missing = [row_id for row_id in _asked(asked) if row_id not in answered] if asked else []
    report = {
        "answers": len(rows),
        "rows": int(rows["id"].nunique()),
        "rejected": {reason: count for reason, count in rejected.items() if count},
        "unknown_labels": dict(unknown.most_common(20)),
        "tasks_without_an_answer": unanswered,
        "annotators": dict(names.most_common()),
        "never_answered": sorted(name for name, count in names.items() if not count),
        "labels_checked": known is not None,
        "asked_without_an_answer": {"rows": len(missing), "first": missing[:20]} if asked else None,
    }
    return Annotations(rows, report)


def _names(given: set[str], known: set[str] | None) -> dict[str, str]:
    """Return the name of each label that was given, as `same_labels` would choose it for these or the known ones."""
    if known is None:
        return same_labels(given)
    return {label: label if label in known else same_labels({label, *known})[label] for label in given}


def _earlier(one: str | None, other: str | None) -> bool:
    """Whether a time surely lies before another: where one is missing or in another form, the order of a file counts.

    They are parsed, since one may end in Z and the other in +02:00.
    """
    times = pd.to_datetime(pd.Series([one, other], dtype=object), errors="coerce", utc=True, format="ISO8601")
    return bool(times[0] < times[1])  # never true of a missing time


def _fault(answer: Answer, label: str, known: set[str] | None) -> str:
    """Return why an answer does not count, or nothing."""
    if answer.fault:
        return answer.fault
    checks = (
        (NO_ID, answer.row_id), (NO_TEXT, (answer.text or "").strip()), (NO_ANNOTATOR, answer.annotator),
        (EMPTY, label), (UNKNOWN, known is None or label in known),
    )  # fmt: skip
    return next((reason for reason, good in checks if not good), "")


def _asked(file: Path) -> list[str]:
    """Return the ids of the rows in a file of tasks."""
    try:
        return [str(task["data"][ROW_ID]) for task in json.loads(file.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is no file of tasks ({one_line(error)}): give the one that suggest wrote") from error


def _row(answer: Answer, label: str, file: Path) -> dict[str, str | None]:
    source, picked, predicted = answer.carried
    return {
        "id": answer.row_id, "text": answer.text, "annotator": answer.annotator, "label": label,
        "at": answer.at, "source": source or file.name, "picked": picked, "predicted": predicted,
    }  # fmt: skip
