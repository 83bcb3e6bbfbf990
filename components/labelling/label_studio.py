"""What Label Studio takes: tasks with pre-annotations, and the labeling config of a project."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from components.labelling.rows import write_text
from predictor.errors import InputError

CONTROL, TEXT = "label", "text"
"""The names of the two tags of our config."""
ROW_ID = "row_id"
"""The id once more: in exports of kind JSON-MIN the task's number takes the place of `id`."""
_MOST_BUTTONS = 20
"""Classes that are shown as buttons; more are a list that can be searched."""


def task(row_id: str, text: str, source: str | None, **more: str) -> dict[str, Any]:
    """Return a task about one text; `more` are further values to find again in the export."""
    return {"data": {"text": text, "id": row_id, ROW_ID: row_id, "source": source or "", **more}}


def prediction(label: str, score: float, version: str) -> dict[str, Any]:
    """Return the pre-annotation that a model gives.

    Args:
        label: the model's answer.
        score: its confidence, 0 to 1.
        version: names the model in Label Studio.
    """
    chosen = {"from_name": CONTROL, "to_name": TEXT, "type": "choices", "value": {"choices": [label]}}
    return {"model_version": version, "score": round(score, 6), "result": [chosen]}


def labeling_config(labels: Sequence[str]) -> str:
    """Return the XML of a project in which each text gets one of the labels.

    Raises:
        InputError: Label Studio would take a label for something else.
    """
    for label in labels:
        if label.startswith("$") or not label.isprintable():
            raise InputError(f"Label Studio cannot show the label {label!r} as it is: rename the class")
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Text", name=TEXT, value="$text")
    layout = "select" if len(labels) > _MOST_BUTTONS else "inline"
    choices = ElementTree.SubElement(
        view, "Choices", name=CONTROL, toName=TEXT, choice="single", required="true", layout=layout
    )
    for label in labels:
        ElementTree.SubElement(choices, "Choice", value=label)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def config_labels(config: str) -> list[str]:
    """Return the labels of a labeling config.

    Raises:
        InputError: it is no XML, or has no choices.
    """
    try:
        labels = [choice.get("value", "") for choice in ElementTree.fromstring(config).iter("Choice")]
    except ElementTree.ParseError as error:
        raise InputError(f"the labeling config is no XML ({error}): give the file that suggest wrote") from error
    if not labels:
        raise InputError("the labeling config has no choices: give the file that suggest wrote")
    return labels


def write_tasks(tasks: Sequence[dict[str, Any]], file: Path) -> None:
    """Write tasks as a JSON list, which Label Studio imports.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", file)
