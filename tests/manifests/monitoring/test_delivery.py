"""From a request to the trigger: a real Prometheus fires, and a real Alertmanager calls who should know."""

import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.manifests.conftest import Render, of_kind
from tests.manifests.monitoring.rules import MONITORING, alerts
from tests.manifests.monitoring.stack import TOKEN, Stack, eventually
from tests.predictor.serving.asking import answers_v1

CONFIG = MONITORING / "alertmanager/alertmanager.yml"
CASCADE, LATENCY, ACCURACY = (
    f"TextClassifier{name}" for name in ("CascadeExitsShifted", "LatencyHigh", "AccuracyLow")
)  # fmt: skip


def _amtool(*arguments: str) -> str:
    if not shutil.which("amtool"):
        pytest.skip("no amtool: install Debian's package prometheus-alertmanager")
    return subprocess.run(["amtool", *arguments], check=True, capture_output=True, text=True).stdout


def test_amtool_takes_the_configuration() -> None:
    assert "SUCCESS" in _amtool("check-config", str(CONFIG))


@pytest.mark.parametrize("response", ["retrain", "label", "pause-batch", "none"])
def test_alerts_with_a_response_go_to_the_trigger_and_all_go_to_people(response: str) -> None:
    for name in ("TextClassifierX", "Other"):
        got = _amtool(
            "config", "routes", "test", f"--config.file={CONFIG}", f"alertname={name}", f"response={response}"
        )
        ours = name.startswith("TextClassifier") and response != "none"
        assert got.strip() == ("trigger,people" if ours else "people")


def test_both_configurations_route_alike(render: Render) -> None:
    (document,) = of_kind(render("standard+alerts"), "AlertmanagerConfig")
    plain, spec = yaml.safe_load(CONFIG.read_text()), document["spec"]
    receivers = {receiver["name"]: receiver for receiver in spec["receivers"]}
    assert set(receivers) == {receiver["name"] for receiver in plain["receivers"]}
    assert spec["route"]["groupBy"] == plain["route"]["group_by"]
    assert [r["receiver"] for r in spec["route"]["routes"]] == [r["receiver"] for r in plain["route"]["routes"]]
    for ours, theirs in zip(plain["inhibit_rules"], spec["inhibitRules"], strict=True):
        assert _matchers(theirs["sourceMatch"]) == _plain(ours["source_matchers"])
        assert _matchers(theirs["targetMatch"]) == _plain(ours["target_matchers"])
        assert theirs["equal"] == ours["equal"]
    assert receivers["trigger"]["webhookConfigs"][0]["httpConfig"]["authorization"]["credentials"]["key"] == "token"


def _matchers(given: list[dict[str, str]]) -> list[str]:
    return [f"{m['name']}{m.get('matchType', '=')}{m['value']}" for m in given]


def _plain(given: list[str]) -> list[str]:
    return [text.replace('"', "") for text in given]


def test_inhibitions_name_alerts_that_exist() -> None:
    for rule in yaml.safe_load(CONFIG.read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            assert set(matcher.replace('"', "").split("=")[1].lstrip("~").split("|")) <= set(alerts())


def _called(stack: Stack, path: str, alert: str, status: str = "firing") -> Any:
    def look() -> Any:
        answers_v1(stack.predictor)  # so that rates go on
        return stack.received.alerts(path, status).get(alert)

    return eventually(look, f"{path} hears that {alert} is {status}")


def test_traffic_fires_an_alert_and_the_trigger_is_called_with_its_token(stack: Stack) -> None:
    labels = _called(stack, "/alerts", CASCADE)
    assert labels["response"] == "label"
    assert (labels["namespace"], labels["model_name"], labels["revision"]) == ("pigeonhole", "toy", "stable")
    calls = [call for call in stack.received.calls if call[0] == "/alerts"]
    assert {token for _, token, _ in calls} == {f"Bearer {TOKEN}"}
    assert all(body["groupKey"] and alert["startsAt"] for _, _, body in calls for alert in body["alerts"])


def test_an_alert_without_a_response_reaches_people_alone(stack: Stack) -> None:
    assert _called(stack, "/people", LATENCY)["response"] == "none"
    _called(stack, "/alerts", CASCADE)
    assert LATENCY not in stack.received.alerts("/alerts")
    assert {body_token for path, body_token, _ in stack.received.calls if path == "/people"} == {""}


def test_accuracy_that_is_published_as_low_calls_the_trigger_and_then_resolves(stack: Stack) -> None:
    assert ACCURACY not in stack.received.alerts("/alerts")
    stack.push(accuracy=0.7)
    assert _called(stack, "/alerts", ACCURACY)["response"] == "retrain"
    stack.push(accuracy=0.8)  # under the default, and over the task's own threshold
    _called(stack, "/alerts", ACCURACY, "resolved")
