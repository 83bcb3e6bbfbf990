"""The journal of a search: a file from which a search that was killed at any moment goes on."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from predictor.errors import InputError

JOURNAL_FILE = "search.jsonl"
SUCCEEDED, STOPPED, FAILED = "succeeded", "stopped", "failed"


@dataclass(frozen=True)
class Trial:
    """A trial that has ended."""

    number: int
    assignments: dict[str, str]
    state: str
    """succeeded, stopped (early, behind the others) or failed."""
    printed: dict[str, list[float]]
    """The values that the trial printed for each metric, in order."""
    seconds: float
    reason: str = ""
    """The last line a failed trial printed."""


@dataclass
class Journal:
    """The trials of a search; the file has a line for each start and each end."""

    file: Path
    ended: list[Trial] = field(default_factory=list)
    """In the order they ended."""
    open: dict[int, dict[str, str]] = field(default_factory=dict)
    """Assignments of trials that have started and not ended: those that run, or, after a kill, those to run again."""

    @property
    def next_number(self) -> int:
        """The number of the next trial."""
        return max([-1, *self.open, *(trial.number for trial in self.ended)]) + 1

    def start(self, number: int, assignments: dict[str, str]) -> None:
        """Record that a trial starts."""
        if self.open.get(number) != assignments:
            self._append({"start": {"number": number, "assignments": assignments}})
        self.open[number] = assignments

    def end(self, trial: Trial) -> None:
        """Record how a trial ended."""
        self._append({"end": asdict(trial)})
        self._apply({"end": asdict(trial)})

    def _apply(self, line: Mapping[str, Any]) -> None:
        if "start" in line:
            self.open[line["start"]["number"]] = line["start"]["assignments"]
        elif "end" in line:
            trial = Trial(**line["end"])
            self.open.pop(trial.number, None)
            self.ended.append(trial)

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def open_journal(folder: Path, identity: Mapping[str, str]) -> Journal:
    """Open the journal in a folder, or begin one; the caller holds the folder's lock.

    Args:
        folder: the search's folder; made where it is missing.
        identity: digests that identify the search, by name, such as `data`.

    Raises:
        InputError: the folder holds another search, or cannot be written.
    """
    file = folder / JOURNAL_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file.touch()
    except OSError as error:
        raise InputError(f"--out {folder} cannot be written ({error.strerror}): choose another folder") from error
    journal = Journal(file)
    lines = _complete_lines(file)
    if not lines:
        journal._append({"search": dict(identity)})
    for number, line in enumerate(lines):
        try:
            content = json.loads(line)
            if number == 0:
                _check_identity(content["search"], identity, folder)
            journal._apply(content)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{file} line {number + 1} is not readable: take the file away to begin the search anew"
            ) from error
    return journal


def _complete_lines(file: Path) -> list[str]:
    """Return the complete lines, and truncate the file after them: a kill may leave half a line."""
    content = file.read_bytes()
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(file, complete)
    return content[:complete].decode("utf-8", "replace").splitlines()


def _check_identity(found: Mapping[str, str], wanted: Mapping[str, str], folder: Path) -> None:
    for what, value in wanted.items():
        if found.get(what) != value:
            raise InputError(
                f"--out {folder} holds a search that differs in its {what} ({str(found.get(what))[:60]} there, "
                f"{value[:60]} now): choose another folder, or take {JOURNAL_FILE} away"
            )
