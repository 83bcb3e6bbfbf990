"""The alerts: each has what a person at night needs, each was seen to fire and to be silent."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.docs.pages import anchors_of, blocks
from tests.manifests.monitoring.rules import MONITORING, OWN, Rule, alerts, rules, write
from tests.manifests.monitoring.series import LOG, OF_OTHERS, PUSHED, TRIGGER, metrics_in, names_in, recorded

RUNBOOK = MONITORING / "runbook.md"
PAGE = ROOT / "docs/alerts.md"
RESPONSES = {"retrain", "label", "pause-batch", "none"}
CASES = sorted((MONITORING / "tests").glob("*.yaml"))
_alert = pytest.mark.parametrize("alert", alerts().values(), ids=list(alerts()))
_THRESHOLD = re.compile(r'threshold="(\w+)"')

# The table of what is watched, and what its answers are here.
TABLE = {
    "accuracy_least": (0.85, "AccuracyLow", "retrain"), "drift_most": (0.2, "DataDrift", "label"),
    "latency_mean_seconds_most": (0.5, "LatencyHigh", "none"), "throughput_drop_most": (0.2, "ThroughputDown", "none"),
    "error_share_most": (0.01, "ErrorShareHigh", "none"), "cpu_share_most": (0.8, "CpuHigh", "none"),
    "memory_share_most": (0.85, "MemoryHigh", "none"), "prediction_change_most": (0.3, "PredictionsShifted", "none"),
    "batch_accuracy_drop_most": (0.05, "BatchAccuracyLow", "pause-batch"),
    "low_confidence_most": (0.2, "LowConfidence", "label"),
}  # fmt: skip


def defaults() -> dict[str, float]:
    found = {}
    for rule in rules():
        if rule.get("record") == "text_classifier:threshold:default":
            factor = re.fullmatch(r"text_classifier:models \* ([\d.]+)", rule["expr"])
            assert factor, rule
            found[rule["labels"]["threshold"]] = float(factor[1])
    return found


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("promtool"):
        pytest.skip("no promtool: install Debian's package prometheus")
    folder = tmp_path_factory.mktemp("rules")
    write(folder)
    return folder


def test_promtool_takes_the_rules(written: Path) -> None:
    files = [str(file) for file in written.glob("*.yaml")]
    subprocess.run(["promtool", "check", "rules", "--lint-fatal", *files], check=True, capture_output=True)


_DAYS = pytest.mark.slow(reason="promtool computes all rules over days")


@pytest.mark.parametrize(
    "case", [pytest.param(file.name, marks=_DAYS if "days" in file.name else ()) for file in CASES]
)
def test_alerts_fire_and_are_silent_as_their_cases_say(written: Path, case: str) -> None:
    done = subprocess.run(["promtool", "test", "rules", str(written / "tests" / case)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_is_silent() -> None:
    seen = defaultdict(set)
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            assert case["name"]
            for check in case["alert_rule_test"]:
                seen[check["alertname"]].add(bool(check["exp_alerts"]))
    assert dict(seen) == {alert: {True, False} for alert in alerts()}


@_alert
def test_an_alert_says_what_it_means_and_what_it_asks_for(alert: Rule) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["labels"]["response"] in RESPONSES
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["summary"].endswith(".") and "{{" not in alert["annotations"]["summary"]
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page.endswith(str(RUNBOOK.relative_to(ROOT)))
    assert anchor == alert["alert"].lower() and anchor in anchors_of(RUNBOOK)


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    text = RUNBOOK.read_text()
    entries = dict(re.findall(r"^## (\w+)\n\n(.+)$", text, re.MULTILINE))
    assert list(entries) == re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert set(entries) == set(alerts())
    for name, first in entries.items():
        labels = alerts()[name]["labels"]
        assert first.startswith(f"{labels['severity'].capitalize()}, response `{labels['response']}`.")


def test_every_alert_that_fires_names_a_namespace() -> None:
    # An Alertmanager of the operator routes by it.
    for file in CASES:
        for case in yaml.safe_load(file.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                assert all(fired["exp_labels"]["namespace"] == "pigeonhole" for fired in check["exp_alerts"]), check


def test_the_table_of_what_is_watched_has_its_rules() -> None:
    for threshold, (value, name, response) in TABLE.items():
        alert = alerts()[f"TextClassifier{name}"]
        assert defaults()[threshold] == value
        assert f'threshold="{threshold}"' in alert["expr"]
        assert alert["labels"]["response"] == response


def test_thresholds_are_those_that_something_reads() -> None:
    read = {name for rule in rules() for name in _THRESHOLD.findall(rule["expr"])}
    read |= {name for name in defaults() if name.startswith("burn_rate_")}  # read by a pattern
    assert read == set(defaults())


def test_no_alert_has_a_threshold_of_the_tables_kind_in_its_own_text() -> None:
    for name, alert in alerts().items():
        numbers = re.findall(r"[<>]=? *(?:on \([^)]*\) group_left \(\) *)?(\d[\d.]*)", alert["expr"])
        assert set(numbers) <= {"0"}, name


def test_rules_read_only_what_somebody_writes() -> None:
    ours = names_in("predictor") | LOG | PUSHED
    known = ours | recorded() | OF_OTHERS | {OWN}
    for rule in rules():
        assert metrics_in(rule["expr"]) <= known, rule


def test_the_lists_of_names_are_those_of_the_code() -> None:
    writers = [ROOT / "components/monitoring", ROOT / "components/scoring", ROOT / "pipelines/trigger"]
    if missing := [str(folder.relative_to(ROOT)) for folder in writers if not folder.is_dir()]:
        pytest.skip(f"nothing publishes yet in {', '.join(missing)}")
    assert names_in("predictor") >= LOG
    assert names_in("components", "pipelines") >= PUSHED | TRIGGER


def test_the_documents_table_has_each_threshold() -> None:
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]+)\| `[\w-]+` \|$", PAGE.read_text(), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(defaults())


def test_the_documents_thresholds_of_ones_own_replace_the_defaults(written: Path, tmp_path: Path) -> None:
    (own,) = (yaml.safe_load(block.text) for block in blocks("yaml") if block.page == PAGE)
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"groups": own["spec"]["groups"]}))
    models = [f'text_classifier_model_info{{model_name="{name}"}}' for name in ("news", "sentiment")]
    expected = {
        ("latency_mean_seconds_most", ""): 0.3, ("latency_mean_seconds_most", "news"): 0.3,
        ("latency_mean_seconds_most", "sentiment"): 0.3, ("accuracy_least", ""): 0.85,
        ("accuracy_least", "news"): 0.85, ("accuracy_least", "sentiment"): 0.7,
    }  # fmt: skip
    case = {
        "input_series": [{"series": series, "values": "1+0x10"} for series in models],
        "promql_expr_test": [
            {
                "expr": 'text_classifier:threshold{threshold=~"latency_mean_.+|accuracy_least"}',
                "eval_time": "5m",
                "exp_samples": [
                    {
                        "labels": f'text_classifier:threshold{{threshold="{name}"'
                        + (f',model_name="{model}"}}' if model else "}"),
                        "value": value,
                    }
                    for (name, model), value in expected.items()
                ],
            }
        ],
    }
    document = {"rule_files": [str(written / "thresholds.yaml"), "own.yaml"], "tests": [case]}
    (tmp_path / "case.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run(["promtool", "test", "rules", str(tmp_path / "case.yaml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
