"""Recurring runs, identified by name: create, replace, pause, resume, delete."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kfp_server_api import ApiException, V2beta1RecurringRun

from pipelines.kubeflow.client import Kubeflow, equals
from pipelines.kubeflow.submission import Version, ensure_experiment
from predictor.errors import InputError

# The server cannot update a recurring run, and returns it in another form than it was sent: a digest in the description
# identifies what was requested.
_MARK = "set by pigeonhole schedule: "


@dataclass(frozen=True)
class Schedule:
    """A recurring run: the pipeline version, its arguments, the cron expression and the service account."""

    name: str
    cron: str
    version: str
    """The pipeline version's name, which contains its digest."""
    arguments: Mapping[str, Any]
    experiment: str
    service_account: str

    def __post_init__(self) -> None:
        fields = len(self.cron.split())
        if fields != 6 and not self.cron.startswith("@"):
            # The server accepts five, but reads them as second, minute, hour, day, month: "0 3 * * *" is hourly.
            raise InputError(
                f"--cron '{self.cron}' has {fields} fields, and Kubeflow's begin with the second: write six, such as "
                "'0 0 3 * * *' for three o'clock every night"
            )

    @property
    def description(self) -> str:
        """The recurring run's description; it differs between schedules with the same name and other content."""
        return _MARK + hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class ScheduleStatus:
    """The current recurring run, and what was done to it."""

    recurring_run_id: str
    change: str
    """created, replaced, unchanged, paused, resumed or deleted."""
    paused: bool


def put(kubeflow: Kubeflow, schedule: Schedule, version: Version) -> ScheduleStatus:
    """Create or replace the recurring run with this name; a paused one stays paused.

    The new one is created before old ones are deleted. A call that is killed in between leaves one too many, which the
    next call deletes; there is never none.

    Raises:
        InputError: the server refuses.
        Unavailable: the server does not respond or fails.
    """
    before = _recurring_runs(kubeflow, schedule.name)
    same = [run for run in before if run.description == schedule.description]
    if same:
        kept, change = same[0], "unchanged"
        gone = [run for run in before if run is not kept]
    else:
        # A paused schedule stays paused with a new version of the pipeline.
        paused = bool(before) and not any(run.status == "ENABLED" for run in before)
        kept, change = _create(kubeflow, schedule, version, enabled=not paused), "replaced" if before else "created"
        known = {run.recurring_run_id for run in before}
        # A concurrent call that creates one, too, also keeps the newest, so that both keep the same one.
        fresh = [run for run in _recurring_runs(kubeflow, schedule.name) if run.recurring_run_id not in known]
        kept = max(fresh, key=lambda run: (run.created_at, run.recurring_run_id), default=kept)
        gone = before + [run for run in fresh if run.recurring_run_id != kept.recurring_run_id]
    for run in gone:
        _delete(kubeflow, run)
    return ScheduleStatus(kept.recurring_run_id, change, kept.status == "DISABLED")


def pause(kubeflow: Kubeflow, name: str, paused: bool) -> ScheduleStatus:
    """Pause a schedule, so that no runs start, or resume it.

    Raises:
        InputError: there is no such schedule.
        Unavailable: the server does not respond or fails.
    """
    switch = kubeflow.client.disable_recurring_run if paused else kubeflow.client.enable_recurring_run
    existing = _existing(kubeflow, name)
    for run in existing:
        with kubeflow.explained(f"{'pause' if paused else 'resume'} the schedule {name}"):
            switch(run.recurring_run_id)
    return ScheduleStatus(existing[0].recurring_run_id, "paused" if paused else "resumed", paused)


def delete(kubeflow: Kubeflow, name: str) -> ScheduleStatus:
    """Delete a schedule; runs that it started go on.

    Raises:
        InputError: there is no such schedule.
        Unavailable: the server does not respond or fails.
    """
    existing = _existing(kubeflow, name)
    for run in existing:
        _delete(kubeflow, run)
    return ScheduleStatus(existing[0].recurring_run_id, "deleted", False)


def _create(kubeflow: Kubeflow, schedule: Schedule, version: Version, enabled: bool) -> V2beta1RecurringRun:
    experiment_id = ensure_experiment(kubeflow, schedule.experiment)
    with kubeflow.explained(f"set the schedule {schedule.name}"):
        return kubeflow.client.create_recurring_run(
            experiment_id, schedule.name, description=schedule.description, cron_expression=schedule.cron,
            max_concurrency=1, no_catchup=True, params=dict(schedule.arguments), pipeline_id=version.pipeline_id,
            version_id=version.version_id, enabled=enabled, service_account=schedule.service_account or None,
        )  # fmt: skip


def _existing(kubeflow: Kubeflow, name: str) -> list[V2beta1RecurringRun]:
    if found := _recurring_runs(kubeflow, name):
        return found
    raise InputError(f"there is no schedule {name} in namespace {kubeflow.namespace}: set it with --cron")


def _recurring_runs(kubeflow: Kubeflow, name: str) -> list[V2beta1RecurringRun]:
    """Return the namespace's recurring runs with this name, newest first."""
    found: list[V2beta1RecurringRun] = []
    page = ""
    while True:
        with kubeflow.explained(f"look for the schedule {name}"):
            listed = kubeflow.client.list_recurring_runs(
                page_token=page, page_size=100, namespace=kubeflow.namespace, filter=equals("display_name", name)
            )
        found += [run for run in listed.recurring_runs or [] if run.display_name == name]
        page = listed.next_page_token or ""
        if not page:
            return sorted(found, key=lambda run: (run.created_at, run.recurring_run_id), reverse=True)


def _delete(kubeflow: Kubeflow, run: V2beta1RecurringRun) -> None:
    with kubeflow.explained(f"delete the schedule {run.display_name}"):
        try:
            kubeflow.client.delete_recurring_run(run.recurring_run_id)
        except ApiException as error:
            if error.status != 404:  # already deleted
                raise
