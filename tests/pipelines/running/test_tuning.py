"""`pigeonhole tune` as a user meets it, killed and continued, and what it found used by `pigeonhole run`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow.tracking import MlflowClient

from components.data.dataset import Dataset
from tests.components.tuning.experiments import document, written
from tests.components.tuning.test_experiment import MANIFEST
from tests.fakes.katib_api import DONE, FakeCluster, condition, serving
from tests.pipelines.cli.test_cli import pigeonhole

pytestmark = pytest.mark.slow(reason="whole searches and a run after one, each of their trials a process that trains")

# Each start is noted; the trial of that number hangs until it is killed, but only the first time.
NOTED = """
import pathlib, sys, time
folder = pathlib.Path(__file__).parent
starts = folder / "starts"
with starts.open("a") as stream:
    stream.write(sys.argv[-1] + "\\n")
hang = folder / "hang"
if hang.exists() and len(starts.read_text().split()) == 3:
    hang.unlink()
    while True:
        time.sleep(0.1)
        print("working", flush=True)
print(f"validation_accuracy={sys.argv[-1]}")
"""


@pytest.fixture(scope="module")
def found(data_folder: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The repository's own Experiment, cut down to two short trials, on the tiny backbone."""
    folder = tmp_path_factory.mktemp("search")
    content = yaml.safe_load(MANIFEST.read_text())
    content["spec"].update(maxTrialCount=2, maxFailedTrialCount=1)
    rate, tokens, _, epochs, _ = content["spec"]["parameters"]
    rate["feasibleSpace"].update(min="0.001", max="0.01")
    tokens["feasibleSpace"]["list"] = ["128", "256"]
    epochs["feasibleSpace"].update(min="1", max="2")
    file = written(folder, content)
    done = pigeonhole(
        "tune", file, "--local", "--data", data_folder, "--backbone", backbone, "--out", folder / "out", "--seed", 7
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr, "file": folder / "out" / "search.json"}


def test_a_search_ends_with_its_best_trial(found: dict[str, Any], dataset: Dataset) -> None:
    out = Path(found["folder"])
    assert found["succeeded"] and found["trials"] == {"succeeded": 2, "stopped": 0, "failed": 0}
    assert found["objective"] == found["metrics"]["validation_accuracy"]
    assert 0.001 <= float(found["hyperparameters"]["learning_rate"]) <= 0.01
    assert sorted(p.name for p in out.iterdir()) == [
        "dataset", "mlflow.db", "search.json", "search.jsonl", "trials",
    ]  # fmt: skip
    assert Dataset.load(out / "dataset").digest == dataset.digest
    assert json.loads(found["file"].read_text())["hyperparameters"] == found["hyperparameters"]
    logs = [file.read_text() for file in out.glob("trials/*/output.log")]
    assert len(logs) == 2 and all("validation_accuracy=" in log for log in logs)
    assert found["stderr"].count("succeeded  validation_accuracy ") == 2 and "Traceback" not in found["stderr"]


def test_the_searchs_trials_are_in_mlflow(found: dict[str, Any]) -> None:
    client = MlflowClient(found["mlflow"])
    (known,) = [e for e in client.search_experiments() if e.name == "pigeonhole"]
    runs = client.search_runs([known.experiment_id])
    assert len([run for run in runs if "mlflow.parentRunId" in run.data.tags]) == 2 and len(runs) == 3


def test_a_run_takes_what_the_search_found(
    found: dict[str, Any], data_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    done = pigeonhole(
        "run", "--data", data_folder, "--backbone", backbone, "--out", tmp_path, "--name", "toy", "--min-accuracy", 0.2,
        "--hyperparameters", found["file"],
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    client = MlflowClient(json.loads(done.stdout)["mlflow"])
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    (run,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    for name, text in found["hyperparameters"].items():
        assert float(run.data.params[name]) == float(text)


def _starts(folder: Path) -> list[str]:
    return (folder / "starts").read_text().split() if (folder / "starts").exists() else []


def test_a_killed_search_goes_on_where_it_was(data_folder: Path, tmp_path: Path) -> None:
    results, starts = [], []
    for name in ("whole", "killed"):
        folder = tmp_path / name
        folder.mkdir()
        script = folder / "trial.py"
        script.write_text(NOTED)
        file = written(folder, document(script, maxTrialCount=5, algorithm={"algorithmName": "tpe"}))
        command = ["tune", file, "--local", "--data", data_folder, "--out", folder / "out"]
        if name == "killed":
            (folder / "hang").touch()
            process = subprocess.Popen([sys.executable, "-m", "pipelines.cli", *map(str, command)])
            deadline = time.monotonic() + 120
            while (folder / "hang").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert len(_starts(folder)) == 3
        done = pigeonhole(*command)
        assert done.returncode == 0, done.stderr
        results.append(json.loads(done.stdout))
        starts.append(_starts(folder))
    whole, killed = results
    assert "(earlier run)" in done.stderr
    assert killed["hyperparameters"] == whole["hyperparameters"] and killed["objective"] == whole["objective"]
    assert killed["trials"] == whole["trials"] == {"succeeded": 5, "stopped": 0, "failed": 0}
    # The third was half done, and is the only one that ran twice, with the same value.
    assert starts[1] == [*starts[0][:3], *starts[0][2:]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_search_that_is_ended_takes_its_trials_along(data_folder: Path, tmp_path: Path, number: int) -> None:
    script, note, out = tmp_path / "trial.py", tmp_path / "pid", tmp_path / "out"
    noting = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); "
    script.write_text(noting + "time.sleep(600)")
    file = written(tmp_path, document(script))
    command = [sys.executable, "-m", "pipelines.cli", "tune", file, "--local", "--data", data_folder, "--out", out]
    with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as search:
        deadline = time.monotonic() + 120
        while not (note.exists() and note.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        search.send_signal(number)
        said = search.communicate(timeout=60)[1]
    assert search.returncode == (128 + number if number == signal.SIGTERM else -number)
    while psutil.pid_exists(int(note.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if number == signal.SIGTERM:
        assert said.splitlines()[-1] == f"pigeonhole: SIGTERM stopped the search; the next one into {out} goes on there"
    assert not (out / ".lock").exists() or number == signal.SIGKILL


def test_another_experiment_or_other_data_in_the_folder_is_refused(
    found: dict[str, Any], data_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    file = written(tmp_path, document(tmp_path / "trial.py"))
    before = found["file"].read_bytes()
    done = pigeonhole("tune", file, "--local", "--data", data_folder, "--out", found["folder"])
    assert done.returncode == 2 and "holds a search that differs in its experiment" in done.stderr.splitlines()[-1]
    assert found["file"].read_bytes() == before


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    content = document(tmp_path / "trial.py")
    content["spec"]["parameters"][0]["feasibleSpace"]["min"] = 0.0001
    return written(tmp_path, content, "bad.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.yaml"], "none.yaml cannot be read"),
        (["{bad}", "--local"], "has the bare number 0.0001: put it in quotes"),
        (["{bad}"], "has the bare number 0.0001: put it in quotes"),
        (["{good}", "--local", "--data", "/none"], "--data /none is not a folder"),
        (["{manifest}", "--local", "--backbone", "/none"], "--backbone /none is not a folder"),
        (["{manifest}", "--local", "--profile", "slow"], "--profile slow is unknown"),
        (["{good}", "--local", "--out", "/proc/none"], "cannot be written"),
        (["{good}"], "there is no cluster at /none/kubeconfig"),
        (["{good}", "--data", "s3://my bucket"], "has white space"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str], message: str, bad: Path, tmp_path: Path
) -> None:
    good = written(tmp_path, document(tmp_path / "trial.py"))
    places = {"bad": bad, "good": good, "manifest": MANIFEST}
    words = [word.format(**places) for word in arguments]
    out = [] if "--out" in words else ["--out", tmp_path / "out"]
    done = pigeonhole("tune", *words, *out, KUBECONFIG="/none/kubeconfig")
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("pigeonhole: ") and message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and done.stdout == "" and not (tmp_path / "out").exists()


def test_a_search_in_which_all_fails_is_exit_code_1(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "trial.py").write_text("print('no luck'); raise SystemExit(3)")
    file = written(tmp_path, document(tmp_path / "trial.py", maxTrialCount=2))
    done = pigeonhole("tune", file, "--local", "--data", data_folder, "--out", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert not result["succeeded"] and result["trials"]["failed"] == 2 and result["hyperparameters"] == {}


@pytest.mark.parametrize(
    ("status", "code", "found"),
    [(DONE, 0, {"learning_rate": "0.0123"}), ({"conditions": [condition("Failed", "no luck")]}, 1, {})],
)
def test_on_a_cluster(tmp_path: Path, status: Any, code: int, found: dict[str, str]) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    file = written(tmp_path, document())
    with serving(FakeCluster([status]), kubeconfig) as cluster:
        done = pigeonhole("tune", file, "--data", "s3://bucket/dataset", "--timeout", 30, KUBECONFIG=str(kubeconfig))
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["hyperparameters"] == found
    assert cluster.experiments == {} and "s3://bucket/dataset" in json.dumps(cluster.posted)
    assert code == 0 or "failed (no luck)" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "holds none"),
        ('{"hyperparameters": {}}', "holds none"),
        ('{"lr": 1}', "hyper-parameter 'lr' is unknown"),
        ('{"epochs": "many"}', "hyper-parameter epochs is many"),
    ],
)
def test_a_run_with_bad_hyperparameters(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "values.json").write_text(content)
    done = pigeonhole("run", "--hyperparameters", tmp_path / "values.json", "--out", tmp_path / "out")
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1] and not (tmp_path / "out").exists()


def test_help_has_examples(tmp_path: Path) -> None:
    done = pigeonhole("tune", "--help", COLUMNS="200")
    assert done.returncode == 0 and "pigeonhole tune manifests/katib/experiment.yaml --local" in done.stdout
    assert "PIGEONHOLE_NAMESPACE" in done.stdout
