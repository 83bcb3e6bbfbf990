import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from components.registry.register import register, store
from components.registry.tracking import log_epoch, tracked_run
from components.training.recipe import Epoch
from predictor.bundle import Bundle
from tests.components.test_evaluation import GOOD


@pytest.fixture(autouse=True)
def own_tracking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_a_bundle_is_stored_whole_under_its_digest(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    uri = store(opened, str(tmp_path / "bundles"))
    assert Path(uri).name == opened.digest[:12]
    assert Bundle.open(Path(uri)).digest == opened.digest
    assert store(opened, str(tmp_path / "bundles")) == uri
    assert [p.name for p in (tmp_path / "bundles").iterdir()] == [opened.digest[:12]]


def test_a_copy_that_was_cut_short_is_replaced(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    torn = tmp_path / "bundles" / opened.digest[:12]
    torn.mkdir(parents=True)
    (torn / "config.json").write_text("{")
    assert Bundle.open(Path(store(opened, str(tmp_path / "bundles")))).digest == opened.digest


def test_an_object_store_gets_the_same_files(bundle: Path) -> None:
    import fsspec

    opened = Bundle.open(bundle)
    uri = store(opened, "memory://models/news")
    assert uri == f"memory:///models/news/{opened.digest[:12]}"
    files = fsspec.filesystem("memory")
    assert {name for name in opened.spec.files if files.exists(f"{uri}/{name}")} == set(opened.spec.files)
    assert json.loads(files.cat(f"{uri}/serving.json")) == json.loads((bundle / "serving.json").read_text())


def test_the_champion_changes_only_when_the_gate_passed(bundle: Path, tmp_path: Path, own_tracking: str) -> None:
    report = tmp_path / "report.html"
    report.write_text("<html></html>")
    for run, passed in (("run-1", True), ("run-2", False)):
        with tracked_run(run, own_tracking) as client:
            done = register(client, bundle, replace(GOOD), report, passed, str(tmp_path / "bundles"), "toy")
    champion = client.get_model_version_by_alias("toy", "champion")
    challenger = client.get_model_version_by_alias("toy", "challenger")
    assert (str(champion.version), str(challenger.version)) == ("1", "2")
    assert challenger.tags["bundle_uri"] == done.uri and challenger.tags["gate"] == "closed"
    assert challenger.tags["bundle_digest"] == Bundle.open(bundle).digest
    tracked = client.get_run(str(challenger.run_id))
    assert tracked.data.metrics["test_accuracy"] == GOOD.accuracy
    assert [file.path for file in client.list_artifacts(tracked.info.run_id)] == ["report.html"]
    assert (tmp_path / "mlartifacts").is_dir()


def test_steps_of_one_pipeline_run_share_an_mlflow_run(own_tracking: str) -> None:
    ids = []
    for pipeline_run in ("one", "one", "two"):
        with tracked_run(pipeline_run, own_tracking) as client:
            run = mlflow.active_run()
            assert run is not None
            ids.append(run.info.run_id)
            log_epoch(Epoch(len(ids), 0.5, 0.6, 0.9, 1.0, 50.0))
    assert ids[0] == ids[1] != ids[2]
    losses = [(row.step, row.value) for row in client.get_metric_history(ids[0], "train_loss")]
    assert losses == [(1, 0.5), (2, 0.5)]


def test_a_run_that_the_platform_injected_is_honoured(own_tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with tracked_run("outer", own_tracking):
        outer = mlflow.active_run()
        assert outer is not None
    monkeypatch.setenv("MLFLOW_RUN_ID", outer.info.run_id)
    with tracked_run("other", own_tracking):
        inner = mlflow.active_run()
        assert inner is not None and inner.info.run_id == outer.info.run_id
