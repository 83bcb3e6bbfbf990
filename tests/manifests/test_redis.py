"""The component with Redis, and predictors that know where it is."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from redis import Redis

from pipelines.cli.app import app
from tests.conftest import ROOT
from tests.fakes.kserve import Object
from tests.manifests.conftest import OVERLAYS, Render, of_kind
from tests.manifests.test_network import PROMETHEUS, STEP, STORAGE, STRANGER, Peer, allowed, predictor
from tests.pod_security import violations
from tests.ports import free_port
from tests.redis_server import MISSING

REDIS = Peer({"app.kubernetes.io/component": "redis"})
CONFIGURATION = ROOT / "manifests/redis/redis.conf"


def _redis(objects: list[Object]) -> tuple[Object, dict[str, Any]]:
    (found,) = of_kind(objects, "StatefulSet")
    return found, found["spec"]["template"]["spec"]


def _secrets(objects: list[Object]) -> list[str]:
    (runtime,) = of_kind(objects, "ClusterServingRuntime")
    (container,) = runtime["spec"]["containers"]
    return [source["secretRef"]["name"] for source in container["envFrom"]]


@pytest.mark.parametrize("name", OVERLAYS)
def test_predictors_read_its_address_from_a_secret_beside_all_other_settings(render: Render, name: str) -> None:
    assert _secrets(render(name)) == ["pigeonhole-predictor"]
    assert _secrets(render(f"{name}+redis")) == ["pigeonhole-predictor", "pigeonhole-redis"]
    both = {"pigeonhole-predictor", "pigeonhole-redis", "pigeonhole-log"}
    for components in ("redis+prediction-log", "prediction-log+redis"):
        assert set(_secrets(render(f"{name}+{components}"))) == both
    assert of_kind(render(f"{name}+redis"), "Secret") == []  # no password of ours


@pytest.mark.parametrize("name", OVERLAYS)
def test_its_pod_keeps_to_the_restricted_standard_and_its_volume(render: Render, name: str) -> None:
    found, pod = _redis(render(f"{name}+redis"))
    assert violations(pod) == []
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert found["spec"]["replicas"] == 1
    assert [claim["metadata"]["name"] for claim in found["spec"]["volumeClaimTemplates"]] == ["data"]
    labels = found["spec"]["template"]["metadata"]["labels"]
    (service,) = of_kind(render(f"{name}+redis"), "Service")
    for selector in (found["spec"]["selector"]["matchLabels"], service["spec"]["selector"]):
        assert selector.items() <= labels.items()
    (settings,) = [volume for volume in pod["volumes"] if volume["name"] == "settings"]
    generated = [o["metadata"]["name"] for o in of_kind(render(f"{name}+redis"), "ConfigMap")]
    assert settings["configMap"]["name"] in generated


@pytest.mark.parametrize("name", OVERLAYS)
def test_predictors_reach_it_and_nobody_else(render: Render, name: str) -> None:
    objects = render(f"{name}+redis")
    policies, model = of_kind(objects, "NetworkPolicy"), predictor(render, name)
    assert allowed(policies, model, REDIS, 6379)
    assert not allowed(of_kind(render(name), "NetworkPolicy"), model, REDIS, 6379)
    for source, target, port in (
        (STEP, REDIS, 6379), (STRANGER, REDIS, 6379), (PROMETHEUS, REDIS, 6379), (model, REDIS, 22),
        (REDIS, STORAGE, 443), (REDIS, model, 8080),
    ):  # fmt: skip
        assert not allowed(policies, source, target, port), (source, target, port)


def test_the_secret_is_what_the_documents_make(render: Render) -> None:
    made = (ROOT / "docs/jobs.md").read_text()
    (service,) = of_kind(render("standard+redis"), "Service")
    host = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert f"PIGEONHOLE_REDIS_URL=redis://:PASSWORD@{host}/0" in made
    _, pod = _redis(render("standard+redis"))
    (variable,) = pod["containers"][0]["env"]
    assert variable["valueFrom"]["secretKeyRef"] == {"name": "pigeonhole-redis", "key": "password"}
    assert "--from-literal=password=PASSWORD" in made
    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    assert "PIGEONHOLE_REDIS_URL" in [option.envvar for option in serve.params]


@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_redis_takes_its_settings(tmp_path: Path) -> None:
    port = free_port()
    options = ["--requirepass", "secret", "--dir", str(tmp_path), "--port", str(port)]
    with subprocess.Popen(["redis-server", str(CONFIGURATION), *options], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout and any("Ready to accept connections" in line for line in server.stdout)
            redis = Redis(port=port, password="secret", decode_responses=True)
            found: Any = redis.config_get("maxmemory-policy", "appendonly", "maxmemory")
            assert (found["maxmemory-policy"], found["appendonly"]) == ("volatile-ttl", "yes")
            (container,) = _container(ROOT / "manifests/redis/redis.yaml")
            limit = 2**30 * int(container["resources"]["limits"]["memory"].removesuffix("Gi"))
            assert 0 < int(found["maxmemory"]) <= limit // 2
        finally:
            server.kill()


def _container(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(file.read_text())["spec"]["template"]["spec"]["containers"])
