"""A rollout as a state machine: pure functions from what is recorded and seen to what is recorded and wanted next.

                 ready             weights, checks          all its pods           KServe agrees
    PREPARING ──────────► JUDGING ─────────────────► FILLING ─────────► PROMOTING ─────────────► PROMOTED
        └── deadline ────────┴── harm, no evidence ─────┴──► ROLLING_BACK ──► (Knative: RESTORING) ──► ROLLED_BACK

What is wanted follows from the recorded phase alone, and the record is written first. So a process may be killed
anywhere: the next one finds the record, makes the service what it wants, and goes on.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from components.rollout.inference_service import Service
from components.rollout.judge import Verdict
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
    ROLLING_BACK = "rolling back"
    """All traffic goes back to the stable version."""
    RESTORING = "restoring"
    """Knative: it has gone back; the spec goes back too, in a revision of its own."""
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


ENDED = (Phase.PROMOTED, Phase.ROLLED_BACK)


@dataclass(frozen=True)
class Version:
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

    stable: Version
    canary: Version
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
    failed: int = 0
    requests: int = 0
    """That the canary had before this weight."""
    stable_revision: str = ""
    canary_revision: str = ""
    reasons: tuple[str, ...] = ()
    """Of the last check, or of the end."""

    @property
    def predictor_name(self) -> str:
        """Standard: the canary's name in the spec."""
        return f"v{self.canary.name}"

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.phase in ENDED


@dataclass(frozen=True)
class Seen:
    """What was found out for the next step."""

    service: Service
    now: float
    pods: int = 0
    """Standard: of the canary, that can serve."""
    verdict: Verdict | None = None
    """None where no check is due."""
    blind: str = ""
    """Why a check that is due could not be made."""
    objection: str = ""
    """What speaks against giving the canary any traffic."""


def wanted(rollout: Rollout, service: Service) -> dict[str, Any] | None:
    """Return the merge patch that makes the service's spec what the rollout wants; None where it is so already."""
    if rollout.ended:
        return None
    return _wanted_standard(rollout, service) if service.standard else _wanted_knative(rollout, service)


def _wanted_standard(rollout: Rollout, service: Service) -> dict[str, Any] | None:
    if rollout.phase in (Phase.ROLLING_BACK, Phase.RESTORING):
        return {"canary": None} if service.canaries else None
    model = {"modelFormat": service.predictor["model"]["modelFormat"], "storageUri": rollout.canary.uri}
    if rollout.phase is Phase.PROMOTING:
        promoted = _holds(service.predictor, {"name": rollout.predictor_name, "model": model})
        # Its name is the Deployment's: with the canary's, KServe keeps the canary's pods and drops the others.
        if promoted and not service.canaries:
            return None
        return {"predictor": {"name": rollout.predictor_name, "model": model}, "canary": None}
    share = 1.0 if rollout.phase is Phase.FILLING or not rollout.judged else rollout.weight / 100
    pods = max(1, math.ceil(service.replicas * share))
    predictor = {"name": rollout.predictor_name, "minReplicas": pods, "model": model}
    canary = {"predictor": predictor, "trafficPercent": rollout.weight}
    there = len(service.canaries) == 1 and _holds(service.canaries[0], canary)
    return None if there else {"canary": [canary]}


def _holds(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether everything wanted is there; KServe's webhook may add fields, and may drop a zero."""
    return all(
        _holds(found.get(key) or {}, value) if isinstance(value, Mapping) else (found.get(key) or 0) == (value or 0)
        for key, value in wanted.items()
    )


def _wanted_knative(rollout: Rollout, service: Service) -> dict[str, Any] | None:
    untouched = service.uri == rollout.stable.uri and service.percent is None
    if rollout.phase is Phase.ROLLING_BACK:
        # The first thing is traffic: 0 sends it back at once, whatever the spec says beside it.
        return None if untouched or _foreign(rollout, service) else _percent(service, service.uri, 0)
    if rollout.phase is Phase.RESTORING:
        return None if untouched else _percent(service, rollout.stable.uri, None if _restored(rollout, service) else 0)
    if rollout.phase is Phase.PROMOTING:
        return _percent(service, rollout.canary.uri, None)
    return _percent(service, rollout.canary.uri, rollout.weight)


def _percent(service: Service, uri: str, percent: int | None) -> dict[str, Any] | None:
    if service.uri == uri and service.percent == percent:
        return None
    return {"predictor": {"canaryTrafficPercent": percent, "model": {"storageUri": uri}}}


def advance(rollout: Rollout, seen: Seen) -> Rollout:
    """Return what is to be recorded next; the same where there is nothing to do but to wait."""
    service, now = seen.service, seen.now
    if not rollout.ended and rollout.phase is not Phase.ROLLING_BACK and _foreign(rollout, service):
        return back(rollout, now, f"somebody else changed inferenceservice {service.name} meanwhile")
    late = now - rollout.since > rollout.settings.deadline
    match rollout.phase:
        case Phase.PREPARING if seen.objection:
            return back(rollout, now, seen.objection)
        case Phase.PREPARING if applied(rollout, service):
            next_phase = Phase.JUDGING if rollout.judged else Phase.FILLING
            weight = rollout.settings.step_weight if rollout.judged else 0
            return replace(rollout, phase=next_phase, weight=weight, since=now)
        case Phase.PREPARING if late:
            return back(rollout, now, f"the canary is not ready after {rollout.settings.deadline:g} s")
        case Phase.JUDGING:
            return _judged(rollout, seen, late)
        case Phase.FILLING if not service.standard or seen.pods >= service.replicas:
            return replace(rollout, phase=Phase.PROMOTING, since=now)
        case Phase.FILLING if late:
            return back(rollout, now, f"only {seen.pods} of {service.replicas} pods are ready")
        case Phase.PROMOTING if wanted(rollout, service) is None:
            return replace(rollout, phase=Phase.PROMOTED, since=now, weight=100)
        case Phase.ROLLING_BACK if wanted(rollout, service) is None:
            done = service.standard or service.uri == rollout.stable.uri or _foreign(rollout, service)
            if done:
                return replace(rollout, phase=Phase.ROLLED_BACK, since=now)
            newest = str(service.revisions.get("latestCreatedRevision", ""))
            return replace(rollout, phase=Phase.RESTORING, since=now, canary_revision=newest)
        case Phase.RESTORING if wanted(rollout, service) is None and service.percent is None:
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now)
        case Phase.RESTORING if late:
            more = "its revision does not get ready again, so canaryTrafficPercent stays 0: look at it before the next"
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now, reasons=(*rollout.reasons, more))
    return rollout


def back(rollout: Rollout, now: float, *reasons: str) -> Rollout:
    """Return the rollout on its way back to the stable version."""
    return replace(rollout, phase=Phase.ROLLING_BACK, since=now, weight=0, reasons=reasons)


def _judged(rollout: Rollout, seen: Seen, late: bool) -> Rollout:
    settings = rollout.settings
    if not rollout.judged_since:
        if applied(rollout, seen.service):
            stable, canary = _revisions(rollout, seen.service)
            return replace(
                rollout, judged_since=seen.now, since=seen.now, stable_revision=stable, canary_revision=canary
            )
        return back(rollout, seen.now, "KServe did not give the canary its traffic") if late else rollout
    if not seen.blind and seen.verdict is None:
        return rollout
    failed = rollout.failed + bool(seen.blind or (seen.verdict and seen.verdict.harm))
    reasons = (seen.blind,) if seen.verdict is None else tuple(seen.verdict.reasons)
    rollout = replace(rollout, checks=rollout.checks + 1, failed=failed, reasons=reasons)
    if failed >= settings.threshold:
        return back(rollout, seen.now, *reasons)
    if seen.verdict is None or seen.verdict.harm:
        return rollout
    here = seen.verdict.requests - rollout.requests
    if here < settings.min_requests:
        few = f"the canary had {here} requests at {rollout.weight}%, {settings.min_requests} are wanted"
        return back(rollout, seen.now, few) if late else replace(rollout, reasons=(few,))
    if rollout.weight >= settings.max_weight:
        return replace(rollout, phase=Phase.FILLING, since=seen.now)
    weight = min(rollout.weight + settings.step_weight, settings.max_weight)
    return replace(rollout, weight=weight, since=seen.now, requests=seen.verdict.requests)


def applied(rollout: Rollout, service: Service) -> bool:
    """Say whether KServe has the canary ready, at the weight that is wanted."""
    if wanted(rollout, service) is not None:
        return False
    if service.standard:
        status = service.canary_status(rollout.predictor_name)
        return bool(status.get("ready")) and status.get("trafficPercent", 0) == rollout.weight
    revisions = service.revisions
    newest = revisions.get("latestCreatedRevision")
    moved = newest != revisions.get("latestRolledoutRevision") and newest == revisions.get("latestReadyRevision")
    shares = [t.get("percent", 0) for t in revisions.get("traffic") or [] if t.get("latestRevision")]
    return bool(newest) and moved and shares == [rollout.weight]


def _revisions(rollout: Rollout, service: Service) -> tuple[str, str]:
    """Return what the stable version's metrics and the canary's name as revision."""
    if service.standard:
        return rollout.stable.name, rollout.canary.name
    found: Mapping[str, Any] = service.revisions
    return str(found.get("latestRolledoutRevision", "")), str(found.get("latestCreatedRevision", ""))


def _restored(rollout: Rollout, service: Service) -> bool:
    """Say whether Knative has a ready revision of the stable version again."""
    newest = service.revisions.get("latestCreatedRevision")
    ready = bool(newest) and newest == service.revisions.get("latestReadyRevision")
    other = newest == rollout.stable_revision or newest != rollout.canary_revision
    return service.uri == rollout.stable.uri and ready and other


def _foreign(rollout: Rollout, service: Service) -> bool:
    """Say whether the service is what no step of this rollout makes of it."""
    if service.uri not in (rollout.stable.uri, rollout.canary.uri):
        return True
    begun = rollout.phase in (Phase.JUDGING, Phase.FILLING)
    if service.standard:
        taken = begun and [c["predictor"].get("name") for c in service.canaries] != [rollout.predictor_name]
        return taken or (rollout.phase is not Phase.PROMOTING and service.uri == rollout.canary.uri)
    return begun and service.uri != rollout.canary.uri
