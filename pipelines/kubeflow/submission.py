"""From a compiled file to a run on Kubeflow: upload it once, start it, wait for it, stop it."""

import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_server_api import ApiException, V2beta1Pipeline, V2beta1PipelineVersion, V2beta1Run

from pipelines.kubeflow.client import Kubeflow, LoginRefused, Unreachable, only, transient
from pipelines.kubeflow.package import Package
from predictor.errors import InputError, Unavailable

# A run in one of these states stays in it; kfp's own wait does not know that CANCELED is an end.
_ENDS = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class Version:
    """A pipeline version as the server has it."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool
    """Whether this call brought it there."""


@dataclass(frozen=True)
class Patience:
    """How to wait for a run, in seconds."""

    timeout: float = 86400.0
    outage: float = 900.0
    """The longest that the server may be away, or refuse a token that is renewed."""
    first: float = 1.0
    longest: float = 15.0
    """Between two looks; from the first to the longest it grows by half each time."""


def upload(kubeflow: Kubeflow, package: Package) -> Version:
    """Return the version whose content the package is; it is uploaded if the server lacks it.

    Names are digests, so whoever uploads the same at the same time uploads the same, and the loser takes the winner's.

    Raises:
        InputError: the server refuses.
        Unavailable: it is away or broken.
    """
    with kubeflow.explained(f"look for the pipeline {package.pipeline}"):
        pipeline_id = _pipeline(kubeflow, package)
    if found := _version(kubeflow, pipeline_id, package.version):
        return Version(pipeline_id, found.pipeline_version_id, package.version, uploaded=False)
    # A server with many users answers 400, not 403, where the account may not upload, and keeps the reason to itself.
    doing = f"take the version {package.version} (an account without create on pipelines hears this, too)"
    with kubeflow.explained(doing):
        try:
            made = kubeflow.client.upload_pipeline_version(
                str(package.file), package.version, pipeline_id=pipeline_id, description=f"sha256:{package.digest}"
            )
            return Version(pipeline_id, made.pipeline_version_id, package.version, uploaded=True)
        except ApiException as error:
            if error.status != 409 or not (found := _version(kubeflow, pipeline_id, package.version)):
                raise
    return Version(pipeline_id, found.pipeline_version_id, package.version, uploaded=False)


def start(
    kubeflow: Kubeflow, version: Version, arguments: Mapping[str, Any], experiment: str, service_account: str
) -> str:
    """Start a run and return its id.

    Args:
        kubeflow: where.
        version: what.
        arguments: values of its parameters.
        experiment: the name that runs are grouped under; made where it is missing.
        service_account: what the steps run as; empty for the installation's.

    Raises:
        InputError: the server refuses.
        Unavailable: it is away or broken, and no run was started that we know of.
    """
    experiment_id = group(kubeflow, experiment)
    name = f"{version.name} {uuid.uuid4().hex[:8]}"
    client = kubeflow.client
    with kubeflow.explained(f"run {version.name}"):
        try:
            started = client.run_pipeline(
                experiment_id, name, params=dict(arguments), pipeline_id=version.pipeline_id,
                version_id=version.version_id, service_account=service_account or None,
            )  # fmt: skip
        except (Unreachable, ApiException) as error:
            if isinstance(error, ApiException) and not transient(error):
                raise
            # The answer got lost, perhaps not the request; asking again could start a second run.
            try:
                found = client.list_runs(experiment_id=experiment_id, filter=only("display_name", name)).runs
            except (Unreachable, ApiException):
                raise Unavailable(
                    f"{kubeflow.login.host} fell silent when the run was to start, so it may go on there: look for "
                    f"'{name}' before you try again"
                ) from None
            if not found:
                raise
            started = found[0]
    return str(started.run_id)


def wait(kubeflow: Kubeflow, run_id: str, patience: Patience) -> V2beta1Run:
    """Wait for the end of a run, through restarts of the server, dropped connections and renewed tokens.

    Raises:
        InputError: there is no such run.
        LoginRefused: the login is not accepted any more, and is not one that is renewed.
        Unavailable: the time is up, or the server was away for too long; the run goes on.
    """
    started = heard = time.monotonic()
    pause, shown = patience.first, ""
    while True:
        trouble = ""
        try:
            with kubeflow.explained(f"show the run {run_id}"):
                run = kubeflow.client.get_run(run_id)
            if run.state in _ENDS:
                return run
            line, heard = f"run {run_id}: {run.state or 'PENDING'}", time.monotonic()
        except LoginRefused as error:
            if not kubeflow.login.renews:
                raise LoginRefused(f"{error}; {how_to_go_on(run_id)}") from None
            trouble = _fact(error)
        except Unavailable as error:
            trouble = _fact(error)
        if trouble:
            line = f"{trouble}; asking again"
        if line != shown:
            print(line, file=sys.stderr, flush=True)
            shown = line
        now = time.monotonic()
        if trouble and now - heard > patience.outage:
            raise Unavailable(f"{trouble} for {patience.outage:g} seconds now; {how_to_go_on(run_id)}")
        if now - started > patience.timeout:
            raise Unavailable(f"run {run_id} has not ended after {patience.timeout:g} seconds; {how_to_go_on(run_id)}")
        time.sleep(pause)
        pause = min(pause * 1.5, patience.longest)


def stop(kubeflow: Kubeflow, run_id: str) -> None:
    """Have a run end, as soon as its steps heed it.

    Raises:
        InputError: there is no such run, or it has ended.
        Unavailable: the server is away or broken.
    """
    with kubeflow.explained(f"stop the run {run_id}"):
        kubeflow.client.terminate_run(run_id)


def how_to_go_on(run_id: str) -> str:
    """Return what somebody can do who does not wait any longer."""
    return (
        f"the run goes on: wait for it with pigeonhole submit --follow {run_id}, or end it with "
        f"pigeonhole submit --stop {run_id}"
    )


def failures(run: V2beta1Run) -> list[str]:
    """Return the names of the tasks that failed."""
    tasks = (run.run_details.task_details if run.run_details else None) or []
    return sorted({task.display_name for task in tasks if task.state == "FAILED" and task.display_name})


def group(kubeflow: Kubeflow, experiment: str) -> str:
    """Return the id of the experiment with this name; it is made where it is missing.

    Raises:
        InputError: the server refuses.
        Unavailable: it is away or broken.
    """
    with kubeflow.explained(f"make the experiment {experiment}"):
        for _ in range(2):  # whoever loses a race to make it finds it the second time
            try:
                return str(kubeflow.client.create_experiment(experiment, namespace=kubeflow.namespace).experiment_id)
            except ApiException as error:
                if error.status != 409:
                    raise
            except ValueError as error:
                raise InputError(f"--experiment {experiment} is the name of several: choose another") from error
    raise Unavailable(f"{kubeflow.login.host} neither has the experiment {experiment} nor takes it: try again")


def _fact(error: Exception) -> str:
    """Return a sentence without what it advises, which comes last."""
    return str(error).rpartition(": ")[0]


def _pipeline(kubeflow: Kubeflow, package: Package) -> str:
    """Return the pipeline's id; it is made, without a version, where it is missing."""
    pipelines = kubeflow.client.pipelines
    for _ in range(2):
        try:
            # kfp's get_pipeline_id asks for no namespace, and so does not see those of one's own.
            found = pipelines.pipeline_service_get_pipeline_by_name(package.pipeline, namespace=kubeflow.namespace)
            return str(found.pipeline_id)
        except ApiException as error:
            if error.status != 404:
                raise
        try:
            made = pipelines.pipeline_service_create_pipeline(
                V2beta1Pipeline(
                    name=package.pipeline, display_name=package.title, description=package.description,
                    namespace=kubeflow.namespace,
                )
            )  # fmt: skip
            return str(made.pipeline_id)
        except ApiException as error:
            if error.status != 409:
                raise
    raise Unavailable(f"{kubeflow.login.host} neither has the pipeline {package.pipeline} nor takes it: try again")


def _version(kubeflow: Kubeflow, pipeline_id: str, name: str) -> V2beta1PipelineVersion | None:
    with kubeflow.explained(f"list the versions of the pipeline {pipeline_id}"):
        listed = kubeflow.client.list_pipeline_versions(pipeline_id, filter=only("display_name", name))
    return next((version for version in listed.pipeline_versions or [] if version.display_name == name), None)
