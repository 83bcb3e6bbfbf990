"""Run the training pipeline on one machine, in the current Python environment, without a cluster."""

import contextlib
import json
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kfp import local

from components.data.dataset import SPLITS
from components.platform.termination import FILE_VARIABLE
from components.training.recipe import HISTORY_FILE
from pipelines.running.console import Console
from pipelines.running.results import locked_folder
from pipelines.running.stopping import Stopped, signals_stop_children
from pipelines.training import Trained, training
from predictor.errors import InputError, StepFailed
from predictor.files import replace

_LOG_TAIL = 40
_FAILED = re.compile(r"Task .* finished with status .*FAILURE")
CHECKPOINTS = ".checkpoints"
_WORK = ".run"
UNFINISHED = "unfinished"
# What the steps write directly into the results folder, while the run may still fail.
_DATABASE = "mlflow.db"
_STEP_OUTPUTS = ("bundles", "mlartifacts", _DATABASE)


def run_training(out: Path, **parameters: Any) -> dict[str, Any]:
    """Run the training pipeline and write its results into the folder `out`.

    Intermediate files are in a hidden folder that is removed afterwards, so the results in `out` are always complete:
    `bundles/DIGEST`, `data`, `report.html`, `result.json`, `run.log`, `mlflow.db` with `mlartifacts`. If a step fails
    after fine-tuning, the outputs of the finished steps are kept in `unfinished` until a run succeeds.

    Args:
        out: the folder for results; created if it is missing.
        parameters: the pipeline's parameters, except the addresses of bundles and of MLflow.

    Returns:
        The content of `result.json`.

    Raises:
        InputError: a step rejected its input.
        StepFailed: a step failed for another reason.
        Stopped: SIGTERM or SIGINT stopped the run and its steps; incomplete results are removed, and stderr says how
            to go on.
    """
    if parameters.get("num_nodes", 1) > 1:
        raise InputError("num_nodes is more than 1, but this is one machine: compile the pipeline and submit it")
    out = out.resolve()
    try:
        with signals_stop_children():
            return _run_into(out, **parameters)
    except Stopped as stop:
        left = any((out / CHECKPOINTS).glob("*.pt"))
        then = "goes on from its checkpoint" if left else "begins anew"
        print(f"pigeonhole: {stop.signal} stopped the run; the next one into {out} {then}", file=sys.stderr)
        raise


def _run_into(out: Path, **parameters: Any) -> dict[str, Any]:
    with _workspace(out) as work:
        sentence = work / "termination-message"
        started = time.monotonic()
        with Console(work / "run.log", sys.stderr) as console, _environment({FILE_VARIABLE: str(sentence)}):
            try:
                outputs = _run(
                    work, console,
                    bundle_root=str(out / "bundles"), mlflow_tracking_uri=f"sqlite:///{out}/{_DATABASE}",
                    checkpoint_root=str(out / CHECKPOINTS), **parameters,
                )  # fmt: skip
            except RuntimeError as error:
                if sentence.exists():
                    raise InputError(sentence.read_text(encoding="utf-8")) from None
                console.flush()
                raise StepFailed(_end_of_failed_step((work / "run.log").read_text(encoding="utf-8"))) from error
        report = outputs.pop("report")
        bundle = Path(outputs.pop("bundle_uri"))
        result = {
            "accuracy": outputs.pop("accuracy"),
            "bundle": str(bundle),
            **outputs,
            "report": str(out / "report.html"),
            "mlflow": f"sqlite:///{out}/{_DATABASE}",
            "seconds": round(time.monotonic() - started, 1),
        }
        (work / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        replace(Path(report), out / "report.html")
        replace(_prepared_dataset(work), out / "data")
        for name in ("run.log", "result.json"):
            replace(work / name, out / name)
        return result


def _end_of_failed_step(log: str) -> str:
    """Return the last log lines of the failed step; others may follow, since the exit handler always runs."""
    lines = log.splitlines()
    end = next((number for number, line in enumerate(lines, start=1) if _FAILED.search(line)), len(lines))
    return "\n".join(lines[max(0, end - _LOG_TAIL) : end])


def _run(work: Path, console: Console, **parameters: Any) -> dict[str, Any]:
    for name, value in {"--out": str(work), **parameters}.items():
        if isinstance(value, str) and "python3" in value:
            # kfp 2.17 replaces this word by the interpreter's path in all arguments of a step.
            raise InputError(f"{name} {value} contains 'python3', which kfp's local runner rewrites: use another path")
    with contextlib.redirect_stdout(console), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # kfp warns of settings that have no effect outside a cluster
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(work), raise_on_error=True)
        task = training(**parameters)
    outputs = {name: task.outputs[name] for name in Trained._fields}
    return {name: value.path if hasattr(value, "path") else value for name, value in outputs.items()}


@contextlib.contextmanager
def _workspace(out: Path) -> Iterator[Path]:
    """Yield a hidden folder under `out` and remove it afterwards; after a failure, remove the steps' new outputs, too.

    The results of training are kept: a checkpoint from which the next run goes on, or the finished steps' outputs.
    """
    with locked_folder(out):
        _keep_unfinished(out)  # what a killed run left behind
        before = set(out.iterdir())  # results of earlier runs, which a failure must not remove
        work = out / _WORK
        work.mkdir()
        try:
            yield work
        except BaseException:
            if _keep_unfinished(out):
                print(f"pigeonhole: what the finished steps made is kept in {out / UNFINISHED}", file=sys.stderr)
            else:
                for made in {out / name for name in _STEP_OUTPUTS} - before:
                    shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
                if out / _DATABASE not in before:
                    # What SQLite needs to undo a half-written change, beside a database that stays.
                    (out / f"{_DATABASE}-journal").unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not there, or not empty
                (out / CHECKPOINTS).rmdir()
            raise
        for done in (work, out / CHECKPOINTS, out / UNFINISHED):
            shutil.rmtree(done, ignore_errors=True)


def _keep_unfinished(out: Path) -> bool:
    """Remove the hidden folder; if fine-tuning had finished, keep the steps' outputs and return True."""
    work = out / _WORK
    trained = next(work.glob(f"*/fine-tune/checkpoint/{HISTORY_FILE}"), None)
    if trained:
        steps = trained.parents[2]
        if (work / "run.log").exists():
            replace(work / "run.log", steps / "run.log")
        replace(steps, out / UNFINISHED)
    shutil.rmtree(work, ignore_errors=True)
    return trained is not None


def _prepared_dataset(work: Path) -> Path:
    (found,) = work.glob("*/prepare/dataset")
    assert all((found / f"{split}.parquet").exists() for split in SPLITS)
    return found


@contextlib.contextmanager
def _environment(extra: dict[str, str]) -> Iterator[None]:
    """Set variables that the steps' processes inherit: unbuffered output, no tqdm bars, no telemetry."""
    extra = {"PYTHONUNBUFFERED": "1", "TQDM_DISABLE": "1", "MLFLOW_DISABLE_TELEMETRY": "true", **extra}
    before = {name: os.environ.get(name) for name in extra}
    os.environ.update(extra)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
