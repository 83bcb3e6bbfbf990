"""What a search has done so far, in one file that survives a kill at any moment."""

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
    """succeeded; stopped, because it was behind the others; or failed."""
    printed: dict[str, list[float]]
    """For each metric what the trial printed, in order."""
    seconds: float
    reason: str = ""
    """The last line a failed trial printed."""


@dataclass
class Journal:
    """The trials of a search: a line when one starts, a line when it ends."""

    file: Path
    ended: list[Trial] = field(default_factory=list)
    """In the order they ended."""
    open: dict[int, dict[str, str]] = field(default_factory=dict)
    """Assignments of trials that started and did not end: running ones, or, after a kill, those to run again."""

    @property
    def next_number(self) -> int:
        """The number of the first trial that never started."""
        return max([-1, *self.open, *(trial.number for trial in self.ended)]) + 1

    def start(self, number: int, assignments: dict[str, str]) -> None:
        """Note that a trial starts."""
        if self.open.get(number) != assignments:
            self._append({"start": {"number": number, "assignments": assignments}})
        self.open[number] = assignments

    def end(self, trial: Trial) -> None:
        """Note how a trial ended."""
        self._append({"end": asdict(trial)})
        self._take({"end": asdict(trial)})

    def _take(self, line: Mapping[str, Any]) -> None:
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
    """Open a folder's journal, or begin one; the caller sees to it that nobody else writes there meanwhile.

    Args:
        folder: the search's folder; made where it is missing.
        identity: what the search is about, from a word such as `data` to what tells two apart.

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
    lines = _whole_lines(file)
    if not lines:
        journal._append({"search": dict(identity)})
    for number, line in enumerate(lines):
        try:
            content = json.loads(line)
            if number == 0:
                _check_identity(content["search"], identity, folder)
            journal._take(content)
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{file} line {number + 1} is not readable: take the file away to begin the search anew"
            ) from error
    return journal


def _whole_lines(file: Path) -> list[str]:
    """Return the lines, and cut off a last one that a kill left half written."""
    content = file.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(file, whole)
    return content[:whole].decode("utf-8", "replace").splitlines()


def _check_identity(found: Mapping[str, str], wanted: Mapping[str, str], folder: Path) -> None:
    for what, value in wanted.items():
        if found.get(what) != value:
            raise InputError(
                f"--out {folder} holds a search that differs in its {what} ({str(found.get(what))[:60]} there, "
                f"{value[:60]} now): choose another folder, or take {JOURNAL_FILE} away"
            )
