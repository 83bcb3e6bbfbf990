"""What MLflow holds of a pipeline run and its steps."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

import components
from components.platform.tracking import check_tracking, tracked_run, tracked_step
from components.training.mlflow_history import log_epoch
from components.training.recipe import Epoch
from predictor.errors import InputError


def _children(client: MlflowClient, parent: str) -> list[Run]:
    experiment = client.get_run(parent).info.experiment_id
    return list(client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'"))


def test_a_pipeline_run_holds_a_run_for_each_step(own_tracking: str) -> None:
    for pipeline_run, name in (("one", "prepare"), ("one", "fine-tune"), ("two", "prepare")):
        with tracked_step(name, pipeline_run, own_tracking) as step:
            step.headline({"seed": 7, "balance": True}, {"accuracy": 0.9}, {"data_digest": "abc"})
            log_epoch(Epoch(1, 0.5, 0.6, 0.9, 1.0, 50.0))
            log_epoch(Epoch(2, 0.4, 0.6, 0.9, 1.0, 50.0))
    client = MlflowClient(own_tracking)
    parents = client.search_runs(["1"], "tags.`pigeonhole.pipeline_run` LIKE '%'")
    steps = {parent.info.run_name: _children(client, parent.info.run_id) for parent in parents}
    named = {name: {run.info.run_name for run in runs} for name, runs in steps.items()}
    assert named == {"one": {"prepare", "fine-tune"}, "two": {"prepare"}}
    for run in (*parents, *steps["one"]):  # a table of runs can be sorted by what all have
        assert run.data.params == {"seed": "7", "balance": "True"}
        assert run.data.metrics["accuracy"] == 0.9 and run.data.tags["data_digest"] == "abc"
    assert "train_loss" not in parents[0].data.metrics
    losses = client.get_metric_history(steps["two"][0].info.run_id, "train_loss")
    assert [(row.step, row.value) for row in losses] == [(1, 0.5), (2, 0.4)]


def test_a_step_that_is_tried_again_goes_on_with_its_run(own_tracking: str) -> None:
    client = MlflowClient(own_tracking)
    with pytest.raises(InputError), tracked_step("export", "one", own_tracking) as failed:
        raise InputError("no luck")
    statuses = [client.get_run(run).info.status for run in (failed.run_id, failed.pipeline)]
    assert statuses == ["FAILED", "FAILED"]
    with tracked_step("export", "one", own_tracking) as again:
        assert client.get_run(again.pipeline).info.status == "RUNNING"
    assert (again.run_id, again.pipeline) == (failed.run_id, failed.pipeline)
    assert client.get_run(again.run_id).info.status == "FINISHED"
    assert len(_children(client, again.pipeline)) == 1


def test_only_the_last_step_ends_the_pipelines_run(own_tracking: str) -> None:
    client = MlflowClient(own_tracking)
    with tracked_step("prepare", "one", own_tracking) as step:
        pass
    assert client.get_run(step.pipeline).info.status == "RUNNING"
    with tracked_step("register", "one", own_tracking) as step:
        step.conclude()
    assert client.get_run(step.pipeline).info.status == "FINISHED"


def test_steps_nest_in_a_run_that_was_injected_and_leave_its_end_to_its_owner(
    own_tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(own_tracking)
    owned = client.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", owned)
    with tracked_step("prepare", "one", own_tracking) as step:
        step.headline({"seed": 7})
        step.conclude()
    monkeypatch.setenv("MLFLOW_RUN_ID", owned)  # each step is a process of its own
    with pytest.raises(InputError), tracked_step("export", "one", own_tracking):
        raise InputError("no luck")
    assert step.pipeline == owned and client.get_run(owned).data.params == {"seed": "7"}
    assert {run.info.run_name for run in _children(client, owned)} == {"prepare", "export"}
    assert client.get_run(owned).info.status == "RUNNING"


def test_a_run_that_kubeflow_opened_for_the_task_is_the_steps(
    own_tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(own_tracking)
    pipeline = client.create_run("0").info.run_id
    task = client.create_run("0", tags={"mlflow.parentRunId": pipeline}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    with tracked_step("fine-tune", "one", own_tracking) as step:
        step.headline({"seed": 7}, {"accuracy": 0.9})
        active = mlflow.active_run()
        assert active is not None and active.info.run_id == task
    assert (step.run_id, step.pipeline) == (task, pipeline)
    assert client.get_run(pipeline).data.params == {"seed": "7"}
    assert client.get_run(task).data.metrics["accuracy"] == 0.9
    client.log_param(task, "seed", "7.0")  # as the plugin writes the step's inputs, after the step
    assert len(client.search_runs(["0"])) == 2


def test_the_codes_commit_is_the_images_or_the_checkouts_or_unknown(
    own_tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tagged(pipeline_run: str) -> list[str | None]:
        with tracked_step("prepare", pipeline_run, own_tracking) as step:
            runs = [step.client.get_run(run) for run in (step.run_id, step.pipeline)]
        return [run.data.tags.get("mlflow.source.git.commit") for run in runs]

    monkeypatch.setenv("PIGEONHOLE_GIT_COMMIT", "c0ffee")
    assert tagged("one") == ["c0ffee", "c0ffee"]
    monkeypatch.delenv("PIGEONHOLE_GIT_COMMIT")
    git = subprocess.run(
        ["git", "-C", Path(components.__file__).parent, "rev-parse", "HEAD"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert tagged("two") == [git.stdout.strip() or None] * 2
    monkeypatch.setattr("components.platform.tracking.__file__", "/proc/tracking.py")
    assert tagged("three") == [None, None]


def test_the_machines_load_is_logged_for_short_steps_too(own_tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.05")
    with tracked_step("tune", "one", own_tracking, system_metrics=False):
        pass
    names: set[str] = set()
    with tracked_step("fine-tune", "one", own_tracking) as step:
        while not names:  # the monitor's own thread writes them
            names = set(step.client.get_run(step.run_id).data.metrics)
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= names
    (tuned,) = step.client.search_runs(["1"], "tags.`pigeonhole.step` = 'tune'")
    assert tuned.data.metrics == {}


def test_a_step_whose_pod_is_ended_is_told_as_failed(own_tracking: str, tmp_path: Path) -> None:
    script = f"""
import time
from components.platform.tracking import tracked_step
with tracked_step("fine-tune", "one", {own_tracking!r}):
    print("in", flush=True)
    time.sleep(60)
"""
    root = str(Path(components.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert "in\n" in lines
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    runs = MlflowClient(own_tracking).search_runs(["1"])
    assert [run.info.status for run in runs] == ["FAILED", "FAILED"]


def test_mlflow_out_of_reach_is_one_sentence(own_tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with (
        pytest.raises(InputError, match=r"MLflow at sqlite:.* cannot be used \(.*\): check"),
        tracked_step("prepare", "one", own_tracking),
    ):
        pass


def test_two_first_runs_make_one_experiment(own_tracking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_tracking("toy", own_tracking)  # makes the tables
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "new")
    both, create = threading.Barrier(2), MlflowClient.create_experiment

    def together(client: MlflowClient, *arguments: Any, **options: Any) -> str:
        both.wait(timeout=60)  # neither has found it
        return create(client, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "create_experiment", together)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(check_tracking, "toy", own_tracking) for _ in range(2)]:
            done.result()
    assert len([e for e in MlflowClient(own_tracking).search_experiments() if e.name == "new"]) == 1


def test_a_search_finds_its_run_again(own_tracking: str) -> None:
    ids = []
    for name in ("one", "one", "two"):
        with tracked_run(name, own_tracking):
            active = mlflow.active_run()
            assert active is not None
            ids.append(active.info.run_id)
    assert ids[0] == ids[1] != ids[2]
