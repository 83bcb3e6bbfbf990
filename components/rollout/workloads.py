"""The Deployments that KServe has made for a Standard service, and the traffic that its HTTPRoutes give them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from components.platform.kubernetes import REQUEST_SECONDS, Cluster
from components.rollout.inference_service import Missing, Service, explained
from predictor.errors import InputError, one_line

_GATEWAY = ("gateway.networking.k8s.io", "v1", "httproutes")


@dataclass(frozen=True)
class Workload:
    """A Deployment."""

    pods: int
    """Pods that it is to have."""
    available: int
    """Pods that can serve."""


@dataclass(frozen=True)
class Workloads:
    """A service's Deployments and traffic during a rollout."""

    stable: Workload | None = None
    canary: Workload | None = None
    canary_share: int | None = None
    """Percent of the traffic that the gateway gives the canary; None while the gateway has not followed a change.

    It is read from the HTTPRoutes. The InferenceService's status has the percent of its spec even while KServe leaves
    the HTTPRoutes unchanged because the stable version is not available.
    """

    @property
    def canary_ready(self) -> bool:
        """Whether the canary can serve: for KServe, whether one of its pods can."""
        return self.canary is not None and self.canary.available > 0


def deployment_name(service: str, predictor: str) -> str:
    """Return the name of a predictor's Deployment and Service; the predictor's own name may be empty."""
    return f"{service}-{predictor}-predictor" if predictor else f"{service}-predictor"


def pod_selector(service: str, predictor: str) -> str:
    """Return the label selector of the pods of a predictor's Deployment."""
    return f"app=isvc.{deployment_name(service, predictor)}"


def read_workloads(cluster: Cluster, service: Service, stable: str, canary: str) -> Workloads:
    """Read the Deployments and traffic of a Standard service.

    Args:
        cluster: where the service is.
        service: the service.
        stable: name of the stable predictor in the spec, or empty.
        canary: name of the canary predictor.

    Raises:
        InputError: the account may not read them.
        Unavailable: the API server does not answer.
    """
    backend = deployment_name(service.name, canary)
    shares = {_share(rule, backend) for route in _routes(cluster, service) for rule in _rules(route)}
    return Workloads(
        workload(cluster, deployment_name(service.name, stable)),
        workload(cluster, backend),
        next(iter(shares)) if len(shares) == 1 else None if shares else 0,
    )


def workload(cluster: Cluster, name: str) -> Workload | None:
    """Return the pods of a Deployment; None where there is none."""
    try:
        with explained(cluster, f"deployment {name}", "deployments"):
            found = client.AppsV1Api(cluster.api.api_client).read_namespaced_deployment(
                name, cluster.namespace, _request_timeout=REQUEST_SECONDS
            )
    except Missing:
        return None
    return Workload(int(found.spec.replicas or 0), int(found.status.available_replicas or 0))


def check_gateway(cluster: Cluster, service: Service) -> None:
    """Check that a Standard service has an HTTPRoute; without one KServe silently gives a canary no traffic.

    Raises:
        InputError: there is none, or the account may not read it.
    """
    if not any(True for _ in _routes(cluster, service)):
        raise InputError(
            f"inferenceservice {service.name} has no HTTPRoute, so a canary would get no traffic: install the Gateway "
            "API and set enableGatewayApi in KServe's ingress configuration"
        )


def why_not_ready(cluster: Cluster, service: Service, predictor: str) -> str:
    """Return why a Standard predictor's pods do not run, from their status; empty where it does not say."""
    with explained(cluster, f"pods of {service.name}", "pods"):
        pods = client.CoreV1Api(cluster.api.api_client).list_namespaced_pod(
            cluster.namespace, label_selector=pod_selector(service.name, predictor), _request_timeout=REQUEST_SECONDS
        )
    for pod in pods.items:
        for container in (*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])):
            state = container.state.waiting or container.state.terminated
            if state and state.reason not in (None, "PodInitializing", "ContainerCreating", "Completed"):
                reason = one_line(f"{state.reason} {state.message or ''}")
                return f"{container.name}: {reason}"
    return ""


def _routes(cluster: Cluster, service: Service) -> Iterator[Mapping[str, Any]]:
    """Yield the two routes that KServe makes: one for the service's host, and one for its predictor's."""
    group, version, plural = _GATEWAY
    for name in (service.name, deployment_name(service.name, "")):
        try:
            with explained(cluster, f"httproute {name}", plural):
                yield cluster.api.get_namespaced_custom_object(
                    group, version, cluster.namespace, plural, name, _request_timeout=REQUEST_SECONDS
                )
        except Missing:
            continue


def _rules(route: Mapping[str, Any]) -> list[Mapping[str, Any] | None]:
    """Return a route's rules; one None where the gateway has not followed its last change."""
    generation = route["metadata"].get("generation", 0)
    for parent in (route.get("status") or {}).get("parents") or []:
        for condition in parent.get("conditions") or []:
            if condition.get("observedGeneration", generation) < generation:
                return [None]
    return list(route["spec"].get("rules") or [])


def _share(rule: Mapping[str, Any] | None, backend: str) -> int | None:
    if rule is None:
        return None
    weights = [(ref.get("name"), ref.get("weight", 1)) for ref in rule.get("backendRefs") or []]
    total = sum(weight for _, weight in weights)
    return round(100 * sum(weight for name, weight in weights if name == backend) / total) if total else 0
