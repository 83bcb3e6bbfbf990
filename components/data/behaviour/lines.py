"""Behavioural tests as they are written: what a change may do to the answer, and texts that must be answered rightly.

The three kinds are those of CheckList (Ribeiro et al. 2020, "Beyond Accuracy: Behavioral Testing of NLP Models with
CheckList"). They are lines of JSON:

    {"name": "typos", "kind": "invariance", "change": "typo", "floor": 0.8}
    {"name": "teams", "kind": "invariance", "text": "Leeds beat York", "changed": "York beat Leeds"}
    {"name": "scores", "kind": "direction", "text": "They met.", "changed": "They met and won 3-1.", "label": "Sports"}
    {"name": "plain sports", "kind": "minimum", "text": "The striker scored twice.", "label": "Sports"}

An invariance with a `change` is tried on test rows. Lines of one name and kind are one test, which holds if no fewer
than `floor` of its texts do: that of its first line, 0.9 by default.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from components.data.behaviour.changes import CHANGES
from predictor.errors import InputError

BEHAVIOUR_FILE = "behaviour.jsonl"
"""Beside the train file."""
USUAL_FILE = Path(__file__).with_name("usual.jsonl")
"""Tests that suit any task."""
_NAMED = 10

_NEEDS = {
    "invariance": ("text", "changed"),
    "direction": ("text", "changed", "label"),
    "minimum": ("text", "label"),
}


class Line(BaseModel):
    """A line of a file of behavioural tests."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: Literal["invariance", "direction", "minimum"]
    floor: float = Field(default=0.9, gt=0, le=1)
    change: str = ""
    text: str = ""
    changed: str = ""
    label: str = ""

    @model_validator(mode="after")
    def _complete(self) -> "Line":
        if self.change:
            if self.kind != "invariance" or self.change not in CHANGES:
                raise ValueError(f"'change' is for invariances, and one of: {', '.join(CHANGES)}")
        elif missing := [name for name in _NEEDS[self.kind] if not getattr(self, name)]:
            raise ValueError(f"a test of kind {self.kind} needs {' and '.join(missing)}")
        return self


def read_behaviour(file: Path, where: str = "") -> list[Line]:
    """Read the tests of a file, which messages call `where` if its own path says nothing to the user.

    Raises:
        InputError: a line is no test.
    """
    where = where or str(file)
    adapter = TypeAdapter(Line)
    lines = []
    try:
        # Only \n ends a line: a text may contain U+2028.
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):  # noqa: B007
            if line.strip():
                lines.append(adapter.validate_json(line))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{where} cannot be read ({error}): give UTF-8 JSON lines") from error
    except ValidationError as error:
        what = error.errors()[0]
        part = ".".join(map(str, what["loc"]))
        reason = f"{part}: {what['msg']}" if part else what["msg"]
        raise InputError(f"{where}, line {number} is no behavioural test ({reason}): correct it") from error
    return lines


def check_labels(lines: Iterable[Line], labels: Sequence[str]) -> None:
    """Refuse tests that expect a label that there is not.

    Raises:
        InputError: a line names one.
    """
    if unknown := sorted({line.label for line in lines if line.label} - set(labels)):
        more = f" and {len(labels) - _NAMED:,} more" if len(labels) > _NAMED else ""
        raise InputError(
            f"a behavioural test has the label '{unknown[0]}', which the data lacks (it has: "
            f"{', '.join(labels[:_NAMED])}{more}): correct it"
        )
