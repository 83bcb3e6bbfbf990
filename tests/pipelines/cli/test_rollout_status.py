"""`rollout status`: once, and followed until the rollout has ended."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from kubernetes.client.exceptions import ApiException

from components.platform.kubernetes import Cluster
from components.rollout.inference_service import GROUP, PLURAL, VERSION, read
from components.rollout.record import Record, load, save
from components.rollout.state import ModelVersion, Phase, Rollout
from pipelines.cli.app import plugin
from tests.fakes.memory_cluster import memory_cluster

A, B = (ModelVersion(letter * 12, f"s3://models/news/{letter * 12}") for letter in "ab")


def rolling_out() -> Cluster:
    """Return a cluster with a service that serves A, and a rollout of B that is judged."""
    cluster = memory_cluster()
    service = {"metadata": {"name": "news"}, "spec": {"predictor": {"model": {"storageUri": A.uri}}}}
    cluster.api.create_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, service)
    rollout = Rollout(A, B, Phase.JUDGING, started=0.0, since=0.0, weight=10)
    save(cluster, read(cluster, "news"), Record().with_rollout(rollout))
    return cluster


def proceed(cluster: Cluster, phase: Phase, weight: int) -> None:
    record = load(cluster, "news")
    assert record.rollout
    save(cluster, read(cluster, "news"), record.with_rollout(replace(record.rollout, phase=phase, weight=weight)))


def call(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, *arguments: str) -> int:
    monkeypatch.setattr("components.platform.kubernetes.connect", lambda namespace: cluster)
    monkeypatch.setattr(sys, "argv", ["kubectl-pigeonhole", "status", "news", *arguments])
    with pytest.raises(SystemExit) as ended:
        plugin()
    return int(ended.value.code or 0)


def at_each_pause(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    left = list(steps)
    monkeypatch.setattr("pipelines.cli.rollout_view.time.sleep", lambda seconds: left.pop(0)())


def test_it_is_said_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, rolling_out()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["serves"] == A.name and found["rollout"]["phase"] == "judging"
    assert found["rollout"]["since"] == "1970-01-01T00:00:00+00:00" and "looked" not in found["rollout"]


def test_watching_prints_each_change_and_ends_with_the_rollout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = rolling_out()
    at_each_pause(
        monkeypatch,
        lambda: proceed(cluster, Phase.JUDGING, 20),
        lambda: None,
        lambda: proceed(cluster, Phase.ROLLED_BACK, 0),
    )
    assert call(monkeypatch, cluster, "--watch") == 0
    seen = [json.loads(line)["rollout"] for line in capsys.readouterr().out.splitlines()]
    assert [(rollout["phase"], rollout["weight"]) for rollout in seen] == [
        ("judging", 10), ("judging", 20), ("rolled back", 0),
    ]  # fmt: skip


def test_watching_goes_on_while_the_api_server_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = rolling_out()
    api = cluster.api.api_client

    def away(*arguments: object, **options: object) -> None:
        del api.call_api
        raise ApiException(status=503, reason="starting")

    at_each_pause(
        monkeypatch,
        lambda: setattr(api, "call_api", away),
        lambda: proceed(cluster, Phase.PROMOTED, 100),
    )
    assert call(monkeypatch, cluster, "--watch") == 0
    out, errors = capsys.readouterr()
    assert [json.loads(line)["rollout"]["phase"] for line in out.splitlines()] == ["judging", "promoted"]
    assert errors == "pigeonhole: the API server answers 503 (starting); asking again\n"


def test_ctrl_c_ends_the_watching_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    at_each_pause(monkeypatch, interrupt)
    assert call(monkeypatch, rolling_out(), "--watch") == 130
    out, errors = capsys.readouterr()
    assert json.loads(out)["rollout"]["phase"] == "judging" and errors == ""


def test_a_cluster_that_is_away_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = rolling_out()

    def away(*arguments: object, **options: object) -> None:
        raise ApiException(status=503, reason="starting")

    monkeypatch.setattr(cluster.api.api_client, "call_api", away)
    assert call(monkeypatch, cluster) == 3
    said = "the API server answers 503 (starting): the same call goes on where this one was"
    assert capsys.readouterr().err == f"pigeonhole: {said}\n"
