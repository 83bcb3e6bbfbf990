"""The names of the series that rules and dashboards read, and who writes them."""

import ast
import re
from functools import cache

from tests.conftest import ROOT
from tests.manifests.monitoring.rules import rules

LOG = {
    "text_classifier_log_records_total", "text_classifier_log_waiting_records", "text_classifier_log_oldest_seconds",
    "text_classifier_log_errors_total", "text_classifier_feedback_total", "text_classifier_low_confidence_total",
}  # fmt: skip
"""Of the predictor."""
PUSHED = {
    "text_classifier_drift_ratio", "text_classifier_drift_part_ratio", "text_classifier_accuracy_ratio",
    "text_classifier_accuracy_low_ratio", "text_classifier_accuracy_high_ratio",
    "text_classifier_baseline_accuracy_ratio", "text_classifier_feedback_rows", "text_classifier_window_rows",
    "text_classifier_monitor_time_seconds",
    "text_classifier_batch_accuracy_ratio", "text_classifier_batch_baseline_accuracy_ratio",
    "text_classifier_batch_paused", "text_classifier_batch_time_seconds",
    "text_classifier_pipeline_success_time_seconds", "text_classifier_pipeline_failed",
}  # fmt: skip
"""By pipelines: gauges of monitoring, batch scoring and pipelines."""
TRIGGER = {
    "text_classifier_trigger_webhooks_total", "text_classifier_trigger_runs_total",
    "text_classifier_trigger_waiting_runs",
}  # fmt: skip
"""Of the trigger."""
OF_OTHERS = {
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "kube_pod_container_resource_limits",
    "kube_configmap_annotations", "kserve_inferenceservice_condition", "kserve_inferenceservice_canary_traffic_percent",
}  # fmt: skip
"""By cAdvisor and kube-state-metrics."""

_NAME = re.compile(r"text_classifier_[a-z_]+[a-z]")
_ENDINGS = re.compile(r"_(bucket|sum|count|info)$")


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def metrics_in(query: str) -> set[str]:
    """Return the series that a query reads, without the endings of histograms and of information."""
    text = re.sub(r"\{[^{}]*\}", "", query)
    found = re.findall(r"\b(?:text_classifier|kube|kserve|container)[\w:]*", re.sub(r'"[^"]*"', "", text))
    return {_ENDINGS.sub("", name) for name in found}


@cache
def names_in(*folders: str) -> set[str]:
    """Return the names of series that stand as text in the code of some folders."""
    found: set[str] = set()
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        if "text_classifier_" in (text := file.read_text()):
            texts = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
            found |= {value for value in texts if isinstance(value, str) and _NAME.fullmatch(value)}
    return found
