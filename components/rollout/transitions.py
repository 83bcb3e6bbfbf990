"""A rollout's steps: pure functions from what is recorded and seen to what is recorded next."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from components.rollout.desired_spec import applied, filled, foreign, has_place, newest_share, wanted
from components.rollout.inference_service import Service
from components.rollout.state import Phase, Rollout, Seen

_HELD = "KServe does not move its traffic, as it does only while all pods of the stable version are available"


def advance(rollout: Rollout, seen: Seen) -> Rollout:
    """Return what is to be recorded next; the same where there is nothing to do but to wait."""
    service, now = seen.service, seen.now
    if not rollout.ended and rollout.phase is not Phase.ROLLING_BACK and foreign(rollout, service):
        return back(rollout, now, f"somebody else changed inferenceservice {service.name} meanwhile")
    late = now - rollout.since > rollout.settings.deadline
    match rollout.phase:
        case Phase.PREPARING if seen.objection:
            return back(rollout, now, seen.objection)
        case Phase.PREPARING if applied(rollout, service, seen.deployed):
            next_phase = Phase.JUDGING if rollout.judged else Phase.FILLING
            weight = rollout.settings.step_weight if rollout.judged else 0
            return replace(rollout, phase=next_phase, weight=weight, since=now)
        case Phase.PREPARING if late:
            return back(rollout, now, f"the canary is not ready after {rollout.settings.deadline:g} s")
        case Phase.JUDGING:
            return _judged(rollout, seen, late)
        case Phase.FILLING if not service.standard or filled(rollout, service, seen.deployed):
            return replace(rollout, phase=Phase.PROMOTING, since=now)
        case Phase.FILLING if late:
            return back(rollout, now, _few_pods(seen))
        case Phase.PROMOTING if _promoted(rollout, seen):
            return replace(rollout, phase=Phase.PROMOTED, since=now, weight=100)
        case Phase.ROLLING_BACK if _rolled_back(rollout, seen):
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now)
        case Phase.ROLLING_BACK if not service.standard and wanted(rollout, service, seen.deployed) is None:
            newest = str(service.revisions.get("latestCreatedRevision", ""))
            return replace(rollout, phase=Phase.RESTORING, since=now, canary_revision=newest)
        case Phase.RESTORING if wanted(rollout, service, seen.deployed) is None and _all_newest(service):
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now)
        case Phase.RESTORING if late:
            more = "its revision does not get ready again, so canaryTrafficPercent stays 0: look at it before the next"
            return replace(rollout, phase=Phase.ROLLED_BACK, since=now, reasons=(*rollout.reasons, more))
        case Phase.PROMOTING | Phase.ROLLING_BACK if late and service.standard and _HELD not in rollout.reasons:
            # Nothing else would be safer than to wait: pods that still get traffic must not go.
            return replace(rollout, reasons=(*rollout.reasons, _HELD))
    return rollout


def back(rollout: Rollout, now: float, *reasons: str) -> Rollout:
    """Return the rollout on its way back to the stable version."""
    return replace(rollout, phase=Phase.ROLLING_BACK, since=now, weight=0, reasons=reasons)


def _judged(rollout: Rollout, seen: Seen, late: bool) -> Rollout:
    settings, there = rollout.settings, applied(rollout, seen.service, seen.deployed)
    if not rollout.judged_since:
        if there:
            stable, canary = _revisions(rollout, seen.service)
            return replace(
                rollout, judged_since=seen.now, since=seen.now, stable_revision=stable, canary_revision=canary
            )
        return back(rollout, seen.now, _why_not_there(rollout, seen)) if late else rollout
    if not seen.blind and seen.verdict is None:
        return rollout
    failed = rollout.failed + bool(seen.blind or (seen.verdict and seen.verdict.harm))
    reasons = (seen.blind,) if seen.verdict is None else tuple(seen.verdict.reasons)
    # After a blind check one may be made at once that is not.
    looked = intervals(rollout, seen.now) - (seen.verdict is None)
    rollout = replace(rollout, checks=rollout.checks + 1, looked=looked, failed=failed, reasons=reasons)
    if failed >= settings.threshold:
        return back(rollout, seen.now, *reasons)
    if seen.verdict is None or seen.verdict.harm:
        return rollout
    if not there:
        held = _why_not_there(rollout, seen)
        return back(rollout, seen.now, held) if late else replace(rollout, reasons=(held,))
    here = seen.verdict.requests - rollout.requests
    if here < settings.min_requests:
        few = f"the canary had {here} requests at {rollout.weight}%, {settings.min_requests} are wanted"
        return back(rollout, seen.now, few) if late else replace(rollout, reasons=(few,))
    if rollout.weight >= settings.max_weight:
        return replace(rollout, phase=Phase.FILLING, since=seen.now)
    weight = min(rollout.weight + settings.step_weight, settings.max_weight)
    return replace(rollout, weight=weight, since=seen.now, requests=seen.verdict.requests)


def intervals(rollout: Rollout, now: float) -> int:
    """Return how many whole intervals a canary has had traffic."""
    return int((now - rollout.judged_since) // rollout.settings.interval)


def _why_not_there(rollout: Rollout, seen: Seen) -> str:
    short = seen.service.standard and wanted(rollout, seen.service, seen.deployed) is None
    if short and not filled(rollout, seen.service, seen.deployed):
        return _few_pods(seen)
    return f"KServe does not give the canary its {rollout.weight}% of the traffic"


def _few_pods(seen: Seen) -> str:
    serving = seen.deployed.canary.available if seen.deployed.canary else 0
    pods = max((int(c["predictor"].get("minReplicas") or 1) for c in seen.service.canaries), default=1)
    return f"only {serving} of the canary's {pods} pods are ready"


def _promoted(rollout: Rollout, seen: Seen) -> bool:
    """Say whether the canary has all traffic and the stable version's pods are gone."""
    service, deployed = seen.service, seen.deployed
    if wanted(rollout, service, deployed) is not None:
        return False
    if not service.standard:
        return _all_newest(service)
    return has_place(rollout, service) and service.ready and deployed.stable is None and deployed.share == 100


def _rolled_back(rollout: Rollout, seen: Seen) -> bool:
    """Say whether nothing of the canary is left; in Knative mode, whether nothing of it was ever there."""
    service, deployed = seen.service, seen.deployed
    if wanted(rollout, service, deployed) is not None:
        return False
    if not service.standard:
        return service.uri == rollout.stable.uri or foreign(rollout, service)
    there = rollout.predictor_name in [c["predictor"].get("name") for c in service.canaries]
    kept = has_place(rollout, service)  # somebody else gave it the place
    return not there and (kept or (deployed.canary is None and deployed.share == 0))


def _all_newest(service: Service) -> bool:
    return service.percent is None and newest_share(service) == 100


def _revisions(rollout: Rollout, service: Service) -> tuple[str, str]:
    """Return what the stable version's metrics and the canary's name as revision."""
    if service.standard:
        return rollout.stable.name, rollout.canary.name
    found: Mapping[str, Any] = service.revisions
    return str(found.get("latestRolledoutRevision", "")), str(found.get("latestCreatedRevision", ""))
