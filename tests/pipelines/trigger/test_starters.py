"""How a round is started: as a process here, and as a run on Kubeflow that goes on without the trigger."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.kubeflow.client import Login
from pipelines.running.compiling import compile_all
from pipelines.trigger import starters
from pipelines.trigger.starters import Here, Interrupted, OnKubeflow, sentence_of
from pipelines.trigger.state import Run
from predictor.errors import InputError, StepFailed, Unavailable
from tests.fakes.kubeflow_api import DROP, FakeKubeflow, serving

PARAMETERS = ["log_url=s3://log", "model=news", "data=s3://data", "data_root=s3://more"]


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with serving(FakeKubeflow()) as kubeflow:
        yield kubeflow


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return next(file for file in compile_all(tmp_path_factory.mktemp("ir")) if file.name == "monitoring.yaml")


@pytest.fixture
def starter(fake: FakeKubeflow, file: Path, monkeypatch: pytest.MonkeyPatch) -> OnKubeflow:
    monkeypatch.setattr(starters, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(starters, "_PAUSE_SECONDS", 0.01)
    return OnKubeflow(Login(fake.address), file, PARAMETERS, "rounds", "robot")


def test_a_round_on_kubeflow_is_started_with_its_cause_and_waited_for(fake: FakeKubeflow, starter: OnKubeflow) -> None:
    fake.states = ["PENDING", "RUNNING", DROP, 503, "SUCCEEDED"]
    remote: list[str] = []
    ended = starter(Run(1, "the alert AccuracyLow fires"), remote.append, threading.Event())
    assert remote == ["run-0"] and ended.answer == "" and ended.detail == {"run": "run-0"}
    (run,) = fake.runs
    assert run["service_account"] == "robot"
    given = run["runtime_config"]["parameters"]
    assert given["alert"] == "the alert AccuracyLow fires" and given["log_url"] == "s3://log"


def test_a_round_handed_over_is_not_started_again_though_kubeflow_is_away_at_first(
    fake: FakeKubeflow, starter: OnKubeflow
) -> None:
    starter(Run(1, "why"), lambda remote: None, threading.Event())
    fake.instead = {("GET", "/healthz"): [(503, {"message": "not now"})] * 3}
    again = starter(Run(1, "why", "run-0"), pytest.fail, threading.Event())
    assert again.detail == {"run": "run-0"} and len(fake.runs) == 1


def test_a_round_on_kubeflow_goes_on_when_the_trigger_ends(fake: FakeKubeflow, starter: OnKubeflow) -> None:
    fake.states, ending = ["RUNNING"], threading.Event()
    fake.on_look = ending.set
    with pytest.raises(Interrupted):
        starter(Run(1, "why"), lambda remote: None, ending)
    assert fake.runs[0]["state"] == "RUNNING"


def test_a_round_that_fails_on_kubeflow_names_its_step(fake: FakeKubeflow, starter: OnKubeflow) -> None:
    fake.states, fake.tasks = ["FAILED"], [{"display_name": "Decide", "state": "FAILED"}]
    with pytest.raises(Unavailable, match=r"run-0 on Kubeflow is FAILED \(Decide\)"):
        starter(Run(1, "why"), lambda remote: None, threading.Event())


def test_wrong_parameters_end_the_trigger_at_its_start(file: Path) -> None:
    with pytest.raises(InputError, match="bundel"):
        OnKubeflow(Login("http://kubeflow"), file, [*PARAMETERS, "bundel=b"], "rounds", "")


@pytest.mark.parametrize(
    ("program", "said"), [("raise ValueError", "exit code 1"), ("import sys; sys.exit(3)", "exit code 3")]
)
def test_a_round_here_that_breaks_says_how_it_ended(program: str, said: str) -> None:
    starter = Here([])
    starter._command = [sys.executable, "-c", program]
    with pytest.raises(StepFailed) as raised:
        starter(Run(1, "why"), pytest.fail, threading.Event())
    assert said in sentence_of(raised.value)
