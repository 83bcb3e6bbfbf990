"""The judge's answer: what a rollout is stepped by, and all that it needs to know of the judge."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing the versions were compared by, in one sentence."""

    signal: str
    harm: bool
    evidence: float
    """How much likelier what was seen is if they differ than if they do not; at most a million."""
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What the evidence says so far."""

    harm: bool
    requests: int
    """That the canary had."""
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """What is wrong, or else what was compared."""
        return [check.reason for check in self.checks if check.harm] or [check.reason for check in self.checks]
