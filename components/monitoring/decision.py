"""Whether to stop, to ask for labels or to retrain: a pure function of what was seen, with its reasons."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from predictor.errors import InputError

STOP, LABEL, RETRAIN = "stop", "label", "retrain"
"""The answers."""
STARTED, SUBMITTED, PASSED, CLOSED, FAILED = "started", "submitted", "passed", "closed", "failed"
"""How far a training came: begun here, handed to Kubeflow, ended with the gate open or closed, or broken."""
_HOUR, _WEEK = 3600.0, 7 * 24 * 3600.0
_BEGUN_AT_MOST = 2
"""Trainings on the same rows that broke or were cut short: a third would end in the same way."""


@dataclass(frozen=True)
class Guards:
    """What keeps retraining from spinning."""

    cooldown_hours: float = 24.0
    """From the start of a training to that of the next one."""
    min_new_rows: float = 100
    """Labelled rows that the training set lacks."""
    max_a_week: float = 2
    """Trainings that begin within seven days."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"the guard {field.name} is {value:g}: give a number, 0 or more")

    @classmethod
    def named(cls, values: Mapping[str, float | str]) -> "Guards":
        """Make guards of a pipeline's parameter.

        Raises:
            InputError: there is no such guard, or a value is no number or below 0.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"there is no guard {unknown[0]}: choose from {', '.join(known)}")
        try:
            return cls(**{name: float(value) for name, value in values.items()})
        except (TypeError, ValueError) as error:
            raise error if isinstance(error, InputError) else InputError(f"a guard is no number ({error})") from None


@dataclass(frozen=True)
class Training:
    """A training that was started by this loop."""

    started: float
    """Unix seconds."""
    digest: str
    """SHA-256 of the rows that it trains on."""
    state: str = STARTED
    """One of `STARTED`, `SUBMITTED`, `PASSED`, `CLOSED` and `FAILED`."""
    cause: str = ""
    dataset: str = ""
    """The address of the rows."""
    run: str = ""
    """The id of the run on Kubeflow, or the folder of results."""


@dataclass(frozen=True)
class Seen:
    """What a verdict says, as far as it matters here."""

    rows: int
    """Of the window."""
    drifted: bool
    """Whether texts or answers have changed, or accuracy is shown to have fallen."""
    reasons: tuple[str, ...] = ()
    """Why, in words."""


@dataclass(frozen=True)
class Decision:
    """What to do next, and why."""

    answer: str
    """`STOP`, `LABEL` or `RETRAIN`."""
    reasons: list[str]
    new_rows: int
    digest: str
    """Of the rows that a training would read."""

    def save(self, file: Path) -> None:
        """Write as JSON."""
        file.write_text(json.dumps(asdict(self), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def seen_in(verdict: Mapping[str, Any]) -> Seen:
    """Return what a verdict says.

    Raises:
        InputError: it is no verdict.
    """
    try:
        rows, drifted = verdict["window"]["rows"], verdict["drifted"]
        reasons = tuple(map(str, verdict["reasons"]))
    except (KeyError, TypeError) as error:
        raise InputError(f"the verdict on drift has no {error}: run the drift step again") from error
    if not isinstance(drifted, bool) or not isinstance(rows, int):
        raise InputError("the verdict on drift is of another shape: run the drift step again")
    return Seen(rows, drifted, reasons)


def decide(
    seen: Seen, new_rows: int, digest: str, past: Sequence[Training], guards: Guards, now: float, alert: str = ""
) -> Decision:
    """Decide what follows from a window.

    There is cause to act where the window drifted, which a fall of accuracy is, too, or an alert asks for it. Then the
    guards are asked: too few new labelled rows, or none since the last training, mean that people should label some; a
    training that is too recent, or too many within a week, mean to wait.

    Args:
        seen: what the drift step found.
        new_rows: labelled rows that the training set lacks.
        digest: of the training set with them.
        past: trainings that were started before, in any order.
        guards: the limits.
        now: Unix seconds.
        alert: the alert that asks for an action, in words; empty for a scheduled round.
    """
    found = (seen.reasons or ("the window has drifted",)) if seen.drifted else ()
    causes = [cause for cause in (alert, *found) if cause]
    if not causes:
        why = "nothing drifted, and accuracy is not shown to have fallen" if seen.rows else "the window has no rows"
        return Decision(STOP, [why], new_rows, digest)
    if waits := [*waiting(past, guards, now)]:
        return Decision(STOP, [*waits, *causes], new_rows, digest)
    if lacks := [*_lacking(new_rows, digest, past, guards)]:
        return Decision(LABEL, [*lacks, *causes], new_rows, digest)
    return Decision(RETRAIN, [*causes, f"there are {new_rows:,} new labelled rows"], new_rows, digest)


def waiting(past: Sequence[Training], guards: Guards, now: float) -> Iterator[str]:
    """Yield why no training may start now, whatever its rows.

    A training of the future, as a clock that was set back leaves it, counts by its distance, so that it does not hold
    up all others until then.
    """
    ages = [abs(now - training.started) for training in past]
    if ages and min(ages) < guards.cooldown_hours * _HOUR:
        last = min(past, key=lambda training: abs(now - training.started))
        yield f"the last training began at {_utc(last.started)}, and {guards.cooldown_hours:g} hours have to pass"
    recent = sum(age < _WEEK for age in ages)
    if recent >= guards.max_a_week:
        yield f"{recent} trainings began within seven days, and {guards.max_a_week:g} may"


def _lacking(new_rows: int, digest: str, past: Sequence[Training], guards: Guards) -> Iterator[str]:
    """Yield what the rows lack for a training."""
    states = [training.state for training in past if training.digest == digest]
    if any(state in (SUBMITTED, PASSED, CLOSED) for state in states):
        yield f"a model was trained on just these rows already ({digest[:12]}), and would come out the same"
    elif len(states) >= _BEGUN_AT_MOST:
        yield f"{len(states)} trainings on just these rows ({digest[:12]}) broke or were cut short"
    if new_rows < max(1, guards.min_new_rows):
        yield f"there are {new_rows:,} new labelled rows, and retraining needs {max(1, guards.min_new_rows):,g}"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
