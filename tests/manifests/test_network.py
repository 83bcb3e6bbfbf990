"""Who may talk to whom, asked of the policies as a network would ask them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.fakes.kserve import Object, workloads
from tests.manifests.conftest import OVERLAYS, Render, of_kind

HERE, SEARCH = "pigeonhole", "pigeonhole-search"


@dataclass(frozen=True)
class Peer:
    """A pod, or with an address something outside the cluster. Ports are those of pods, whatever their Service's is."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str = HERE
    address: str = ""


STEP = Peer({"pipelines.kubeflow.org/v2_component": "true"})
TRAINER = Peer({"jobset.sigs.k8s.io/jobset-name": "tune-1"})
GATEWAY = Peer({}, "envoy-gateway-system")
PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
ALERTMANAGER = Peer({"app.kubernetes.io/name": "alertmanager"}, "monitoring")
PUSHGATEWAY = Peer({"app.kubernetes.io/name": "prometheus-pushgateway"}, "monitoring")
TRIGGER = Peer({"app.kubernetes.io/component": "trigger"})
GRAFANA = Peer({"app.kubernetes.io/name": "grafana"}, "monitoring")
DNS = Peer({"k8s-app": "kube-dns"}, "kube-system")
MLFLOW, KUBEFLOW, ACTIVATOR = Peer({}, "mlflow"), Peer({}, "kubeflow"), Peer({}, "knative-serving")
SEAWEEDFS, MINIO = Peer({"app": "seaweedfs"}, "kubeflow"), Peer({"app": "minio"}, "kubeflow")
KATIB = Peer({"katib.kubeflow.org/component": "controller"}, "kubeflow")
KATIB_DB = Peer({"katib.kubeflow.org/component": "db-manager"}, "kubeflow")
TRIAL = Peer({"katib.kubeflow.org/experiment": "one", "katib.kubeflow.org/trial": "one-x7k2"}, SEARCH)
SUGGESTION = Peer({"katib.kubeflow.org/experiment": "one", "katib.kubeflow.org/suggestion": "one"}, SEARCH)
STRANGER = Peer({}, "default")
API_SERVER = Peer(namespace="", address="10.0.0.1")
STORAGE = Peer(namespace="", address="52.216.1.1")
MACHINE = Peer(namespace="", address="169.254.169.254")


def predictor(render: Render, name: str) -> Peer:
    return Peer(workloads(render(name))[0].labels)


@pytest.mark.parametrize("name", OVERLAYS)
def test_edges_that_are_there(render: Render, name: str) -> None:
    policies, model = of_kind(render(name), "NetworkPolicy"), predictor(render, name)
    edges = [
        (GATEWAY, model, 8080), (GATEWAY, model, 8081), (PROMETHEUS, model, 8080), (STEP, model, 8080),
        (model, DNS, 53), (STEP, DNS, 53), (TRIAL, DNS, 53), (STEP, MLFLOW, 5000),
        (STEP, KUBEFLOW, 8080), (STEP, KUBEFLOW, 8887), (STEP, KUBEFLOW, 8888), (STEP, PROMETHEUS, 9090),
        (TRAINER, TRAINER, 29500), (STEP, API_SERVER, 6443), (STEP, PUSHGATEWAY, 9091),
        (ALERTMANAGER, TRIGGER, 8085), (PROMETHEUS, TRIGGER, 8085), (TRIGGER, KUBEFLOW, 8888), (TRIGGER, DNS, 53),
        (KATIB, SUGGESTION, 6789), (KATIB, SUGGESTION, 6788), (TRIAL, SUGGESTION, 6788),
        (TRIAL, KATIB_DB, 6789), (SUGGESTION, KATIB_DB, 6789), (SUGGESTION, API_SERVER, 443),
        # SeaweedFS's Service has port 9000, its pods 8333.
        *((pod, storage, port) for pod in (model, STEP, TRAINER, TRIAL)
          for storage, port in ((STORAGE, 443), (SEAWEEDFS, 8333), (MINIO, 9000))),
    ]  # fmt: skip
    for source, target, port in edges:
        assert allowed(policies, source, target, port), (source, target, port)


@pytest.mark.parametrize("name", OVERLAYS)
def test_edges_that_are_not(render: Render, name: str) -> None:
    policies, model = of_kind(render(name), "NetworkPolicy"), predictor(render, name)
    edges = [
        (STRANGER, model, 8080), (GATEWAY, model, 22), (GRAFANA, model, 8080), (PROMETHEUS, model, 8081),
        (model, model, 8080), (model, STEP, 8080), (model, MACHINE, 443), (model, MACHINE, 80), (STEP, MACHINE, 443),
        (model, STORAGE, 80), (model, STORAGE, 6443), (model, PROMETHEUS, 9090), (model, MLFLOW, 5000),
        (STRANGER, STEP, 8080), (STEP, STEP, 8080), (STEP, TRAINER, 29500), (STEP, GRAFANA, 9090),
        (STEP, STRANGER, 8080), (model, KUBEFLOW, 8888), (model, KATIB_DB, 9000), (STEP, KATIB_DB, 6789),
        (KATIB, STEP, 6789), (KUBEFLOW, SUGGESTION, 6789), (KATIB, SUGGESTION, 22), (KATIB, TRIAL, 6789),
        (TRIAL, SUGGESTION, 6789), (TRIAL, TRIAL, 6788), (TRIAL, API_SERVER, 6443), (TRIAL, MACHINE, 443),
        (STRANGER, TRIGGER, 8085), (STEP, TRIGGER, 8085), (model, TRIGGER, 8085), (GRAFANA, TRIGGER, 8085),
        (ALERTMANAGER, STEP, 8085), (ALERTMANAGER, model, 8080), (model, PUSHGATEWAY, 9091),
        (TRIGGER, MACHINE, 443), (TRIGGER, PUSHGATEWAY, 9091),
        (TRIAL, KUBEFLOW, 8888), (TRIAL, model, 8080), (STEP, TRIAL, 6788), (STRANGER, SUGGESTION, 6789),
    ]  # fmt: skip
    for source, target, port in edges:
        assert not allowed(policies, source, target, port), (source, target, port)


@pytest.mark.parametrize("name", OVERLAYS)
def test_knatives_proxies_are_asked_by_activator_and_gateway_where_they_are(render: Render, name: str) -> None:
    policies, model = of_kind(render(name), "NetworkPolicy"), predictor(render, name)
    kourier, istio = Peer({"app": "3scale-kourier-gateway"}, "kourier-system"), Peer({}, "istio-system")
    asked = [(source, model, port) for source in (ACTIVATOR, kourier, istio) for port in (8012, 8013, 8112)]
    asked += [(ACTIVATOR, model, 9090), *((STEP, gateway, 8081) for gateway in (ACTIVATOR, kourier, istio))]
    for source, target, port in asked:
        assert allowed(policies, source, target, port) == (name == "knative"), (source, target, port)
    for source, port in ((kourier, 8080), (kourier, 9090), (STRANGER, 8012)):
        assert not allowed(policies, source, model, port), (source, port)


def test_each_file_is_listed_and_named_for_its_edge(render: Render) -> None:
    names = {policy["metadata"]["name"] for policy in of_kind(render("knative"), "NetworkPolicy")}
    files = {file.stem for file in (ROOT / "manifests/network").rglob("*.yaml")} - {"kustomization"}
    assert names == files | {"predictor-from-steps", "suggestion-from-trial"}  # other ends of an edge


@pytest.mark.parametrize("name", OVERLAYS)
def test_everything_is_denied_first_and_no_rule_is_open(render: Render, name: str) -> None:
    policies = {
        (policy["metadata"]["namespace"], policy["metadata"]["name"]): policy["spec"]
        for policy in of_kind(render(name), "NetworkPolicy")
    }
    for namespace in of_kind(render(name), "Namespace"):
        denied = policies.pop((namespace["metadata"]["name"], "default-deny"))
        assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for (_, title), policy in policies.items():
        rules = [*policy.get("ingress", []), *policy.get("egress", [])]
        assert rules, title
        for rule in rules:
            assert rule.get("from") or rule.get("to"), title
            assert rule.get("ports") or title == "trainer-to-trainer", title


def allowed(policies: list[Object], source: Peer, target: Peer, port: int) -> bool:
    """Whether both ends of a connection have leave; ends that are not pods of our namespaces need none."""
    return all(
        pod.namespace not in (HERE, SEARCH) or _has_leave(policies, pod, other, port, direction)
        for pod, other, direction in ((source, target, "egress"), (target, source, "ingress"))
    )


def _has_leave(policies: list[Object], pod: Peer, other: Peer, port: int, direction: str) -> bool:
    side = {"egress": "to", "ingress": "from"}[direction]
    specs = [policy["spec"] for policy in policies if policy["metadata"]["namespace"] == pod.namespace]
    mine = [
        spec for spec in specs
        if direction.capitalize() in spec["policyTypes"] and _selects(spec["podSelector"], pod.labels)
    ]  # fmt: skip
    return not mine or any(
        any(_is(peer, other, pod.namespace) for peer in rule[side])
        and ("ports" not in rule or port in [allowed["port"] for allowed in rule["ports"]])
        for spec in mine
        for rule in spec.get(direction, [])
    )


def _is(peer: Mapping[str, Any], other: Peer, here: str) -> bool:
    if "ipBlock" in peer:
        address, block = ip_address(other.address or "100.64.0.1"), peer["ipBlock"]  # what a pod's may be
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(hole) for hole in block.get("except", [])
        )
    if other.address:
        return False
    if "namespaceSelector" in peer:
        if not _selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace}):
            return False
    elif other.namespace != here:
        return False
    return _selects(peer.get("podSelector", {}), other.labels)


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    def holds(expression: Mapping[str, Any]) -> bool:
        value = labels.get(expression["key"])
        if expression["operator"] == "Exists":
            return value is not None
        assert expression["operator"] in {"In", "NotIn"}
        return bool((value in expression["values"]) == (expression["operator"] == "In"))

    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        holds(expression) for expression in selector.get("matchExpressions", [])
    )
