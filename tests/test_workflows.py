"""The workflows of GitHub Actions: what they may do, what they run, and in which order."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from pipelines.cli.app import app
from tests.conftest import ROOT

FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[str, Any]] = {file.stem: yaml.load(file.read_text(), yaml.BaseLoader) for file in FILES}
JOBS = [(f"{name}/{job}", body) for name, workflow in WORKFLOWS.items() for job, body in workflow["jobs"].items()]
STEPS = [(name, step) for name, job in JOBS for step in job.get("steps", [])]


def scripts() -> list[str]:
    return [step["run"] for _, step in STEPS if "run" in step]


def test_there_are_workflows() -> None:
    assert set(WORKFLOWS) == {"release", "test"}


def test_actionlint_finds_nothing() -> None:
    actionlint = Path(sys.executable).with_name("actionlint")
    done = subprocess.run([actionlint, *FILES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_action_is_pinned_by_a_commit_and_says_its_version(file: Path) -> None:
    used = re.findall(r"uses: *(\S+)(.*)", file.read_text())
    assert used
    for action, rest in used:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", rest), action


def test_nobody_may_do_more_than_needed() -> None:
    granted = {
        name: workflow.get("permissions") or {} for name, workflow in WORKFLOWS.items()
    }  # without the key the token may do whatever the repository allows
    assert all("permissions" in workflow for workflow in WORKFLOWS.values())
    assert granted == {"release": {}, "test": {"contents": "read"}}
    jobs = {name: job.get("permissions", granted[name.partition("/")[0]]) for name, job in JOBS}
    assert jobs == {
        "release/test": {"contents": "read"},
        "release/images": {"contents": "read", "packages": "write", "id-token": "write"},
        "release/train": {"contents": "read", "packages": "read"},
        "test/checks": {"contents": "read"},
    }


def test_a_strangers_pull_request_gets_no_secret() -> None:
    assert all("pull_request_target" not in workflow["on"] for workflow in WORKFLOWS.values())
    assert "secrets." not in (ROOT / ".github" / "workflows" / "test.yml").read_text()
    assert "pull_request" not in WORKFLOWS["release"]["on"]
    for _, step in STEPS:
        if str(step.get("uses", "")).startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_no_expression_is_pasted_into_a_script() -> None:
    assert scripts() and not [script for script in scripts() if "${{" in script]


def test_a_failure_in_a_pipe_fails_the_step() -> None:
    assert {workflow["defaults"]["run"]["shell"] for workflow in WORKFLOWS.values()} == {"bash"}


def test_every_job_ends() -> None:
    assert all("timeout-minutes" in job for _, job in JOBS if "uses" not in job)


def test_images_go_to_the_repositorys_own_registry() -> None:
    for file in FILES:
        hosts = re.findall(r"\b(?:[\w-]+\.)*(?:io|gcr|ecr|docker)\.?[\w.]*/", file.read_text())
        assert set(hosts) <= {"ghcr.io/"}, hosts


def test_a_release_goes_step_by_step() -> None:
    jobs = WORKFLOWS["release"]["jobs"]
    assert (jobs["images"]["needs"], jobs["train"]["needs"]) == ("test", "images")
    made = [step.get("name", "") for step in jobs["images"]["steps"]]
    order = ["Build", "Scan the predictor", "Scan the steps", "Push", "Sign, with the bill of materials"]
    assert [name for name in made if name in order] == order
    trained = [step.get("name", "") for step in jobs["train"]["steps"]]
    order = ["Verify that this workflow signed the images", "Compile", "Submit, and wait for the run"]
    assert [name for name in trained if name in order] == order


def test_the_command_line_has_what_the_workflows_ask_of_it() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(r"^ *pigeonhole (\S+)(.*)", "\n".join(scripts()).replace("\\\n", " "), re.MULTILINE)
    assert {name for name, _ in lines} == {"compile", "submit"}
    for name, rest in lines:
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r" (--[\w-]+)", rest)) <= known
    variables = {str(parameter.envvar) for command in commands.values() for parameter in command.params}
    for _, step in STEPS:
        for variable in step.get("env", {}):
            assert not variable.startswith("PIGEONHOLE_") or any(variable in names for names in variables), variable
