"""The restricted pod security standard, asked of a pod as Kubernetes' admission asks it."""

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
_SECCOMP = ({"type": "RuntimeDefault"}, {"type": "Localhost"})


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What the standard refuses in a pod's spec; of what Kubernetes asks, all that a pod of ours could get wrong."""
    return [*_of_pod(pod), *(found for kind in ("initContainers", "containers") for found in _of_all(pod, kind))]


def _of_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"spec.{name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    security = pod.get("securityContext") or {}
    if security.get("sysctls"):
        yield "spec.securityContext.sysctls"
    for volume in pod.get("volumes") or []:
        yield from (f"volume {volume['name']} is {kind}" for kind in set(volume) - {"name"} - _VOLUMES)


def _of_all(pod: Mapping[str, Any], kind: str) -> Iterator[str]:
    for container in pod.get(kind) or []:
        for found in _of_container(container, pod.get("securityContext") or {}):
            yield f"{kind} {container['name']}: {found}"


def _of_container(container: Mapping[str, Any], of_pod: Mapping[str, Any]) -> Iterator[str]:
    security = container.get("securityContext") or {}
    either = {**of_pod, **security}
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    capabilities = security.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if either.get("runAsNonRoot") is not True or either.get("runAsUser") == 0:
        yield "runAsNonRoot"
    if {"type": (either.get("seccompProfile") or {}).get("type")} not in _SECCOMP:
        yield "seccompProfile"
    if security.get("privileged") or security.get("procMount", "Default") != "Default":
        yield "privileged"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "hostPort"
