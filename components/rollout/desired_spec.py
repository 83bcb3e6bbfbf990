"""What a rollout wants the service's spec to be.

It follows from what is recorded and seen alone, and the record is written first. So a process may be killed anywhere:
the next one finds the record, makes the service what it wants, and goes on.
"""

from collections.abc import Mapping
from typing import Any

from components.rollout.inference_service import AUTOSCALER, Service
from components.rollout.pods import canary_pods
from components.rollout.state import Phase, Rollout
from components.rollout.workloads import Workloads

# What these scale, they scale by the stable predictor's settings, which KServe takes from a canary: one under KEDA gets
# no triggers, which KEDA refuses, and one of an autoscaler of the user's own keeps one pod.
_AUTOSCALERS_OF_STABLE = ("keda", "external")


def spec_patch(rollout: Rollout, service: Service, workloads: Workloads) -> dict[str, Any] | None:
    """Return the merge patch that makes the service's spec what the rollout wants; None where it is so already."""
    if rollout.ended:
        return None
    if not service.standard:
        return _knative_patch(rollout, service)
    if rollout.phase in (Phase.ROLLING_BACK, Phase.RESTORING):
        return _canary_removed(rollout, service, workloads)
    if rollout.phase is Phase.PROMOTING:
        return _canary_promoted(rollout, service, workloads)
    return _canary_beside(rollout, service, workloads, rollout.weight)


def desired_canary_pods(rollout: Rollout, workloads: Workloads, there: int = 0) -> int:
    """Return how many pods the canary is to have, where the spec gives it some already.

    Pods come before traffic: for the weight that is recorded, also while the spec still has the one before.
    """
    if rollout.phase is Phase.PREPARING:
        return 1
    # Until a canary serves, KServe gives the stable version all pods of both. Those are not to be answered with more.
    if not workloads.canary_ready or workloads.stable is None:
        return max(1, there)
    most = max(rollout.running, rollout.max_replicas or 0)
    stable = max(rollout.running, min(workloads.stable.pods, most))
    whole = rollout.phase in (Phase.FILLING, Phase.PROMOTING)
    return max(there, stable if whole else 0, canary_pods(stable, rollout.weight))


def _canary_beside(rollout: Rollout, service: Service, workloads: Workloads, weight: int) -> dict[str, Any] | None:
    """Put the canary beside the stable version, with pods first and traffic when they serve."""
    ours, others = _split_canaries(rollout, service)
    given = int(ours.get("trafficPercent") or 0)
    pods = desired_canary_pods(rollout, workloads, int(ours["predictor"].get("minReplicas") or 0) if ours else 0)
    serving = workloads.canary.available if workloads.canary else 0
    model = {"modelFormat": service.predictor["model"]["modelFormat"], "storageUri": rollout.canary.uri}
    predictor: dict[str, Any] = {"name": rollout.predictor_name, "minReplicas": pods, "model": model}
    if service.autoscaler in _AUTOSCALERS_OF_STABLE:
        predictor["annotations"] = {AUTOSCALER: "none"}
    canary = {"predictor": predictor, "trafficPercent": weight if weight <= given or serving >= pods else given}
    stable = _raised_replicas(rollout, pods)
    there = _contains(ours, canary) and _contains(service.predictor, stable)
    return None if there else {"canary": [*others, canary], "predictor": stable}


def _split_canaries(rollout: Rollout, service: Service) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """Return the rollout's own canary in the spec, empty where it is not there, and what others put there."""
    own = [c for c in service.canaries if c["predictor"].get("name") == rollout.predictor_name]
    return next(iter(own), {}), [c for c in service.canaries if c not in own]


def _raised_replicas(rollout: Rollout, pods: int) -> dict[str, Any]:
    """Return replicas that leave the stable version the pods it had: KServe takes a canary's pods off its least."""
    least = rollout.running + pods
    return {"minReplicas": least, **({"maxReplicas": max(rollout.max_replicas, least)} if rollout.max_replicas else {})}


def _original_replicas(rollout: Rollout) -> dict[str, Any]:
    """Return the replicas that the spec had before; None removes."""
    return {"minReplicas": rollout.min_replicas, "maxReplicas": rollout.max_replicas}


def _canary_removed(rollout: Rollout, service: Service, workloads: Workloads) -> dict[str, Any] | None:
    """Take the canary's traffic, and when the gateway gives it none take the canary."""
    ours, others = _split_canaries(rollout, service)
    # KServe deletes a canary's Service before it writes the HTTPRoute, so a share that is left has nowhere to go.
    if ours and workloads.canary_ready and workloads.canary_share != 0:
        return {"canary": [*others, {**ours, "trafficPercent": 0}]} if ours.get("trafficPercent") else None
    least = rollout.running + int(ours["predictor"].get("minReplicas") or 1) if ours else None
    # Where somebody else gave the service another bundle, replicas that we did not set are theirs, too.
    raised = service.uri == rollout.stable.uri or service.predictor.get("minReplicas") == least
    before = _original_replicas(rollout) if raised else {}
    if not ours and _contains(service.predictor, before):
        return None
    return {"predictor": before, **({"canary": others or None} if ours else {})}


def _canary_promoted(rollout: Rollout, service: Service, workloads: Workloads) -> dict[str, Any] | None:
    """Give the canary all traffic, and when the gateway does so the stable version's place."""
    if not (has_replaced_stable(rollout, service) or workloads.canary_share == 100 or _stable_is_down(workloads)):
        return _canary_beside(rollout, service, workloads, 100)
    model = {"modelFormat": service.predictor["model"]["modelFormat"], "storageUri": rollout.canary.uri}
    # Its name is the Deployment's: with the canary's, KServe keeps the canary's pods and drops the others.
    predictor = {"name": rollout.predictor_name, "model": model, **_original_replicas(rollout)}
    ours, others = _split_canaries(rollout, service)
    if _contains(service.predictor, predictor) and not ours:
        return None
    return {"predictor": predictor, "canary": others or None}


def has_all_pods(rollout: Rollout, service: Service, workloads: Workloads) -> bool:
    """Say whether a Standard canary has all the pods that its spec is to give it."""
    if spec_patch(rollout, service, workloads) is not None or workloads.canary is None:
        return False
    return workloads.canary.available >= int(_split_canaries(rollout, service)[0]["predictor"]["minReplicas"])


def has_replaced_stable(rollout: Rollout, service: Service) -> bool:
    """Say whether a Standard service's spec has the canary in the stable version's place."""
    return service.uri == rollout.canary.uri and service.predictor.get("name") == rollout.predictor_name


def _stable_is_down(workloads: Workloads) -> bool:
    """Say whether the stable version has no pod that serves, which keeps KServe from moving any traffic."""
    return workloads.stable is None or not workloads.stable.available


def _contains(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether everything wanted is there; KServe's webhook may add fields, and may drop a zero."""
    return all(
        _contains(found.get(key) or {}, value) if isinstance(value, Mapping) else (found.get(key) or 0) == (value or 0)
        for key, value in wanted.items()
    )


def _knative_patch(rollout: Rollout, service: Service) -> dict[str, Any] | None:
    untouched = service.uri == rollout.stable.uri and service.percent is None
    if rollout.phase is Phase.ROLLING_BACK:
        # The first thing is traffic: 0 sends it back at once, whatever the spec says beside it.
        return None if untouched or changed_by_others(rollout, service) else _traffic_patch(service, service.uri, 0)
    if rollout.phase is Phase.RESTORING:
        return (
            None
            if untouched
            else _traffic_patch(service, rollout.stable.uri, None if _is_restored(rollout, service) else 0)
        )
    return _traffic_patch(service, rollout.canary.uri, None if rollout.phase is Phase.PROMOTING else rollout.weight)


def _traffic_patch(service: Service, uri: str, percent: int | None) -> dict[str, Any] | None:
    if service.uri == uri and service.percent == percent:
        return None
    return {"predictor": {"canaryTrafficPercent": percent, "model": {"storageUri": uri}}}


def _is_restored(rollout: Rollout, service: Service) -> bool:
    """Say whether Knative has a ready revision of the stable version again."""
    newest = service.revisions.get("latestCreatedRevision")
    ready = bool(newest) and newest == service.revisions.get("latestReadyRevision")
    other = newest == rollout.stable_revision or newest != rollout.canary_revision
    return service.uri == rollout.stable.uri and ready and other


def is_applied(rollout: Rollout, service: Service, workloads: Workloads) -> bool:
    """Say whether the canary serves, and traffic is split as is recorded."""
    if spec_patch(rollout, service, workloads) is not None:
        return False
    if service.standard:
        return workloads.canary_ready and (workloads.canary_share or 0) == rollout.weight
    revisions = service.revisions
    newest = revisions.get("latestCreatedRevision")
    moved = newest != revisions.get("latestRolledoutRevision") and newest == revisions.get("latestReadyRevision")
    return bool(newest) and moved and newest_share(service) == rollout.weight


def newest_share(service: Service) -> int | None:
    """Return the percent of traffic that Knative gives its newest revision; None where it does not say."""
    traffic = service.revisions.get("traffic") or []
    return next((int(t.get("percent") or 0) for t in traffic if t.get("latestRevision")), None)


def changed_by_others(rollout: Rollout, service: Service) -> bool:
    """Say whether the service is what no step of this rollout makes of it."""
    if service.uri not in (rollout.stable.uri, rollout.canary.uri):
        return True
    begun = rollout.phase in (Phase.JUDGING, Phase.FILLING)
    if service.standard:
        ours, others = _split_canaries(rollout, service)
        taken = bool(others) or (begun and not ours)
        return rollout.phase is not Phase.PROMOTING and (taken or service.uri == rollout.canary.uri)
    return begun and service.uri != rollout.canary.uri
