"""A node's part on a cluster that has none: pods are told to be ready. Their controllers are real."""

import time
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from components.platform.kubernetes import Cluster


@dataclass
class Kubelet:
    """Tells the pods of all Deployments how they are."""

    cluster: Cluster
    broken: set[str] = field(default_factory=set)
    """Versions whose pods never get ready."""
    fit: dict[str, int] = field(default_factory=dict)
    """By version the most of its pods that get ready."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of each Deployment there ever was."""

    @property
    def _apps(self) -> client.AppsV1Api:
        return client.AppsV1Api(self.cluster.api.api_client)

    @property
    def _core(self) -> client.CoreV1Api:
        return client.CoreV1Api(self.cluster.api.api_client)

    def _available(self) -> dict[str, int]:
        found = self._apps.list_namespaced_deployment(self.cluster.namespace).items
        return {each.metadata.name: each.status.available_replicas or 0 for each in found}

    def _kubelet(self) -> None:
        """Play the kubelet until the real controllers count every Deployment's pods as they are."""
        for _ in range(400):
            found = self._apps.list_namespaced_deployment(self.cluster.namespace).items
            if sum(self._settled(each) for each in found) == len(found):
                return
            time.sleep(0.05)
        raise AssertionError(f"pods that never came: {self._available()}")

    def _settled(self, found: Any) -> bool:
        version, wanted = self.versions[found.metadata.name], found.spec.replicas
        # Without a bound all are ready, also those that a rolling update has beyond what is wanted.
        most = 0 if version in self.broken else self.fit.get(version, 10**6)
        fit, pods = min(wanted, most), self.pods(found.metadata.name)
        for number, pod in enumerate(sorted(pods, key=lambda pod: str(pod.metadata.name))):
            if _serves(pod) != (number < most):
                self._tell(pod, number < most)
        fresh = (found.status.observed_generation or 0) >= found.metadata.generation
        return bool(fresh and len(pods) == wanted and (found.status.available_replicas or 0) == fit)

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


def _serves(pod: Any) -> bool | None:
    """Whether a pod is ready; None where nobody has said anything of it."""
    return next((bool(c.status == "True") for c in pod.status.conditions or [] if c.type == "Ready"), None)
