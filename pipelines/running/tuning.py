"""Start a hyper-parameter search on this machine, or with Katib on the cluster of the current kubeconfig."""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from components.data.collect import collect_frames
from components.data.dataset import Dataset
from components.data.prepare import prepare
from components.data.sources.table import Request
from components.platform.kubernetes import connect
from components.platform.quiet import quiet_mlflow
from components.training.backbone import resolve_backbone
from components.training.job import TrainingJob
from components.training.recipe import training_rows
from components.tuning.experiment import Outcome
from components.tuning.journal import open_journal
from components.tuning.katib import SearchFailed, namespace_of, search_on_cluster, with_options
from components.tuning.live_table import LiveTable
from components.tuning.mlflow_recorder import recorder
from components.tuning.runner import run_search
from components.tuning.suggestions import check_local
from components.tuning.validation import check_experiment, read_experiment
from pipelines.running.results import locked_folder
from pipelines.running.stopping import Stopped, signals_stop_children
from predictor.files import whole

DATASET_FOLDER = "dataset"
RESULT_FILE = "search.json"


def tune_here(file: Path, out: Path, data: Request, seed: int, values: Mapping[str, str]) -> dict[str, Any]:
    """Run the search of an Experiment file on this machine, or resume one that was interrupted.

    The folder `out` gets `search.json` (the result), `search.jsonl` (the journal), `dataset`, `trials` with each
    trial's output, and `mlflow.db`.

    Args:
        file: the Experiment.
        out: the folder.
        data: the source of labelled texts.
        seed: fixes the split.
        values: values of the trial command's flags, such as `--backbone`; an empty value leaves the file's unchanged.

    Raises:
        InputError: the file, the data or the backbone is invalid, or the folder has another search.
        Stopped: SIGTERM or SIGINT stopped the search and its trials; stderr says how to resume it.
    """
    out = out.resolve()
    try:
        with signals_stop_children():
            return _search_here(file, out, data, seed, values)
    except Stopped as stop:
        print(f"pigeonhole: {stop.signal} stopped the search; the next one into {out} goes on there", file=sys.stderr)
        raise


def _search_here(file: Path, out: Path, data: Request, seed: int, values: Mapping[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    experiment = read_experiment(file)
    check_local(experiment)
    experiment = check_experiment(experiment.with_arguments(values), str(file))
    digest = experiment.digest  # before --data is set: the digest must not depend on the folder
    experiment = check_experiment(experiment.with_arguments({"--data": str(out / DATASET_FOLDER)}), str(file))
    training_rows(experiment.argument("--profile") or TrainingJob.profile)
    resolve_backbone(experiment.argument("--backbone") or TrainingJob.backbone)
    with redirect_stdout(sys.stderr), quiet_mlflow():
        dataset = prepare(collect_frames(data.address, data.columns, data.query), seed)
        identity = {"experiment": digest, "data": dataset.digest}
        with locked_folder(out):
            journal = open_journal(out, identity)
            _keep(dataset, out / DATASET_FOLDER)
            database = f"sqlite:///{out}/mlflow.db"
            with (
                recorder(f"{experiment.name}-{digest[:12]}", database) as records,
                LiveTable(experiment, sys.stderr) as table,
            ):
                outcome = run_search(experiment, journal, records, table)
                records.conclude(experiment, outcome)
            seconds = round(time.monotonic() - started, 1)
            result = {**_result(outcome), "folder": str(out), "mlflow": database, "seconds": seconds}
            with whole(out / RESULT_FILE) as aside:
                aside.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


def tune_on_cluster(file: Path, namespace: str, timeout: float, data: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Run the search of an Experiment file with Katib, on the current kubeconfig's cluster, and wait for its result.

    Args:
        file: the Experiment.
        namespace: where the trials run; empty for the file's namespace, or else the kubeconfig's.
        timeout: seconds to wait at most.
        data: address of the dataset artifact for the trials; empty leaves the file's unchanged.
        values: values of the trial command's flags; an empty value leaves the file's unchanged.

    Raises:
        InputError: the file is invalid, or the cluster refuses it.
    """
    started = time.monotonic()
    document = with_options(read_experiment(file), {**values, "--data": data})
    with redirect_stdout(sys.stderr):
        try:
            cluster = connect(namespace or namespace_of(document), ", or search on this machine with --local")
            outcome = search_on_cluster(cluster, document, timeout)
        except SearchFailed as error:
            outcome = Outcome(False, str(error), "", None, {}, {}, {})
    return {**_result(outcome), "seconds": round(time.monotonic() - started, 1)}


def _result(outcome: Outcome) -> dict[str, Any]:
    return {
        "succeeded": outcome.succeeded,
        "reason": outcome.reason,
        "best_trial": outcome.best_trial,
        "objective": outcome.objective,
        "metrics": dict(outcome.metrics),
        "hyperparameters": outcome.assignments,
        "trials": dict(outcome.counts),
    }


def _keep(dataset: Dataset, folder: Path) -> None:
    """Write the dataset artifact atomically, unless an earlier call wrote it."""
    if not folder.exists():
        with whole(folder) as aside:
            dataset.save(aside)
