"""What every overlay has to keep to: security, drains, scaling, accounts."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from components import STEPS_IMAGE
from components.rollout.judging.evidence import selector_of
from pipelines.cli.app import app
from predictor.metric_names import JOB_BACKLOG_CHUNKS, QUEUE_TOKENS
from predictor.serving.server import GRACE_SECONDS
from tests.conftest import ROOT
from tests.fakes.kserve import Object, workloads
from tests.manifests.conftest import OVERLAYS, STANDARD_OVERLAYS, Render, of_kind

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
_TAG = re.compile(r":\d+\.\d+\.\d+$")
# What Knative refuses in a revision unless an administrator allows it.
_NOT_IN_KNATIVE = {
    "deploymentStrategy", "hostNetwork", "securityContext", "terminationGracePeriodSeconds",
    "topologySpreadConstraints",
}  # fmt: skip


@pytest.mark.parametrize("name", OVERLAYS)
def test_objects_say_what_they_belong_to(render: Render, name: str) -> None:
    for document in render(name):
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "pigeonhole", document["metadata"]
        if document["kind"] == "Namespace":
            continue  # Kubeflow's object storage wants it to be part of something else
        assert labels["app.kubernetes.io/part-of"] == "pigeonhole"
        assert labels["app.kubernetes.io/component"] in {
            "predictor",
            "steps",
            "search",
            "network",
            "monitoring",
            "trigger",
        }
        if document["kind"] in {"InferenceService", "PodDisruptionBudget"}:
            assert labels["app.kubernetes.io/instance"] == document["metadata"]["name"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_objects_lie_in_the_namespaces_that_come_with_them(render: Render, name: str) -> None:
    of_the_cluster = {"Namespace", "ClusterServingRuntime", "ClusterStorageContainer"}
    for document in render(name):
        kind, where = document["kind"], document["metadata"].get("namespace")
        places: set[str | None] = {None if kind in of_the_cluster else "pigeonhole"}
        if kind in {"NetworkPolicy", "Role", "RoleBinding"}:
            places.add("pigeonhole-search")
        assert where in places, document["metadata"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_no_value_is_the_word_null(render: Render, name: str) -> None:
    # Which is what kustomize makes of an annotation that a patch sets to null.
    assert "null" not in _leaves(render(name))


@pytest.mark.parametrize("name", OVERLAYS)
def test_images_have_a_version_and_in_production_a_digest(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        assert (_DIGEST if name == "production" else _TAG).search(workload.container["image"])


def test_the_manifests_have_the_version_of_the_package(render: Render) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    experiment = yaml.safe_load((ROOT / "manifests/katib/experiment.yaml").read_text())
    (trial,) = experiment["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["containers"]
    assert trial["image"] == STEPS_IMAGE == f"pigeonhole/steps-python:{version}"
    objects = render("standard")
    assert {w.container["image"] for w in workloads(objects)} == {f"pigeonhole/predictor:{version}"}
    assert {
        o["metadata"]["labels"]["app.kubernetes.io/version"] for o in of_kind(objects, "InferenceService")
    } == {version}  # fmt: skip


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_server_takes_the_arguments_that_kserve_gives_it(render: Render, name: str) -> None:
    commands = typer.main.get_command(app)
    for workload in workloads(render(name)):
        command, *args = workload.container["args"]
        assert command == "serve"
        given = commands.commands[command].make_context(command, args).params  # type: ignore[attr-defined]
        assert given["bundle"] == Path("/mnt/models")
        assert given["model_name"] == workload.name
        ports = {port["name"]: port["containerPort"] for port in workload.container["ports"]}
        assert ports["http1"] == given["http_port"]
        assert ports.get("grpc", given["grpc_port"]) == given["grpc_port"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_probes_ask_for_the_model_and_not_for_the_server(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        container = workload.container
        ready = {"path": f"/v2/models/{workload.name}/ready", "port": 8080}
        assert container["readinessProbe"]["httpGet"] == ready
        assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": 8080}
        if name in STANDARD_OVERLAYS:
            startup = container["startupProbe"]
            assert startup["httpGet"] == ready
            assert startup["periodSeconds"] * startup["failureThreshold"] >= 60


@pytest.mark.parametrize("name", STANDARD_OVERLAYS)
def test_a_pod_may_end_what_it_took(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        command, seconds = workload.container["lifecycle"]["preStop"]["exec"]["command"]
        assert command == "sleep"
        readiness = workload.container["readinessProbe"]
        assert int(seconds) > readiness["periodSeconds"] * readiness["failureThreshold"]
        # The server waits so long for the model, and uvicorn for the readers of its answers.
        assert workload.pod["terminationGracePeriodSeconds"] > int(seconds) + 2 * GRACE_SECONDS
        assert workload.service["spec"]["predictor"]["deploymentStrategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_server_gets_the_cpus_that_it_makes_lanes_for(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        resources = workload.container["resources"]
        assert resources["requests"]["cpu"] == resources["limits"]["cpu"]
        assert {"cpu", "memory"} == set(resources["requests"]) == set(resources["limits"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_predictors_get_no_token_of_the_api_server(render: Render, name: str) -> None:
    accounts = {o["metadata"]["name"]: o for o in of_kind(render(name), "ServiceAccount")}
    for workload in workloads(render(name)):
        account = workload.pod["serviceAccountName"]
        assert accounts[account]["automountServiceAccountToken"] is False
        bound = [subject["name"] for o in of_kind(render(name), "RoleBinding") for subject in o["subjects"]]
        assert account not in bound


@pytest.mark.parametrize("name", STANDARD_OVERLAYS)
def test_pods_of_a_version_are_spread(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        spreads = {spread["topologyKey"]: spread for spread in workload.pod["topologySpreadConstraints"]}
        assert set(spreads) == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
        for spread in spreads.values():
            assert spread["labelSelector"]["matchLabels"].items() <= workload.labels.items()
            assert spread["matchLabelKeys"] == ["app", "pod-template-hash"]
        hard = spreads["kubernetes.io/hostname"]["whenUnsatisfiable"] == "DoNotSchedule"
        assert hard == (name == "production")


@pytest.mark.parametrize("name", STANDARD_OVERLAYS)
def test_an_hpa_scales_on_what_it_can_measure(render: Render, name: str) -> None:
    for workload in workloads(render(name)):
        predictor = workload.service["spec"]["predictor"]
        annotations = workload.service["metadata"]["annotations"]
        assert annotations["serving.kserve.io/deploymentMode"] == "Standard"
        assert annotations.get("serving.kserve.io/autoscalerClass", "hpa") == "hpa"
        assert predictor["scaleMetric"] in {"cpu", "memory"}
        assert 2 <= predictor["minReplicas"] < predictor["maxReplicas"]
        # The stable predictor gets its name from the first promotion; one that is taken refuses a canary.
        assert "name" not in predictor


def test_keda_scales_on_queue_tokens_and_jobs_of_each_task(render: Render) -> None:
    for workload in workloads(render("standard+keda")):
        predictor = workload.service["spec"]["predictor"]
        assert workload.service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == "keda"
        assert not {"scaleMetric", "scaleTarget"} & set(predictor)
        queries = [metric["external"]["metric"]["query"] for metric in predictor["autoScaling"]["metrics"]]
        namespace = workload.service["metadata"]["namespace"]
        for series, query in zip((QUEUE_TOKENS, JOB_BACKLOG_CHUNKS), queries, strict=True):
            assert f"{series}{{{selector_of(namespace, workload.name)}}}" in query


@pytest.mark.parametrize("name", [*OVERLAYS, "standard+keda", "production+keda"])
def test_tasks_differ_in_their_names_and_first_bundles_only(render: Render, name: str) -> None:
    for kind in ("InferenceService", "PodDisruptionBudget"):
        objects = {found["metadata"]["name"]: found for found in of_kind(render(name), kind)}
        if objects:
            assert set(objects) == {"news", "sentiment"}
        texts = {json.dumps(found).replace(task, "TASK") for task, found in objects.items()}
        assert len({re.sub(r"(s3://models/TASK)/[0-9a-f]{12}", r"\1/DIGEST", text) for text in texts}) <= 1


def test_knative_scales_to_zero_and_gets_nothing_that_it_refuses(render: Render) -> None:
    for workload in workloads(render("knative")):
        predictor = workload.service["spec"]["predictor"]
        assert workload.service["metadata"]["annotations"] == {"serving.kserve.io/deploymentMode": "Knative"}
        assert (predictor["minReplicas"], predictor["scaleMetric"]) == (0, "concurrency")
        assert not _NOT_IN_KNATIVE & set(predictor)
        assert not {"lifecycle", "startupProbe"} & set(workload.container)
        assert [port["name"] for port in workload.container["ports"]] == ["http1"]


def test_production_drains_one_pod_of_a_task_at_a_time(render: Render) -> None:
    objects = render("production")
    made = {workload.name: workload for workload in workloads(objects)}
    budgets = {o["metadata"]["name"]: o["spec"] for o in of_kind(objects, "PodDisruptionBudget")}
    assert set(budgets) == set(made)
    for name, budget in budgets.items():
        assert budget["maxUnavailable"] == 1
        selector = budget["selector"]["matchLabels"].items()
        assert [other for other in made if selector <= made[other].labels.items()] == [name]
        assert made[name].service["spec"]["predictor"]["minReplicas"] >= 3


@pytest.mark.parametrize("name", ["production", "knative+pod-monitor"])
def test_prometheus_finds_the_pods_and_their_port(render: Render, name: str) -> None:
    (monitor,) = [o for o in of_kind(render(name), "PodMonitor") if o["metadata"]["name"] == "pigeonhole-predictor"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for workload in workloads(render(name)):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= workload.labels.items()
        assert endpoint["portNumber"] in [port["containerPort"] for port in workload.container["ports"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_accounts_may_do_what_they_must_and_no_more(render: Render, name: str) -> None:
    may = _rights(render(name), "pigeonhole")
    steps, rollout = may["pigeonhole-steps"], may["pigeonhole-rollout"]
    assert {("trainjobs", "create"), ("trainjobs", "delete")} <= steps
    assert not [verb for kind, verb in steps if kind == "inferenceservices"]
    assert ("inferenceservices", "patch") in rollout
    added = rollout - steps
    assert {kind for kind, verb in added if verb not in {"get", "list"}} <= {"inferenceservices", "configmaps"}
    assert not may["pigeonhole-predictor"]
    searching = _rights(render(name), "pigeonhole-search")
    wanted = {("namespaces", "get"), *(("experiments", verb) for verb in ("create", "get", "delete"))}
    assert searching == {"pigeonhole-steps": wanted, "pigeonhole-rollout": wanted, "pigeonhole-predictor": set()}
    assert not of_kind(render(name), "ClusterRole") + of_kind(render(name), "ClusterRoleBinding")


def _rights(objects: list[Object], namespace: str) -> dict[str, set[tuple[str, str]]]:
    """What each account may do in a namespace, as kind and verb."""
    may: dict[str, set[tuple[str, str]]] = {o["metadata"]["name"]: set() for o in of_kind(objects, "ServiceAccount")}
    here = [o for o in objects if o["metadata"].get("namespace") == namespace]
    roles = {o["metadata"]["name"]: o["rules"] for o in of_kind(here, "Role")}
    for binding in of_kind(here, "RoleBinding"):
        for subject in binding["subjects"]:
            assert subject["namespace"] == "pigeonhole"
            for rule in roles[binding["roleRef"]["name"]]:
                assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
                assert "secrets" not in rule["resources"] or rule["resourceNames"]
                may[subject["name"]] |= {(kind, verb) for kind in rule["resources"] for verb in rule["verbs"]}
    return may


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in _leaves(part)]
    if isinstance(value, list):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]
