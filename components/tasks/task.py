"""A task: what a classifier is for, as its settings file says. `docs/tasks.md` explains how to add one."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from predictor.errors import InputError
from predictor.label_sets import SEPARATOR
from predictor.naming import AnswerNames

FOLDER = Path(__file__).parent
"""Where the tasks are that come with the package."""
_SUFFIX = ".toml"


class _Demo(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    texts: tuple[str, ...] = ()


class Task(BaseModel):
    """The content of a settings file; addresses and paths that are relative count from the file's folder."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    """The name of the registered model, too."""
    description: str = ""
    default: bool = False
    """Whether it is the task of those who name neither a task nor data."""
    data: str = ""
    """The address of labelled texts, as for `pigeonhole run --data`; empty where the user has to give one."""
    labels: tuple[str, ...] = ()
    """The classes, in their order; empty for those that the data has, by name."""
    ordinal: bool = False
    """Whether the classes are steps from the lowest to the highest, so that an answer has a score."""
    multi_label: bool = False
    """Whether a text may have any number of the classes, also none."""
    answer: AnswerNames = AnswerNames()
    """What the plain REST interface of the served model calls its answers."""
    behaviour: str = ""
    """A file of behavioural tests, for data that has none beside it."""
    gate: dict[str, float] = {}
    """Thresholds of the gate, by name."""
    demo: _Demo = _Demo()

    @model_validator(mode="after")
    def _consistent(self) -> "Task":
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise ValueError("labels are two or more different names, or none")
        if self.ordinal and not self.labels:
            raise ValueError("an ordinal task names its labels, from the lowest to the highest")
        if self.ordinal and self.multi_label:
            raise ValueError("a task is ordinal or multi_label: a text with several labels has no place in their order")
        if self.multi_label and any(SEPARATOR in label for label in self.labels):
            raise ValueError(f"a label of a multi_label task has no {SEPARATOR}, which stands between labels")
        return self

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of the training pipeline that the task decides, by name.

        Raises:
            InputError: its file of behavioural tests cannot be read.
        """
        gate = dict(self.gate)
        accuracy = {"min_accuracy": gate.pop("min_accuracy")} if "min_accuracy" in gate else {}
        return {
            "name": self.name,
            **({"data": self.data} if self.data else {}),
            "labels": list(self.labels),
            "ordinal": self.ordinal,
            "multi_label": self.multi_label,
            "answer": self.answer.model_dump(),
            "behaviour": _content(Path(self.behaviour)) if self.behaviour else "",
            **accuracy,
            "thresholds": gate,
        }


def _content(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the task's behavioural tests {file} cannot be read ({error}): correct the path") from error


def load_task(name: str) -> Task:
    """Return a task that comes with the package, or that of a file.

    Args:
        name: the name of a settings file of the package without `.toml`, or the path of one.

    Raises:
        InputError: there is none, or it says something that a task does not have.
    """
    file = Path(name) if name.endswith(_SUFFIX) else FOLDER / f"{name}{_SUFFIX}"
    if not name.endswith(_SUFFIX) and name not in task_names():
        raise InputError(f"there is no task '{name}': choose {', '.join(task_names())}, or give a file in {_SUFFIX}")
    try:
        return Task.model_validate(_placed(tomllib.loads(file.read_text(encoding="utf-8")), file.resolve().parent))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the task {file} cannot be read ({error}): give a TOML file as in docs/tasks.md") from error
    except ValidationError as error:
        what = error.errors()[0]
        part = ".".join(map(str, what["loc"]))
        reason = f"{part}: {what['msg']}" if part else what["msg"]
        raise InputError(f"the task {file} is wrong ({reason}): correct it as docs/tasks.md says") from error


def task_names() -> list[str]:
    """Return the tasks that come with the package, by name of their file."""
    return sorted(file.stem for file in FOLDER.glob(f"*{_SUFFIX}"))


def default_task() -> Task:
    """Return the task of those who name neither a task nor data."""
    (found,) = (task for task in map(load_task, task_names()) if task.default)
    return found


def _placed(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the content with paths that exist in the file's folder made absolute; other addresses stay."""
    there = {key: str((folder / str(content[key])).resolve()) for key in ("data", "behaviour") if content.get(key)}
    return {**content, **{key: place for key, place in there.items() if key == "behaviour" or Path(place).exists()}}
