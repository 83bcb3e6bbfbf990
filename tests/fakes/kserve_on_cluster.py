"""KServe's part on a cluster where its controller does not run: Deployments, routes, revisions, status.

Lines of upstream's are those of `tests.fakes.kserve_controller`.
"""

import copy
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kubernetes.client.exceptions import ApiException

from components.rollout.inference_service import GROUP, PLURAL, VERSION
from tests.fakes.kserve_controller import (
    AUTOSCALER,
    Refused,
    autoscaler,
    backends,
    canary_predictor,
    check_autoscaler,
    check_name,
    objection,
    service_name,
    stable_replicas,
    statuses,
)
from tests.fakes.kubelet import Kubelet

NAME = "news"
LABELS = {"isvc": NAME}
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
class Kserve(Kubelet):
    """The controller of one InferenceService, which looks at it whenever `reconcile` is called."""

    load: int = 0
    """Pods that the stable version's autoscaler wants for its load."""
    lost: list[tuple[str, int]] = field(default_factory=list)
    """Versions whose Service went while the route gave it traffic, with how many percent."""
    errors: list[str] = field(default_factory=list)
    """Of reconciles, which nobody is told."""
    routes: list[dict[str, int]] = field(default_factory=list)
    """Each distribution of traffic there ever was, from version to percent."""
    revisions: list[dict[str, Any]] = field(default_factory=list)
    """Knative's."""

    def install(
        self, version: str, mode: str = "Standard", replicas: int = 1, scaler: str = "hpa", **more: Any
    ) -> None:
        body = document(version, mode, replicas)
        body["metadata"]["annotations"][AUTOSCALER] = scaler
        body["spec"]["predictor"] |= more
        self.cluster.api.create_namespaced_custom_object(GROUP, VERSION, self.cluster.namespace, PLURAL, body)
        self.reconcile()

    def service(self) -> dict[str, Any]:
        return dict(self.cluster.api.get_namespaced_custom_object(GROUP, VERSION, self.cluster.namespace, PLURAL, NAME))

    def reconcile(self) -> None:
        service = self.service()
        status = self._standard(service) if self._is_standard(service) else self._knative(service)
        if status is None:  # an error: the status stays as it was
            return
        status.setdefault("conditions", [{"type": "Ready", "status": "True"}])
        self.cluster.api.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.cluster.namespace, PLURAL, NAME, {"status": status}
        )

    @staticmethod
    def _is_standard(service: Mapping[str, Any]) -> bool:
        return bool(service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard")

    def _standard(self, service: Mapping[str, Any]) -> dict[str, Any] | None:
        """One reconcile after another until there is nothing to do but for the user. components/predictor.go:190"""
        said = objection(service)
        assert not said, f"the webhook lets nobody write this: {said}"
        while True:
            self._kubelet()
            before = self._available()
            try:
                status = self._reconciled(service)
            except Refused as error:
                self.errors.append(str(error))
                return None
            self._kubelet()
            if self._available() == before:
                return status

    def _reconciled(self, service: Mapping[str, Any]) -> dict[str, Any]:
        stable, canaries = service["spec"]["predictor"], service["spec"].get("canary") or []
        names = {service_name(NAME, stable)}
        ready: dict[str, bool] = {}
        for canary in canaries:
            predictor = canary_predictor(stable, canary)
            name = service_name(NAME, predictor)
            names.add(name)
            self._make(service, name, predictor, predictor["minReplicas"], predictor["minReplicas"])
            ready[canary["predictor"]["name"]] = self._available().get(name, 0) > 0  # components/predictor.go:967
        self._tidy(names)  # before the route is written. components/predictor.go:1000
        least = stable_replicas(service["spec"], ready)
        self._make(service, service_name(NAME, stable), stable, least, max(least, stable.get("maxReplicas", 0)))
        told = self._condition(service_name(NAME, stable), "Available") == "True"
        if told:  # else the routes stay as they are. reconcilers/ingress/httproute_reconciler.go:258, 503
            for route in (f"{NAME}-predictor", NAME):  # :1117, 1130
                self._write_route(route, backends(NAME, service["spec"], ready))
        host = f"{service_name(NAME, stable)}.{self.cluster.namespace}.svc.cluster.local"
        return {
            "deploymentMode": "Standard",
            "canaryStatuses": statuses(canaries, ready),
            "address": {"url": f"http://{host}"},
            "conditions": [{"type": "Ready", "status": "True" if told else "False"}],
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

    def _make(self, isvc: Mapping[str, Any], name: str, predictor: Mapping[str, Any], least: int, most: int) -> None:
        """A predictor's Service, Deployment and autoscaler. reconcilers/raw/raw_kube_reconciler.go:241"""
        scaler = autoscaler(isvc, predictor)
        check_name(name, self.cluster.namespace)
        labels = {**LABELS, "app": f"isvc.{name}"}  # pkg/constants/constants.go:758
        ports = [{"port": 80, "targetPort": 8080}]
        service = {
            "metadata": {"name": name, "labels": LABELS},
            "spec": {"selector": {"app": labels["app"]}, "ports": ports},
        }
        with suppress(ApiException):
            self._core.create_namespaced_service(self.cluster.namespace, service)
        annotations = {**isvc["metadata"]["annotations"], **(predictor.get("annotations") or {})}
        body = self._deployment(name, predictor, labels, annotations)
        found = self._found(name)
        now = found.spec.replicas if found else 1
        # The autoscaler's part: what it would run for the load it has, within its bounds.
        # reconcilers/hpa/hpa_reconciler.go:150, reconcilers/deployment/deployment_reconciler.go:170
        own = {"none": least, "external": now}.get(scaler, min(max(self.load, least), most))
        body["spec"]["replicas"] = (
            self.load if scaler == "external" and not predictor_is_canary(isvc, predictor) else own
        )
        if found is None:
            self._apps.create_namespaced_deployment(self.cluster.namespace, body)
        else:
            self._apps.patch_namespaced_deployment(name, self.cluster.namespace, body)
        check_autoscaler(scaler, predictor)

    def _deployment(
        self, name: str, predictor: Mapping[str, Any], labels: Mapping[str, str], annotations: Mapping[str, str]
    ) -> dict[str, Any]:
        """As KServe does: what is noted on the service goes onto the pods, and a change of it restarts them.

        The storage initializer goes before the server. pkg/utils/storage.go:318
        """
        address = predictor["model"]["storageUri"]
        initializer = {"name": "storage-initializer", "image": "none", "args": [address, "/mnt/models"]}
        server = {"name": "kserve-container", "image": "none", "args": [json.dumps(predictor["model"], sort_keys=True)]}
        template = {
            "metadata": {"labels": dict(labels), "annotations": dict(annotations)},
            "spec": {"initContainers": [initializer], "containers": [server]},
        }
        spec = {"selector": {"matchLabels": {"app": labels["app"]}}, "template": template}
        self.versions[name] = _version(predictor)
        return {"metadata": {"name": name, "labels": LABELS}, "spec": spec}

    def _tidy(self, names: set[str]) -> None:
        """Drop the Deployments and Services of predictors that are no more. components/predictor.go:1000"""
        listed: dict[str, Any] = {"namespace": self.cluster.namespace, "label_selector": f"isvc={NAME}"}
        for found in self._apps.list_namespaced_deployment(**listed).items:
            if found.metadata.name not in names:
                self._apps.delete_namespaced_deployment(found.metadata.name, self.cluster.namespace)
        for found in self._core.list_namespaced_service(**listed).items:
            if found.metadata.name not in names:
                share = self._shares().get(found.metadata.name, 0)
                if share:
                    self.lost.append((self.versions[found.metadata.name], share))
                self._core.delete_namespaced_service(found.metadata.name, self.cluster.namespace)

    def _write_route(self, name: str, refs: list[dict[str, Any]]) -> None:
        group, version, plural = ROUTES
        body = {
            "apiVersion": f"{group}/{version}", "kind": "HTTPRoute", "metadata": {"name": name},
            "spec": {"rules": [{"backendRefs": refs}]},
        }  # fmt: skip
        where = (group, version, self.cluster.namespace, plural)
        try:
            self.cluster.api.patch_namespaced_custom_object(*where, name, body)
        except ApiException as error:
            if error.status != 404:
                raise
            self.cluster.api.create_namespaced_custom_object(*where, body)
        if name == NAME:
            self._route({self.versions[backend]: share for backend, share in self._shares().items()})

    def _shares(self) -> dict[str, int]:
        """What the gateway gives each backend, in percent."""
        try:
            route = self.cluster.api.get_namespaced_custom_object(
                ROUTES[0], ROUTES[1], self.cluster.namespace, ROUTES[2], NAME
            )
        except ApiException:
            return {}
        weights = {ref["name"]: ref.get("weight", 1) for ref in route["spec"]["rules"][0]["backendRefs"]}
        return {name: round(100 * weight / sum(weights.values())) for name, weight in weights.items()}

    def _found(self, name: str) -> Any:
        try:
            return self._apps.read_namespaced_deployment(name, self.cluster.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    def _condition(self, name: str, kind: str) -> str:
        found = self._found(name)
        return next((c.status for c in (found.status.conditions or []) if c.type == kind), "") if found else ""


def predictor_is_canary(isvc: Mapping[str, Any], predictor: Mapping[str, Any]) -> bool:
    return bool(predictor.get("name") != isvc["spec"]["predictor"].get("name"))


def _version(predictor: Mapping[str, Any]) -> str:
    return str(predictor["model"]["storageUri"]).rstrip("/").rpartition("/")[2]
