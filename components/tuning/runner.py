"""The search on one machine: runs the trials of an Experiment file as processes, without a cluster."""

import shutil
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from components.tuning.experiment import Experiment, Outcome
from components.tuning.journal import FAILED, STOPPED, SUCCEEDED, Journal, Trial
from components.tuning.live_table import LiveTable
from components.tuning.mlflow_recorder import Recorder
from components.tuning.process import TrialProcess, metric_values
from components.tuning.suggestions import Observation, check_local, suggest
from predictor.model.cpus import available_cpus

TRIALS_FOLDER = "trials"


def run_search(experiment: Experiment, journal: Journal, recorder: Recorder, table: LiveTable) -> Outcome:
    """Run an experiment's trials until the budget is spent, the goal is reached, or too many have failed.

    Continues where the journal ends: interrupted trials run again with the same hyper-parameters.

    Args:
        experiment: the search, whose command has the data and the backbone of this machine.
        journal: what has been done so far; the trials' outputs are written beside it.
        recorder: writes each ended trial to MLflow.
        table: shows the trials on the terminal.

    Raises:
        InputError: the experiment needs a cluster.
    """
    check_local(experiment)
    return _Search(experiment, journal, recorder, table).run()


class _Search:
    """One run of a search, which decides which trial starts when."""

    def __init__(self, experiment: Experiment, journal: Journal, recorder: Recorder, table: LiveTable) -> None:
        self._experiment, self._journal, self._recorder, self._table = experiment, journal, recorder, table
        self._folder = journal.file.parent / TRIALS_FOLDER
        cpus = available_cpus()
        self._slots = min(experiment.parallel, cpus)
        self._threads = max(1, cpus // self._slots)
        self._interrupted = dict(journal.open)
        self._running: dict[Future[Trial], TrialProcess] = {}

    def run(self) -> Outcome:
        for number in self._interrupted:
            shutil.rmtree(self._trial_folder(number), ignore_errors=True)
        for trial in self._journal.ended:
            self._table.ended(trial, earlier=True)
        with ThreadPoolExecutor(self._slots) as pool:
            try:
                while self._start_trials(pool) or self._running:
                    done, _ = wait(self._running, return_when=FIRST_COMPLETED)
                    # By number, so that trials that end at the same moment are recorded in a fixed order.
                    for trial in sorted((future.result() for future in done), key=lambda trial: trial.number):
                        self._record(trial)
                    for future in done:
                        del self._running[future]
            except BaseException:
                for process in self._running.values():
                    process.stop()
                raise
        return outcome(self._experiment, self._journal.ended)

    def _start_trials(self, pool: ThreadPoolExecutor) -> bool:
        """Start trials while there are free slots and the search goes on; say whether one was started."""
        started = False
        while len(self._running) < self._slots and not _end_reason(self._experiment, self._journal.ended):
            if self._interrupted:
                number = min(self._interrupted)
                assignments: dict[str, str] | None = self._interrupted.pop(number)
            elif (number := self._journal.next_number) < self._experiment.max_trials:
                assignments = suggest(self._experiment, number, _observations(self._experiment, self._journal.ended))
            else:
                break
            if assignments is None:
                break
            self._journal.start(number, assignments)
            process = TrialProcess(
                self._experiment, number, assignments, self._trial_folder(number), self._threads, self._threshold()
            )
            self._table.started(number, assignments)
            self._running[pool.submit(partial(process.run, self._table.reported))] = process
            started = True
        return started

    def _record(self, trial: Trial) -> None:
        shutil.rmtree(self._trial_folder(trial.number) / "tmp", ignore_errors=True)
        # MLflow first: a kill between the two repeats the trial and replaces its record, and loses nothing.
        self._recorder.record(trial, metric_values(self._experiment, trial))
        self._journal.end(trial)
        self._table.ended(trial)

    def _threshold(self) -> float | None:
        stopping, metric = self._experiment.early_stopping, self._experiment.objective.metric
        if stopping is None:
            return None
        return stopping.threshold([trial.printed[metric] for trial in self._journal.ended if trial.state == SUCCEEDED])

    def _trial_folder(self, number: int) -> Path:
        return self._folder / trial_name(number)


def trial_name(number: int) -> str:
    """Return a trial's name, which is also its folder's."""
    return f"trial-{number:03d}"


def outcome(experiment: Experiment, ended: list[Trial]) -> Outcome:
    """Return the result of the ended trials: the best by the objective, the first of equal ones."""
    counts = {state: sum(trial.state == state for trial in ended) for state in (SUCCEEDED, STOPPED, FAILED)}
    best, value = None, None
    for trial in sorted(_with_objective(experiment, ended), key=lambda trial: trial.number):
        now = metric_values(experiment, trial)[experiment.objective.metric]
        if value is None or experiment.objective.better(now, value):
            best, value = trial, now
    best_fields: dict[str, Any] = {"best_trial": "", "metrics": {}, "assignments": {}}
    if best:
        best_fields = {
            "best_trial": trial_name(best.number),
            "metrics": metric_values(experiment, best),
            "assignments": best.assignments,
        }
    reason = _end_reason(experiment, ended) or "the grid is exhausted"
    succeeded = best is not None and not _too_many_failed(experiment, counts)
    return Outcome(succeeded, reason, objective=value, counts=counts, **best_fields)


def _with_objective(experiment: Experiment, ended: list[Trial]) -> list[Trial]:
    metric = experiment.objective.metric
    return [trial for trial in ended if trial.state in (SUCCEEDED, STOPPED) and trial.printed.get(metric)]


def _observations(experiment: Experiment, ended: list[Trial]) -> list[Observation]:
    metric = experiment.objective.metric
    return [
        Observation(trial.assignments, metric_values(experiment, trial)[metric])
        for trial in _with_objective(experiment, ended)
    ]


def _too_many_failed(experiment: Experiment, counts: Mapping[str, int]) -> bool:
    # As in Katib, the failure that reaches the limit ends the search.
    return experiment.max_failed is not None and 0 < counts[FAILED] >= experiment.max_failed


def _end_reason(experiment: Experiment, ended: list[Trial]) -> str:
    """Return why the search ends, empty while it goes on."""
    objective, failed = experiment.objective, sum(trial.state == FAILED for trial in ended)
    if any(objective.reached(seen.objective) for seen in _observations(experiment, ended)):
        return f"the goal {objective.goal:g} of {objective.metric} is reached"
    if _too_many_failed(experiment, {FAILED: failed}):
        last = [trial for trial in ended if trial.state == FAILED][-1]
        return f"{failed} trials failed, the last with: {last.reason}"
    return f"{len(ended)} trials ended" if len(ended) >= experiment.max_trials else ""
