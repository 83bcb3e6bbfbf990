"""What KServe has made of a Standard service so far: its Deployments, and the traffic that its HTTPRoutes tell."""

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
    """That it is to have."""
    available: int
    """That can serve."""


@dataclass(frozen=True)
class Deployed:
    """What stands of a service during a rollout."""

    stable: Workload | None = None
    canary: Workload | None = None
    share: int | None = None
    """Percent of the traffic that the gateway gives the canary; None where that cannot be said now.

    The status of the InferenceService cannot say it: KServe copies the percent of its spec there, also while it leaves
    the HTTPRoutes as they are because the stable version is not available.
    """

    @property
    def canary_ready(self) -> bool:
        """Whether the canary can serve, as KServe counts it: by one pod."""
        return self.canary is not None and self.canary.available > 0


def deployment_name(service: str, predictor: str) -> str:
    """Return what KServe calls the Deployment and the Service of a predictor, which may have no name of its own."""
    return f"{service}-{predictor}-predictor" if predictor else f"{service}-predictor"


def deployed(cluster: Cluster, service: Service, stable: str, canary: str) -> Deployed:
    """Look what stands of a Standard service.

    Args:
        cluster: where.
        service: whose.
        stable: name of the stable version's predictor in the spec, or empty.
        canary: the canary's.

    Raises:
        InputError: it may not be read.
        Away: the API server does not answer.
    """
    backend = deployment_name(service.name, canary)
    shares = {_share(rule, backend) for route in _routes(cluster, service) for rule in _rules(route)}
    return Deployed(
        workload(cluster, deployment_name(service.name, stable)),
        workload(cluster, backend),
        next(iter(shares)) if len(shares) == 1 else None if shares else 0,
    )


def workload(cluster: Cluster, name: str) -> Workload | None:
    """Return what a Deployment has and is to have; None where there is none."""
    try:
        with explained(cluster, f"deployment {name}", "deployments"):
            found = client.AppsV1Api(cluster.api.api_client).read_namespaced_deployment(
                name, cluster.namespace, _request_timeout=REQUEST_SECONDS
            )
    except Missing:
        return None
    return Workload(int(found.spec.replicas or 0), int(found.status.available_replicas or 0))


def check_gateway(cluster: Cluster, service: Service) -> None:
    """Refuse a Standard service that has no HTTPRoute: its canary would run and get no traffic, without a word.

    Raises:
        InputError: there is none, or it may not be read.
    """
    if not any(True for _ in _routes(cluster, service)):
        raise InputError(
            f"inferenceservice {service.name} has no HTTPRoute, so a canary would get no traffic: install the Gateway "
            "API and set enableGatewayApi in KServe's ingress configuration"
        )


def why_not_ready(cluster: Cluster, service: Service, predictor: str) -> str:
    """Return what keeps a Standard predictor's pods from running, as far as they say; empty where they do not."""
    label = f"app=isvc.{deployment_name(service.name, predictor)}"
    with explained(cluster, f"pods of {service.name}", "pods"):
        pods = client.CoreV1Api(cluster.api.api_client).list_namespaced_pod(
            cluster.namespace, label_selector=label, _request_timeout=REQUEST_SECONDS
        )
    for pod in pods.items:
        for container in (*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])):
            told = container.state.waiting or container.state.terminated
            if told and told.reason not in (None, "PodInitializing", "ContainerCreating", "Completed"):
                said = f"{told.reason} {told.message or ''}"
                return f"{container.name}: {one_line(said)}"
    return ""


def _routes(cluster: Cluster, service: Service) -> Iterator[Mapping[str, Any]]:
    """Return the two routes that KServe makes: for the service's own host, and for its predictor's."""
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
    """Return a route's rules; None for one whose gateway does not follow it yet."""
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
