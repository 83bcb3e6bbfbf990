"""The command line as a user meets it: a real process, its exit code, its two streams and what it leaves behind."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.data.collect import collect_frames
from components.data.dataset import Dataset
from components.data.prepare import prepare
from pipelines.running.results import locked_folder
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from tests.pipelines.stages import STAGES

whole_run = pytest.mark.slow(reason="a whole run, of which several tests look at a part")


def pigeonhole(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, env={**os.environ, **environment}
    )


def trained(data: Path, backbone: Path, out: Path, *more: object) -> dict[str, Any]:
    done = pigeonhole(
        "run",
        "--data",
        data,
        "--backbone",
        backbone,
        "--out",
        out,
        "--name",
        "toy",
        "--min-accuracy",
        0.2,
        "--threshold",
        "behaviour_margin=1",  # its vocabulary has no word with a typing error
        *more,
    )
    assert done.returncode in (0, 1), done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr, "code": done.returncode, "out": out}


@pytest.fixture(scope="module")
def result(data_folder: Path, backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run into a folder that is not there yet."""
    return trained(data_folder, backbone, tmp_path_factory.mktemp("run") / "deep" / "out")


@whole_run
def test_a_run_ends_with_all_its_parts(result: dict[str, Any]) -> None:
    out: Path = result["out"]
    assert sorted(p.name for p in out.iterdir()) == [
        "bundles", "data", "inspection.html", "label_errors.csv", "mlartifacts", "mlflow.db", "report.html",
        "result.json", "run.log",
    ]  # fmt: skip
    assert Bundle.open(Path(result["bundle"])).digest == result["digest"]
    assert Bundle.open(Path(result["bundle"])).spec.task == "toy"
    assert Dataset.load(out / "data").digest == result["data_digest"]
    for name in ("report", "inspection"):
        assert Path(result[name]) == out / f"{name}.html"
        assert (out / f"{name}.html").read_text().startswith("<!doctype html>")
    assert len(pd.read_csv(out / "label_errors.csv")) == result["label_errors"]
    assert json.loads((out / "result.json").read_text())["accuracy"] == result["accuracy"]


@whole_run
def test_the_exit_code_is_the_gates_answer(result: dict[str, Any]) -> None:
    assert result["code"] == (0 if result["passed"] else 1)


@whole_run
def test_every_step_is_seen_on_stderr_without_the_runners_noise(result: dict[str, Any]) -> None:
    lines = result["stderr"].splitlines()
    assert sorted(line for line in lines if line in STAGES) == sorted(STAGES)
    assert any("fine-tune  100%" in line for line in lines)
    assert "KFP Executor" not in result["stderr"]


@pytest.mark.slow(reason="trains a second time, in a whole run")
def test_the_same_seed_gives_the_same_model_whether_it_passes_or_is_refused(
    result: dict[str, Any], data_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    again = trained(data_folder, backbone, tmp_path / "out", "--threshold", "max_size_mb=0.001")
    assert again["code"] == 1 and not again["passed"]
    assert "refuse" in again["stderr"].splitlines() and "refuse" not in result["stderr"].splitlines()
    assert result["data_digest"] == again["data_digest"]
    texts = Dataset.load(result["out"] / "data").test.texts
    answers = [Classifier(Path(run["bundle"])).classify(texts) for run in (result, again)]
    assert answers[0] == answers[1]


@whole_run
def test_accuracy_is_that_of_the_bundle(result: dict[str, Any]) -> None:
    test = Dataset.load(result["out"] / "data").test
    answers = Classifier(Path(result["bundle"])).classify(test.texts)
    right = sum(answer.label == label for answer, label in zip(answers, test.labels, strict=True))
    assert result["accuracy"] == right / len(test)


@whole_run
def test_mlflow_holds_the_run_and_its_steps(result: dict[str, Any]) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(result["mlflow"])
    version = client.get_model_version_by_alias("toy", "challenger")
    assert client.get_model_version_by_alias("toy", "champion").version == version.version
    assert str(version.version) == result["version"]
    run = client.get_run(str(version.run_id))
    assert version.tags["bundle_uri"] == run.data.tags["bundle_uri"] == result["bundle"]
    assert run.info.status == "FINISHED" and run.data.tags["data_digest"] == result["data_digest"]
    assert run.data.params["profile"] == "fast" and run.data.params["train_rows"]
    assert run.data.metrics["test_accuracy"] == pytest.approx(result["accuracy"])
    assert run.data.metrics["baseline_accuracy"] == pytest.approx(result["baseline_accuracy"])
    nested = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
    steps = {step.info.run_name: step for step in nested}
    assert sorted(steps) == ["baseline", "evaluate", "export", "fine-tune", "inspect", "prepare", "register"]
    assert len(nested) == len(steps) and {step.info.status for step in nested} == {"FINISHED"}
    epochs = client.get_metric_history(steps["fine-tune"].info.run_id, "validation_accuracy")
    assert len(epochs) == int(run.data.params["epochs"])
    assert max(row.value for row in epochs) == run.data.metrics["best_validation_accuracy"]


@pytest.mark.slow(reason="runs the whole compiled pipeline, each step a process")
def test_the_compiled_file_runs_as_it_is(data_folder: Path, backbone: Path, tmp_path: Path) -> None:
    done = pigeonhole("compile", "--out", tmp_path / "ir")
    (file,) = [file for file in json.loads(done.stdout)["files"] if Path(file).stem == "training"]
    script = f"""
import json
from kfp import components, local
local.init(local.SubprocessRunner(use_venv=False), pipeline_root={str(tmp_path / "root")!r})
task = components.load_component_from_file({file!r})(
    bundle_root={str(tmp_path / "bundles")!r}, data={str(data_folder)!r}, backbone={str(backbone)!r}, min_accuracy=0.2,
    thresholds={{"behaviour_margin": 1.0, "max_latency_ms": 1e5}},
    mlflow_tracking_uri={"sqlite:///" + str(tmp_path / "mlflow.db")!r})
print("RESULT", json.dumps(task.outputs["bundle_uri"]))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    bundle = json.loads(ran.stdout.split("RESULT ")[1].splitlines()[0])
    assert Bundle.open(Path(bundle)).spec.labels == ["Business", "Sports", "World"]


def _folder(make: Callable[[Path], object]) -> Callable[[Path], list[object]]:
    def arguments(folder: Path) -> list[object]:
        folder.mkdir()
        make(folder)
        return ["--data", folder]

    return arguments


def _csv(train: str, test: str = "text,label\nx,a\ny,b\n") -> Callable[[Path], list[object]]:
    def make(folder: Path) -> None:
        (folder / "train.csv").write_text(train)
        (folder / "test.csv").write_text(test)

    return _folder(make)


ROWS = "".join(f"a text {n},a\nb text {n},b\n" for n in range(20))
# Each is a whole run: one for each place that refuses. Other bad data is refused in the same two steps.
BAD_RUNS: list[tuple[str, Callable[[Path], list[object]], str]] = [
    ("missing column", _csv("body,label\nx,a\n"), "has no column 'text'"),
    ("unknown test label", _csv(f"text,label\n{ROWS}", "text,label\nx,z\n"), "label 'z', which train lacks"),
    ("no such backbone", lambda f: ["--backbone", f / "none"], "is not a folder"),
    ("unknown profile", lambda f: ["--profile", "slow"], "--profile slow is unknown"),
    ("refused name", lambda f: ["--name", "team/news"], "MLflow takes no model by the name 'team/news'"),
    ("rewritten path", lambda f: ["--data", shutil.copytree(_sample(), f / "python3")], "contains 'python3'"),
]


BAD_DATA: list[tuple[str, Callable[[Path], list[object]], str]] = [
    (
        "unreadable file",
        _folder(lambda f: (f / "train.csv.gz").write_bytes(gzip.compress(b"\xff\xfe\x00"))),
        "ends inside a character",
    ),
    ("empty folder", _folder(lambda f: None), "has no train split"),
    ("no folder", lambda f: ["--data", f / "none"], "is not a folder"),
    ("empty class", _csv(f"text,label\n{ROWS},c\n"), "class 'c' in train has no row with text"),
    ("too much left out", _csv(f"text,label\n{ROWS}" + ",a\n" * 20), "32.3% of the rows cannot be used"),
    ("one class", _csv("text,label\nx,a\nz,a\n"), "only the class 'a'"),
    ("hub out of reach", lambda f: ["--data", "hf:no/such"], "hf:no/such cannot be loaded"),
]


def _sample() -> Path:
    import components.data.collect as sources

    return Path(sources.__file__).parent / "sample" / "topics"


@pytest.mark.parametrize(("arguments", "message"), [case[1:] for case in BAD_RUNS], ids=[case[0] for case in BAD_RUNS])
def test_bad_input_ends_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, arguments: Callable[[Path], list[object]], message: str
) -> None:
    out = tmp_path / "out" / "deep"
    done = pigeonhole("run", "--out", out, *arguments(tmp_path / "data"))
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("pigeonhole: ") and message in last
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "message"), [case[1:] for case in BAD_DATA], ids=[case[0] for case in BAD_DATA])
def test_bad_data_is_refused_by_the_steps_that_read_it(
    tmp_path: Path, arguments: Callable[[Path], list[object]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(collect_frames(str(arguments(tmp_path / "data")[1])), seed=42)


@whole_run
def test_a_failed_run_leaves_earlier_results_as_they_were(result: dict[str, Any], tmp_path: Path) -> None:
    out = shutil.copytree(result["out"], tmp_path / "out")
    written = {p.relative_to(out): p.is_file() and p.stat().st_mtime_ns for p in out.rglob("*")}
    assert pigeonhole("run", "--out", out, "--data", tmp_path / "none").returncode == 2
    assert {p.relative_to(out): p.is_file() and p.stat().st_mtime_ns for p in out.rglob("*")} == written


@pytest.mark.slow(reason="a run that is killed, and another")
def test_what_a_killed_run_left_is_gone_after_the_next(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / ".run" / "job" / "prepare").mkdir(parents=True)
    pigeonhole("run", "--out", tmp_path / "out", "--data", tmp_path / "none")
    assert list((tmp_path / "out").iterdir()) == []


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "out"):
        work = tmp_path / "out" / ".run"
        work.mkdir()
        done = pigeonhole("run", "--out", tmp_path / "out")
        assert done.returncode == 2 and f"is in use by process {os.getpid()} on " in done.stderr.splitlines()[-1]
        assert work.exists()


def test_settings_come_from_the_environment_too(tmp_path: Path) -> None:
    done = pigeonhole("run", "--out", tmp_path / "out", PIGEONHOLE_PROFILE="slow")
    assert done.returncode == 2 and "--profile slow is unknown" in done.stderr
    done = pigeonhole("run", "--out", tmp_path / "out", "--profile", "worse", PIGEONHOLE_PROFILE="slow")
    assert "--profile worse is unknown" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "/none"], "is not a folder"),
        (["serve", "."], "has no serving.json"),
        (["serve", ".", "--http-port", "9", "--grpc-port", "9"], "choose two ports"),
        (["serve", ".", "--precision", "fp64"], "--precision fp64 is unknown"),
        (["compile", "--out", "/proc/none"], "cannot be written"),
        (["run", "--out", "/proc/none"], "cannot be written"),
        (["run", "--min-accuracy", "2"], "--min-accuracy"),
        (["nonsense"], "nonsense"),
    ],
)
def test_wrong_use_is_exit_code_2(arguments: list[str], message: str) -> None:
    done = pigeonhole(*arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["run", "tune", "compile", "submit", "schedule", "serve", "predict"])
def test_help_has_examples_and_the_options_environment_names(command: str) -> None:
    done = pigeonhole(command, "--help", COLUMNS="200")
    assert done.returncode == 0
    assert f"pigeonhole {command}" in done.stdout.split("Example")[1]
    assert "PIGEONHOLE_" in done.stdout


@pytest.mark.slow(reason="a whole run up to the step that loads it")
def test_a_backbone_that_cannot_be_loaded_is_named(data_folder: Path, backbone: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(backbone, tmp_path / "backbone")
    (broken / "model.safetensors").write_bytes(b"garbage")
    done = pigeonhole("run", "--data", data_folder, "--backbone", broken, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert f"pigeonhole: backbone {broken} cannot be loaded" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_of_bundles_is_refused_before_training(
    data_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "bundles").write_text("a file")
    done = pigeonhole("run", "--data", data_folder, "--backbone", backbone, "--out", tmp_path)
    assert done.returncode == 2
    assert f"pigeonhole: {tmp_path / 'bundles'} cannot be written (FileExistsError" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("choose another place, or see what stands there and who may use it")
    assert [file.name for file in tmp_path.iterdir()] == ["bundles"]


@pytest.mark.slow(reason="a whole run up to the step that breaks")
def test_a_step_that_breaks_shows_the_end_of_its_log_and_exit_code_3(
    data_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("a file where the database has to be")
    notes = threading.Timer(8, (tmp_path / "notes.txt").write_text, ["somebody else's, and written meanwhile"])
    notes.start()
    done = pigeonhole("run", "--data", data_folder, "--backbone", backbone, "--out", tmp_path, "--min-accuracy", 0.2)
    notes.join()
    assert done.returncode == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mlflow.db", "notes.txt"]
    assert "file is not a database" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("pigeonhole: a step failed unexpectedly")
    assert not list(tmp_path.glob(".run-*"))
