"""The verdict of a window, as it is kept in `verdict.json` and published."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from components.monitoring import metric_names as names
from components.monitoring.drift.accuracy import Accuracy
from components.monitoring.drift.index import Part
from components.monitoring.publish import Value
from predictor.errors import InputError, one_line
from predictor.files import whole

VERDICT_FILE = "verdict.json"


@dataclass(frozen=True)
class Span:
    """What was looked at."""

    since: str
    """ISO 8601 times of the first text and the last; empty where nobody knows."""
    until: str
    rows: int


@dataclass(frozen=True)
class Verdict:
    """What a window says of a model."""

    model: str
    bundle: str
    """The digest."""
    window: Span
    drift: float
    """The index: over 0.2 if the training data does not stand any more for what comes in; 0 of too few texts."""
    parts: Mapping[str, Part]
    feedback: Accuracy | None
    estimate: Accuracy | None
    baseline: float | None
    reasons: list[str]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Records that did not count, by reason."""

    @property
    def drifted(self) -> bool:
        """Whether any part drifted, or the accuracy dropped."""
        accuracies = (self.feedback, self.estimate)
        return any(part.drifted for part in self.parts.values()) or any(each and each.drifted for each in accuracies)

    def as_json(self) -> dict[str, Any]:
        """Return what `verdict.json` holds."""
        return {
            "model": self.model,
            "bundle": self.bundle,
            "window": {"from": self.window.since, "to": self.window.until, "rows": self.window.rows},
            "drift": self.drift,
            "parts": {name: asdict(part) for name, part in self.parts.items()},
            "accuracy": {
                "feedback": asdict(self.feedback) if self.feedback else None,
                "estimate": asdict(self.estimate) if self.estimate else None,
                "baseline": self.baseline,
            },
            "drifted": self.drifted,
            "reasons": self.reasons,
            "left_out": dict(self.left_out),
        }

    def save(self, file: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            with whole(file) as aside:
                aside.write_text(json.dumps(self.as_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"{file} cannot be written ({one_line(error)}): choose another place") from error

    def values(self, seconds: float) -> list[Value]:
        """Return the gauges; what is not known has none.

        Args:
            seconds: the time of the run, since 1970.
        """
        model = {names.MODEL: self.model}
        found = [
            Value(names.WINDOW_ROWS, self.window.rows, "Texts of the last window.", model),
            Value(names.MONITOR_TIME, seconds, "Time of the last run, in seconds since 1970.", model),
            Value(names.FEEDBACK_ROWS, self.feedback.rows if self.feedback else 0, "True labels of the window.", model),
        ]
        found += [
            Value(names.DRIFT_PART, part.score, "The same for each part of it.", {**model, names.PART: name})
            for name, part in self.parts.items()
            if part.score is not None
        ]
        if any(part.score is not None for part in self.parts.values()):
            about = "Drift index of the last window: over 0.2 the data has changed."
            found.append(Value(names.DRIFT, self.drift, about, model))
        if self.baseline is not None and math.isfinite(self.baseline):
            found.append(Value(names.BASELINE, self.baseline, "Accuracy before the model went into service.", model))
        for source, each in ((names.FEEDBACK, self.feedback), (names.ESTIMATE, self.estimate)):
            if each:
                labels = {**model, names.SOURCE: source}
                found += [
                    Value(names.ACCURACY, each.value, "Accuracy of the window's answers.", labels),
                    Value(names.ACCURACY_LOW, each.low, "Lower end of its 95% interval.", labels),
                    Value(names.ACCURACY_HIGH, each.high, "Upper end of its 95% interval.", labels),
                ]
        return found
