"""The training job: one set of options and defaults for the step, the trial and the TrainJob's processes."""

import argparse
from collections.abc import Mapping
from typing import Any

import pytest
from typer.main import get_command

from components.training.component import fine_tune
from components.training.job import TrainingJob, add_options
from components.tuning.component import tune
from pipelines.cli.app import app

JOB = TrainingJob("s3://b/data", "b", "full", 64, 7, {"learning_rate": "3e-05", "epochs": "2"}, "s3://b/checkpoints")


def _parsed(words: list[str]) -> TrainingJob:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return TrainingJob.from_options(parser.parse_args(words))


@pytest.mark.parametrize("job", [JOB, TrainingJob("data"), TrainingJob("-", seed=-1)], ids=["all", "few", "dashes"])
def test_a_job_written_as_options_is_read_back(job: TrainingJob) -> None:
    assert _parsed([f"{flag}={value}" for flag, value in job.to_options().items()]) == job


def test_options_that_are_missing_have_the_jobs_defaults() -> None:
    assert _parsed(["--data", "data"]) == TrainingJob("data")


def _of_component(component: Any) -> Mapping[str, Any]:
    return {name: field.default for name, field in component.component_spec.inputs.items()}


def _of_command(name: str) -> Mapping[str, Any]:
    command: Any = get_command(app)
    return {option.name: option.default for option in command.commands[name].params}


@pytest.mark.parametrize("defaults", [_of_component(fine_tune), _of_component(tune), _of_command("run")])
def test_steps_and_command_have_the_jobs_defaults(defaults: Mapping[str, Any]) -> None:
    job = TrainingJob("data")
    for name in ("profile", "backbone", "max_length", "seed"):
        assert defaults[name] == getattr(job, name), name
