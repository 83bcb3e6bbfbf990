"""What is recorded of a rollout, and what was found out for its next step.

                 ready             weights, checks          all its pods           KServe agrees
    PREPARING ──────────► JUDGING ─────────────────► FILLING ─────────► PROMOTING ─────────────► PROMOTED
        └── deadline ────────┴── harm, no evidence ─────┴──► ROLLING_BACK ──► (Knative: RESTORING) ──► ROLLED_BACK

`steps` has the transitions, `wanted` what each phase makes of the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum

from components.rollout.inference_service import Service
from components.rollout.verdict import Verdict
from components.rollout.workloads import Workloads
from predictor.errors import InputError


class Phase(StrEnum):
    """Where a rollout stands."""

    PREPARING = "preparing"
    """The canary starts, without traffic."""
    JUDGING = "judging"
    """It has its weight, and is compared after every interval."""
    FILLING = "filling"
    """Nothing is held against it; it gets as many pods as the stable version has at least."""
    PROMOTING = "promoting"
    """It gets all traffic, and then the stable version's place."""
    ROLLING_BACK = "rolling back"
    """All traffic goes back to the stable version."""
    RESTORING = "restoring"
    """Knative: it has gone back; the spec goes back too, in a revision of its own."""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


ENDED = (Phase.PROMOTED, Phase.ROLLED_BACK)


@dataclass(frozen=True)
class ModelVersion:
    """A bundle that is or was served."""

    name: str
    """The first twelve digits of its digest."""
    uri: str


@dataclass(frozen=True)
class Settings:
    """How a canary is judged; the names are Flagger's."""

    interval: float = 120.0
    """Seconds between two checks."""
    step_weight: int = 10
    """Percent of traffic that it gets more at each step."""
    max_weight: int = 50
    """Percent of traffic from which it is promoted."""
    threshold: int = 1
    """Checks that fail, by harm or for want of evidence, before it is taken back."""
    min_requests: int = 500
    """That it must have had at a weight before the next."""
    deadline: float = 1800.0
    """Seconds that it may take to get ready, or to get on from one weight to the next."""

    @classmethod
    def named(cls, values: Mapping[str, float]) -> "Settings":
        """Make settings of numbers by name, as a pipeline has them, where 3 may come as 3.0.

        Raises:
            InputError: there is no such setting, a count is not whole, or they make no rollout.
        """
        kinds = {setting.name: int if setting.type is int else float for setting in fields(cls)}
        for name, value in values.items():
            if name not in kinds:
                raise InputError(f"there is no rollout setting {name}: name some of {', '.join(kinds)}")
            if kinds[name] is int and value != int(value):
                raise InputError(f"the rollout setting {name} is {value:g}: give a whole number")
        return cls(**{name: kinds[name](value) for name, value in values.items()})  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if not (0 < self.step_weight <= self.max_weight <= 100):
            raise InputError(
                f"step weight {self.step_weight} and maximum weight {self.max_weight} make no steps: give 0 < step <= "
                "maximum <= 100"
            )
        if not (self.interval > 0 and self.deadline > self.interval and self.threshold > 0 and self.min_requests >= 0):
            raise InputError(
                f"interval {self.interval:g}, deadline {self.deadline:g}, threshold {self.threshold} and minimum "
                f"requests {self.min_requests} do not fit: give 0 < interval < deadline and a threshold of at least 1"
            )


@dataclass(frozen=True)
class Rollout:
    """What is recorded of a rollout."""

    stable: ModelVersion
    canary: ModelVersion
    phase: Phase
    started: float
    """Unix seconds, like every time here."""
    since: float
    """When the phase, or in it the weight, began."""
    settings: Settings = field(default_factory=Settings)
    judged: bool = True
    """Whether it is compared before it is promoted; a return to an earlier version is not."""
    weight: int = 0
    """Percent of the traffic that goes to the canary, or is to."""
    judged_since: float = 0.0
    """When KServe first gave it traffic; 0 before."""
    checks: int = 0
    looked: int = 0
    """Intervals since then that the last check has seen the end of."""
    failed: int = 0
    requests: int = 0
    """That the canary had before this weight."""
    stable_revision: str = ""
    canary_revision: str = ""
    reasons: tuple[str, ...] = ()
    """Of the last check, or of the end."""
    owner: str = ""
    """The pipeline run that began it; empty where a person did."""
    canary_predictor: str = ""
    """Standard: the canary's name in the spec; empty for `v` and the version's."""
    stable_predictor: str = ""
    """Standard: the stable version's, empty where it has none."""
    running: int = 0
    """Standard: pods that the stable version had at the start and keeps; 0 in a record that says nothing of them."""
    min_replicas: int | None = None
    max_replicas: int | None = None
    """Standard: what the spec said before; it says so again at the end."""

    @property
    def predictor_name(self) -> str:
        """Standard: the canary's name in the spec."""
        return self.canary_predictor or f"v{self.canary.name}"

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.phase in ENDED


@dataclass(frozen=True)
class Observation:
    """What was found out for the next step."""

    service: Service
    now: float
    workloads: Workloads = field(default_factory=Workloads)
    """Standard: what KServe has made of it."""
    verdict: Verdict | None = None
    """None where no check is due."""
    missing_evidence: str = ""
    """Why a check that is due could not be made."""
    objection: str = ""
    """What speaks against giving the canary any traffic."""
