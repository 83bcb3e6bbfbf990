"""The judge's answer. It is apart from the judge so that the state machine does not load scipy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The comparison of both versions by one signal."""

    signal: str
    harm: bool
    evidence: float
    """How much likelier the counts are if the versions differ than if they do not; at most a million."""
    reason: str
    """One sentence with the figures."""


@dataclass(frozen=True)
class Verdict:
    """What all evidence so far says of a canary."""

    harm: bool
    requests: int
    """Requests that the canary had."""
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[str]:
        """The checks that found harm; all of them where none did."""
        return [check.reason for check in self.checks if check.harm] or [check.reason for check in self.checks]
