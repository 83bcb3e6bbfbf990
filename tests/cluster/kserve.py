"""KServe's part on a cluster where its controller does not run: Deployments, revisions, status, as 0.21 makes them.

Deployments, ReplicaSets and pods are real and so are their controllers; there is no node, so pods are told to be ready.
"""

import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.cluster import Cluster
from components.rollout.inference_service import GROUP, PLURAL, VERSION

NAME = "news"
ROUTES = ("gateway.networking.k8s.io", "v1", "httproutes")


def uri(version: str) -> str:
    return f"pvc://bundles/{version}"


def document(version: str, mode: str = "Standard", replicas: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceService",
        "metadata": {"name": NAME, "annotations": {"serving.kserve.io/deploymentMode": mode}},
        "spec": {
            "predictor": {
                "minReplicas": replicas,
                "model": {
                    "modelFormat": {"name": "pigeonhole"},
                    "storageUri": uri(version),
                    "args": ["--queue-tokens=65536"],
                },
            }
        },
    }


@dataclass
class Kserve:
    """The controller of one InferenceService, which looks at it whenever `reconcile` is called."""

    cluster: Cluster
    broken: set[str] = field(default_factory=set)
    """Versions whose pods never get ready."""
    routes: list[dict[str, int]] = field(default_factory=list)
    """Each distribution of traffic there ever was, from version to percent."""
    revisions: list[dict[str, Any]] = field(default_factory=list)
    """Knative's."""

    def install(self, version: str, mode: str = "Standard", replicas: int = 1) -> None:
        api, namespace = self.cluster.api, self.cluster.namespace
        body = document(version, mode, replicas)
        api.create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, body)
        if mode == "Standard":
            route = {"apiVersion": f"{ROUTES[0]}/{ROUTES[1]}", "kind": "HTTPRoute", "metadata": {"name": NAME}}
            api.create_namespaced_custom_object(ROUTES[0], ROUTES[1], namespace, ROUTES[2], {**route, "spec": {}})
        self.reconcile()

    def service(self) -> dict[str, Any]:
        return dict(self.cluster.api.get_namespaced_custom_object(GROUP, VERSION, self.cluster.namespace, PLURAL, NAME))

    def reconcile(self) -> None:
        service = self.service()
        status = self._standard(service) if self._is_standard(service) else self._knative(service)
        status["conditions"] = [{"type": "Ready", "status": "True"}]
        self.cluster.api.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.cluster.namespace, PLURAL, NAME, {"status": status}
        )

    @staticmethod
    def _is_standard(service: Mapping[str, Any]) -> bool:
        return bool(service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard")

    def _standard(self, service: Mapping[str, Any]) -> dict[str, Any]:
        stable = service["spec"]["predictor"]
        canaries = service["spec"].get("canary") or []
        predictors = [stable, *(_overlaid(stable, canary["predictor"]) for canary in canaries)]
        names = [_deployment(predictor) for predictor in predictors]
        for name, predictor in zip(names, predictors, strict=True):
            self._deploy(name, predictor, service["metadata"]["annotations"])
        for found in self._apps.list_namespaced_deployment(self.cluster.namespace).items:
            if found.metadata.name not in names:
                self._apps.delete_namespaced_deployment(found.metadata.name, self.cluster.namespace)
        ready = [self._ready(name, predictor) for name, predictor in zip(names, predictors, strict=True)]
        shares = {
            _version(p): c["trafficPercent"] for p, c, r in zip(predictors[1:], canaries, ready[1:], strict=True) if r
        }
        self._route({_version(stable): 100 - sum(shares.values()), **shares})
        return {
            "deploymentMode": "Standard",
            "canaryStatuses": [
                {"name": c["predictor"]["name"], "ready": r, "trafficPercent": c["trafficPercent"]}
                for c, r in zip(canaries, ready[1:], strict=True)
            ],
        }

    def _knative(self, service: Mapping[str, Any]) -> dict[str, Any]:
        predictor, before = service["spec"]["predictor"], (service.get("status") or {}).get("components") or {}
        status = dict(before.get("predictor") or {})
        template = [predictor["model"], service["metadata"]["annotations"]]
        if not self.revisions or self.revisions[-1]["template"] != template:
            name = f"{NAME}-predictor-{len(self.revisions) + 1:05}"
            self.revisions.append({"name": name, "template": copy.deepcopy(template), "version": _version(predictor)})
        newest = self.revisions[-1]
        ready = next(r for r in reversed(self.revisions) if r["version"] not in self.broken)
        percent, rolled_out = predictor.get("canaryTrafficPercent"), status.get("latestRolledoutRevision")
        percent = 100 if percent is None or not rolled_out else percent
        shares = {ready["name"]: percent}
        shares[rolled_out or ready["name"]] = shares.get(rolled_out or ready["name"], 0) + 100 - percent
        traffic = [{"latestRevision": True, "revisionName": ready["name"], "percent": percent}]
        if percent < 100:
            traffic.append({"revisionName": rolled_out, "percent": 100 - percent, "tag": "prev"})
        if percent == 100 and rolled_out != ready["name"]:
            status["previousRolledoutRevision"], status["latestRolledoutRevision"] = rolled_out, ready["name"]
        elif (
            percent < 100 and rolled_out == ready["name"] == newest["name"] and status.get("previousRolledoutRevision")
        ):
            status["latestRolledoutRevision"] = status["previousRolledoutRevision"]
        versions = {str(r["version"]): 0 for r in self.revisions}
        for name, share in shares.items():
            versions[self._of(name)] += share
        self._route(versions)
        status |= {"latestCreatedRevision": newest["name"], "latestReadyRevision": ready["name"], "traffic": traffic}
        return {"deploymentMode": "Knative", "components": {"predictor": {k: v for k, v in status.items() if v}}}

    def _of(self, revision: str) -> str:
        return next(str(r["version"]) for r in self.revisions if r["name"] == revision)

    def _route(self, shares: dict[str, int]) -> None:
        shares = {version: share for version, share in shares.items() if share}
        if not self.routes or self.routes[-1] != shares:
            self.routes.append(shares)

    @property
    def _apps(self) -> client.AppsV1Api:
        return client.AppsV1Api(self.cluster.api.api_client)

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.cluster.api.api_client)

    def _deploy(self, name: str, predictor: Mapping[str, Any], annotations: Mapping[str, str]) -> None:
        labels = {"app": f"isvc.{name}"}
        # As KServe does: what is noted on the service goes onto the pods, and a change of it restarts them.
        template = {
            "metadata": {"labels": labels, "annotations": dict(annotations)},
            "spec": {
                "containers": [
                    {
                        "name": "kserve-container",
                        "image": "none",
                        "args": [json.dumps(predictor["model"], sort_keys=True)],
                    }
                ]
            },
        }
        spec = {"replicas": predictor.get("minReplicas", 1), "selector": {"matchLabels": labels}, "template": template}
        body = {"metadata": {"name": name}, "spec": spec}
        try:
            self._apps.patch_namespaced_deployment(name, self.cluster.namespace, body)
        except ApiException as error:
            if error.status != 404:
                raise
            self._apps.create_namespaced_deployment(self.cluster.namespace, body)

    def _ready(self, name: str, predictor: Mapping[str, Any]) -> bool:
        """Play the kubelet until the real controllers count the Deployment's pods as available, or see why not."""
        healthy, wanted = _version(predictor) not in self.broken, predictor.get("minReplicas", 1)
        for _ in range(400):
            found = self._apps.read_namespaced_deployment(name, self.cluster.namespace)
            fresh = (found.status.observed_generation or 0) >= found.metadata.generation
            if fresh and (found.status.available_replicas or 0) == wanted == (found.status.replicas or 0):
                return True
            pods = self.pods(name)
            for pod in pods:
                self._tell(pod, healthy)
            if not healthy and fresh and len(pods) >= wanted:
                return False
            time.sleep(0.05)
        raise AssertionError(f"deployment {name} never had {wanted} pods: {found.status}")

    def pods(self, name: str) -> list[Any]:
        found = self._core.list_namespaced_pod(self.cluster.namespace, label_selector=f"app=isvc.{name}").items
        return [pod for pod in found if pod.metadata.deletion_timestamp is None]

    def _tell(self, pod: Any, healthy: bool) -> None:
        state = {"running": {}} if healthy else {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
        container = {"name": "kserve-container", "ready": healthy, "state": state, "restartCount": 0}
        container |= {"image": "none", "imageID": ""}
        conditions = [{"type": "Ready", "status": "True" if healthy else "False"}]
        status = {"conditions": conditions, "containerStatuses": [container]}
        try:
            self._core.patch_namespaced_pod_status(pod.metadata.name, self.cluster.namespace, {"status": status})
        except ApiException as error:
            if error.status not in (404, 409):
                raise


def _overlaid(stable: Mapping[str, Any], canary: Mapping[str, Any]) -> dict[str, Any]:
    """Merge as KServe's mergo.WithOverride does: the canary's fields over the stable ones, lists as a whole."""
    merged = copy.deepcopy(dict(stable))
    for key, value in canary.items():
        deeper = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _overlaid(merged[key], value) if deeper else copy.deepcopy(value)
    return merged


def _deployment(predictor: Mapping[str, Any]) -> str:
    return f"{NAME}-{predictor['name']}-predictor" if predictor.get("name") else f"{NAME}-predictor"


def _version(predictor: Mapping[str, Any]) -> str:
    return str(predictor["model"]["storageUri"]).rpartition("/")[2]
