"""The state machine of a rollout: pure functions from its state and what was observed to its next state."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from components.rollout.desired_spec import (
    changed_by_others,
    has_all_pods,
    has_replaced_stable,
    is_applied,
    newest_share,
    spec_patch,
)
from components.rollout.inference_service import Service
from components.rollout.state import Observation, Phase, Rollout

_TRAFFIC_STUCK = "KServe does not move its traffic, as it does only while all pods of the stable version are available"


def next_state(rollout: Rollout, observed: Observation) -> Rollout:
    """Return the next state; the same state where there is nothing to do but wait."""
    service, now = observed.service, observed.now
    if not rollout.ended and rollout.phase is not Phase.ROLLING_BACK and changed_by_others(rollout, service):
        return rolling_back(rollout, now, f"somebody else changed inferenceservice {service.name} meanwhile")
    late = now - rollout.since > rollout.settings.deadline
    match rollout.phase:
        case Phase.PREPARING if observed.objection:
            return rolling_back(rollout, now, observed.objection)
        case Phase.PREPARING if is_applied(rollout, service, observed.workloads):
            next_phase = Phase.JUDGING if rollout.judged else Phase.FILLING
            weight = rollout.settings.step_weight if rollout.judged else 0
            return replace(rollout, phase=next_phase, weight=weight, since=now)
        case Phase.PREPARING if late:
            return rolling_back(rollout, now, f"the canary is not ready after {rollout.settings.deadline:g} s")
        case Phase.JUDGING:
            return _next_judging(rollout, observed, late)
        case Phase.FILLING if not service.standard or has_all_pods(rollout, service, observed.workloads):
            return replace(rollout, phase=Phase.PROMOTING, since=now)
        case Phase.FILLING if late:
            return rolling_back(rollout, now, _few_pods(observed))
        case Phase.PROMOTING if _is_promoted(rollout, observed):
            return replace(rollout, phase=Phase.PROMOTED, since=now, weight=100)
        case Phase.ROLLING_BACK if _is_rolled_back(rollout, observed):
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now)
        case Phase.ROLLING_BACK if not service.standard and spec_patch(rollout, service, observed.workloads) is None:
            newest = str(service.revisions.get("latestCreatedRevision", ""))
            return replace(rollout, phase=Phase.RESTORING, since=now, canary_revision=newest)
        case Phase.RESTORING if spec_patch(rollout, service, observed.workloads) is None and _newest_has_all(service):
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now)
        case Phase.RESTORING if late:
            more = "its revision does not get ready again, so canaryTrafficPercent stays 0: look at it before the next"
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now, reasons=(*rollout.reasons, more))
        case Phase.PROMOTING | Phase.ROLLING_BACK if (
            late and service.standard and _TRAFFIC_STUCK not in rollout.reasons
        ):
            # Waiting is the safe choice: pods that still get traffic must not be removed.
            return replace(rollout, reasons=(*rollout.reasons, _TRAFFIC_STUCK))
    return rollout


def rolling_back(rollout: Rollout, now: float, *reasons: str) -> Rollout:
    """Return the state in which the stable version gets all traffic back."""
    return replace(rollout, phase=Phase.ROLLING_BACK, since=now, weight=0, reasons=reasons)


def _next_judging(rollout: Rollout, observed: Observation, late: bool) -> Rollout:
    settings, there = rollout.settings, is_applied(rollout, observed.service, observed.workloads)
    if not rollout.judged_since:
        if there:
            stable, canary = _revision_labels(rollout, observed.service)
            return replace(
                rollout, judged_since=observed.now, since=observed.now, stable_revision=stable, canary_revision=canary
            )
        return rolling_back(rollout, observed.now, _why_not_applied(rollout, observed)) if late else rollout
    if not observed.missing_evidence and observed.verdict is None:
        return rollout
    failed = rollout.failed + bool(observed.missing_evidence or (observed.verdict and observed.verdict.harm))
    reasons = (observed.missing_evidence,) if observed.verdict is None else tuple(observed.verdict.reasons)
    # A check without evidence does not use up its interval: it is made again as soon as there is evidence.
    looked = whole_intervals(rollout, observed.now) - (observed.verdict is None)
    rollout = replace(rollout, checks=rollout.checks + 1, looked=looked, failed=failed, reasons=reasons)
    if failed >= settings.threshold:
        return rolling_back(rollout, observed.now, *reasons)
    if observed.verdict is None or observed.verdict.harm:
        return rollout
    if not there:
        held = _why_not_applied(rollout, observed)
        return rolling_back(rollout, observed.now, held) if late else replace(rollout, reasons=(held,))
    here = observed.verdict.requests - rollout.requests
    if here < settings.min_requests:
        few = f"the canary had {here} requests at {rollout.weight}%, {settings.min_requests} are wanted"
        return rolling_back(rollout, observed.now, few) if late else replace(rollout, reasons=(few,))
    if rollout.weight >= settings.max_weight:
        return replace(rollout, phase=Phase.FILLING, since=observed.now)
    weight = min(rollout.weight + settings.step_weight, settings.max_weight)
    return replace(rollout, weight=weight, since=observed.now, requests=observed.verdict.requests)


def whole_intervals(rollout: Rollout, now: float) -> int:
    """Return for how many whole intervals the canary has had traffic."""
    return int((now - rollout.judged_since) // rollout.settings.interval)


def _why_not_applied(rollout: Rollout, observed: Observation) -> str:
    short = observed.service.standard and spec_patch(rollout, observed.service, observed.workloads) is None
    if short and not has_all_pods(rollout, observed.service, observed.workloads):
        return _few_pods(observed)
    return f"KServe does not give the canary its {rollout.weight}% of the traffic"


def _few_pods(observed: Observation) -> str:
    serving = observed.workloads.canary.available if observed.workloads.canary else 0
    pods = max((int(c["predictor"].get("minReplicas") or 1) for c in observed.service.canaries), default=1)
    return f"only {serving} of the canary's {pods} pods are ready"


def _is_promoted(rollout: Rollout, observed: Observation) -> bool:
    """Whether the canary has all traffic and the stable version's pods are gone."""
    service, workloads = observed.service, observed.workloads
    if spec_patch(rollout, service, workloads) is not None:
        return False
    if not service.standard:
        return _newest_has_all(service)
    return (
        has_replaced_stable(rollout, service)
        and service.ready
        and workloads.stable is None
        and workloads.canary_share == 100
    )


def _is_rolled_back(rollout: Rollout, observed: Observation) -> bool:
    """Whether nothing of the canary is left; in Knative mode, whether the service never had it."""
    service, workloads = observed.service, observed.workloads
    if spec_patch(rollout, service, workloads) is not None:
        return False
    if not service.standard:
        return service.uri == rollout.stable.uri or changed_by_others(rollout, service)
    there = rollout.predictor_name in [c["predictor"].get("name") for c in service.canaries]
    kept = has_replaced_stable(rollout, service)  # somebody else promoted it
    return not there and (kept or (workloads.canary is None and workloads.canary_share == 0))


def _newest_has_all(service: Service) -> bool:
    return service.percent is None and newest_share(service) == 100


def _revision_labels(rollout: Rollout, service: Service) -> tuple[str, str]:
    """Return the `revision` label of the stable version's metrics and of the canary's."""
    if service.standard:
        return rollout.stable.name, rollout.canary.name
    found: Mapping[str, Any] = service.revisions
    return str(found.get("latestRolledoutRevision", "")), str(found.get("latestCreatedRevision", ""))
