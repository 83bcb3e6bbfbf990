"""What a task decides of a run, and what the options decide against it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.tasks.task import default_task, load_task
from pipelines.cli.app import app
from pipelines.running import local


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The parameters of the runs that were started."""
    started: list[dict[str, Any]] = []

    def run(out: Path, **parameters: Any) -> dict[str, Any]:
        started.append(parameters)
        return {"passed": True}

    monkeypatch.setattr(local, "run_training", run)
    return started


def _run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["run", *map(str, arguments)])


def test_a_task_decides_what_no_option_says(runs: list[dict[str, Any]]) -> None:
    assert _run("--task", "sentiment").exit_code == 0
    assert runs[0].items() >= load_task("sentiment").parameters().items()


def test_without_task_and_data_it_is_the_default_task_on_its_sample(runs: list[dict[str, Any]]) -> None:
    assert _run().exit_code == 0 and _run("--data", "sample").exit_code == 0
    assert runs[0] == runs[1]
    assert runs[0].items() >= {**default_task().parameters(), "data": "sample"}.items()


def test_options_go_before_the_task(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    options = ["--name", "mine", "--min-accuracy", 0.8, "--threshold", "min_class_recall=0.5", "--data", tmp_path]
    assert _run("--task", "sentiment", *options).exit_code == 0
    task = load_task("sentiment").parameters()
    assert runs[0]["thresholds"] == {**task["thresholds"], "min_class_recall": 0.5}
    assert (runs[0]["name"], runs[0]["min_accuracy"], runs[0]["data"]) == ("mine", 0.8, str(tmp_path))
    assert runs[0]["labels"] == task["labels"] and runs[0]["ordinal"] and runs[0]["behaviour"]


def test_data_without_task_brings_its_own_classes(runs: list[dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "Mail 2"
    folder.mkdir()
    assert _run("--data", folder).exit_code == 0
    assert (runs[0]["name"], runs[0]["min_accuracy"], runs[0]["thresholds"]) == ("mail-2", 0.9, {})
    assert not {"labels", "ordinal", "behaviour"} & set(runs[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('name = "a"', "has no data of its own"),
        ('name = "a"\ndata = "sample"\n[gate]\nmin_recall = 0.1', "no threshold 'min_recall'"),
        ('name = "a"\ndata = "sample"\n[gate]\nmin_accuracy = 1.5', "min_accuracy is 1.5"),
    ],
)
def test_a_task_that_cannot_be_run_starts_nothing(
    runs: list[dict[str, Any]], tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(content)
    done = _run("--task", file)
    assert done.exit_code != 0 and message in str(done.exception) + done.output
    assert not runs
