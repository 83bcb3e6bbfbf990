"""MLflow: one run for a pipeline run, whatever steps write to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlparse

import mlflow
from mlflow.entities import Experiment
from mlflow.tracking import MlflowClient

from components.training.recipe import Epoch

EXPERIMENT = "pigeonhole"
_PIPELINE_TAG = "pigeonhole.pipeline_run"


@contextmanager
def tracked_run(pipeline_run: str, tracking_uri: str = "") -> Iterator[MlflowClient]:
    """Make the pipeline's MLflow run the active one, and yield a client.

    The run is the one that `MLFLOW_RUN_ID` names (Kubeflow Pipelines injects it where its MLflow plugin is on), else
    the one an earlier step of this pipeline run opened, else a new one.

    Args:
        pipeline_run: the id of the pipeline run.
        tracking_uri: the MLflow server; empty for what `MLFLOW_TRACKING_URI` says.
    """
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    if os.environ.get("MLFLOW_RUN_ID"):
        with mlflow.start_run():
            yield MlflowClient()
        return
    client = MlflowClient()
    experiment = _experiment(client)
    found = client.search_runs([experiment.experiment_id], f"tags.`{_PIPELINE_TAG}` = '{pipeline_run}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
    else:
        run = client.create_run(experiment.experiment_id, tags={_PIPELINE_TAG: pipeline_run}, run_name=pipeline_run)
        run_id = run.info.run_id
    with mlflow.start_run(run_id=run_id):
        yield client


def _experiment(client: MlflowClient) -> Experiment:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        client.create_experiment(name, artifact_location=_beside_database())
        experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return experiment


def _beside_database() -> str | None:
    """With a local database keep artifacts in a folder beside it, not in whatever folder the step runs in."""
    uri = urlparse(mlflow.get_tracking_uri())
    if uri.scheme != "sqlite":
        return None
    return (Path(uri.path.removeprefix("/")).resolve().parent / "mlartifacts").as_uri()


def log_epoch(row: Epoch) -> None:
    """Log a finished epoch's losses, accuracy and speed to the active run."""
    values = {key: float(value) for key, value in asdict(row).items() if key != "epoch"}
    mlflow.log_metrics(values, step=row.epoch)
