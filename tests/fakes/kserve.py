"""KServe's part in tests: what its controller makes of an InferenceService and a runtime, as far as pods go."""

import json
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

# Fields of a predictor that are KServe's own; the others are a pod's.
_NOT_A_PODS = {
    "autoScaling", "canaryTrafficPercent", "deploymentStrategy", "maxReplicas", "minReplicas", "model", "name",
    "scaleMetric", "scaleTarget", "storageContainerName",
}  # fmt: skip
# What KServe's configuration gives the storage initializer, without a security context (pkg/utils/storage.go:318,
# config/configmap/inferenceservice.yaml:650).
_INITIALIZER: Object = {
    "name": "storage-initializer",
    "image": "kserve/storage-initializer:v0.21.0",
    "terminationMessagePolicy": "FallbackToLogsOnError",
    "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
}
MODEL_VOLUME = "kserve-provision-location"


@dataclass(frozen=True)
class Workload:
    """The pods of one InferenceService."""

    service: Object
    labels: Mapping[str, str]
    pod: Object
    """A pod's spec, with the storage initializer that KServe's webhook adds."""

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
    runtimes, storage = (
        {o["metadata"]["name"]: o["spec"] for o in objects if o["kind"] == kind}
        for kind in ("ClusterServingRuntime", "ClusterStorageContainer")
    )
    return [_workload(o, runtimes, storage) for o in objects if o["kind"] == "InferenceService"]


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


def fetched_by(predictor: Object, storage: Mapping[str, Object]) -> Object:
    """Return the storage initializer of a predictor.

    One that names a container gets that and no other: KServe refuses the pod where it is missing, or does not list the
    address (pkg/webhook/admission/pod/storage_initializer_injector.go:143). Laid over the configuration's, it wins
    (:630); what lies in lists is no matter here.
    """
    address, name = predictor["model"]["storageUri"], predictor.get("storageContainerName", "")
    base = {**_INITIALIZER, "args": [address, "/mnt/models"]}
    base["volumeMounts"] = [{"name": MODEL_VOLUME, "mountPath": "/mnt/models"}]
    if not name:
        return base
    spec = storage[name]
    assert spec["workloadType"] == "initContainer"
    assert any(
        address.startswith(row["prefix"]) if "prefix" in row else re.search(row["regex"], address)
        for row in spec["supportedUriFormats"]
    ), address  # fmt: skip
    return {**base, **deepcopy(spec["container"])}


def _workload(service: Object, runtimes: Mapping[str, Object], storage: Mapping[str, Object]) -> Workload:
    predictor, name = service["spec"]["predictor"], service["metadata"]["name"]
    runtime = runtimes[predictor["model"]["runtime"]]
    assert predictor["model"]["modelFormat"]["name"] in [row["name"] for row in runtime["supportedModelFormats"]]
    assert predictor["model"]["protocolVersion"] in runtime["protocolVersions"]
    pod = {key: deepcopy(value) for key, value in predictor.items() if key not in _NOT_A_PODS}
    pod["volumes"] = [*deepcopy(runtime["volumes"]), {"name": MODEL_VOLUME, "emptyDir": {}}]
    pod["initContainers"] = [fetched_by(predictor, storage)]
    (container,) = json.loads(json.dumps(runtime["containers"]).replace("{{.Name}}", name))
    container["volumeMounts"].append({"name": MODEL_VOLUME, "mountPath": "/mnt/models", "readOnly": True})
    pod["containers"] = [container]
    labels = {
        **service["metadata"]["labels"],
        "serving.kserve.io/inferenceservice": name,
        "component": "predictor",
    }
    return Workload(service, labels, pod)
