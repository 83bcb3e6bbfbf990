"""The component with bearer tokens: predictors want one, and the judge of a rollout can read it."""

from typing import Any

import pytest
import typer

from components.rollout.golden import KEY, SECRET
from pipelines.cli.app import app
from tests.conftest import ROOT
from tests.manifests.conftest import OVERLAYS, Render, of_kind
from tests.pod_security import violations


@pytest.mark.parametrize("name", OVERLAYS)
def test_predictors_read_their_tokens_from_the_secret(render: Render, name: str) -> None:
    objects = render(f"{name}+tokens+prediction-log")
    (runtime,) = of_kind(objects, "ClusterServingRuntime")
    pod = runtime["spec"]
    (container,) = pod["containers"]
    option, _, file = container["args"][-1].partition("=")
    (mount,) = [mount for mount in container["volumeMounts"] if file.startswith(f"{mount['mountPath']}/")]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == mount["name"]]
    assert volume["secret"]["secretName"] == SECRET and not volume["secret"].get("optional")
    (item,) = volume["secret"]["items"]
    assert (item["key"], f"{mount['mountPath']}/{item['path']}") == (KEY, file) and mount["readOnly"]
    serve: Any = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    assert option in {name for parameter in serve.params for name in parameter.opts}
    assert violations(pod) == violations(of_kind(render(name), "ClusterServingRuntime")[0]["spec"])
    assert of_kind(objects, "Secret") == []  # no token of ours


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_judge_may_read_this_secret_and_no_other(render: Render, name: str) -> None:
    def secrets(overlay: str) -> list[tuple[str, list[Any], list[str]]]:
        return [
            (role["metadata"]["name"], rule.get("resourceNames", []), rule["verbs"])
            for role in of_kind(render(overlay), "Role")
            for rule in role["rules"]
            if "secrets" in rule["resources"]
        ]

    added = [rule for rule in secrets(f"{name}+tokens") if rule not in secrets(name)]
    assert added == [("pigeonhole-rollout", [SECRET], ["get"])]


def test_the_secret_is_what_the_documents_make() -> None:
    made = f"kubectl create secret generic {SECRET} --namespace pigeonhole --from-file={KEY}\n"
    assert made in (ROOT / "docs/rest.md").read_text()
