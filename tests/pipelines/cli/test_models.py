"""`pigeonhole models`, and the commands of a rollout that move the champion."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from components.platform.kubernetes import Cluster
from components.registry.promotion import challenge, promote
from components.rollout.inference_service import GROUP, PLURAL, VERSION, read
from components.rollout.record import Record, save
from components.rollout.state import ModelVersion, Phase, Rollout
from pipelines.cli.app import main
from pipelines.cli.rollout import _as_promotion
from tests.components.registry.conftest import client, empty_database, tracking  # noqa: F401 - fixtures
from tests.components.registry.registered import add, aliases, bundle, digest
from tests.fakes.memory_cluster import memory_cluster

Call = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command and return its exit code, its JSON and its stderr."""

    def run(*arguments: object) -> tuple[int, Any, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["pigeonhole", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, errors = capsys.readouterr()
        return int(ended.value.code or 0), json.loads(out) if out else None, errors

    return run


@pytest.fixture
def folder(client: MlflowClient, tmp_path: Path) -> Path:  # noqa: F811
    """A folder of `pigeonhole run` with a champion, a challenger and a version that was refused."""
    for number, gate in enumerate(("passed", "passed", "closed"), start=1):
        place = bundle(tmp_path / "bundles", max_length=number, metrics={"test_accuracy": number / 10})
        add(client, gate=gate, uri=place, accuracy=str(number / 10))
    promote(client, "toy", 1, 10.0, "service team-a/news")
    challenge(client, "toy")
    return tmp_path


def test_versions_are_listed_shown_and_compared(call: Call, folder: Path) -> None:
    code, listed, _ = call("models", "list", "--out", folder)
    assert code == 0 and listed["model"] == "toy"
    rows = [(v["version"], v["aliases"], v["accuracy"], v["gate"]) for v in listed["versions"]]
    assert rows == [(3, [], 0.3, "closed"), (2, ["challenger"], 0.2, "passed"), (1, ["champion"], 0.1, "passed")]
    code, shown, _ = call("models", "show", "@champion", "--out", folder)
    assert code == 0 and shown["version"] == 1 and shown["promotions"][0]["where"] == "service team-a/news"
    code, changes, _ = call("models", "diff", "@champion", listed["versions"][1]["digest"], "--out", folder)
    assert code == 0 and changes["serving"] == [{"name": "max_length", "from": 1, "to": 2}]
    assert [(m["name"], m["change"]) for m in changes["metrics"]] == [("test_accuracy", pytest.approx(0.1))]


def test_a_person_promotes_what_passed_and_is_there(call: Call, folder: Path, client: MlflowClient) -> None:  # noqa: F811
    code, done, _ = call("models", "promote", "2", "--out", folder)
    assert code == 0 and (done["champion"], done["where"]) == (2, "by hand") and aliases(client)["champion"] == 2
    code, done, _ = call("models", "promote", 1, "--out", folder, "--service", "news", "--namespace", "team-a")
    assert code == 0 and (done["champion"], done["where"]) == (1, "service team-a/news")
    refused = {"3": "did not pass the gate", "4": "has no version 4", "@nobody": "has no version @nobody"}
    for version, said in refused.items():
        code, result, errors = call("models", "promote", version, "--out", folder)
        assert (code, result) == (2, None) and said in errors and errors.count("\n") == 1
    assert call("models", "retire", "2", "--out", folder)[0] == 0
    code, _, errors = call("models", "promote", "2", "--out", folder)
    assert code == 2 and "version 2 of toy is retired" in errors
    add(client, uri=str(folder / ("0" * 12)))
    code, _, errors = call("models", "promote", "4", "--out", folder)
    assert code == 2 and "there is no bundle at" in errors
    code, _, errors = call("models", "promote", "1", "--out", folder, "--service", "news")
    assert code == 2 and "--namespace" in errors and aliases(client)["champion"] == 1


def test_a_bundle_that_a_service_has_is_not_deleted(
    call: Call, folder: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    _, listed, _ = call("models", "list", "--out", folder)
    places = {v["version"]: str(folder / "bundles" / v["digest"]) for v in listed["versions"]}
    cluster = memory_cluster()
    spec = {
        "predictor": {"model": {"storageUri": places[3]}},
        "canary": [{"predictor": {"model": {"storageUri": "x"}}}],
    }
    service = {"metadata": {"name": "other"}, "spec": spec}
    cluster.api.create_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, service)
    monkeypatch.setattr("components.platform.kubernetes.connect", lambda namespace: cluster)
    delete = ("--out", folder, "--delete-bundle", "--namespace", "team-a")
    code, _, errors = call("models", "retire", "3", *delete)
    assert code == 2 and f"other in namespace team-a serves {places[3]}" in errors
    code, _, errors = call("models", "retire", "1", *delete)
    assert code == 2 and "version 1 is @champion" in errors
    rollout = Rollout(ModelVersion("3", places[3]), ModelVersion("2", places[2]), Phase.JUDGING, 0.0, 0.0)
    save(cluster, read(cluster, "other"), Record().with_rollout(rollout))
    assert call("models", "retire", "2", *delete)[0] == 2  # the canary of a rollout
    code, done, _ = call("models", "retire", "2", "--out", folder)
    assert code == 0 and not done["bundle_deleted"] and Path(places[2]).exists()
    save_ended = replace(rollout, phase=Phase.ROLLED_BACK)
    monkeypatch.setattr("components.rollout.versions.load", lambda *_: Record().with_rollout(save_ended))
    code, done, _ = call("models", "retire", "2", *delete)
    assert code == 0 and done["bundle_deleted"] and not Path(places[2]).exists() and Path(places[3]).exists()


def test_where_mlflow_is_has_to_be_said_and_no_database_is_made(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code, _, errors = call("models", "list")
    assert code == 2 and "give --out FOLDER or --mlflow-tracking-uri" in errors
    for where in (("--out", tmp_path), ("--mlflow-tracking-uri", f"sqlite:///{tmp_path}/mlflow.db")):
        code, _, errors = call("models", "list", *where)
        assert code == 2 and f"there is no database {tmp_path}/mlflow.db" in errors
    assert list(tmp_path.iterdir()) == []


A, B = (ModelVersion(letter * 12, f"s3://models/news/{letter * 12}") for letter in "ab")
ENDED = Rollout(A, B, Phase.PROMOTED, started=1.0, since=2.0)


@pytest.mark.parametrize(
    ("end", "before", "served"),
    [
        pytest.param(replace(ENDED, judged=False), None, (B, Phase.PROMOTED), id="a return in Standard mode"),
        pytest.param(replace(ENDED, phase=Phase.ROLLED_BACK), None, (A, Phase.PROMOTED), id="a return in Knative mode"),
        pytest.param(
            replace(ENDED, phase=Phase.ROLLED_BACK, judged=False), None, (B, Phase.ROLLED_BACK), id="a failed return"
        ),
        pytest.param(
            replace(ENDED, phase=Phase.ROLLED_BACK), ENDED, (B, Phase.ROLLED_BACK), id="a canary that was taken back"
        ),
        pytest.param(
            replace(ENDED, phase=Phase.ROLLED_BACK), replace(ENDED, started=0.5), (A, Phase.PROMOTED),
            id="a return after a promotion that it found under way",
        ),
    ],
)  # fmt: skip
def test_the_champion_after_a_rollback_is_what_is_served(
    end: Rollout, before: Rollout | None, served: tuple[ModelVersion, Phase]
) -> None:
    found = _as_promotion(end, before)
    assert (found.canary, found.phase) == served


def _ended(cluster: Cluster, rollout: Rollout) -> None:
    service = {"metadata": {"name": "news"}, "spec": {"predictor": {"model": {"storageUri": rollout.canary.uri}}}}
    cluster.api.create_namespaced_custom_object(GROUP, VERSION, cluster.namespace, PLURAL, service)
    save(cluster, read(cluster, "news"), Record().with_rollout(rollout))


def test_steps_and_command_move_the_champion_to_a_canary_that_was_promoted(
    call: Call, client: MlflowClient, tracking: str, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    from components.rollout.component import end_rollout, judge_rollout

    one, two = (ModelVersion(digest(uri)[:12], uri) for uri in ("s3://models/a", "s3://models/b"))
    for version in (one, two):
        add(client, uri=version.uri)
    promote(client, "toy", 1, 1.0, "service team-a/news")
    cluster = memory_cluster()
    _ended(cluster, Rollout(one, two, Phase.PROMOTED, 5.0, 20.0, owner="run-1", reasons=("no harm",)))
    monkeypatch.setattr("components.platform.kubernetes.connect", lambda namespace: cluster)
    given = {"service": "news", "pipeline_run": "run-1", "mlflow_tracking_uri": tracking}
    judged = judge_rollout.python_func(version=two.name, prometheus="http://127.0.0.1:9", **given)
    assert judged.promoted and aliases(client) == {"champion": 2}
    promote(client, "toy", 1, 10.0, "an older promotion that was told late")
    assert end_rollout.python_func(**given) == "promoted" and aliases(client) == {"champion": 2}
    code, end, _ = call(
        "rollout", "judge", "news", "--prometheus", "http://127.0.0.1:9", "--mlflow-tracking-uri", tracking
    )
    assert code == 0 and end["phase"] == "promoted" and aliases(client) == {"champion": 2}
    given = {**given, "pipeline_run": "another"}
    assert end_rollout.python_func(**given) == ""
