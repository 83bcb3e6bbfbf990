"""Run a compiled pipeline on Kubeflow: upload it once, start a run, wait for it, stop it."""

import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kfp_server_api import ApiException, V2beta1Pipeline, V2beta1PipelineVersion, V2beta1Run

from pipelines.kubeflow.client import Kubeflow, LoginRefused, Unreachable, equals, transient
from pipelines.kubeflow.package import Package
from predictor.errors import InputError, Unavailable

# The terminal states of a run; kfp's own wait does not treat CANCELED as one.
_TERMINAL_STATES = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class Version:
    """A pipeline version on the server."""

    pipeline_id: str
    version_id: str
    name: str
    uploaded: bool
    """Whether this call uploaded it."""


@dataclass(frozen=True)
class Polling:
    """The intervals and limits of waiting for a run, in seconds."""

    timeout: float = 86400.0
    outage: float = 900.0
    """How long the server may be unavailable, or refuse a token that is renewed."""
    first_interval: float = 1.0
    longest_interval: float = 15.0
    """The interval between two requests grows by half each time, from the first to the longest."""


def upload(kubeflow: Kubeflow, package: Package) -> Version:
    """Return the pipeline version with the package's content; upload it if the server does not have it.

    A version's name contains the digest. If two callers upload the same package at once, one gets a conflict and uses
    the version of the other.

    Raises:
        InputError: the server refuses.
        Unavailable: the server does not respond or fails.
    """
    with kubeflow.explained(f"look for the pipeline {package.pipeline}"):
        pipeline_id = _pipeline(kubeflow, package)
    if found := _version(kubeflow, pipeline_id, package.version):
        return Version(pipeline_id, found.pipeline_version_id, package.version, uploaded=False)
    # A multi-user server answers 400 without a reason, not 403, if the account may not upload.
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
        kubeflow: the server.
        version: the pipeline version.
        arguments: values of its parameters.
        experiment: the experiment that groups runs; created if it is missing.
        service_account: the service account of the steps' pods; empty for the installation's default.

    Raises:
        InputError: the server refuses.
        Unavailable: the server does not respond or fails; the message says if a run may have started.
    """
    experiment_id = ensure_experiment(kubeflow, experiment)
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
            # The response was lost, but the request may have arrived: sending it again could start a second run.
            try:
                found = client.list_runs(experiment_id=experiment_id, filter=equals("display_name", name)).runs
            except (Unreachable, ApiException):
                raise Unavailable(
                    f"{kubeflow.login.host} fell silent when the run was to start, so it may go on there: look for "
                    f"'{name}' before you try again"
                ) from None
            if not found:
                raise
            started = found[0]
    return str(started.run_id)


def wait(kubeflow: Kubeflow, run_id: str, polling: Polling) -> V2beta1Run:
    """Wait until a run has ended, across server restarts, dropped connections and token renewals.

    Raises:
        InputError: there is no such run.
        LoginRefused: the login is no longer accepted, and its credentials are not renewed.
        Unavailable: the time limit is reached, or the server was unavailable for too long; the run goes on.
    """
    started = heard = time.monotonic()
    pause, shown = polling.first_interval, ""
    while True:
        trouble = ""
        try:
            with kubeflow.explained(f"show the run {run_id}"):
                run = kubeflow.client.get_run(run_id)
            if run.state in _TERMINAL_STATES:
                return run
            line, heard = f"run {run_id}: {run.state or 'PENDING'}", time.monotonic()
        except LoginRefused as error:
            if not kubeflow.login.renews:
                raise LoginRefused(f"{error}; {how_to_go_on(run_id)}") from None
            trouble = _without_advice(error)
        except Unavailable as error:
            trouble = _without_advice(error)
        if trouble:
            line = f"{trouble}; asking again"
        if line != shown:
            print(line, file=sys.stderr, flush=True)
            shown = line
        now = time.monotonic()
        if trouble and now - heard > polling.outage:
            raise Unavailable(f"{trouble} for {polling.outage:g} seconds now; {how_to_go_on(run_id)}")
        if now - started > polling.timeout:
            raise Unavailable(f"run {run_id} has not ended after {polling.timeout:g} seconds; {how_to_go_on(run_id)}")
        time.sleep(pause)
        pause = min(pause * 1.5, polling.longest_interval)


def stop(kubeflow: Kubeflow, run_id: str) -> None:
    """Request that a run ends; its steps may take a while to stop.

    Raises:
        InputError: there is no such run, or it has ended.
        Unavailable: the server does not respond or fails.
    """
    with kubeflow.explained(f"stop the run {run_id}"):
        kubeflow.client.terminate_run(run_id)


def how_to_go_on(run_id: str) -> str:
    """Return the commands with which to wait for the run again, or to stop it."""
    return (
        f"the run goes on: wait for it with pigeonhole submit --follow {run_id}, or end it with "
        f"pigeonhole submit --stop {run_id}"
    )


def failures(run: V2beta1Run) -> list[str]:
    """Return the names of the tasks that failed."""
    tasks = (run.run_details.task_details if run.run_details else None) or []
    return sorted({task.display_name for task in tasks if task.state == "FAILED" and task.display_name})


def ensure_experiment(kubeflow: Kubeflow, experiment: str) -> str:
    """Return the id of the experiment with this name; create it if it is missing.

    Raises:
        InputError: the server refuses.
        Unavailable: the server does not respond or fails.
    """
    with kubeflow.explained(f"make the experiment {experiment}"):
        for _ in range(2):  # after a conflict with a concurrent call, the second attempt finds it
            try:
                return str(kubeflow.client.create_experiment(experiment, namespace=kubeflow.namespace).experiment_id)
            except ApiException as error:
                if error.status != 409:
                    raise
            except ValueError as error:
                raise InputError(f"--experiment {experiment} is the name of several: choose another") from error
    raise Unavailable(f"{kubeflow.login.host} neither has the experiment {experiment} nor takes it: try again")


def _without_advice(error: Exception) -> str:
    """Return an error message without the advice at its end."""
    return str(error).rpartition(": ")[0]


def _pipeline(kubeflow: Kubeflow, package: Package) -> str:
    """Return the pipeline's id; create the pipeline, without a version, if it is missing."""
    pipelines = kubeflow.client.pipelines
    for _ in range(2):
        try:
            # kfp's get_pipeline_id passes no namespace, so it does not find pipelines of a namespace.
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
        listed = kubeflow.client.list_pipeline_versions(pipeline_id, filter=equals("display_name", name))
    return next((version for version in listed.pipeline_versions or [] if version.display_name == name), None)
