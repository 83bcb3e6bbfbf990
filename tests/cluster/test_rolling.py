"""The predictor's image as pods on a real node: one bundle gives way to another while callers go on asking.

KServe's controller does not run here. The test plays its part: it makes the Deployment that Standard mode makes of the
rendered overlay, and has the node's own disk in place of the storage initializer.
"""

import http.client
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from predictor import __version__
from predictor.model.bundle import Bundle, seal
from tests.cluster.callers import Callers
from tests.fakes.kserve import MODEL_VOLUME, Object, Workload, deployment, workloads
from tests.manifests.conftest import Render
from tests.manifests.conftest import render as render

pytestmark = pytest.mark.cluster
IMAGE = f"{os.environ.get('IMAGE_PREFIX', 'pigeonhole')}/predictor:{os.environ.get('TAG', __version__)}"
_PATIENCE_SECONDS = 300


@pytest.fixture(scope="module")
def node(tools: Path | None, kubeconfig: Path) -> Iterator[None]:
    """A node on this machine, over a container engine that has the predictor's image."""
    if tools is None:
        pytest.skip("no node on this machine: its disk has to hold the bundles, and its port to be on 127.0.0.1")
    # Containers of pods want a priority that a virtual machine may not give.
    runtime = f"--add-runtime noadj={tools.resolve()}/k8s/runc-noadj --default-runtime noadj"
    engine = ["sh", str(tools / "containers/dockerd.sh")]
    ours = subprocess.run(["docker", "info"], capture_output=True).returncode != 0
    if ours:
        subprocess.run([*engine, "start"], check=True, capture_output=True, env={**os.environ, "DOCKERD_ARGS": runtime})
    try:
        if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True).returncode:
            pytest.skip(f"there is no image {IMAGE}: make images builds it")
        subprocess.run([str(tools / "k8s/cluster"), "node"], check=True, capture_output=True)
        yield
    finally:
        if ours:
            subprocess.run([*engine, "stop"], check=True, capture_output=True)


@pytest.fixture
def namespace(api: client.ApiClient) -> Iterator[str]:
    core, name = client.CoreV1Api(api), f"rolling-{time.time_ns()}"
    core.create_namespace({"metadata": {"name": name}})
    core.create_namespaced_service_account(name, {"metadata": {"name": "pigeonhole-predictor"}})
    yield name
    # Before the kubelet goes, so that no container is left behind.
    core.delete_namespace(name)
    _until(lambda: not core.list_namespaced_pod(name).items, "the namespace's pods are gone")


@pytest.fixture(scope="module")
def next_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classes, another digest."""
    folder = tmp_path_factory.mktemp("next") / "bundle"
    shutil.copytree(bundle, folder)
    spec = Bundle.open(bundle).spec
    seal(folder, spec.model_copy(update={"temperature": spec.temperature * 2}))
    return folder


def test_pods_roll_from_one_bundle_to_another_and_nobody_notices(
    node: None, api: client.ApiClient, namespace: str, render: Render, bundle: Path, next_bundle: Path
) -> None:
    apps, core = client.AppsV1Api(api), client.CoreV1Api(api)
    (workload,) = [found for found in workloads(render("standard")) if found.name == "news"]
    document = _on_this_node(workload, namespace, bundle)
    name = document["metadata"]["name"]
    apps.create_namespaced_deployment(namespace, document)
    _until_rolled_out(apps, core, namespace, name)
    port = _publish(core, namespace, document)

    with Callers(port, workload.name, lambda number: lambda: f"goal cup {number} {time.time_ns()}") as callers:
        _until(lambda: len(callers.answers) > 50, "callers are answered")
        apps.patch_namespaced_deployment(name, namespace, _on_this_node(workload, namespace, next_bundle))
        _until_rolled_out(apps, core, namespace, name)
        before = len(callers.answers)
        _until(lambda: len(callers.answers) > before + 50, "callers are answered")

    failures = callers.failures()
    assert not failures, f"{len(failures)} of {len(callers.answers)}: {failures[:3]}"
    new = Bundle.open(next_bundle).digest
    assert {new.startswith(version) for _, version in callers.answers} == {False, True}
    assert {new.startswith(version) for _, version in callers.answers[before:]} == {True}


def _on_this_node(workload: Workload, namespace: str, bundle: Path) -> Object:
    document = deepcopy(deployment(workload))
    document["metadata"]["namespace"] = namespace
    pod = document["spec"]["template"]["spec"]
    del pod["initContainers"]
    (model,) = [volume for volume in pod["volumes"] if volume["name"] == MODEL_VOLUME]
    del model["emptyDir"]
    model["hostPath"] = {"path": str(bundle), "type": "Directory"}
    (container,) = pod["containers"]
    container["image"] = IMAGE
    container["imagePullPolicy"] = "Never"
    # Three pods at a time on a machine of two CPUs.
    container["resources"]["requests"] = {"cpu": "100m", "memory": "256Mi"}
    return document


def _publish(core: client.CoreV1Api, namespace: str, document: Object) -> int:
    service = {
        "metadata": {"name": document["metadata"]["name"]},
        "spec": {
            "type": "NodePort",
            "selector": document["spec"]["selector"]["matchLabels"],
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }
    port = int(core.create_namespaced_service(namespace, service).spec.ports[0].node_port)

    def reached() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/v2/health/live")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    _until(reached, "the node's port leads to a pod")
    return port


def _until_rolled_out(apps: client.AppsV1Api, core: client.CoreV1Api, namespace: str, name: str) -> None:
    """Wait until all pods are of the newest template, ready, and alone."""

    def rolled_out() -> bool:
        found = apps.read_namespaced_deployment(name, namespace)
        status, want = found.status, found.spec.replicas
        told = (status.observed_generation or 0) >= found.metadata.generation
        counts = (status.updated_replicas, status.available_replicas, status.replicas)
        return told and counts == (want, want, want) and len(core.list_namespaced_pod(namespace).items) == want

    _until(rolled_out, "the pods have rolled", lambda: _why_not(core, namespace))


def _why_not(core: client.CoreV1Api, namespace: str) -> str:
    events = core.list_namespaced_event(namespace).items
    return "; ".join(f"{event.reason}: {event.message}" for event in events[-8:])


def _until(holds: Any, what: str, why_not: Any = lambda: "") -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not in {_PATIENCE_SECONDS} s: {what}; {why_not()}"
        time.sleep(0.2)
