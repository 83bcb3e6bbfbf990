"""The runner on one machine, with trials of a few lines of Python."""

import io
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from components.tuning import runner
from components.tuning.experiment import MedianStopping, Outcome, primary_container
from components.tuning.journal import Trial, open_journal
from components.tuning.live_table import LiveTable
from components.tuning.mlflow_recorder import recorder
from components.tuning.runner import run_search
from components.tuning.validation import check_experiment
from predictor.errors import InputError
from tests.components.tuning.experiments import EPOCHS, document, experiment

# The learning rate is the last argument; accuracy is best at 0.05.
GOOD = """
rate = float(sys.argv[-1])
for epoch in range(3):
    print(f"validation_loss={2 - epoch / 10:.3f}")
    print(f"validation_accuracy={1 - abs(rate - 0.05) - (2 - epoch) / 100:.6f}")
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def search(tmp_path: Path, database: str) -> Callable[..., Outcome]:
    """Write a trial's script and search with it; a second call goes on in the same folder."""

    def run(body: str = GOOD, parameters: list[dict[str, Any]] | None = None, **spec: Any) -> Outcome:
        script = tmp_path / "trial.py"
        script.write_text(f"import os, sys, time, pathlib\n{body}")
        made = experiment(script, parameters, **spec)
        journal = open_journal(tmp_path / "out", {"experiment": made.digest})
        with (
            recorder(str(tmp_path), database) as records,
            (tmp_path / "table.txt").open("a") as stream,
            LiveTable(made, stream) as table,
        ):
            outcome = run_search(made, journal, records, table)
            records.conclude(made, outcome)
            return outcome

    return run


def test_the_best_trial_wins_by_its_best_epoch(search: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = search(maxTrialCount=6)
    assert outcome.succeeded and outcome.reason == "6 trials ended"
    assert outcome.counts == {"succeeded": 6, "stopped": 0, "failed": 0}
    rate = float(outcome.assignments["learning_rate"])
    assert outcome.objective == pytest.approx(1 - abs(rate - 0.05), abs=1e-6)
    assert outcome.metrics == {"validation_accuracy": outcome.objective, "validation_loss": 1.8}
    log = (tmp_path / "out" / "trials" / outcome.best_trial / "output.log").read_text()
    assert log.count("validation_accuracy=") == 3
    lines = (tmp_path / "table.txt").read_text().splitlines()
    assert len(lines) == 6 and all("succeeded  validation_accuracy 0." in line for line in lines)


def test_minimising_takes_the_smallest(search: Callable[..., Outcome]) -> None:
    objective = {"type": "minimize", "objectiveMetricName": "loss"}
    outcome = search("print(f'loss={sys.argv[-1]}')", objective=objective, maxTrialCount=5)
    first = search("print(f'loss={sys.argv[-1]}')", objective=objective, maxTrialCount=5)
    assert outcome == first  # the second call found everything done
    assert outcome.objective == float(outcome.assignments["learning_rate"])


def test_a_search_in_parallel_is_faster_and_finds_the_same(
    search: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "available_cpus", lambda: 4)
    note = "note = pathlib.Path(sys.argv[0] + '.' + sys.argv[-1]).open('a')\n"
    begin, end = "print(time.time(), file=note)\n", "print(time.time(), os.environ['OMP_NUM_THREADS'], file=note)\n"
    body = note + begin + "time.sleep(1)\n" + GOOD + end
    outcome = search(body, maxTrialCount=4, parallelTrialCount=2)
    assert outcome.counts["succeeded"] == 4
    spans = [[float(word) for word in file.read_text().split()] for file in tmp_path.glob("trial.py.*")]
    assert len(spans) == 4
    together = [sum(start < other[1] and other[0] < end for other in spans) for start, end, _ in spans]
    assert max(together) == 2  # each is counted with itself: two at a time, never more
    assert {threads for *_, threads in spans} == {2.0}  # four cores for two trials


def test_one_core_runs_one_trial_at_a_time(
    search: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "available_cpus", lambda: 1)
    lock = "mark = pathlib.Path(sys.argv[0] + '.lock'); mark.touch(exist_ok=False); time.sleep(0.5)\n"
    outcome = search(lock + GOOD + "mark.unlink()", maxTrialCount=3, parallelTrialCount=3)
    assert outcome.counts == {"succeeded": 3, "stopped": 0, "failed": 0}


def test_failed_trials_are_counted_and_the_rest_goes_on(search: Callable[..., Outcome], tmp_path: Path) -> None:
    body = "if float(sys.argv[-1]) > 0.05:\n    print('error: the loss became nan')\n    sys.exit(2)\n"
    outcome = search(body + GOOD, maxTrialCount=8)
    assert outcome.succeeded and 0 < outcome.counts["failed"] < 8 and sum(outcome.counts.values()) == 8
    assert float(outcome.assignments["learning_rate"]) <= 0.05
    assert "failed  error: the loss became nan" in (tmp_path / "table.txt").read_text()


def test_too_many_failures_end_the_search(search: Callable[..., Outcome], tmp_path: Path) -> None:
    outcome = search("print('no luck'); sys.exit(1)", maxTrialCount=9, maxFailedTrialCount=2)
    assert not outcome.succeeded and outcome.best_trial == "" and outcome.objective is None
    assert outcome.reason == "2 trials failed, the last with: no luck"
    assert outcome.counts == {"succeeded": 0, "stopped": 0, "failed": 2}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("print('validation_loss=1')", "printed no validation_accuracy=NUMBER"),
        ("os.kill(os.getpid(), 9)", "exit code -9"),
        ("raise ValueError('odd')", "ValueError: odd"),
    ],
)
def test_why_a_trial_failed_is_told(search: Callable[..., Outcome], tmp_path: Path, body: str, reason: str) -> None:
    assert not search(body, maxTrialCount=1).succeeded
    assert reason in (tmp_path / "table.txt").read_text()


def test_a_command_that_is_not_there_is_a_failed_trial(tmp_path: Path, database: str) -> None:
    content = document(maxTrialCount=1)
    primary_container(content)["command"] = ["/no/such/program", "${trialParameters.learning_rate}"]
    made = check_experiment(content)
    journal = open_journal(tmp_path, {})
    with (
        recorder(str(tmp_path), database) as records,
        LiveTable(made, sys.stderr) as table,
    ):
        assert not run_search(made, journal, records, table).succeeded
        assert journal.ended[0].state == "failed" and "cannot be started" in journal.ended[0].reason


def test_a_goal_that_is_reached_ends_the_search(search: Callable[..., Outcome]) -> None:
    objective = {"type": "maximize", "objectiveMetricName": "validation_accuracy", "goal": 0.5}
    outcome = search(objective=objective, maxTrialCount=9)
    assert outcome.succeeded and outcome.counts["succeeded"] == 1
    assert outcome.reason == "the goal 0.5 of validation_accuracy is reached"


def test_a_trial_behind_the_median_is_ended_early(search: Callable[..., Outcome], tmp_path: Path) -> None:
    # Epochs are given in order by a grid: 1 to 4 are good, 5 is bad and would print for a minute.
    body = """
number = int(sys.argv[-1])
for step in range(60 if number == 5 else 4):
    print(f"validation_accuracy={0.1 if number == 5 else 0.8 + number / 100}", flush=True)
    time.sleep(1 if number == 5 else 0)
"""
    stopping = {
        "algorithmName": "medianstop",
        "algorithmSettings": [{"name": "min_trials_required", "value": "4"}, {"name": "start_step", "value": "2"}],
    }
    epochs = {**EPOCHS, "feasibleSpace": {"min": "1", "max": "5"}}
    started = time.monotonic()
    outcome = search(body, [epochs], algorithm={"algorithmName": "grid"}, earlyStopping=stopping, maxTrialCount=5)
    assert time.monotonic() - started < 40
    assert outcome.counts == {"succeeded": 4, "stopped": 1, "failed": 0}
    assert outcome.assignments == {"epochs": "4"}
    log = (tmp_path / "out" / "trials" / "trial-004" / "output.log").read_text()
    assert 2 <= log.count("validation_accuracy=0.1") < 10


def test_the_bar_is_the_median_of_the_first_steps_averages() -> None:
    stop = MedianStopping(min_trials_required=3, start_step=2)
    assert stop.threshold([[0.5], [0.6, 0.8, 9.0]]) is None
    assert stop.threshold([[0.1], [0.6, 0.8, 9.0], [1.0, 1.0]]) == pytest.approx(0.7)


def test_mlflow_has_a_nested_run_for_each_trial(search: Callable[..., Outcome], tmp_path: Path, database: str) -> None:
    outcome = search(maxTrialCount=3)
    client = MlflowClient(database)
    (known,) = [e for e in client.search_experiments() if e.name == "pigeonhole"]
    (parent,) = client.search_runs([known.experiment_id], f"tags.`pigeonhole.pipeline_run` = '{tmp_path}'")
    trials = client.search_runs([known.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name for run in trials} == {"trial-000", "trial-001", "trial-002"}
    for run in trials:
        history = client.get_metric_history(run.info.run_id, "validation_accuracy")
        assert [metric.step for metric in history] == [1, 2, 3]
        assert run.data.params.keys() == {"learning_rate"} and run.info.status == "FINISHED"
    assert parent.data.tags["best_trial"] == outcome.best_trial
    assert parent.data.tags["best.learning_rate"] == outcome.assignments["learning_rate"]
    assert parent.data.metrics["best_validation_accuracy"] == outcome.objective


def test_a_larger_budget_goes_on_and_repeats_nothing(search: Callable[..., Outcome], tmp_path: Path) -> None:
    body = "pathlib.Path(sys.argv[0] + '.starts').open('a').write(sys.argv[-1] + '\\n')\n" + GOOD
    search(body, maxTrialCount=2)
    outcome = search(body, maxTrialCount=4)
    starts = (tmp_path / "trial.py.starts").read_text().split()
    assert len(starts) == len(set(starts)) == 4 and outcome.counts["succeeded"] == 4


def test_another_search_in_the_folder_is_refused(tmp_path: Path) -> None:
    open_journal(tmp_path, {"experiment": "a", "data": "b"})
    with pytest.raises(InputError, match=r"differs in its data \(b there, c now\): choose another folder"):
        open_journal(tmp_path, {"experiment": "a", "data": "c"})


def test_a_torn_last_line_is_forgotten_and_a_broken_one_is_named(tmp_path: Path) -> None:
    open_journal(tmp_path, {"experiment": "a"}).start(0, {"epochs": "1"})
    file = tmp_path / "search.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"end": {"numb')
    journal = open_journal(tmp_path, {"experiment": "a"})
    assert journal.open == {0: {"epochs": "1"}} and journal.next_number == 1
    assert file.read_bytes() == whole
    file.write_bytes(whole + b"nonsense\n")
    with pytest.raises(InputError, match=r"line 3 is not readable"):
        open_journal(tmp_path, {"experiment": "a"})


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        open_journal(tmp_path / "file" / "out", {})


def test_nothing_is_left_running_when_the_runner_is_interrupted(
    search: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> Any:
        while not (tmp_path / "trial.py.pid").exists():
            time.sleep(0.05)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search("pathlib.Path(sys.argv[0] + '.pid').write_text(str(os.getpid()))\ntime.sleep(600)")
    pid = int((tmp_path / "trial.py.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_terminal_gets_a_table(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with LiveTable(experiment(), stream) as table:
        table.started(0, {"learning_rate": "0.0123456"})
        table.reported(0, "validation_accuracy", 0.875)
        table.ended(Trial(0, {"learning_rate": "0.0123456"}, "succeeded", {"validation_accuracy": [0.875]}, 3.0))
    shown = stream.getvalue()
    assert "running" in shown and "succeeded" in shown and "0.8750" in shown and "0.01235" in shown


def test_what_needs_a_cluster_is_refused(search: Callable[..., Outcome]) -> None:
    with pytest.raises(InputError, match="needs a cluster"):
        search(algorithm={"algorithmName": "sobol"})
