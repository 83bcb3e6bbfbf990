"""The predictor's image, run as Kubernetes would: nobody's user, a root that cannot be written, no capabilities."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container

from predictor import __version__
from predictor.model.classifier import Classifier
from tests.conftest import ROOT
from tests.images.conftest import Image

LOCKED: dict[str, Any] = {
    "read_only": True,
    "tmpfs": {"/tmp": "size=64m"},
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "pids_limit": 256,
    "mem_limit": "2g",
}


@pytest.fixture(scope="module")
def served(engine: docker.DockerClient, image: Image, bundle: Path) -> Iterator[Container]:
    """A predictor of the toy bundle, with the image's own command."""
    container = engine.containers.run(
        image("predictor"), detach=True, volumes={str(bundle): {"bind": "/mnt/models", "mode": "ro"}},
        ports={"8080/tcp": ("127.0.0.1", None)}, **LOCKED,
    )  # fmt: skip
    try:
        _wait_ready(container)
        yield container
    finally:
        container.remove(force=True)


def _wait_ready(container: Container) -> None:
    for _ in range(1200):
        container.reload()
        assert container.status in ("created", "running"), container.logs().decode()
        try:
            if httpx.get(f"{_address(container)}/v2/models/classifier/ready").status_code == 200:
                return
        except (httpx.TransportError, IndexError):
            time.sleep(0.1)
    raise AssertionError(f"the predictor is not ready: {container.logs().decode()}")


def _address(container: Container) -> str:
    return f"http://127.0.0.1:{container.ports['8080/tcp'][0]['HostPort']}"


def _python(engine: docker.DockerClient, image: str, code: str) -> str:
    output = engine.containers.run(image, ["-c", code], entrypoint="python", remove=True, network_mode="none", **LOCKED)
    return str(output.decode().strip())


def test_it_answers_as_the_classifier_does(served: Container, bundle: Path) -> None:
    texts = ["goal cup striker", "profit bank shares", "treaty rebels vote"]
    body = httpx.post(f"{_address(served)}/v1/models/classifier:predict", json={"instances": texts}).raise_for_status()
    classifier = Classifier(bundle)
    rows = classifier.probabilities(texts)
    labels = [classifier.bundle.spec.labels[best] for best in rows.argmax(axis=1)]
    got = body.json()["predictions"]
    assert [row["label"] for row in got] == labels
    assert [row["confidence"] for row in got] == rows.max(axis=1).tolist()
    classifier.close()


def test_nobody_runs_it_and_it_says_that_it_is_well(served: Container) -> None:
    assert served.exec_run(["id", "-u"]).output.decode().strip() == "10001"
    for _ in range(600):
        served.reload()
        if served.attrs["State"]["Health"]["Status"] == "healthy":
            break
        time.sleep(0.1)
    assert served.attrs["State"]["Health"]["Status"] == "healthy", served.attrs["State"]["Health"]


def test_it_writes_nothing_but_what_is_temporary(served: Container) -> None:
    assert served.exec_run(["touch", "/opt/pigeonhole/x"]).exit_code
    assert not [change for change in served.diff() or [] if not change["Path"].startswith(("/tmp", "/mnt"))]


def test_it_ends_at_sigterm(engine: docker.DockerClient, image: Image, bundle: Path) -> None:
    container = engine.containers.run(
        image("predictor"), detach=True, volumes={str(bundle): {"bind": "/mnt/models", "mode": "ro"}},
        ports={"8080/tcp": ("127.0.0.1", None)}, **LOCKED,
    )  # fmt: skip
    try:
        _wait_ready(container)
        container.kill("SIGTERM")
        assert container.wait(timeout=60)["StatusCode"] == 0
    finally:
        container.remove(force=True)


def test_without_a_bundle_it_says_so(engine: docker.DockerClient, image: Image) -> None:
    container = engine.containers.run(image("predictor"), detach=True, network_mode="none", **LOCKED)
    try:
        assert container.wait(timeout=60)["StatusCode"] == 2
        (sentence,) = container.logs().decode().strip().splitlines()
        assert sentence.startswith("pigeonhole: ") and "/mnt/models" in sentence
    finally:
        container.remove(force=True)


def test_it_holds_what_serves_and_nothing_else(engine: docker.DockerClient, image: Image) -> None:
    code = "import importlib.util as u; print([n for n in %r if u.find_spec(n)])"
    never = ["torch", "transformers", "datasets", "mlflow", "kfp", "sklearn", "pip"]
    assert _python(engine, image("predictor"), code % never) == "[]"
    assert engine.images.get(image("predictor")).attrs["Size"] <= 600_000_000


def test_bytecode_is_there_beforehand(engine: docker.DockerClient, image: Image) -> None:
    code = (
        "import importlib.util as u, os, json;"
        "print(json.dumps([n for n in ('predictor.serving.server', 'kserve.model_server', 'numpy', 'argparse')"
        " if not os.path.exists(u.cache_from_source(u.find_spec(n).origin))]))"
    )
    assert json.loads(_python(engine, image("predictor"), code).splitlines()[-1]) == []


def test_the_image_says_what_it_is(engine: docker.DockerClient, image: Image) -> None:
    for name in ("predictor", "steps-python"):
        settings = engine.images.get(image(name)).attrs["Config"]
        assert settings["User"] == "10001:10001"
        labels = settings["Labels"]
        assert labels["org.opencontainers.image.version"] == os.environ.get("TAG", __version__).removeprefix("v")
        assert len(labels["org.opencontainers.image.revision"]) == 40
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_the_bills_of_materials_list_what_is_inside(engine: docker.DockerClient, image: Image) -> None:
    for name in ("predictor", "steps-python"):
        file = ROOT / "build/sbom" / name / "sbom.json"
        if not file.is_file():
            pytest.skip("there is no bill of materials: make images writes it")
        bill = json.loads(file.read_text())
        assert bill["bomFormat"] == "CycloneDX"
        listed = {part["name"].lower().replace("_", "-"): part["version"] for part in bill["components"]}
        code = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
        inside = json.loads(_python(engine, image(name), code))
        assert listed == {part.lower().replace("_", "-"): version for part, version in inside.items()}
