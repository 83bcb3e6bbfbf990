"""Reads what people answered: exports of Label Studio, and tables of several annotators."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from components.data.cells import as_note
from components.labelling.label_studio import CONTROL, ROW_ID
from components.labelling.rows import read_rows, records
from predictor.errors import InputError, one_line

SKIPPED, EMPTY, SEVERAL = "skipped", "without a label", "several labels in one answer"
# How several choices begin as JSON in one cell: as Label Studio writes them, and as a list of a table's own
_LISTS = ('{"choices"', '["')


@dataclass(frozen=True)
class Answer:
    """One answer as it was found, or a task without any: then `annotator` is None."""

    row_id: str | None
    text: str | None
    annotator: str | None
    label: str | None
    at: str | None = None
    fault: str = ""
    """Why it does not count."""
    carried: tuple[str | None, str | None, str | None] = (None, None, None)
    """`source`, `picked` and `predicted` of the task."""


def read_answers(file: Path, annotators: Sequence[str] = (), control: str = CONTROL) -> list[Answer]:
    """Return all answers of a file, in its order, good or not.

    Args:
        file: an export of Label Studio (JSON, JSON-MIN or CSV); or a table with the columns id, text, annotator and
            label, a row an answer; or with `annotators`, a table with a row a text.
        annotators: the columns of such a table that hold the labels of one annotator each.
        control: the name of the choices in the labeling config.

    Raises:
        InputError: the file is none of these, holds nothing, or mixes projects.
    """
    if annotators:
        return list(_wide(read_rows(file, ["id", "text", *annotators]), annotators))
    if file.suffix != ".json":
        return list(_long(read_rows(file, ["text", "annotator"]), file, control))
    tasks = _tasks(file)
    if any("annotations" in task for task in tasks):
        _check_project(tasks, file)
        answers = [answer for task in tasks for answer in _of_task(task, file, control)]
        _check_control(tasks, answers, file, control)
        return answers
    if all("annotator" in task for task in tasks):
        return list(_long(_plain(tasks), file, control))
    raise InputError(f"{file} is no export of Label Studio: its tasks have no 'annotations' and no 'annotator'")


def _tasks(file: Path) -> list[dict[str, Any]]:
    try:
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error)}): give an export of Label Studio") from error
    if content.lstrip().startswith("<"):
        raise InputError(f"{file} is a web page, not an export: the download may have asked for a login")
    try:
        # Half of a surrogate pair, which is left when a text is cut, is no character
        found = json.loads(json.dumps(json.loads(content), ensure_ascii=False).encode("utf-8", "ignore"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON ({one_line(error)}): export the project again") from error
    if isinstance(found, dict) and "detail" in found:
        raise InputError(f"{file} is an error of Label Studio, not an export: {one_line(found['detail'])}")
    if not isinstance(found, list) or not all(isinstance(task, dict) for task in found):
        raise InputError(f"{file} is no export of Label Studio: it is no list of tasks")
    if not found:
        raise InputError(f"{file} has no tasks: label some, then export the project again")
    return found


def _check_project(tasks: Sequence[dict[str, Any]], file: Path) -> None:
    projects = sorted({str(task["project"]) for task in tasks if task.get("project") is not None})
    if len(projects) > 1:
        raise InputError(f"{file} has tasks of several projects ({', '.join(projects)}): import each export alone")


def _of_task(task: dict[str, Any], file: Path, control: str) -> Iterator[Answer]:
    """Yield the answers of a task of a JSON export."""
    data, annotations = task.get("data"), task.get("annotations") or []
    if not isinstance(data, dict) or not _objects(annotations):
        raise InputError(f"{file} is no export of Label Studio: task {task.get('id')} has no data, or no annotations")
    row_id, text = _string(data.get(ROW_ID) or data.get("id")), _string(data.get("text"))
    carried = _carried(data)
    if not annotations:
        yield Answer(row_id, text, None, None, carried=carried)
    for annotation in annotations:
        who = annotation.get("completed_by")
        name = _string(who.get("email") or who.get("id")) if isinstance(who, dict) else _string(who)
        at = _string(annotation.get("updated_at") or annotation.get("created_at"))
        labels = _choices(annotation).get(control, [])
        fault = SKIPPED if annotation.get("was_cancelled") else SEVERAL if len(labels) > 1 else ""
        yield Answer(row_id, text, name or "unknown", labels[0] if labels else None, at, fault, carried)


def _choices(annotation: dict[str, Any]) -> dict[str, list[str]]:
    """Return the labels that were chosen in one answer, by the name of the choices in the labeling config."""
    found: dict[str, list[str]] = {}
    results = annotation.get("result") or []
    for result in results if _objects(results) else []:
        value = result.get("value")
        chosen = value.get("choices") if isinstance(value, dict) else None
        if result.get("type") == "choices" and isinstance(chosen, list):
            found.setdefault(str(result.get("from_name")), []).extend(map(str, chosen))
    return found


def _check_control(tasks: Sequence[dict[str, Any]], answers: Sequence[Answer], file: Path, control: str) -> None:
    """Check that a project which asks for choices asks for those of the given name, alone or beside others."""
    if any(answer.label for answer in answers):
        return
    others = {name for task in tasks for annotation in task.get("annotations") or [] for name in _choices(annotation)}
    if others - {control}:
        named = "', '".join(sorted(others - {control}))
        raise InputError(f"{file} has choices called '{named}', not '{control}': name the ones to read with --control")


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _plain(tasks: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return the answers of a JSON-MIN export as a table of texts; several choices become a list in JSON."""
    return pd.DataFrame([{name: as_note(value) for name, value in task.items()} for task in tasks], dtype=object)


def _long(frame: pd.DataFrame, file: Path, control: str) -> Iterator[Answer]:
    """Yield the answers of a table with a row for each; Label Studio adds a row for a task without answers."""
    if control not in frame.columns and "annotation_id" not in frame.columns:
        found = ", ".join(map(str, frame.columns))
        raise InputError(f"{file} has no column '{control}' (it has: {found}): name it with --control")
    if file.suffix == ".json" and ROW_ID not in frame.columns:
        raise InputError(
            f"{file} has the numbers of tasks in place of the ids of rows, as JSON-MIN does: export JSON or CSV"
        )
    for row in records(frame):
        row_id = row.get(ROW_ID) or row.get("id")
        label, at = row.get(control), row.get("updated_at") or row.get("at") or row.get("created_at")
        fault = SEVERAL if label and label.startswith(_LISTS) else ""
        yield Answer(row_id, row.get("text"), row["annotator"] or None, label, at, fault, _carried(row))


def _wide(frame: pd.DataFrame, annotators: Sequence[str]) -> Iterator[Answer]:
    """Yield the answers of a table with a row a text and a column an annotator; an empty cell is no answer."""
    for row in records(frame):
        carried = _carried(row)
        for name in annotators:
            yield Answer(row["id"], row["text"], name, row[name], row.get("at"), carried=carried)


def _carried(values: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    source, picked, predicted = (_string(values.get(name)) for name in ("source", "picked", "predicted"))
    return source, picked, predicted


def _string(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)
