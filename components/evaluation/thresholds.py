"""The thresholds of the gate."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite

from predictor.errors import InputError


@dataclass(frozen=True)
class Thresholds:
    """What a candidate has to reach; shares are of 1.

    A share that is counted on few rows is compared with its threshold by a test: it fails where it is shown to be on
    the wrong side, not where it is by chance.
    """

    min_accuracy: float = 0.9
    """Accuracy on the test rows."""
    min_micro_f1: float = 0.7
    """Of a multi-label model, in place of the accuracy: micro F1 over all labels of the test rows."""
    min_class_recall: float = 0.2
    """Of the rows of each class, those that are found."""
    slice_margin: float = 0.15
    """How far the accuracy of a slice may be under min_accuracy; of a multi-label model, under that of all rows."""
    behaviour_margin: float = 0.0
    """How far a behavioural test may be under its floor."""
    champion_margin: float = 0.0
    """How much accuracy, or micro F1, the candidate may be shown to lose against the champion."""
    max_calibration_error: float = 0.1
    """Expected calibration error, beyond what chance explains on as many rows."""
    min_agreement: float = 0.97
    """Rows on which the served precision and fp32 give the same label."""
    max_cascade_loss: float = 0.001
    """Accuracy that the cascade may be shown to lose against its transformer alone."""
    max_latency_ms: float = 500.0
    """Of a single text on the machine of the test, the 99th percentile."""
    max_size_mb: float = 2000.0
    """All files of the bundle, in MB of 1,000,000 bytes."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value >= 0):
                raise InputError(f"the gate's threshold {field.name} is {value:g}: give a number, 0 or more")
            if not field.name.endswith(("_ms", "_mb")) and value > 1:
                raise InputError(
                    f"the gate's threshold {field.name} is {value:g}: give a share of 1, such as {field.default}"
                )

    @classmethod
    def named(cls, values: Mapping[str, float | str]) -> "Thresholds":
        """Make thresholds of a pipeline's parameter.

        Raises:
            InputError: there is no such threshold, or a value is no number or out of range.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise InputError(f"the gate has no threshold '{unknown[0]}': it has {', '.join(known)}")
        numbers = {}
        for name, value in values.items():
            try:
                numbers[name] = float(value)  # KFP takes any JSON, such as text
            except (TypeError, ValueError):
                raise InputError(f"the gate's threshold {name} is {value!r}: give a number") from None
        return cls(**numbers)
