"""The search on a cluster: the real Kubernetes client against a small API server that behaves like Katib's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl
from mlflow.tracking import MlflowClient

from components.platform.kubernetes import connect
from components.tuning.component import tune
from components.tuning.experiment import Outcome, primary_container
from components.tuning.katib import SearchFailed, search_on_cluster, with_options
from components.tuning.validation import check_experiment, read_experiment
from pipelines.running.tuning import tune_on_cluster
from predictor.errors import InputError
from tests.components.tuning.experiments import document, experiment, written
from tests.components.tuning.test_experiment import MANIFEST
from tests.fakes.katib_api import DONE, NAMESPACE, RUNNING, FakeCluster, condition, refusal, serving


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with serving(FakeCluster([DONE]), tmp_path / "kubeconfig") as fake:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        yield fake


def search(timeout: float = 20, **spec: Any) -> Outcome:
    return search_on_cluster(connect(), document(**spec), timeout, interval=0.05)


def test_the_best_trial_comes_back_and_nothing_stays(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.statuses = [{}, RUNNING, RUNNING, DONE]
    outcome = search()
    assert outcome.assignments == {"learning_rate": "0.0123"} and outcome.best_trial == "toy-x7k2"
    assert outcome.objective == 0.91 and outcome.metrics == {"validation_accuracy": 0.91, "validation_loss": 0.3}
    assert outcome.counts == {"succeeded": 2, "stopped": 1, "failed": 0}
    assert cluster.experiments == {} and cluster.seen[-1][0] == "DELETE"
    lines = capsys.readouterr().out.splitlines()
    assert f"Katib experiment {NAMESPACE}/toy-" in lines[0]
    assert sum("1/3 trials ended, 2 run" in line for line in lines) == 1  # said once, though seen twice
    assert "3/3 trials ended, 0 run, best validation_accuracy 0.9100" in lines[-1]


def test_what_is_posted_is_the_file_under_a_name_of_its_own(cluster: FakeCluster) -> None:
    search(), search()
    one, two = cluster.posted
    names = [one["metadata"].pop("name"), two["metadata"].pop("name")]
    assert len(set(names)) == 2 and all(name.startswith("toy-") and len(name) <= 40 for name in names)
    labels = {"app.kubernetes.io/part-of": "pigeonhole"}
    assert one["metadata"] == {"namespace": NAMESPACE, "labels": labels} and one["spec"] == document()["spec"]


def test_a_step_that_is_tried_again_follows_the_search_it_posted(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    names = []
    for run in ("one", "one", "two"):
        cluster.keep = run == "one"  # the first is killed before it deletes anything
        search_on_cluster(connect(), document(), 20, interval=0.05, run=run)
        names.append(cluster.posted[-1]["metadata"]["name"])
    assert names[0] == names[1] != names[2]
    assert capsys.readouterr().out.count("is there already, from a try before this one") == 1


def test_a_lost_answer_makes_no_second_search(cluster: FakeCluster) -> None:
    cluster.lose = 1
    assert search().assignments and cluster.experiments == {}
    assert len({body["metadata"]["name"] for body in cluster.posted}) == 1 and len(cluster.posted) == 2


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ([RUNNING, {"conditions": [condition("Failed", "max failed count")]}], r"failed \(max failed count\): look at"),
        ([{"conditions": [condition("Succeeded")]}], "ended without a best trial: look whether its trials print"),
    ],
)
def test_a_search_that_fails_says_why_and_is_tidied_up(cluster: FakeCluster, statuses: list[Any], message: str) -> None:
    cluster.statuses = statuses
    with pytest.raises(SearchFailed, match=message):
        search()
    assert cluster.experiments == {} and cluster.seen[-1][0] == "DELETE"


def test_time_that_is_up_ends_the_search_on_the_cluster_too(cluster: FakeCluster) -> None:
    cluster.statuses = [RUNNING]
    with pytest.raises(
        SearchFailed, match=r"not done after 0.2 seconds \(1/3 trials ended, 2 run\): give it more time"
    ):
        search(timeout=0.2)
    assert cluster.experiments == {}


def test_a_server_that_stumbles_is_asked_again(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.statuses = [503, 429, DONE]
    assert search().assignments
    assert "the cluster answers 503" in capsys.readouterr().out


def test_an_experiment_that_somebody_deletes(cluster: FakeCluster) -> None:
    cluster.on_create = (201, {})  # taken, and gone at the first look
    with pytest.raises(SearchFailed, match="was deleted while it ran"):
        search()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (refusal(404, "the server could not find the requested resource"), "the cluster has no Katib"),
        ((404, {}), "the cluster has no Katib"),
        (refusal(404, 'namespaces "team-a" not found', name="team-a"), "namespace team-a does not exist"),
        (refusal(403, "user may not create"), r"forbids it in namespace team-a \(user may not create\): let this"),
        (
            refusal(403, 'admission webhook "v" denied the request: no'),
            r"refuses the experiment \(no\): fix what it says",
        ),
        (refusal(400, 'admission webhook denied: "bad"'), r"Katib refuses the experiment \(admission webhook denied"),
    ],
)
def test_refusals_are_sentences(cluster: FakeCluster, answer: tuple[int, Any], message: str) -> None:
    cluster.on_create = answer
    with pytest.raises(InputError, match=message) as caught:
        search()
    assert not isinstance(caught.value, SearchFailed) and "\n" not in str(caught.value)


def test_a_namespace_that_refuses_katibs_pods_is_not_searched_in(cluster: FakeCluster) -> None:
    cluster.labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    stopping = {"algorithmName": "medianstop"}
    with pytest.raises(
        InputError, match=r"^namespace team-a enforces the restricted .* early stopping: search in a name"
    ) as caught:
        search(earlyStopping=stopping)
    assert not isinstance(caught.value, SearchFailed) and cluster.seen == []
    for labels in ({"pod-security.kubernetes.io/enforce": "baseline"}, {}, None):
        cluster.labels = labels
        assert search(earlyStopping=stopping).assignments


def test_a_namespace_that_may_refuse_katibs_pods_is_searched_in(
    cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    assert search().assignments  # without early stopping, Katib's configuration decides
    assert "refuses Katib's own pods unless" in capsys.readouterr().out


def test_a_search_goes_to_the_namespace_that_its_file_names(cluster: FakeCluster, tmp_path: Path) -> None:
    named = document()
    named["metadata"]["namespace"] = "elsewhere"
    file = written(tmp_path, named)
    with pytest.raises(InputError, match="the cluster has no Katib"):  # the stand-in has it in one namespace only
        tune_on_cluster(file, "", 20, "s3://b/d", {})
    assert cluster.seen[0] == ("POST", "/apis/kubeflow.org/v1beta1/namespaces/elsewhere/experiments")
    assert tune_on_cluster(file, NAMESPACE, 20, "s3://b/d", {})["succeeded"]
    assert cluster.posted[-1]["metadata"]["namespace"] == NAMESPACE


def test_no_cluster_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InputError, match=r"there is no cluster at .*none .*: set KUBECONFIG, or search here"):
        connect(otherwise=", or search here")


def test_a_bad_experiment_never_reaches_the_cluster(cluster: FakeCluster) -> None:
    with pytest.raises(InputError, match="maxTrialCount is missing"):
        search(maxTrialCount=None)
    assert cluster.seen == []


def test_data_in_object_storage_needs_no_volume() -> None:
    read = read_experiment(MANIFEST)
    changed = with_options(read, {"--data": "minio://bucket/run/dataset", "--backbone": "distilbert-base-uncased"})
    assert check_experiment(changed).argument("--data") == "minio://bucket/run/dataset"
    assert check_experiment(changed).argument("--backbone") == "distilbert-base-uncased"
    pod = changed["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["scratch"]
    assert [mount["name"] for mount in primary_container(changed)["volumeMounts"]] == ["scratch"]
    mounted = with_options(read, {"--data": "/mnt/other"})
    assert mounted["spec"]["trialTemplate"]["trialSpec"]["spec"]["template"]["spec"]["volumes"][0]["name"] == "dataset"


def test_white_space_that_katib_would_tear_apart_is_refused() -> None:
    with pytest.raises(InputError, match="--data '/mnt/my data' has white space"):
        with_options(experiment(), {"--data": "/mnt/my data"})


def test_a_step_that_is_ended_deletes_its_search(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.statuses = [RUNNING]
    script = """
from components.platform.kubernetes import connect
from components.tuning.katib import search_on_cluster
from tests.components.tuning.experiments import document
search_on_cluster(connect(), document(), 600, interval=0.2)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as lines:
        assert any("trials ended" in line for line in lines if "Katib experiment" not in line)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert cluster.experiments == {}


def test_the_step_without_an_experiment_hands_on_what_it_was_given() -> None:
    nowhere = dsl.Dataset(uri="/none")
    assert tune.python_func(dataset=nowhere, pipeline_run="one") == {}
    assert tune.python_func(dataset=nowhere, pipeline_run="one", hyperparameters={"epochs": 3.0}) == {"epochs": "3.0"}


def test_the_step_searches_with_the_runs_own_settings(cluster: FakeCluster, own_tracking: str) -> None:
    found = tune.python_func(
        dataset=dsl.Dataset(uri="s3://bucket/dataset"), experiment=MANIFEST.read_text(), profile="full",
        hyperparameters={"epochs": "3", "learning_rate": "1"}, backbone="distilbert-base-uncased", max_length=64,
        namespace=NAMESPACE, seed=7, pipeline_run="one", mlflow_tracking_uri=own_tracking,
    )  # fmt: skip
    assert found == {"epochs": "3", "learning_rate": "0.0123"}
    client = MlflowClient(own_tracking)
    (run,) = client.search_runs(["1"], "tags.`pigeonhole.step` = 'tune'")
    assert run.data.params == {"learning_rate": "0.0123"} and run.info.status == "FINISHED"
    posted = check_experiment({**cluster.posted[0], "metadata": {"name": "x"}})
    flags = ("--data", "--profile", "--backbone", "--max-length", "--seed")
    assert [posted.argument(flag) for flag in flags] == [
        "s3://bucket/dataset", "full", "distilbert-base-uncased", "64", "7",
    ]  # fmt: skip


def test_the_step_leaves_a_sentence(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_tracking: str
) -> None:
    monkeypatch.setenv("PIGEONHOLE_TERMINATION_LOG", str(tmp_path / "message"))
    cluster.statuses = [{"conditions": [condition("Failed", "no luck")]}]
    with pytest.raises(SystemExit):
        tune.python_func(
            dataset=dsl.Dataset(uri="s3://b/d"), pipeline_run="one", experiment=yaml.safe_dump(document()),
            mlflow_tracking_uri=own_tracking,
        )  # fmt: skip
    assert "failed (no luck)" in (tmp_path / "message").read_text()
