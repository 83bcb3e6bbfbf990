"""The recorded state of a rollout, and the observation that its next step is decided by.

                 ready             weights, checks          all its pods           KServe agrees
    PREPARING ──────────► JUDGING ─────────────────► FILLING ─────────► PROMOTING ─────────────► PROMOTED
        └── deadline ────────┴── harm, no evidence ─────┴──► ROLLING_BACK ──► (Knative: RESTORING) ──► ROLLED_BACK

`transitions.next_state` has the transitions, `desired_spec.spec_patch` the spec that belongs to each phase.
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
    """The canary starts, and gets no traffic."""
    JUDGING = "judging"
    """The canary has a share of traffic, and is compared with the stable version after every interval."""
    FILLING = "filling"
    """No check failed; the canary gets at least as many pods as the stable version."""
    PROMOTING = "promoting"
    """The canary gets all traffic, and then the stable version's place in the spec."""
    ROLLING_BACK = "rolling back"
    """All traffic goes back to the stable version."""
    RESTORING = "restoring"
    """Knative: the traffic is back; now the spec goes back, too, which makes a revision of its own."""
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
    """Percent of traffic that each step adds."""
    max_weight: int = 50
    """Percent of traffic at which the canary is promoted."""
    threshold: int = 1
    """Failed checks, by harm or missing evidence, that roll the canary back."""
    min_requests: int = 500
    """Requests that the canary must have had at one weight before the next step."""
    deadline: float = 1800.0
    """Seconds that the canary may take to get ready, or from one weight to the next."""

    @classmethod
    def named(cls, values: Mapping[str, float]) -> "Settings":
        """Make settings of a pipeline's parameter, in which 3 may be 3.0.

        Raises:
            InputError: there is no such setting, a value is no number or a count not whole, or the settings contradict
                each other.
        """
        kinds = {setting.name: int if setting.type is int else float for setting in fields(cls)}
        numbers = {}
        for name, value in values.items():
            if name not in kinds:
                raise InputError(f"there is no rollout setting {name}: name some of {', '.join(kinds)}")
            try:
                number = float(value)  # KFP takes any JSON, such as text
            except (TypeError, ValueError):
                raise InputError(f"the rollout setting {name} is {value!r}: give a number") from None
            if kinds[name] is int and not number.is_integer():
                raise InputError(f"the rollout setting {name} is {number:g}: give a whole number")
            numbers[name] = kinds[name](number)
        return cls(**numbers)  # type: ignore[arg-type]

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
    """The state of a rollout. Its field names are those of the record in the cluster, which other releases read."""

    stable: ModelVersion
    canary: ModelVersion
    phase: Phase
    started: float
    """Unix seconds, like every time here."""
    since: float
    """When the phase began, or the weight within it."""
    settings: Settings = field(default_factory=Settings)
    judged: bool = True
    """Whether the canary is compared before it is promoted; a return to an earlier version is not."""
    weight: int = 0
    """Percent of the traffic that the canary is to have."""
    judged_since: float = 0.0
    """When KServe first gave the canary traffic; 0 before."""
    checks: int = 0
    looked: int = 0
    """Whole intervals since then that the last check covered."""
    failed: int = 0
    requests: int = 0
    """Requests that the canary had before this weight."""
    stable_revision: str = ""
    canary_revision: str = ""
    reasons: tuple[str, ...] = ()
    """Why the last check came out as it did, or why the rollout ended."""
    owner: str = ""
    """The pipeline run that started it; empty where a person did."""
    canary_predictor: str = ""
    """Standard: the canary predictor's name in the spec; empty for `v` and the version's name."""
    stable_predictor: str = ""
    """Standard: the stable predictor's name in the spec, empty where it has none."""
    running: int = 0
    """Standard: pods that the stable version had at the start and keeps; 0 in records of earlier releases."""
    min_replicas: int | None = None
    max_replicas: int | None = None
    """Standard: the spec's replicas before the rollout, which it gets back at the end."""

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
    """What was read from the cluster, and concluded from it, for the next step."""

    service: Service
    now: float
    workloads: Workloads = field(default_factory=Workloads)
    """Standard: the service's Deployments and traffic."""
    verdict: Verdict | None = None
    """None where no check is due."""
    missing_evidence: str = ""
    """Why a check that was due could not be made; empty where it was made, or none was due."""
    objection: str = ""
    """Why the canary must not get any traffic, by the golden texts; empty where nothing speaks against it."""
