"""The webhook over HTTP: who may send it, what is refused, and what it counts."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn

from components.monitoring.decision import Guards
from pipelines.metric_names import PIPELINE_FAILED, PIPELINE_SUCCESS_TIME, TRIGGER_RUNS, TRIGGER_WEBHOOKS
from pipelines.trigger.starters import Ended, Interrupted
from pipelines.trigger.state import Run, State
from pipelines.trigger.web import BODY_BYTES, application
from pipelines.trigger.worker import Metrics, Worker
from predictor.errors import StepFailed
from predictor.tokens import TokenFile
from tests.pipelines.trigger.webhooks import body
from tests.ports import free_port

TOKEN = "0123456789abcdef"
BEARER = {"authorization": f"Bearer {TOKEN}"}


class Runs:
    """Starts nothing, and ends a run when the test says how."""

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.error: Exception | None = None
        self.answer = Ended("retrain", {"training": {"state": "passed"}})

    def __call__(self, run: Run, handed_over: Callable[[str], None], ending: threading.Event) -> Ended:
        self.causes.append(run.cause)
        self.begun.set()
        while not self.go.wait(0.02):
            if ending.is_set():
                raise Interrupted
        if self.error:
            raise self.error
        return self.answer


class Trigger:
    """A trigger that is served, and its parts."""

    def __init__(self, folder: Path) -> None:
        self.token, self.runs, self.port = folder / "token", Runs(), free_port()
        self.token.write_text(f"{TOKEN}\n")
        self.state = State(folder / "trigger.db", Guards())
        metrics = Metrics()
        self.worker = Worker(self.state, self.runs, metrics)
        app = application(self.state, self.worker, metrics, TokenFile(self.token), "news")
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", transport=httpx.HTTPTransport(retries=20))
        while not self.server.started:
            assert self.thread.is_alive()

    def sends(self, content: bytes, headers: dict[str, str] = BEARER) -> httpx.Response:
        return self.client.post("/alerts", content=content, headers=headers)

    def metric(self, series: str) -> float:
        for line in self.client.get("/metrics").text.splitlines():
            if line.startswith(f"{series} "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(series)

    def ends(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join()
        self.state.close()


@pytest.fixture
def trigger(tmp_path: Path) -> Iterator[Trigger]:
    made = Trigger(tmp_path)
    yield made
    made.ends()


def _webhooks(result: str) -> str:
    return f'{TRIGGER_WEBHOOKS}{{result="{result}"}}'


def _wait(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it did not happen")


def test_a_hundred_webhooks_start_one_run(trigger: Trigger) -> None:
    answers = [trigger.sends(body()) for _ in range(100)]
    assert {answer.status_code for answer in answers} == {200}
    assert [answer.json()["result"] for answer in answers] == ["started"] + ["duplicate"] * 99
    trigger.runs.go.set()
    _wait(lambda: trigger.metric(f'{TRIGGER_RUNS}{{result="retrain"}}') == 1)
    assert len(trigger.runs.causes) == 1 and "TextClassifierAccuracyLow" in trigger.runs.causes[0]
    assert trigger.metric(_webhooks("started")) == 1 and trigger.metric(_webhooks("duplicate")) == 99
    for pipeline in ("monitoring", "training"):
        assert trigger.metric(f'{PIPELINE_FAILED}{{pipeline="{pipeline}"}}') == 0
    assert trigger.metric(f'{PIPELINE_SUCCESS_TIME}{{pipeline="training"}}') > 1e9
    # Without alerts there are no rounds here, and the last one grows old though those on a schedule succeed.
    assert f'{PIPELINE_SUCCESS_TIME}{{pipeline="monitoring"}}' not in trigger.client.get("/metrics").text
    (run,) = trigger.client.get("/runs", headers=BEARER).json()["runs"]
    assert (run["state"], run["answer"]) == ("done", "retrain")


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}0", TOKEN, "Bearer token"]
)
def test_who_lacks_the_token_starts_nothing(trigger: Trigger, header: str | None) -> None:
    answer = trigger.sends(body(), {} if header is None else {"authorization": header})
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert trigger.metric(_webhooks("unauthorised")) == 1
    assert trigger.client.get("/runs").status_code == 401
    assert trigger.state.runs() == []


def test_a_token_that_is_renewed_counts_at_once(trigger: Trigger) -> None:
    trigger.token.write_text("another")
    assert trigger.sends(body()).status_code == 401
    assert trigger.sends(body(), {"authorization": "bearer another"}).status_code == 200


@pytest.mark.parametrize("content", ["", "  \n", "two words"])
def test_without_a_token_to_compare_with_nobody_is_let_in(trigger: Trigger, content: str) -> None:
    trigger.token.write_text(content)
    for header in ("Bearer", "Bearer two words", f"Bearer {TOKEN}"):
        assert trigger.sends(body(), {"authorization": header}).status_code == 503
    assert trigger.client.get("/healthz").status_code == 503
    trigger.token.unlink()
    assert trigger.sends(body()).status_code == 503
    assert trigger.metric(_webhooks("unready")) == 4 and trigger.state.runs() == []


def test_what_is_malformed_or_too_long_is_refused_and_counted(trigger: Trigger) -> None:
    assert trigger.sends(b"{}").status_code == 400
    assert trigger.sends(b"x" * (BODY_BYTES + 1)).status_code == 413
    chunks = (b"x" * 65536 for _ in range(BODY_BYTES // 65536 + 1))  # without a length
    answer = trigger.client.post("/alerts", content=chunks, headers=BEARER)
    assert answer.status_code == 413
    assert trigger.metric(_webhooks("malformed")) == 1 and trigger.metric(_webhooks("too large")) == 2
    assert trigger.client.get("/alerts").status_code == 405
    assert trigger.client.get("/healthz").json() == {"problems": []}


def test_a_run_that_breaks_is_counted_and_the_worker_goes_on(trigger: Trigger) -> None:
    trigger.runs.error = StepFailed("the reason")
    trigger.runs.go.set()
    trigger.sends(body())
    _wait(lambda: trigger.metric(f'{TRIGGER_RUNS}{{result="failed"}}') == 1)
    assert trigger.metric(f'{PIPELINE_FAILED}{{pipeline="monitoring"}}') == 1
    assert trigger.state.runs()[0]["detail"] == {"error": "the reason"}
    trigger.runs.error = None
    trigger.sends(body(started="2026-11-29T12:00:00Z"))
    _wait(lambda: trigger.metric(f'{TRIGGER_RUNS}{{result="retrain"}}') == 1)


def test_a_run_at_work_when_the_trigger_ends_is_queued_again(tmp_path: Path) -> None:
    first = Trigger(tmp_path)
    first.sends(body())
    assert first.runs.begun.wait(10)
    first.ends()
    second = Trigger(tmp_path)
    assert second.runs.begun.wait(10)
    second.runs.go.set()
    _wait(lambda: second.state.runs()[0]["state"] == "done")
    assert second.sends(body()).json()["result"] == "duplicate"
    second.ends()
