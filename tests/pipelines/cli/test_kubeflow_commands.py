"""submit and schedule as CI meets them: a process, its exit code, JSON on one stream and a sentence on the other."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.running.compiling import compile_all
from tests.fakes.kubeflow_api import FakeKubeflow, serving


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file, *_ = compile_all(tmp_path_factory.mktemp("ir"))
    return file


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serving(FakeKubeflow(authorization="Bearer s3cret")) as kubeflow:
        yield kubeflow


def environment(fake: FakeKubeflow, **variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIGEONHOLE_", "KF_"))}
    return {**kept, "PIGEONHOLE_HOST": fake.address, "PIGEONHOLE_TOKEN": "s3cret", **variables}


def pigeonhole(fake: FakeKubeflow, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment(fake, **variables)
    )
    assert "Traceback" not in done.stderr and "s3cret" not in done.stdout + done.stderr
    return done


def test_a_run_that_succeeds_is_exit_code_0_and_a_second_submit_uploads_nothing(fake: FakeKubeflow, file: Path) -> None:
    fake.states = ["RUNNING", "SUCCEEDED"]
    command = ("submit", file, "-p", "bundle_root=s3://m", "--wait")
    first = pigeonhole(fake, *command)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert result["state"] == "SUCCEEDED" and result["uploaded"] and result["failed_tasks"] == []
    assert result["url"] == f"{fake.address}/#/runs/details/{result['run_id']}"
    assert fake.versions[0]["description"] == f"sha256:{result['digest']}"
    assert "RUNNING" in first.stderr
    second = json.loads(pigeonhole(fake, *command).stdout)
    assert second == {**result, "uploaded": False, "run_id": "run-1", "url": f"{fake.address}/#/runs/details/run-1"}


@pytest.mark.parametrize("end", ["FAILED", "CANCELED"])
def test_a_run_that_does_not_is_exit_code_1_and_says_where(fake: FakeKubeflow, file: Path, end: str) -> None:
    fake.states, fake.tasks = [end], [{"display_name": "gate", "state": "FAILED"}]
    done = pigeonhole(fake, "submit", file, "-p", "bundle_root=s3://m", "--wait")
    assert done.returncode == 1, done.stderr
    result = json.loads(done.stdout)
    assert result["state"] == end
    where = " in gate (a step failed)" if end == "FAILED" else ""
    assert done.stderr.splitlines()[-1] == f"pigeonhole: run run-0 {end}{where}: look at {result['url']}"


def test_without_wait_the_run_is_only_started_and_can_be_followed_and_stopped(fake: FakeKubeflow, file: Path) -> None:
    fake.states = ["RUNNING"]
    started = pigeonhole(fake, "submit", file, "-p", "bundle_root=s3://m")
    assert started.returncode == 0 and "state" not in json.loads(started.stdout)
    assert fake.count("GET", "/runs/{run_id}") == 0
    stopped = pigeonhole(fake, "submit", "--stop", "run-0", "--wait")
    assert stopped.returncode == 0 and json.loads(stopped.stdout)["state"] == "CANCELED"
    followed = pigeonhole(fake, "submit", "--follow", "run-0")
    assert followed.returncode == 1 and json.loads(followed.stdout)["state"] == "CANCELED"
    assert len(fake.runs) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_waiting_leaves_the_run_and_hears_how_to_go_on(
    fake: FakeKubeflow, file: Path, number: signal.Signals
) -> None:
    fake.states = ["RUNNING"]
    looked = threading.Event()
    fake.on_look = looked.set
    command = [sys.executable, "-m", "pipelines.cli", "submit", str(file), "-p", "bundle_root=s3://m", "--wait"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(fake)
    ) as process:
        assert looked.wait(120)
        process.send_signal(number)
        out, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert errors.splitlines()[-1] == (
        f"pigeonhole: {number.name} ended the waiting; the run goes on: wait for it with pigeonhole submit --follow "
        "run-0, or end it with pigeonhole submit --stop run-0"
    )
    assert json.loads(out)["run_id"] == "run-0" and "Traceback" not in errors
    assert fake.count("POST", "/runs/{run_id}:terminate") == 0


def test_time_that_is_up_is_exit_code_3_and_the_run_is_told_of(fake: FakeKubeflow, file: Path) -> None:
    fake.states = ["RUNNING"]
    done = pigeonhole(fake, "submit", file, "-p", "bundle_root=s3://m", "--wait", "--timeout", 0)
    assert done.returncode == 3 and "has not ended after 0 seconds; the run goes on" in done.stderr
    assert json.loads(done.stdout)["run_id"] == "run-0"


@pytest.mark.slow(reason="nine commands, each a process")
def test_a_schedule_is_set_changed_paused_and_deleted(fake: FakeKubeflow, file: Path) -> None:
    put: tuple[Any, ...] = ("schedule", "nightly", file, "-p", "bundle_root=s3://m", "--cron")
    answers = [
        json.loads(pigeonhole(fake, *arguments).stdout)
        for arguments in (
            (*put, "0 0 3 * * *"),
            (*put, "0 0 3 * * *"),
            ("schedule", "nightly", "--pause"),
            (*put, "0 0 4 * * *"),
            ("schedule", "nightly", "--resume"),
            ("schedule", "nightly", "--delete"),
        )
    ]
    changes = [answer["change"] for answer in answers]
    assert changes == ["created", "unchanged", "paused", "replaced", "resumed", "deleted"]
    assert [answer["paused"] for answer in answers] == [False, False, True, True, False, False]
    assert answers[0]["cron"] == "0 0 3 * * *" and answers[0]["uploaded"] and not answers[1]["uploaded"]
    assert fake.recurring == []


def test_a_broken_server_is_exit_code_3(fake: FakeKubeflow) -> None:
    fake.instead["GET", "/healthz"] = [(503, {"code": 14, "message": "starting"})]
    done = pigeonhole(fake, "schedule", "nightly", "--pause")
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("fails to say whether it is well (503, starting): try again later")


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["submit"], {}, "there is not one thing to do"),
        (["submit", "--follow", "a", "--stop", "b"], {}, "there is not one thing to do"),
        (["submit", "--follow", "a", "-p", "x=y"], {}, "--parameter belongs to what will run"),
        (["submit", "none.yaml"], {}, "none.yaml cannot be read"),
        (["submit", "FILE"], {}, "needs bundle_root"),
        (["submit", "--follow", "a"], {"PIGEONHOLE_HOST": ""}, "--host '' is not an http:// or https:// address"),
        (["submit", "--follow", "a"], {"PIGEONHOLE_COOKIE": "a=b"}, "there is more than one login"),
        (["submit", "--follow", "a"], {"PIGEONHOLE_TOKEN": "other"}, "does not accept the login"),
        (["submit", "--follow", "a"], {}, "refuses to show the run a (404, Run a not found)"),
        (["schedule", "nightly"], {}, "there is not one thing to do"),
        (["schedule", "nightly", "FILE"], {}, "there is not one thing to do"),
        (["schedule", "nightly", "--pause", "--cron", "@daily"], {}, "there is not one thing to do"),
        (["schedule", "nightly", "FILE", "-p", "bundle_root=x", "--cron", "0 3 * * *"], {}, "has 5 fields"),
        (["schedule", "nightly", "--delete"], {}, "there is no schedule nightly"),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_sentence(
    fake: FakeKubeflow, file: Path, arguments: list[str], variables: dict[str, str], message: str
) -> None:
    done = pigeonhole(fake, *(file if part == "FILE" else part for part in arguments), **variables)
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("pigeonhole: ") and message in last
    assert len(fake.runs) + len(fake.recurring) + len(fake.versions) == 0
