"""KServe's controller of Standard mode in tests: pure functions, as upstream has them.

Of kserve/kserve at aaac4e294dae2c7b1aa1886447793f3aa1c30912; files under pkg/controller/v1beta1/inferenceservice unless
they begin with pkg.
"""

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import ceil
from typing import Any

from components.rollout.desired_spec import spec_patch
from components.rollout.inference_service import Service
from components.rollout.state import Rollout
from components.rollout.workloads import Workload, Workloads

Object = dict[str, Any]
AUTOSCALER = "serving.kserve.io/autoscalerClass"
_SCALED_BY_THE_STABLE_ONE = ("maxReplicas", "scaleTarget", "scaleMetric", "autoScaling")


class Refused(Exception):
    """The reconcile ends with an error: an event, and nothing in the status."""


def service_name(isvc: str, predictor: Mapping[str, Any]) -> str:
    """The name of a predictor's Deployment, Service and autoscaler. pkg/constants/constants.go:802"""
    return f"{isvc}-{predictor['name']}-predictor" if predictor.get("name") else f"{isvc}-predictor"


def objection(isvc: Mapping[str, Any]) -> str:
    """What the validating webhook says, or nothing. pkg/apis/serving/v1beta1/inference_service_validation.go:183"""
    stable, canaries = isvc["spec"]["predictor"], isvc["spec"].get("canary") or []
    least, most = stable.get("minReplicas", 1), stable.get("maxReplicas", 0)
    if least > most != 0:  # pkg/apis/serving/v1beta1/component.go:384
        return "'MinReplicas' cannot be greater than MaxReplicas"
    for canary in canaries:
        predictor, percent = canary["predictor"], canary.get("trafficPercent", 0)
        name = predictor.get("name", "")
        if name == stable.get("name"):  # :212
            return f'canary predictor.name "{name}" conflicts with stable predictor name'
        if not 0 <= percent <= 100:  # :216
            return f'canary "{name}" trafficPercent must be between 0 and 100, got {percent}'
        if any(predictor.get(key) for key in _SCALED_BY_THE_STABLE_ONE):  # :236
            return f'canary "{name}" must not set maxReplicas (canary uses fixed replicas)'
        if predictor.get("minReplicas", 0) > least:  # :254
            return (
                f'canary "{name}" minReplicas ({predictor["minReplicas"]}) must not exceed stable predictor '
                f"minReplicas ({least})"
            )
    if sum(canary.get("trafficPercent", 0) for canary in canaries) > 100:  # :261
        return "sum of canary trafficPercent values must be <= 100"
    return ""


def canary_replicas(stable: Mapping[str, Any], canary: Mapping[str, Any]) -> int:
    """components/predictor.go:861"""
    if "minReplicas" in canary["predictor"]:
        return int(canary["predictor"]["minReplicas"])
    return ceil(int(stable.get("minReplicas", 1)) * int(canary.get("trafficPercent", 0)) / 100)


def stable_replicas(spec: Mapping[str, Any], ready: Mapping[str, bool]) -> int:
    """The least pods of the stable version: a ready canary's are taken off it. components/predictor.go:877"""
    stable = spec["predictor"]
    least, canaries = int(stable.get("minReplicas") or 1), spec.get("canary") or []
    if not canaries or "minReplicas" not in stable:
        return least
    taken: int = sum(canary_replicas(stable, c) for c in canaries if ready.get(c["predictor"]["name"]))
    return max(least - taken, 1)


def canary_predictor(stable: Mapping[str, Any], canary: Mapping[str, Any]) -> Object:
    """The canary's spec over the stable one's, without what scales that. components/predictor.go:902"""
    merged = _overlaid(stable, canary["predictor"])
    for key in _SCALED_BY_THE_STABLE_ONE:
        merged.pop(key, None)
    return {**merged, "minReplicas": canary_replicas(stable, canary)}


def autoscaler(isvc: Mapping[str, Any], predictor: Mapping[str, Any]) -> str:
    """The predictor's annotation comes before the service's. components/predictor.go:501, reconcilers/autoscaler:77"""
    annotations = {**(isvc["metadata"].get("annotations") or {}), **(predictor.get("annotations") or {})}
    return str(annotations.get(AUTOSCALER, "hpa"))


def check_autoscaler(scaler: str, predictor: Mapping[str, Any]) -> None:
    """A ScaledObject without triggers, which KEDA's webhook refuses, ends the reconcile. reconcilers/keda:81, 316"""
    if scaler == "keda" and not (predictor.get("autoScaling") or {}).get("metrics"):
        raise Refused("admission webhook denied the request: no triggers defined in the ScaledObject/ScaledJob")


def check_name(name: str, namespace: str) -> None:
    """reconcilers/raw/raw_kube_reconciler.go:228 with the default template, reconcilers/ingress/domain.go:61"""
    label = f"{name}-{namespace}"
    if len(label) > 63 or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", label):
        raise Refused(f'invalid domain name "{label}.example.com": must be no more than 63 characters')


def backends(isvc: str, spec: Mapping[str, Any], ready: Mapping[str, bool]) -> list[Object]:
    """The weights of an HTTPRoute. reconcilers/ingress/httproute_reconciler.go:225, 689

    One backend has no weight, which is 1; a canary that is not ready has none at all.
    """
    name = service_name(isvc, spec["predictor"])
    canaries = spec.get("canary") or []
    if not canaries:
        return [{"kind": "Service", "name": name, "port": 80}]
    there = [c for c in canaries if ready.get(c["predictor"]["name"])]
    shares = {service_name(isvc, c["predictor"]): c.get("trafficPercent", 0) for c in there}
    weights = {name: 100 - sum(shares.values()), **shares}
    return [{"kind": "Service", "name": each, "port": 80, "weight": weight} for each, weight in weights.items()]


def statuses(canaries: Sequence[Mapping[str, Any]], ready: Mapping[str, bool]) -> list[Object]:
    """The percent is the spec's, whatever the route has. components/predictor.go:973"""
    return [
        {
            "name": c["predictor"]["name"],
            "ready": ready[c["predictor"]["name"]],
            "trafficPercent": c.get("trafficPercent", 0),
        }
        for c in canaries
    ]


def _overlaid(stable: Mapping[str, Any], canary: Mapping[str, Any]) -> Object:
    """Merge as mergo.WithOverride does: the canary's fields over the stable ones, lists as a whole."""
    merged = deepcopy(dict(stable))
    for key, value in canary.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _overlaid(merged[key], value) if deeper else deepcopy(value)
    return merged


def obeyed(rollout: Rollout) -> tuple[Service, Workloads]:
    """A service in Standard mode of a judged rollout where KServe has done all that is wanted of it."""
    model = {"modelFormat": {"name": "pigeonhole"}, "storageUri": rollout.stable.uri}
    spec: Object = {"predictor": {"minReplicas": rollout.running, "model": model}}
    metadata, status = {"name": "news", "resourceVersion": "1"}, {"deploymentMode": "Standard"}
    stable, canary = Workload(rollout.running, rollout.running), Workload(1, 1)
    while True:
        service = Service({"metadata": metadata, "spec": spec, "status": status})
        there = Workloads(stable, canary, rollout.weight)
        if not (change := spec_patch(rollout, service, there)):
            return service, there
        spec = _overlaid(spec, change)
        pods = canary_replicas(spec["predictor"], spec["canary"][0])
        canary = Workload(pods, pods)
