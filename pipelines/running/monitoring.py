"""Run a round of monitoring on one machine, over the folder of results that `pigeonhole run` wrote."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from components.platform.quiet import quiet_mlflow
from pipelines.kubeflow.package import arguments_of
from pipelines.monitoring import Watched, monitoring
from pipelines.running.results import locked_folder
from pipelines.running.steps import LOG_FILE, run_steps
from pipelines.running.stopping import signals_stop_children
from predictor.errors import InputError
from predictor.files import replace

FOLDER = "monitoring"
_WORK = ".round"
_KEPT = {
    "verdict.json": "*/drift/verdict/verdict.json",
    "drift.html": "*/drift/page",
    "decision.json": "*/decide/decision",
    "tasks.json": "*/ask-for-labels/tasks/tasks.json",
    "tasks.xml": "*/ask-for-labels/tasks/tasks.xml",
    "training.json": "*/start-training/outcome",
}
"""What stays of a round, and where a step writes it."""


def monitoring_arguments(assignments: Sequence[str], defaults: Mapping[str, str]) -> dict[str, Any]:
    """Return values of the monitoring pipeline's parameters.

    Args:
        assignments: NAME=VALUE each.
        defaults: texts by name, for parameters that are not assigned.

    Raises:
        InputError: a parameter is unknown, missing, given twice or of another type.
    """
    given = {assignment.partition("=")[0] for assignment in assignments}
    spec = MessageToDict(monitoring.pipeline_spec)
    others = [f"{name}={value}" for name, value in defaults.items() if name not in given]
    return arguments_of(spec, [*assignments, *others], "the monitoring pipeline")


def run_monitoring(out: Path, assignments: Sequence[str]) -> dict[str, Any]:
    """Run one round, and keep what it found in the folder `monitoring` of the results.

    A training goes into the same folder of results, so that the gate compares its model with the champion there.

    Args:
        out: the folder of results, with `data`, `bundles` and `mlflow.db`.
        assignments: parameters of the monitoring pipeline, NAME=VALUE each; those that say where things are have
            defaults in the folder.

    Returns:
        `answer`, `reasons`, `new_rows`, `digest`, `seconds`, the files that stay, and as `training` what came of one.

    Raises:
        InputError: the folder holds no results, or a step rejected its input.
        Unavailable: what a step needs from elsewhere is away.
        StepFailed: a step failed for another reason.
        Stopped: SIGTERM or SIGINT stopped the round and its steps.
    """
    out = out.resolve()
    if not (out / "data").is_dir() or not (out / "mlflow.db").is_file():
        raise InputError(f"{out} holds no results: name the folder that pigeonhole run wrote with --out")
    tracking = f"sqlite:///{out}/mlflow.db"
    places = {"data": out / "data", "data_root": out / "datasets", "results": out, "mlflow_tracking_uri": tracking}
    values = monitoring_arguments(assignments, {name: str(place) for name, place in places.items()})
    values["name"] = values.get("name") or _only_model(tracking)
    if values.get("host"):
        values["results"] = ""
    started = time.monotonic()
    with signals_stop_children(), locked_folder(out / FOLDER):
        work = out / FOLDER / _WORK
        shutil.rmtree(work, ignore_errors=True)  # of a round that was killed
        work.mkdir()
        try:
            found = run_steps(monitoring, Watched._fields, work, values)
            kept = _keep(work, out / FOLDER)
            reasons = json.loads((out / FOLDER / "decision.json").read_text())["reasons"]
            return {**found, "reasons": reasons, "seconds": round(time.monotonic() - started, 1), **kept}
        finally:
            with suppress(FileNotFoundError):
                replace(work / LOG_FILE, out / FOLDER / LOG_FILE)
            shutil.rmtree(work, ignore_errors=True)


def _keep(work: Path, folder: Path) -> dict[str, Any]:
    """Replace the files of the round before by those of this one, and return where they are."""
    kept: dict[str, Any] = {}
    for name, pattern in _KEPT.items():
        (folder / name).unlink(missing_ok=True)
        for file in work.glob(pattern):
            replace(file, folder / name)
            kept[name.replace(".", "_")] = str(folder / name)
    if training := kept.pop("training_json", None):
        kept["training"] = json.loads(Path(training).read_text())
    return kept


def _only_model(tracking: str) -> str:
    with quiet_mlflow():
        from components.platform.tracking import mlflow_client  # seconds to import
        from components.registry.versions import only_model

        with mlflow_client(tracking) as client:
            return only_model(client)
