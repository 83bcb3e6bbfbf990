"""The trigger's pod: what it may, what it is told, and what it keeps."""

import re
from typing import Any

import pytest
import typer

from components import STEPS_IMAGE
from pipelines.cli.app import app
from pipelines.running.monitoring import monitoring_arguments
from tests.fakes.kserve import Object
from tests.manifests.conftest import Render, of_kind
from tests.pod_security import violations

OVERLAYS = ["standard+trigger", "production+trigger"]


def _trigger(render: Render, name: str) -> tuple[Object, dict[str, Any]]:
    (found,) = of_kind(render(name), "StatefulSet")
    return found, found["spec"]["template"]["spec"]


def _settings(render: Render, name: str) -> dict[str, str]:
    return next(o["data"] for o in of_kind(render(name), "ConfigMap") if o["metadata"]["name"] == "pigeonhole-trigger")


def _expanded(arguments: list[str], settings: dict[str, str]) -> list[str]:
    """Put settings in, as the kubelet does."""
    return [re.sub(r"\$\((\w+)\)", lambda name: settings[name[1]], argument) for argument in arguments]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pod_keeps_to_the_restricted_standard_and_more(render: Render, name: str) -> None:
    _, pod = _trigger(render, name)
    assert violations(pod) == []
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert all(volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"] if "emptyDir" in volume)


@pytest.mark.parametrize("name", OVERLAYS)
def test_it_has_a_token_for_kubeflow_alone_and_none_of_the_api_server(render: Render, name: str) -> None:
    _, pod = _trigger(render, name)
    (account,) = [o for o in of_kind(render(name), "ServiceAccount") if o["metadata"]["name"] == "pigeonhole-trigger"]
    assert account["automountServiceAccountToken"] is False is pod["automountServiceAccountToken"]
    (source,) = [volume["projected"]["sources"] for volume in pod["volumes"] if "projected" in volume]
    assert source[0]["serviceAccountToken"]["audience"] == "pipelines.kubeflow.org"
    bindings = [
        binding["roleRef"]["name"]
        for binding in of_kind(render(name), "RoleBinding")
        if account["metadata"]["name"] in [subject["name"] for subject in binding["subjects"]]
    ]
    assert bindings == ["kubeflow-pipelines-edit"]


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_webhooks_token_is_a_secret_by_name(render: Render, name: str) -> None:
    _, pod = _trigger(render, name)
    assert of_kind(render(name), "Secret") == []
    (secret,) = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert secret == {"secretName": "pigeonhole-trigger", "items": [{"key": "token", "path": "token"}]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_commands_take_what_the_manifest_gives_them(render: Render, name: str) -> None:
    _, pod = _trigger(render, name)
    settings = _settings(render, name)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    ((compile_,), (trigger,)) = (pod["initContainers"], pod["containers"])
    command, *arguments = _expanded(compile_["args"], settings)
    assert commands[command].make_context(command, arguments).params["image"] == settings["PIGEONHOLE_STEPS_IMAGE"]
    command, *arguments = _expanded(trigger["args"], settings)
    given = commands[command].make_context(command, arguments).params
    assert str(given["file"]).startswith("/pipelines/") and str(given["state"]).startswith("/state/")
    values = monitoring_arguments([*given["parameter"], f"model={settings['PIGEONHOLE_MODEL_NAME']}"], {})
    assert values["training"] == ["bundle_root=s3://models/news"] and values["host"] == settings["PIGEONHOLE_HOST"]
    (port,) = trigger["ports"]
    assert port["containerPort"] == given["port"]
    (service,) = of_kind(render(name), "Service")
    assert service["spec"]["ports"] == [{"name": "http", "port": 8080, "targetPort": port["name"]}]


def test_alertmanager_is_sent_to_the_service_with_the_same_secret(render: Render) -> None:
    objects = render("standard+alerts+trigger")
    (config,) = of_kind(objects, "AlertmanagerConfig")
    hooks = [hook for receiver in config["spec"]["receivers"] for hook in receiver.get("webhookConfigs", [])]
    (service,) = of_kind(objects, "Service")
    address = f"http://{service['metadata']['name']}.{service['metadata']['namespace']}:8080/alerts"
    assert address in {hook.get("url") for hook in hooks}
    assert {"name": "pigeonhole-trigger", "key": "token"} in [
        hook["httpConfig"]["authorization"]["credentials"] for hook in hooks if hook.get("url") == address
    ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_settings_of_ours_are_variables_of_the_command(render: Render, name: str) -> None:
    command = typer.main.get_command(app).commands["trigger"]  # type: ignore[attr-defined]
    known = {variable for option in command.params for variable in _variables(option)} | {"PIGEONHOLE_STEPS_IMAGE"}
    assert {setting for setting in _settings(render, name) if setting.startswith("PIGEONHOLE_")} <= known


@pytest.mark.parametrize("name", OVERLAYS)
def test_state_is_on_a_volume_of_one_pod(render: Render, name: str) -> None:
    found, pod = _trigger(render, name)
    assert found["spec"]["replicas"] == 1
    assert [claim["metadata"]["name"] for claim in found["spec"]["volumeClaimTemplates"]] == ["state"]
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert found["spec"]["selector"]["matchLabels"].items() <= labels.items()
    (service,) = of_kind(render(name), "Service")
    assert service["spec"]["selector"].items() <= labels.items()
    assert {container["image"] for container in [*pod["initContainers"], *pod["containers"]]} == {STEPS_IMAGE}


def test_prometheus_finds_the_trigger_and_its_port(render: Render) -> None:
    found, pod = _trigger(render, "production+trigger")
    (monitor,) = [
        o for o in of_kind(render("production+trigger"), "PodMonitor") if o["metadata"]["name"] == "pigeonhole-trigger"
    ]
    labels = found["spec"]["template"]["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert monitor["metadata"]["namespace"] == found["metadata"]["namespace"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in [port["name"] for port in pod["containers"][0]["ports"]]


def _variables(option: Any) -> list[str]:
    names = getattr(option, "envvar", None) or []
    return [names] if isinstance(names, str) else list(names)
