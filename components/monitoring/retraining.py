"""Starts a training on enlarged data: here, or as a run on Kubeflow."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from components import IMAGE_VARIABLE, STEPS_IMAGE
from components.data.dataset import REPORT_FILE
from components.monitoring.decision import CLOSED, FAILED, PASSED, SUBMITTED, Training
from components.monitoring.trainings import write_training
from components.platform.progress import say
from components.platform.storage import is_remote, read_text, upload
from predictor.errors import InputError, StepFailed, Unavailable
from predictor.files import whole

_COMMAND = [sys.executable, "-m", "pipelines.cli"]
"""The command line, since steps do not import pipelines."""
_REPEATED = {"thresholds": "threshold", "checks": "check", "split": "split", "columns": "column"}
"""Options of `pigeonhole run` for parameters that are objects: one for each of their names."""

_FLAGS = ("multi_label",)
"""Options of `pigeonhole run` that have no value."""


@dataclass(frozen=True)
class Place:
    """Where a training runs: on this machine, with its results in a folder, or on Kubeflow."""

    results: str = ""
    host: str = ""
    namespace: str = ""
    service_account: str = ""

    def __post_init__(self) -> None:
        if bool(self.results) == bool(self.host):
            raise InputError("a training runs here or on Kubeflow: name the folder of results or the host, not both")


def train(
    enlarged: Path, digest: str, log_url: str, model: str, data_root: str, place: Place, cause: str,
    parameters: Sequence[str],
) -> dict[str, Any]:  # fmt: skip
    """Keep the dataset, record the training, run it or hand it to Kubeflow, and record how it ended.

    The record is there before the training begins: one that is killed counts, and is not begun again and again.

    Args:
        enlarged: the dataset.
        digest: SHA-256 of its rows.
        log_url: the folder or URI of the log.
        model: the model's name in the log.
        data_root: the folder or URI under which the dataset is kept by its digest.
        place: where the training runs.
        cause: why it is started.
        parameters: of the training pipeline, `NAME=VALUE` each.

    Returns:
        The record, and as `result` what a training here printed.

    Raises:
        InputError: a parameter is wrong, or Kubeflow refuses.
        Unavailable: Kubeflow is away.
        StepFailed: the training broke.
    """
    kept = _keep(enlarged, f"{data_root.rstrip('/')}/{digest[:12]}")
    record = Training(time.time(), digest, cause=cause, dataset=kept, run=place.results)
    write_training(log_url, model, record)
    parameters = [*_kind(enlarged), *parameters]
    result: dict[str, Any] = {}
    try:
        if place.results:
            result = _train_here(place.results, kept, parameters)
            record = replace(record, state=PASSED if result["passed"] else CLOSED)
        else:
            record = replace(record, state=SUBMITTED, run=_submit(place, kept, parameters))
    except Exception:
        write_training(log_url, model, replace(record, state=FAILED))
        raise
    write_training(log_url, model, record)
    say(f"the training is {record.state}")
    return {**asdict(record), "result": result}


def _kind(dataset: Path) -> list[str]:
    """Return the parameters that say what kind of labels a dataset has, since its rows alone do not."""
    report = json.loads((dataset / REPORT_FILE).read_text()) if (dataset / REPORT_FILE).is_file() else {}
    return ["multi_label=true"] if report.get("multi_label") else []


def _keep(enlarged: Path, where: str) -> str:
    """Copy the dataset to its address, unless it is there."""
    if is_remote(where):
        if not read_text(f"{where}/{REPORT_FILE}"):
            upload(enlarged, where, last=REPORT_FILE)
        return where
    target = Path(where)
    if not (target / REPORT_FILE).is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as aside:
            shutil.copytree(enlarged, aside)
    return str(target)


def _train_here(results: str, data: str, parameters: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="pigeonhole-training-") as folder:
        options = [*run_options(parameters, Path(folder))]
        return _called(["run", "--data", data, "--out", results, *options], answers=(0, 1))


def run_options(parameters: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield the options of `pigeonhole run` for parameters of the training pipeline.

    Args:
        parameters: `NAME=VALUE` each; where the value is an object, it is JSON.
        folder: where a file with hyperparameters may be written.

    Raises:
        InputError: a parameter has no `=`, or should be an object and is none.
    """
    for parameter in parameters:
        name, sign, value = parameter.partition("=")
        if not sign:
            raise InputError(f"the parameter '{parameter}' of the training has no '=': write NAME=VALUE")
        if name in _FLAGS:
            yield from (f"--{name.replace('_', '-')}" for _ in range(value.lower() == "true"))
        elif name == "hyperparameters":
            file = folder / "hyperparameters.json"
            file.write_text(json.dumps(_object(name, value)))
            yield f"--hyperparameters={file}"
        elif name in _REPEATED:
            yield from (f"--{_REPEATED[name]}={key}={part}" for key, part in _object(name, value).items())
        else:
            yield f"--{name.replace('_', '-')}={value}"


def _object(name: str, value: str) -> Mapping[str, Any]:
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f'the parameter {name} of the training is no JSON object: write it as {{"NAME": VALUE}}')
    return found


def _submit(place: Place, data: str, parameters: Sequence[str]) -> str:
    image = os.environ.get(IMAGE_VARIABLE) or STEPS_IMAGE
    with tempfile.TemporaryDirectory(prefix="pigeonhole-training-") as folder:
        _called(["compile", "--out", folder, "--image", image])
        options = [option for parameter in (*parameters, f"data={data}") for option in ("-p", parameter)]
        options += ["--host", place.host]
        options += ["--namespace", place.namespace] if place.namespace else []
        options += ["--service-account", place.service_account] if place.service_account else []
        return str(_called(["submit", f"{folder}/training.yaml", *options])["run_id"])


def _called(arguments: Sequence[str], answers: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run a command of ours, pass on what it logs, and return what it prints."""
    lines: list[str] = []
    # With this variable, which is set in a step, kfp leaves out what defines pipelines.
    environment = {name: value for name, value in os.environ.items() if name != "_KFP_RUNTIME"}
    with subprocess.Popen(
        [*_COMMAND, *arguments, "-o", "json"], env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr and process.stdout
        for line in process.stderr:  # before stdout, which holds the result alone, at the end
            print(line, end="", flush=True)
            lines = [*lines[-50:], line]
        printed = process.stdout.read()
    if process.returncode in answers and printed:  # a traceback ends with 1, too, and prints no result
        return dict(json.loads(printed))
    said = next((line for line in reversed(lines) if line.startswith("pigeonhole: ")), "")
    sentence = said.removeprefix("pigeonhole: ").strip()
    if process.returncode == 2 and sentence:
        raise InputError(sentence)
    if process.returncode == 3 and sentence and "a step failed" not in sentence:
        raise Unavailable(sentence)
    raise StepFailed("".join(lines))
