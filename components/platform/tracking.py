"""MLflow: one run for each pipeline run, and a nested run for each step."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import mlflow
from mlflow.entities import Experiment, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

from components.platform.termination import termination_raises
from predictor.errors import InputError, one_line

EXPERIMENT = "pigeonhole"
_INJECTED_VARIABLE = "MLFLOW_RUN_ID"
# For images, which have no git checkout.
_COMMIT_VARIABLE = "PIGEONHOLE_GIT_COMMIT"
_PIPELINE_TAG = "pigeonhole.pipeline_run"
_STEP_TAG = "pigeonhole.step"
# MLflow samples every ten seconds by default, and shows nothing of a step that ends before the second sample.
_SAMPLING_VARIABLE, _SAMPLING_SECONDS = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "2"


@dataclass(frozen=True)
class StepRun:
    """The MLflow run of a step, which is the active run, and the run of the pipeline above it."""

    client: MlflowClient
    run_id: str
    pipeline: str
    """The id of the pipeline's run."""
    injected: bool = False
    """Whether somebody else made the pipeline's run, and will end it."""
    of_kubeflow: bool = False
    """Whether Kubeflow Pipelines made the step's run. It logs the step's inputs there as parameters, in JSON, and
    MLflow refuses a second value for a parameter."""

    def headline(
        self,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log to the step's run, and to the pipeline's run, by which runs are sorted and compared."""
        now = int(time.time() * 1000)
        given = [Param(name, str(value)) for name, value in (params or {}).items()]
        measured = [Metric(name, value, now, 0) for name, value in (metrics or {}).items()]
        said = [RunTag(name, value) for name, value in (tags or {}).items()]
        self.client.log_batch(self.pipeline, measured, given, said)
        self.client.log_batch(self.run_id, measured, [] if self.of_kubeflow else given, said)

    def conclude(self) -> None:
        """End the pipeline's run, too: this was its last step."""
        if not self.injected:
            self.client.set_terminated(self.pipeline)


@contextmanager
def tracked_step(
    step: str, pipeline_run: str, tracking_uri: str = "", system_metrics: bool = True
) -> Iterator[StepRun]:
    """Make a step's MLflow run the active one; a step that is tried again continues its earlier run.

    The step's run is nested in the pipeline's. If `MLFLOW_RUN_ID` names a run, that is the pipeline's. If that run is
    itself nested, it is the step's: Kubeflow Pipelines with its MLflow plugin makes and injects one for each task.

    Args:
        step: the step's name.
        pipeline_run: the id of the pipeline run.
        tracking_uri: the MLflow server; empty for what `MLFLOW_TRACKING_URI` says.
        system_metrics: log the machine's load, memory, disk and network; not useful if the work is done elsewhere.

    Raises:
        InputError: MLflow cannot be used.
    """
    client, found = _opened(pipeline_run, tracking_uri)
    injected = bool(os.environ.get(_INJECTED_VARIABLE))  # read it here: MLflow unsets it when a run ends
    parent = found.data.tags.get(MLFLOW_PARENT_RUN_ID)
    if injected and parent:
        run = StepRun(client, found.info.run_id, parent, injected, of_kubeflow=True)
    else:
        nested = _nested(client, found, step)
        run = StepRun(client, nested.info.run_id, found.info.run_id, injected)
        if nested.info.status == "FAILED" and not injected:
            client.update_run(run.pipeline, "RUNNING")  # the earlier try ended it
    os.environ.setdefault(_SAMPLING_VARIABLE, _SAMPLING_SECONDS)
    try:
        with (
            termination_raises(),
            mlflow.start_run(run_id=run.run_id, log_system_metrics=system_metrics),
        ):
            run.headline(tags=_commit_tag())
            yield run
    except BaseException:
        if not injected:
            client.set_terminated(run.pipeline, "FAILED")
        raise


@contextmanager
def tracked_run(name: str, tracking_uri: str = "") -> Iterator[MlflowClient]:
    """Make one run the active one inside the block, and yield a client.

    The run is the one that `MLFLOW_RUN_ID` names, or an earlier one of this name, or a new one.

    Args:
        name: the name of the run.
        tracking_uri: the MLflow server; empty for what `MLFLOW_TRACKING_URI` says.

    Raises:
        InputError: MLflow cannot be used.
    """
    client, run = _opened(name, tracking_uri)
    with mlflow.start_run(run_id=run.info.run_id, tags=_commit_tag()):
        yield client


def check_tracking(model: str, tracking_uri: str = "") -> None:
    """Check that MLflow can be used, and that it accepts the name of a registered model.

    Args:
        model: the name.
        tracking_uri: the MLflow server; empty for what `MLFLOW_TRACKING_URI` says.

    Raises:
        InputError: it cannot be used, or refuses the name.
    """
    client = _client(tracking_uri)
    with _explained():
        if injected := os.environ.get(_INJECTED_VARIABLE):
            client.get_run(injected)
        else:
            _experiment(client)
        try:
            client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code == "INVALID_PARAMETER_VALUE":
                raise InputError(
                    f"MLflow takes no model by the name '{model}' ({_reason(error)}): choose another name"
                ) from error
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


@contextmanager
def mlflow_client(tracking_uri: str = "") -> Iterator[MlflowClient]:
    """Yield a client, and say in one sentence what MLflow refuses or fails at inside the block.

    Args:
        tracking_uri: the MLflow server; empty for what `MLFLOW_TRACKING_URI` says.

    Raises:
        InputError: MLflow cannot be used.
    """
    client = _client(tracking_uri)
    with _explained():
        yield client


def commit_of_code() -> str:
    """Return the git commit of this code; empty if neither the image nor a checkout has it."""
    return os.environ.get(_COMMIT_VARIABLE) or get_git_commit(__file__) or ""


def _opened(name: str, tracking_uri: str) -> tuple[MlflowClient, Run]:
    client = _client(tracking_uri)
    with _explained():
        if injected := os.environ.get(_INJECTED_VARIABLE):
            return client, client.get_run(injected)
        experiment = _experiment(client).experiment_id
        found = client.search_runs([experiment], f"tags.`{_PIPELINE_TAG}` = '{name}'", max_results=1)
        return client, found[0] if found else client.create_run(experiment, tags={_PIPELINE_TAG: name}, run_name=name)


def _client(tracking_uri: str) -> MlflowClient:
    if tracking_uri:
        mlflow.set_tracking_uri(tracking_uri)
    with _explained():
        return MlflowClient()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise InputError(
            f"MLflow at {mlflow.get_tracking_uri()} cannot be used ({_reason(error)}): check mlflow_tracking_uri, or "
            f"MLFLOW_TRACKING_URI and {_INJECTED_VARIABLE}"
        ) from error


def _reason(error: MlflowException) -> str:
    return one_line(error)


def _nested(client: MlflowClient, parent: Run, step: str) -> Run:
    above, experiment = parent.info.run_id, parent.info.experiment_id
    mine = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{above}' and tags.`{_STEP_TAG}` = '{step}'"
    if found := client.search_runs([experiment], mine, max_results=1):
        return found[0]
    tags = {MLFLOW_PARENT_RUN_ID: above, _STEP_TAG: step}
    return client.create_run(experiment, tags=tags, run_name=step)


def _commit_tag() -> dict[str, str]:
    commit = commit_of_code()
    return {MLFLOW_GIT_COMMIT: commit} if commit else {}


def _experiment(client: MlflowClient) -> Experiment:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            client.create_experiment(name, artifact_location=_beside_database())
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process made it meanwhile
                raise
        experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return experiment


def _beside_database() -> str | None:
    """With a local database, return a folder beside it for artifacts, not one in the current folder."""
    uri = urlparse(mlflow.get_tracking_uri())
    if uri.scheme != "sqlite":
        return None
    return (Path(uri.path.removeprefix("/")).resolve().parent / "mlartifacts").as_uri()
