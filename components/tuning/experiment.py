"""A Katib Experiment, as far as a search needs it; `validation` reads it from the file."""

import hashlib
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

PLACEHOLDER = re.compile(r"\$\{trialParameters\.([^}]*)\}")
# What may change between two runs of the same search.
_BUDGET = ("maxTrialCount", "parallelTrialCount", "maxFailedTrialCount")


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search: a range (`double`, `int`) or a list (`discrete`, `categorical`)."""

    name: str
    kind: str
    choices: tuple[str, ...] = ()
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    step: Decimal | None = None
    """Distance between allowed values, counted from `low`; None for all numbers in the range."""
    distribution: str = "uniform"

    def grid(self) -> list[str]:
        """Return every allowed value as text, none for a range without a step."""
        if self.choices:
            return list(self.choices)
        return [self.at(index) for index in range(self.steps)] if self.step else []

    @property
    def steps(self) -> int:
        """How many values a range with a step has."""
        assert self.step
        return int((self.high - self.low) / self.step) + 1

    def at(self, index: int) -> str:
        """Return the value `index` steps above the lowest, exact and as text."""
        assert self.step
        return format(self.low + index * self.step, "f")


@dataclass(frozen=True)
class Objective:
    """What the search optimises: a metric that the trials print, to be maximised or minimised."""

    metric: str
    maximize: bool
    goal: float | None
    additional: tuple[str, ...]
    strategies: Mapping[str, str]
    """For each metric which of its printed values is taken: max, min or latest."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The objective's metric and the additional ones."""
        return (self.metric, *self.additional)

    def value(self, metric: str, printed: Sequence[float]) -> float:
        """Return the printed value that the metric's strategy takes."""
        strategy = self.strategies[metric]
        if strategy == "latest":
            return printed[-1]
        return max(printed) if strategy == "max" else min(printed)

    def better(self, one: float, other: float) -> bool:
        """Say whether the first value is strictly better than the second."""
        return one > other if self.maximize else one < other

    def reached(self, value: float) -> bool:
        """Say whether there is a goal and the value reaches it."""
        return self.goal is not None and not self.better(self.goal, value)


@dataclass(frozen=True)
class MedianStopping:
    """Early stopping of a trial that is behind the median of the finished trials after `start_step` values.

    As in Katib the threshold is set when a trial starts, and compared once, at `start_step`, with the trial's best
    value so far. Katib 0.19 calls it the median, but takes the mean of the finished trials' averages; here it is the
    median.
    """

    min_trials_required: int = 3
    start_step: int = 4

    def threshold(self, succeeded: Sequence[Sequence[float]]) -> float | None:
        """Return the value that a new trial has to reach, None while too few trials have succeeded.

        Args:
            succeeded: for each succeeded trial the values it printed for the objective, in order.
        """
        if len(succeeded) < self.min_trials_required:
            return None
        return statistics.median(statistics.fmean(printed[: self.start_step]) for printed in succeeded)


@dataclass(frozen=True)
class Experiment:
    """A search: its objective, its space, the algorithm that samples it, and the command of a trial."""

    name: str
    objective: Objective
    algorithm: str
    settings: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    early_stopping: MedianStopping | None
    parallel: int
    max_trials: int
    max_failed: int | None
    command: tuple[str, ...]
    references: Mapping[str, str]
    """From the name of each trial parameter to the search parameter that it refers to."""
    metric_formats: tuple[str, ...]
    document: Mapping[str, Any]
    """The file's content as it was read."""

    @property
    def digest(self) -> str:
        """SHA-256 of the spec without its budget, which identifies the search."""
        spec = {name: value for name, value in self.document["spec"].items() if name not in _BUDGET}
        return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()

    def command_for(self, assignments: Mapping[str, str]) -> list[str]:
        """Return the trial's command with its placeholders filled."""
        return [PLACEHOLDER.sub(lambda found: assignments[self.references[found[1]]], word) for word in self.command]

    def argument(self, flag: str) -> str:
        """Return what the trial's command gives for a flag such as `--backbone`, empty where it lacks the flag."""
        words = list(self.command)
        for index, word in enumerate(words):
            if word == flag and index + 1 < len(words):
                return words[index + 1]
            if word.startswith(f"{flag}="):
                return word.partition("=")[2]
        return ""

    def with_arguments(self, values: Mapping[str, str]) -> dict[str, Any]:
        """Return the document with other values after flags of the trial's command.

        The command in the file runs as it is; a pipeline or the command line replaces data, backbone and so on. Flags
        that the command lacks are ignored, since a trial may be another program than ours.

        Args:
            values: from flag, such as `--data`, to its value; empty values are left as the file has them.
        """
        document: dict[str, Any] = deepcopy(dict(self.document))
        container = primary_container(document)
        for flag, value in values.items():
            for part in ("command", "args") if value else ():
                words = container.get(part) or []
                for index, word in enumerate(words):
                    if index and words[index - 1] == flag:
                        words[index] = value
                    elif word.startswith(f"{flag}="):
                        words[index] = f"{flag}={value}"
        return document


@dataclass(frozen=True)
class Outcome:
    """How a search ended, on one machine or on a cluster."""

    succeeded: bool
    reason: str
    best_trial: str
    objective: float | None
    metrics: Mapping[str, float]
    assignments: dict[str, str]
    counts: Mapping[str, int]


def primary_container(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the container of the trial template whose output has the metrics.

    Raises:
        KeyError: the template has none of that name.
    """
    template = document["spec"]["trialTemplate"]
    containers = template["trialSpec"]["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] | None = next((c for c in containers if c["name"] == template["primaryContainerName"]), None)
    if found is None:
        raise KeyError(template["primaryContainerName"])
    return found
