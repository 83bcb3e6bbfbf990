"""Dashboards: each panel says what it shows, in which unit, and its query finds what a running service counts."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.manifests.conftest import Render, of_kind
from tests.manifests.monitoring.conftest import ask
from tests.manifests.monitoring.rules import MONITORING
from tests.manifests.monitoring.series import LOG, OF_OTHERS, PUSHED, TRIGGER, metrics_in, names_in, recorded
from tests.manifests.monitoring.stack import Stack, eventually

DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in (MONITORING / "dashboards").glob("*.json")}
PANELS = [(name, panel) for name, board in sorted(DASHBOARDS.items()) for panel in board["panels"]]
_panel = pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
_VARIABLES = {"$__rate_interval": "1m", "$namespace": "pigeonhole", "$model": "toy"}


def _query(text: str) -> str:
    for name, value in _VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text, text
    return text


def test_dashboards_are_told_apart_and_have_the_same_variables() -> None:
    assert set(DASHBOARDS) == {"service", "model", "data", "rollout"}
    assert len({board["uid"] for board in DASHBOARDS.values()}) == len(DASHBOARDS)
    for board in DASHBOARDS.values():
        assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "namespace", "model"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert len({panel["title"] for panel in board["panels"]}) == len(board["panels"])


@_panel
def test_a_panel_says_what_it_shows(name: str, panel: dict[str, Any]) -> None:
    assert panel["description"].endswith(".") and panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"]
    assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24


@_panel
def test_a_panel_reads_only_what_somebody_writes(name: str, panel: dict[str, Any]) -> None:
    known = names_in("predictor") | LOG | PUSHED | TRIGGER | recorded() | OF_OTHERS
    for target in panel["targets"]:
        assert metrics_in(target["expr"]) <= known


@_panel
def test_a_panels_queries_find_series(stack: Stack, name: str, panel: dict[str, Any]) -> None:
    if "Explanations" in panel["title"]:  # one that is refused is counted, too
        httpx.post(f"{stack.predictor.http}/v1/models/toy:explain", json={"instances": ["a", "b"]}, timeout=120)

    def found() -> bool:
        ask(stack, "predict", [f"goal bank treaty {panel['id']} {name}"])
        return all(stack.query(_query(target["expr"])) for target in panel["targets"])

    eventually(found, f"all queries of {panel['title']} find series", tries=60)


def test_the_variables_find_the_model(stack: Stack) -> None:
    for variable in DASHBOARDS["service"]["templating"]["list"][1:]:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
        assert match
        label = match[2]
        values = eventually(lambda: {row["metric"].get(label) for row in stack.query(match[1])}, match[1])  # noqa: B023
        assert {"namespace": "pigeonhole", "model_name": "toy"}[label] in values


def test_the_annotations_query_is_one_that_prometheus_takes(stack: Stack) -> None:
    for board in DASHBOARDS.values():
        for annotation in board["annotations"]["list"]:
            stack.query(_query(annotation["expr"]))


def test_kustomize_puts_the_dashboards_where_grafanas_sidecar_looks(render: Render) -> None:
    (found,) = (o for o in of_kind(render("standard+dashboards"), "ConfigMap") if "dashboards" in o["metadata"]["name"])
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert {name: json.loads(text) for name, text in found["data"].items()} == {
        f"{name}.json": board for name, board in DASHBOARDS.items()
    }
