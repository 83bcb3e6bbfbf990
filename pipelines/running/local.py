"""Run the training pipeline on one machine, in the current Python environment, without a cluster."""

import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.data.dataset import SPLITS
from components.data.inspection import ERRORS_FILE
from components.platform.quiet import quiet_mlflow
from components.training.recipe import HISTORY_FILE
from pipelines.running.results import locked_folder
from pipelines.running.steps import LOG_FILE, run_steps
from pipelines.running.stopping import Stopped, signals_stop_children
from pipelines.training import Trained, training
from predictor.errors import InputError
from predictor.files import replace

CHECKPOINTS = ".checkpoints"
_WORK = ".run"
UNFINISHED = "unfinished"
# What the steps write directly into the results folder, while the run may still fail.
_DATABASE = "mlflow.db"
_STEP_OUTPUTS = ("bundles", "mlartifacts", _DATABASE)


def run_training(out: Path, **parameters: Any) -> dict[str, Any]:
    """Run the training pipeline and write its results into the folder `out`.

    Intermediate files are in a hidden folder that is removed afterwards, so the results in `out` are always complete:
    `bundles/DIGEST`, `data`, `inspection.html`, `label_errors.csv`, `report.html`, `result.json`, `run.log`,
    `mlflow.db` with `mlartifacts`. If a step fails after fine-tuning, the outputs of the finished steps are kept in
    `unfinished` until a run succeeds.

    Args:
        out: the folder for results; created if it is missing.
        parameters: the pipeline's parameters, except the addresses of bundles and of MLflow.

    Returns:
        The content of `result.json`.

    Raises:
        InputError: a step rejected its input.
        Unavailable: what a step needs from elsewhere is away.
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
        started = time.monotonic()
        outputs = run_steps(
            training, Trained._fields, work,
            {
                "bundle_root": str(out / "bundles"), "mlflow_tracking_uri": f"sqlite:///{out}/{_DATABASE}",
                "checkpoint_root": str(out / CHECKPOINTS), **parameters,
            },
        )  # fmt: skip
        pages = {"report.html": outputs.pop("report"), "inspection.html": outputs.pop("inspection")}
        bundle = Path(outputs.pop("bundle_uri"))
        result = {
            "accuracy": outputs.pop("accuracy"),
            "bundle": str(bundle),
            **outputs,
            "report": str(out / "report.html"),
            "inspection": str(out / "inspection.html"),
            "mlflow": f"sqlite:///{out}/{_DATABASE}",
            "seconds": round(time.monotonic() - started, 1),
        }
        (work / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
        for name, page in pages.items():
            replace(Path(page), out / name)
        replace(_prepared_dataset(work), out / "data")
        (errors,) = work.glob(f"*/inspect/label_errors/{ERRORS_FILE}")
        replace(errors, out / ERRORS_FILE)
        for name in (LOG_FILE, "result.json"):
            replace(work / name, out / name)
        if result["passed"]:
            _promote(result["mlflow"], result["digest"])
        return result


def _promote(mlflow: str, digest: str) -> None:
    """Make the version that passed the gate the champion, so that the next run into the folder is compared with it.

    Without a service there is no canary that could decide.
    """
    with quiet_mlflow():
        from mlflow import MlflowClient  # seconds to import

        from components.registry.promotion import promote_now
        from components.registry.versions import version_of_bundle

        client = MlflowClient(mlflow)
        version = version_of_bundle(client, digest)
        assert version is not None  # the register step has just made it
        promote_now(client, version.name, version.number, "a folder of pigeonhole run, without a service")


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
        if (work / LOG_FILE).exists():
            replace(work / LOG_FILE, steps / LOG_FILE)
        replace(steps, out / UNFINISHED)
    shutil.rmtree(work, ignore_errors=True)
    return trained is not None


def _prepared_dataset(work: Path) -> Path:
    (found,) = work.glob("*/prepare/dataset")
    assert all((found / f"{split}.parquet").exists() for split in SPLITS)
    return found
