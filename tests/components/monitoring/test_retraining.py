"""How a training is started and recorded, with a small program in the place of the command line."""

import json
import sys
from pathlib import Path

import pytest

from components.monitoring import retraining
from components.monitoring.current import fetch_dataset
from components.monitoring.decision import CLOSED, FAILED, PASSED, SUBMITTED, Training
from components.monitoring.retraining import Place, run_options, train
from components.monitoring.trainings import read_trainings, write_training
from predictor.errors import InputError, StepFailed, Unavailable

_PROGRAM = """
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
with (here / "calls").open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
assert "_KFP_RUNTIME" not in os.environ
said, code, printed = json.loads((here / "answer.json").read_text())
print(said, file=sys.stderr)
print(printed, end="")
sys.exit(code)
"""


class Program:
    """Stands in for `pigeonhole`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "program.py").write_text(_PROGRAM)

    def answers(self, printed: object = None, code: int = 0, said: str = "") -> None:
        text = "" if printed is None else json.dumps(printed)
        (self.folder / "answer.json").write_text(json.dumps([said, code, text]))

    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    made = Program(tmp_path)
    monkeypatch.setattr(retraining, "_COMMAND", [sys.executable, str(tmp_path / "program.py")])
    monkeypatch.setenv("_KFP_RUNTIME", "true")
    (tmp_path / "enlarged").mkdir()
    (tmp_path / "enlarged/report.json").write_text("{}")
    return made


def _train(folder: Path, place: Place, parameters: tuple[str, ...] = ()) -> dict[str, object]:
    data_root = str(folder / "datasets")
    return train(folder / "enlarged", "d1" * 32, str(folder / "log"), "news", data_root, place, "why", parameters)


@pytest.mark.parametrize(("passed", "code", "state"), [(True, 0, PASSED), (False, 1, CLOSED)])
def test_a_training_here_is_recorded_as_the_gate_decides(
    program: Program, tmp_path: Path, passed: bool, code: int, state: str
) -> None:
    program.answers({"passed": passed, "bundle": "b"}, code)
    found = _train(tmp_path, Place(results="out"), ("name=news",))
    assert found["state"] == state and found["result"] == {"passed": passed, "bundle": "b"}
    (record,) = read_trainings(str(tmp_path / "log"), "news")
    assert (record.state, record.cause, record.digest) == (state, "why", "d1" * 32)
    kept = str(tmp_path / "datasets/d1d1d1d1d1d1")
    assert record.dataset == kept and (Path(kept) / "report.json").is_file()
    assert program.calls() == [["run", "--data", kept, "--out", "out", "--name=news", "-o", "json"]]


@pytest.mark.parametrize(
    ("code", "said", "error"),
    [(2, "pigeonhole: the file is missing: add it", InputError), (3, "pigeonhole: MLflow is away", Unavailable),
     (3, "pigeonhole: a step failed unexpectedly; the end of its log is above", StepFailed),
     (1, "Traceback (most recent call last):", StepFailed), (-9, "", StepFailed)],
)  # fmt: skip
def test_a_training_that_breaks_is_recorded_and_says_why(
    program: Program, tmp_path: Path, code: int, said: str, error: type[Exception]
) -> None:
    program.answers(None, code, f"earlier\n{said}")
    with pytest.raises(error) as raised:
        _train(tmp_path, Place(results="out"))
    assert error is StepFailed or str(raised.value) == said.removeprefix("pigeonhole: ")
    assert [each.state for each in read_trainings(str(tmp_path / "log"), "news")] == [FAILED]


def test_a_training_on_kubeflow_is_compiled_and_submitted(program: Program, tmp_path: Path) -> None:
    program.answers({"run_id": "r-1"})
    place = Place(host="http://kfp", namespace="team", service_account="robot")
    assert _train(tmp_path, place, ("bundle_root=s3://models",))["state"] == SUBMITTED
    compiled, submitted = program.calls()
    assert compiled[0] == "compile" and submitted[0] == "submit"
    assert [submitted[n + 1] for n, word in enumerate(submitted) if word == "-p"] == [
        "bundle_root=s3://models", f"data={tmp_path}/datasets/d1d1d1d1d1d1",
    ]  # fmt: skip
    for option, value in (("--host", "http://kfp"), ("--namespace", "team"), ("--service-account", "robot")):
        assert submitted[submitted.index(option) + 1] == value
    assert read_trainings(str(tmp_path / "log"), "news")[0].run == "r-1"


def test_a_training_runs_in_one_place() -> None:
    for wrong in ({}, {"results": "out", "host": "http://kfp"}):
        with pytest.raises(InputError, match="here or on Kubeflow"):
            Place(**wrong)


def test_parameters_become_options_of_the_command(tmp_path: Path) -> None:
    given = ["min_accuracy=0.8", 'thresholds={"min_class_recall": 0.5}', 'hyperparameters={"epochs": 2}']
    options = [*run_options(given, tmp_path)]
    assert options[:2] == ["--min-accuracy=0.8", "--threshold=min_class_recall=0.5"]
    assert json.loads(Path(options[2].partition("=")[2]).read_text()) == {"epochs": 2}
    for wrong in ("min_accuracy", "checks=[]", "split={"):
        with pytest.raises(InputError):
            list(run_options([wrong], tmp_path))


def test_the_next_round_enlarges_what_the_last_training_used(tmp_path: Path) -> None:
    for name in ("first", "passed", "closed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text("{}")
    log, first = str(tmp_path / "log"), str(tmp_path / "first")
    assert fetch_dataset(first, log, "news", tmp_path / "a") == first
    write_training(log, "news", Training(1.0, "one", PASSED, dataset=str(tmp_path / "passed")))
    write_training(log, "news", Training(2.0, "two", CLOSED, dataset=str(tmp_path / "closed")))
    write_training(log, "news", Training(3.0, "three", PASSED, dataset=str(tmp_path / "removed")))
    assert fetch_dataset(first, log, "news", tmp_path / "b") == str(tmp_path / "passed")
    assert fetch_dataset(first, log, "sentiment", tmp_path / "c") == first


def test_what_is_no_record_does_not_count(tmp_path: Path) -> None:
    write_training(str(tmp_path), "news", Training(1.0, "one"))
    for name, text in (("cut.json", '{"started": 1'), ("list.json", "[]"), ("notes.txt", "x")):
        (tmp_path / "news/trainings" / name).write_text(text)
    assert read_trainings(str(tmp_path), "news") == [Training(1.0, "one")]
    write_training(str(tmp_path), "news", Training(1.0, "one", PASSED))
    assert [each.state for each in read_trainings(str(tmp_path), "news")] == [PASSED]
