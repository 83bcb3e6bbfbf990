"""An InferenceService: its predictor, its canaries, its status, and how it is read and patched."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from components.platform.kubernetes import REQUEST_SECONDS, Cluster, message_of, refusal_of
from predictor.errors import InputError, Unavailable

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
_MODE = "serving.kserve.io/deploymentMode"
_STANDARD = ("Standard", "RawDeployment")
AUTOSCALER = "serving.kserve.io/autoscalerClass"


def address(uri: str) -> str:
    """Return a bundle's address in its normal form, so that two addresses of one bundle are equal."""
    return uri.rstrip("/")


class Conflict(Exception):
    """The object was changed since it was read."""


@dataclass(frozen=True)
class Service:
    """An InferenceService as it was read."""

    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name, which is also the model's name in the endpoints' paths."""
        return str(self.document["metadata"]["name"])

    @property
    def resource_version(self) -> str:
        """The version of this state of the object."""
        return str(self.document["metadata"]["resourceVersion"])

    @property
    def standard(self) -> bool:
        """Whether it runs in Standard mode, on Deployments; otherwise it runs on Knative."""
        status, metadata = self.document.get("status") or {}, self.document["metadata"]
        mode = status.get("deploymentMode") or (metadata.get("annotations") or {}).get(_MODE)
        return mode in _STANDARD

    @property
    def predictor(self) -> Mapping[str, Any]:
        """The predictor's spec: in Standard mode the stable version's, in Knative mode the newest revision's."""
        return dict(self.document["spec"]["predictor"])

    @property
    def uri(self) -> str:
        """The bundle's address in that spec."""
        return address(str(self.predictor["model"]["storageUri"]))

    @property
    def replicas(self) -> int:
        """The least number of pods in that spec."""
        return int(self.predictor.get("minReplicas") or 1)

    @property
    def autoscaler(self) -> str:
        """Standard: the class of its autoscaler, by KServe's names."""
        return str(self.annotation(AUTOSCALER) or "hpa")

    def annotation(self, name: str) -> str:
        """Return an annotation of the predictor's pods, from the predictor's spec or the service; empty for none."""
        own, all_ = self.predictor.get("annotations") or {}, self.document["metadata"].get("annotations") or {}
        return str(own.get(name) or all_.get(name) or "")

    @property
    def percent(self) -> int | None:
        """Knative: the newest revision's share of traffic; None for all."""
        return self.predictor.get("canaryTrafficPercent")

    @property
    def canaries(self) -> list[dict[str, Any]]:
        """Standard: the canaries in the spec."""
        return list(self.document["spec"].get("canary") or [])

    @property
    def ready(self) -> bool:
        """Whether its condition Ready is true."""
        conditions = (self.document.get("status") or {}).get("conditions") or []
        return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)

    @property
    def revisions(self) -> Mapping[str, Any]:
        """Knative: names of the newest revision, the newest ready one, and the last that had all traffic."""
        components = (self.document.get("status") or {}).get("components") or {}
        return dict(components.get("predictor") or {})


def read(cluster: Cluster, name: str) -> Service:
    """Return an InferenceService.

    Raises:
        InputError: there is none, the account may not read it, or it serves no bundle.
        Unavailable: the API server does not answer.
    """
    with explained(cluster, f"inferenceservice {name}", PLURAL):
        document = cluster.api.get_namespaced_custom_object(
            GROUP, VERSION, cluster.namespace, PLURAL, name, _request_timeout=REQUEST_SECONDS
        )
    model = (document["spec"].get("predictor") or {}).get("model") or {}
    if not model.get("storageUri"):
        raise InputError(
            f"inferenceservice {name} has no spec.predictor.model.storageUri, so there is nothing to put beside it: "
            "let it serve a bundle by modelFormat and storageUri"
        )
    return Service(document)


def patch(cluster: Cluster, service: Service, spec: Mapping[str, Any]) -> Service:
    """Patch a service unless it was changed since it was read, and return its new state.

    Args:
        cluster: where the service is.
        service: the service, as it was read.
        spec: a JSON merge patch of its spec; None removes a field.

    Raises:
        Conflict: it was changed since.
        InputError: the cluster refuses the change, or its KServe does not know a field.
        Unavailable: the API server does not answer.
    """
    body = {"metadata": {"resourceVersion": service.resource_version}, "spec": dict(spec)}
    with explained(cluster, f"inferenceservice {service.name}", PLURAL):
        document = cluster.api.patch_namespaced_custom_object(
            GROUP, VERSION, cluster.namespace, PLURAL, service.name, body, _request_timeout=REQUEST_SECONDS
        )
    if spec.get("canary") and not document["spec"].get("canary"):
        raise InputError(
            f"the cluster dropped spec.canary of inferenceservice {service.name}: its KServe is older than 0.21, "
            "upgrade it or use Knative mode"
        )
    return Service(document)


class Missing(InputError):
    """There is no such object."""


@contextmanager
def explained(cluster: Cluster, what: str, plural: str) -> Iterator[None]:
    """Turn the API client's errors into ours, each with a sentence."""
    try:
        yield
    except ApiException as error:
        message, where = message_of(error), f"namespace {cluster.namespace}"
        if error.status == 409:
            raise Conflict(what) from None
        if refused := refusal_of(error):
            raise InputError(f"the cluster refuses {what} ({refused}): fix what it says") from None
        if error.status in (401, 403):
            raise InputError(
                f"the cluster forbids it in {where} ({message}): let this account do that, as the role "
                "pigeonhole-rollout of manifests/pipelines does"
            ) from None
        if error.status == 404 and not _named(error):
            raise Missing(f"the cluster has no {plural}: install what defines them (KServe, Gateway API)") from None
        if error.status == 404:
            raise Missing(f"there is no {what} in {where}: check the name and --namespace") from None
        if error.status in (400, 422):
            raise InputError(f"the cluster refuses {what} ({message}): fix what it says") from None
        raise Unavailable(f"the API server answers {error.status} ({message})") from error
    except HTTPError as error:
        raise Unavailable(f"the API server does not answer ({type(error).__name__})") from error


def _named(error: ApiException) -> bool:
    """Whether a 404 is about one object, and not about its kind."""
    try:
        return bool(json.loads(error.body).get("details", {}).get("name"))
    except (ValueError, TypeError, AttributeError):
        return False
