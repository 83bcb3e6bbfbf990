"""A search started by hand: on this machine, or on the cluster of the current kubeconfig."""

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from components.data.dataset import Dataset
from components.data.prepare import prepare
from components.data.sources import SAMPLE, collect
from components.platform.kubernetes import connect
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
from pipelines.running.results import held
from pipelines.running.stopping import Stopped, stopped_with_children
from predictor.files import whole

DATASET_FOLDER = "dataset"
RESULT_FILE = "search.json"


def tune_here(file: Path, out: Path, data: str, seed: int, values: Mapping[str, str]) -> dict[str, Any]:
    """Run an Experiment file's search on this machine; a search that was cut short goes on.

    Under `out` lie `search.json` (what is returned), `search.jsonl` (the journal), `dataset`, `trials` with each
    trial's output, and `mlflow.db`.

    Args:
        file: the Experiment.
        out: the folder.
        data: where labelled texts are: `sample`, a folder, or hf:NAME.
        seed: fixes the split.
        values: from flag of the trial's command, such as `--backbone`, to its value; empty for what the file has.

    Raises:
        InputError: the file, the data or the backbone is bad, or the folder holds another search.
        Stopped: SIGTERM or SIGINT ended it and its trials; one sentence went to stderr.
    """
    out = out.resolve()
    try:
        with stopped_with_children():
            return _search_here(file, out, data, seed, values)
    except Stopped as stop:
        print(f"pigeonhole: {stop.signal} stopped the search; the next one into {out} goes on there", file=sys.stderr)
        raise


def _search_here(file: Path, out: Path, data: str, seed: int, values: Mapping[str, str]) -> dict[str, Any]:
    started = time.monotonic()
    experiment = read_experiment(file)
    check_local(experiment)
    experiment = check_experiment(experiment.with_arguments(values), str(file))
    digest = experiment.digest  # of the search, wherever its folder lies
    experiment = check_experiment(experiment.with_arguments({"--data": str(out / DATASET_FOLDER)}), str(file))
    training_rows(experiment.argument("--profile") or TrainingJob.profile)
    resolve_backbone(experiment.argument("--backbone") or TrainingJob.backbone)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = prepare(collect(data or SAMPLE), seed)
        identity = {"experiment": digest, "data": dataset.digest}
        with held(out):
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
    """Hand an Experiment file to the Katib of the current kubeconfig's cluster and wait for its result.

    Args:
        file: the Experiment.
        namespace: where the trials run; empty for the one that the file names, or else the kubeconfig's.
        timeout: the most seconds to wait.
        data: where the trials find the dataset artifact; empty for what the file has.
        values: from flag of the trial's command to its value; empty for what the file has.

    Raises:
        InputError: the file is bad, or the cluster refuses it.
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
    """Write the dataset artifact, whole or not at all; one that a run before this one wrote stays."""
    if not folder.exists():
        with whole(folder) as aside:
            dataset.save(aside)
