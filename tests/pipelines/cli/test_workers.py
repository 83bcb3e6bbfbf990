"""The commands that manifests run: hidden from the help, with options of their own."""

import pytest

from tests.pipelines.cli.test_cli import pigeonhole


def test_the_help_shows_commands_for_people_alone() -> None:
    shown = pigeonhole("--help").stdout
    assert "tune" in shown and "trial" not in shown and "train-worker" not in shown


@pytest.mark.parametrize("command", ["trial", "train-worker"])
def test_a_workers_help_has_the_training_jobs_options(command: str) -> None:
    done = pigeonhole(command, "--help")
    assert done.returncode == 0 and f"usage: pigeonhole {command}" in done.stdout
    assert all(flag in done.stdout for flag in ("--data", "--max-length", "--learning-rate"))


def test_a_workers_bad_input_is_one_sentence_and_exit_code_2() -> None:
    done = pigeonhole("trial", "--data", "/none", "--learning-rate=9")
    assert done.returncode == 2 and "learning_rate is 9: give a number" in done.stdout.splitlines()[-1]
