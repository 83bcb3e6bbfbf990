"""What the gate says of one thing that it looked at."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One check of the gate."""

    name: str
    """For machines."""
    passed: bool
    sentence: str
    """For people."""
    value: float | None = None
    threshold: float | None = None
    p_value: float | None = None
    """Of the test that decides, after Holm's correction where several tests decide together."""
