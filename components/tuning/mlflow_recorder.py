"""A search in MLflow: one parent run, a nested run for each ended trial."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.platform.tracking import tracked_run
from components.tuning.experiment import Experiment, Outcome
from components.tuning.journal import FAILED, Trial

_TRIAL_TAG = "pigeonhole.trial"


@dataclass(frozen=True)
class Recorder:
    """Writes trials as runs that are nested in the search's run."""

    client: MlflowClient
    experiment_id: str
    parent: str

    def record(self, trial: Trial, values: Mapping[str, float]) -> None:
        """Write an ended trial: parameters, printed metrics by step, and the value of each metric as `best_NAME`.

        An existing record of the same trial, from a search that was killed right after writing it, is replaced.
        """
        mine = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{self.parent}' and tags.`{_TRIAL_TAG}` = '{trial.number}'"
        for earlier in self.client.search_runs([self.experiment_id], mine):
            self.client.delete_run(earlier.info.run_id)
        tags = {MLFLOW_PARENT_RUN_ID: self.parent, _TRIAL_TAG: str(trial.number), "state": trial.state}
        run = self.client.create_run(self.experiment_id, run_name=f"trial-{trial.number:03d}", tags=tags)
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, value, now, step)
            for name, printed in trial.printed.items()
            for step, value in enumerate(printed, start=1)
        ]
        metrics += [Metric(f"best_{name}", value, now, 0) for name, value in values.items()]
        params = [Param(name, value) for name, value in trial.assignments.items()]
        self.client.log_batch(
            run.info.run_id, metrics, params, [RunTag("reason", trial.reason[:500])] if trial.reason else []
        )
        self.client.set_terminated(run.info.run_id, "FAILED" if trial.state == FAILED else "FINISHED")

    def conclude(self, experiment: Experiment, outcome: Outcome) -> None:
        """Write the best trial to the parent run."""
        params = {"algorithm": experiment.algorithm, "objective": experiment.objective.metric}
        for name, text in params.items():
            self.client.log_param(self.parent, name, text)
        # Tags, since a search that goes on with a larger budget may find a better trial, and parameters cannot change.
        best = {f"best.{name}": text for name, text in outcome.assignments.items()}
        for name, text in {"best_trial": outcome.best_trial, **best}.items():
            self.client.set_tag(self.parent, name, text)
        for name, value in outcome.metrics.items():
            self.client.log_metric(self.parent, f"best_{name}", value)


@contextmanager
def recorder(search: str, tracking_uri: str) -> Iterator[Recorder]:
    """Yield the recorder of a search; a search that goes on uses the same parent run again.

    Args:
        search: the search's identity.
        tracking_uri: the MLflow server or database.
    """
    with tracked_run(search, tracking_uri) as client:
        active = mlflow.active_run()
        assert active is not None
        yield Recorder(client, active.info.experiment_id, active.info.run_id)
