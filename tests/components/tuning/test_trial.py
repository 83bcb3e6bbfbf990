"""The trial as Katib runs it: a process that prints metrics, and nothing of the test split."""

import json
import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from components.data.dataset import Dataset
from components.tuning.experiment import primary_container
from components.tuning.process import TrialProcess, parse_metrics
from components.tuning.trial import main, parser
from components.tuning.validation import check_experiment
from tests.components.tuning.experiments import document, experiment

FORMATS = experiment().metric_formats
NAMES = ("validation_accuracy", "validation_loss")


@pytest.fixture(scope="module")
def dataset_folder(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared") / "dataset"
    dataset.save(folder)
    return folder


@pytest.mark.slow(reason="trains in a process of its own")
def test_each_epoch_is_two_lines_that_katibs_collector_reads(
    dataset_folder: Path, backbone: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "trial", "--data", dataset_folder, "--backbone", backbone,
         "--max-length", "32", "--learning-rate", "0.005", "--batch-tokens", "256", "--epochs", "2", "--seed", "3"],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [metric for line in done.stdout.splitlines() for metric in parse_metrics(line, NAMES, FORMATS)]
    assert [name for name, _ in found] == ["validation_loss", "validation_accuracy"] * 2
    assert all(0 <= value <= 1 for name, value in found if name == "validation_accuracy")
    assert list(tmp_path.iterdir()) == []  # weights of a trial are not kept


def test_the_test_split_has_no_part_in_it(
    dataset_folder: Path, dataset: Dataset, backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt = Dataset.load(dataset_folder)
    spoilt.test.frame["text"], spoilt.test.frame["label"] = "spoilt", "Nothing"
    spoilt.save(tmp_path / "spoilt")
    told = []
    for folder in (dataset_folder, tmp_path / "spoilt"):
        main(["--data", str(folder), "--backbone", str(backbone), "--max-length", "32", "--epochs", "1"])
        told.append([line for line in capsys.readouterr().out.splitlines() if "=" in line])
    assert told[0] == told[1] and len(told[0]) == 2


def test_a_dataset_in_object_storage_is_fetched(
    dataset_folder: Path, backbone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(f"{dataset_folder}/", "/bucket/run/dataset/", recursive=True)
    main(["--data", "memory://bucket/run/dataset", "--backbone", str(backbone), "--max-length", "32", "--epochs", "1"])
    assert "validation_accuracy=" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "/none"], "/none is no dataset artifact"),
        (["--data", "memory://bucket/nothing"], "memory://bucket/nothing holds no files"),
        (["--data", "/none", "--learning-rate", "9"], "learning_rate is 9: give a number"),
        (["--data", "/none", "--profile", "slow"], "--profile slow is unknown"),
    ],
)
def test_bad_input_is_the_last_line_and_exit_code_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().out.splitlines()[-1]


def test_a_search_here_runs_the_trials_command_without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    content = document()
    rate = "${trialParameters.learning_rate}"
    primary_container(content)["command"] = ["pigeonhole", "trial", "--data", "/none", "--learning-rate", rate]
    process = TrialProcess(check_experiment(content), 0, {"learning_rate": "9"}, tmp_path, 1, None)
    assert "learning_rate is 9: give a number" in process.run(lambda *_: None).reason


def test_flags_cover_what_the_recipe_lets_a_search_set() -> None:
    given = parser().parse_args(["--data", "d", "--label-smoothing", "0.1"])
    assert given.label_smoothing == "0.1" and given.learning_rate is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("validation_accuracy=0.91", [("validation_accuracy", 0.91)]),
        ("2026-11-23T05:00:00Z validation_loss = 1.5e-3", [("validation_loss", 0.0015)]),
        ("validation_accuracy=0.9 validation_loss=-2", [("validation_accuracy", 0.9), ("validation_loss", -2.0)]),
        ("epoch 1: validation accuracy 0.9", []),
        ("other=3", []),
        ("validation_accuracy=nan", []),
        ("validation_accuracy=.", []),
        ("my_validation_accuracy=0.9", []),
    ],
)
def test_lines_are_read_as_katib_reads_them(line: str, found: list[tuple[str, float]]) -> None:
    assert list(parse_metrics(line, NAMES, FORMATS)) == found


def test_other_formats_are_heeded() -> None:
    metrics = {"source": {"filter": {"metricsFormat": [r"(\w+): ([\d.]+)"]}}}
    formats = experiment(metricsCollectorSpec=metrics).metric_formats
    assert list(parse_metrics("validation_loss: 0.5", NAMES, formats)) == [("validation_loss", 0.5)]


def test_a_prepared_dataset_is_what_is_expected(dataset_folder: Path) -> None:
    assert json.loads((dataset_folder / "labels.json").read_text()) == ["Business", "Sports", "World"]
    assert len(pd.read_parquet(dataset_folder / "validation.parquet"))
