"""The pods of both versions: which crashed or got stuck. Metrics do not show it, since a pod's counts die with it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kubernetes import client

from components.platform.kubernetes import REQUEST_SECONDS, Cluster
from components.rollout.inference_service import Service, explained
from components.rollout.judging.evidence import Pod, Pods
from components.rollout.state import Rollout
from components.rollout.workloads import pod_selector

_CONTAINER = "kserve-container"
"""The server's container; a sidecar's restarts are not the bundle's fault."""
# Reasons of containers that ended because their node went down.
_OF_THE_NODE = ("ContainerStatusUnknown", "Unknown")
_BY_SIGNAL = (0, 137, 143)
"""Exit codes of a server that was stopped after a failed probe: it drained, was killed, or ended on SIGTERM."""


def read_pods(cluster: Cluster, service: Service, rollout: Rollout, now: float) -> Pods:
    """Return how the pods of both versions have fared since the canary got traffic.

    Raises:
        InputError: the account may not list pods.
        Unavailable: the API server does not answer.
    """
    found = []
    for selector in _selectors(service, rollout):
        with explained(cluster, f"pods of {service.name}", "pods"):
            listed = client.CoreV1Api(cluster.api.api_client).list_namespaced_pod(
                cluster.namespace, label_selector=selector, _request_timeout=REQUEST_SECONDS
            )
        pods = client.ApiClient().sanitize_for_serialization(listed)["items"]
        # Pods that are evicted or scaled away end for other reasons than their bundle.
        there = [p for p in pods if "deletionTimestamp" not in p["metadata"] and p["status"].get("phase") != "Failed"]
        since, interval = rollout.judged_since, rollout.settings.interval
        found.append(tuple(_pod(pod, since, now - interval) for pod in there))
    return Pods(found[0], found[1], now - rollout.judged_since)


def _selectors(service: Service, rollout: Rollout) -> tuple[str, str]:
    if not service.standard:
        revisions = (rollout.stable_revision, rollout.canary_revision)
        return f"serving.knative.dev/revision={revisions[0]}", f"serving.knative.dev/revision={revisions[1]}"
    stable = str(service.predictor.get("name") or "")
    return pod_selector(service.name, stable), pod_selector(service.name, rollout.predictor_name)


def _pod(pod: Mapping[str, Any], since: float, silent_since: float) -> Pod:
    name, status = pod["metadata"]["name"], pod["status"]
    server = next((c for c in status.get("containerStatuses") or [] if c["name"] == _CONTAINER), None)
    if server is None:
        return Pod(name)
    state = server.get("state") or {}
    running, ended = state.get("running"), state.get("terminated") or (server.get("lastState") or {}).get("terminated")
    ready: Mapping[str, Any] = next((c for c in status.get("conditions") or [] if c["type"] == "Ready"), {})
    silent = False
    if running and server.get("started") is not False and ready.get("status") == "False":
        silent = max(_seconds(running.get("startedAt")), _seconds(ready.get("lastTransitionTime"))) <= silent_since
    if not ended or _seconds(ended.get("finishedAt")) < since or ended.get("reason") in _OF_THE_NODE:
        return Pod(name, silent=silent)
    # The restart of a container that waits to be started again is not counted yet.
    ends = int(server.get("restartCount", 0)) + (running is None)
    code, reason = ended.get("exitCode"), ended.get("reason") or "ended"
    crashed = reason == "OOMKilled" or code not in _BY_SIGNAL
    return Pod(name, max(1, ends), f"{reason}, exit code {code}", crashed, silent)


def _seconds(time: str | None) -> float:
    return datetime.fromisoformat(time).timestamp() if time else 0.0
