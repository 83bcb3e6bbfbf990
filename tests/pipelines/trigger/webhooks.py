"""Webhooks as Alertmanager 0.25 sends them."""

import json
from typing import Any


def webhook(
    response: str = "retrain", started: str = "2026-11-29T10:00:00.123456789Z", status: str = "firing", **changed: Any
) -> dict[str, Any]:
    alert = {
        "status": status,
        "labels": {"alertname": "TextClassifierAccuracyLow", "model_name": "news", "response": response},
        "annotations": {"summary": "Accuracy is under 85%."},
        "startsAt": started,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "c0ffee",
    }
    return {
        "receiver": "trigger", "status": status, "alerts": [alert], "groupLabels": {"model_name": "news"},
        "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093", "version": "4",
        "groupKey": '{}/{response="retrain"}:{model_name="news"}', "truncatedAlerts": 0, **changed,
    }  # fmt: skip


def body(**changed: Any) -> bytes:
    return json.dumps(webhook(**changed)).encode()
