"""KServe's part in tests: what its controller makes of an InferenceService and a runtime, as far as pods go."""

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

# Fields of a predictor that are KServe's own; the others are a pod's.
_NOT_A_PODS = {
    "autoScaling", "canaryTrafficPercent", "deploymentStrategy", "maxReplicas", "minReplicas", "model", "name",
    "scaleMetric", "scaleTarget",
}  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """The pods of one InferenceService."""

    service: Object
    labels: Mapping[str, str]
    pod: Object
    """A pod's spec, without the storage initializer that KServe's webhook adds."""

    @property
    def name(self) -> str:
        return str(self.service["metadata"]["name"])

    @property
    def container(self) -> Object:
        (container,) = self.pod["containers"]
        return dict(container)


def workloads(objects: Iterable[Object]) -> list[Workload]:
    """Return what KServe would run for rendered objects: the runtime's pod with the predictor's laid over it."""
    objects = list(objects)
    runtimes = {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == "ClusterServingRuntime"}
    return [_workload(o, runtimes) for o in objects if o["kind"] == "InferenceService"]


def deployment(workload: Workload) -> Object:
    """Return the Deployment of Standard mode."""
    predictor = workload.service["spec"]["predictor"]
    name = f"{workload.name}-predictor"
    selector = {"app": f"isvc.{name}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": workload.service["metadata"]["namespace"]},
        "spec": {
            "replicas": predictor["minReplicas"],
            "selector": {"matchLabels": selector},
            "strategy": predictor["deploymentStrategy"],
            "template": {"metadata": {"labels": {**workload.labels, **selector}}, "spec": workload.pod},
        },
    }


def _workload(service: Object, runtimes: Mapping[str, Object]) -> Workload:
    predictor, name = service["spec"]["predictor"], service["metadata"]["name"]
    runtime = runtimes[predictor["model"]["runtime"]]
    assert predictor["model"]["modelFormat"]["name"] in [row["name"] for row in runtime["supportedModelFormats"]]
    assert predictor["model"]["protocolVersion"] in runtime["protocolVersions"]
    pod = {key: deepcopy(value) for key, value in predictor.items() if key not in _NOT_A_PODS}
    pod["volumes"] = deepcopy(runtime["volumes"])
    (container,) = json.loads(json.dumps(runtime["containers"]).replace("{{.Name}}", name))
    pod["containers"] = [container]
    labels = {
        **service["metadata"]["labels"],
        "serving.kserve.io/inferenceservice": name,
        "component": "predictor",
    }
    return Workload(service, labels, pod)
