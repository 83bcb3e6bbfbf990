"""The spec that an InferenceService is to have in each state of a rollout.

It depends only on the recorded state and on what was read from the cluster, and the record is written before the spec.
So a process may be killed at any point: the next one reads the record, patches the spec to match it, and continues.
"""

from collections.abc import Mapping
from typing import Any

from components.rollout.inference_service import AUTOSCALER, Service
from components.rollout.state import Phase, Rollout
from components.rollout.workloads import Workloads

# These autoscalers need the stable predictor's settings, which KServe does not give a canary: KEDA refuses a canary
# without triggers, and under an external autoscaler a canary would keep one pod. So canaries get none.
_AUTOSCALERS_OF_STABLE = ("keda", "external")


def spec_patch(rollout: Rollout, service: Service, workloads: Workloads) -> dict[str, Any] | None:
    """Return the merge patch that makes the service's spec the desired one; None where it is that already."""
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
    """Return how many pods the canary is to have; `there` is how many its spec has now.

    Pods come before traffic: their number follows the recorded weight even while the spec still has the lower one.
    """
    if rollout.phase is Phase.PREPARING:
        return 1
    # Until the canary serves, KServe gives the stable version the pods of both, so its size says nothing yet.
    if not workloads.canary_ready or workloads.stable is None:
        return max(1, there)
    most = max(rollout.running, rollout.max_replicas or 0)
    stable = max(rollout.running, min(workloads.stable.pods, most))
    whole = rollout.phase in (Phase.FILLING, Phase.PROMOTING)
    return max(there, stable if whole else 0, canary_pods(stable, rollout.weight))


def canary_pods(stable: int, weight: int) -> int:
    """Return how many pods a canary needs so that none of them gets more traffic than a stable pod.

    A busier pod answers later, whatever it serves, so with fewer pods an equal canary would look slower. Above
    two thirds of the traffic the canary gets twice the stable pods and no more: each of its pods then has at most half
    of the traffic that a stable pod has without a canary.

    Args:
        stable: pods of the stable version.
        weight: percent of the traffic that goes to the canary.
    """
    if weight >= 100:
        return stable
    return min(2 * stable, max(1, -(-stable * weight // (100 - weight))))


def _canary_beside(rollout: Rollout, service: Service, workloads: Workloads, weight: int) -> dict[str, Any] | None:
    """Put the canary beside the stable version: first its pods, and when they serve its traffic."""
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
    """Return the rollout's own canary in the spec, empty where there is none, and those of others."""
    own = [c for c in service.canaries if c["predictor"].get("name") == rollout.predictor_name]
    return next(iter(own), {}), [c for c in service.canaries if c not in own]


def _raised_replicas(rollout: Rollout, pods: int) -> dict[str, Any]:
    """Return replicas that keep the stable version's pods: KServe subtracts a canary's from `minReplicas`."""
    least = rollout.running + pods
    return {"minReplicas": least, **({"maxReplicas": max(rollout.max_replicas, least)} if rollout.max_replicas else {})}


def _original_replicas(rollout: Rollout) -> dict[str, Any]:
    """Return the replicas that the spec had before the rollout; None removes a field."""
    return {"minReplicas": rollout.min_replicas, "maxReplicas": rollout.max_replicas}


def _canary_removed(rollout: Rollout, service: Service, workloads: Workloads) -> dict[str, Any] | None:
    """Take the canary's traffic away, and when the gateway sends it none remove the canary."""
    ours, others = _split_canaries(rollout, service)
    # KServe deletes a canary's Service before it updates the HTTPRoute: requests that still go there would fail.
    if ours and workloads.canary_ready and workloads.canary_share != 0:
        return {"canary": [*others, {**ours, "trafficPercent": 0}]} if ours.get("trafficPercent") else None
    least = rollout.running + int(ours["predictor"].get("minReplicas") or 1) if ours else None
    # Where somebody else changed the bundle, replicas that we did not set are theirs, too.
    raised = service.uri == rollout.stable.uri or service.predictor.get("minReplicas") == least
    before = _original_replicas(rollout) if raised else {}
    if not ours and _contains(service.predictor, before):
        return None
    return {"predictor": before, **({"canary": others or None} if ours else {})}


def _canary_promoted(rollout: Rollout, service: Service, workloads: Workloads) -> dict[str, Any] | None:
    """Give the canary all traffic, and when the gateway sends it all put it in the stable version's place."""
    if not (has_replaced_stable(rollout, service) or workloads.canary_share == 100 or _stable_is_down(workloads)):
        return _canary_beside(rollout, service, workloads, 100)
    model = {"modelFormat": service.predictor["model"]["modelFormat"], "storageUri": rollout.canary.uri}
    # The predictor's name is part of its Deployment's: under the canary's name KServe keeps the canary's pods.
    predictor = {"name": rollout.predictor_name, "model": model, **_original_replicas(rollout)}
    ours, others = _split_canaries(rollout, service)
    if _contains(service.predictor, predictor) and not ours:
        return None
    return {"predictor": predictor, "canary": others or None}


def has_all_pods(rollout: Rollout, service: Service, workloads: Workloads) -> bool:
    """Whether a Standard canary has all the pods of its desired spec."""
    if spec_patch(rollout, service, workloads) is not None or workloads.canary is None:
        return False
    return workloads.canary.available >= int(_split_canaries(rollout, service)[0]["predictor"]["minReplicas"])


def has_replaced_stable(rollout: Rollout, service: Service) -> bool:
    """Whether the canary is in the stable version's place in a Standard service's spec."""
    return service.uri == rollout.canary.uri and service.predictor.get("name") == rollout.predictor_name


def _stable_is_down(workloads: Workloads) -> bool:
    """Whether no pod of the stable version serves; KServe does not move any traffic then."""
    return workloads.stable is None or not workloads.stable.available


def _contains(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether `found` has everything in `wanted`; KServe's webhook may add fields, and may drop a zero."""
    return all(
        _contains(found.get(key) or {}, value) if isinstance(value, Mapping) else (found.get(key) or 0) == (value or 0)
        for key, value in wanted.items()
    )


def _knative_patch(rollout: Rollout, service: Service) -> dict[str, Any] | None:
    untouched = service.uri == rollout.stable.uri and service.percent is None
    if rollout.phase is Phase.ROLLING_BACK:
        # Traffic comes first: 0 sends it back at once, whatever else the spec says.
        return None if untouched or changed_by_others(rollout, service) else _traffic_patch(service, service.uri, 0)
    if rollout.phase is Phase.RESTORING:
        percent = None if _is_restored(rollout, service) else 0
        return None if untouched else _traffic_patch(service, rollout.stable.uri, percent)
    return _traffic_patch(service, rollout.canary.uri, None if rollout.phase is Phase.PROMOTING else rollout.weight)


def _traffic_patch(service: Service, uri: str, percent: int | None) -> dict[str, Any] | None:
    if service.uri == uri and service.percent == percent:
        return None
    return {"predictor": {"canaryTrafficPercent": percent, "model": {"storageUri": uri}}}


def _is_restored(rollout: Rollout, service: Service) -> bool:
    """Whether Knative has a ready revision of the stable version again."""
    newest = service.revisions.get("latestCreatedRevision")
    ready = bool(newest) and newest == service.revisions.get("latestReadyRevision")
    other = newest == rollout.stable_revision or newest != rollout.canary_revision
    return service.uri == rollout.stable.uri and ready and other


def is_applied(rollout: Rollout, service: Service, workloads: Workloads) -> bool:
    """Whether the canary serves and has the recorded share of traffic."""
    if spec_patch(rollout, service, workloads) is not None:
        return False
    if service.standard:
        return workloads.canary_ready and (workloads.canary_share or 0) == rollout.weight
    revisions = service.revisions
    newest = revisions.get("latestCreatedRevision")
    moved = newest != revisions.get("latestRolledoutRevision") and newest == revisions.get("latestReadyRevision")
    return bool(newest) and moved and newest_share(service) == rollout.weight


def newest_share(service: Service) -> int | None:
    """Return the percent of traffic of Knative's newest revision; None where the status does not have it."""
    traffic = service.revisions.get("traffic") or []
    return next((int(t.get("percent") or 0) for t in traffic if t.get("latestRevision")), None)


def changed_by_others(rollout: Rollout, service: Service) -> bool:
    """Whether the spec is one that no step of this rollout writes."""
    if service.uri not in (rollout.stable.uri, rollout.canary.uri):
        return True
    begun = rollout.phase in (Phase.JUDGING, Phase.FILLING)
    if service.standard:
        ours, others = _split_canaries(rollout, service)
        taken = bool(others) or (begun and not ours)
        return rollout.phase is not Phase.PROMOTING and (taken or service.uri == rollout.canary.uri)
    return begun and service.uri != rollout.canary.uri
