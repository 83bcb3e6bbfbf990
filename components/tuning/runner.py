"""The runner for one machine: the same Experiment file, its trials as processes, no cluster."""

import shutil
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any

from components.tuning.experiment import Experiment, Outcome
from components.tuning.journal import FAILED, STOPPED, SUCCEEDED, Journal, Trial
from components.tuning.live_table import Screen
from components.tuning.mlflow_recorder import Recorder
from components.tuning.process import TrialProcess, values_of
from components.tuning.suggestions import Observation, check_local, suggest
from predictor.model.engine import available_cpus

TRIALS_FOLDER = "trials"


def run_search(experiment: Experiment, journal: Journal, recorder: Recorder, screen: Screen) -> Outcome:
    """Run an experiment's trials until its budget is spent, its goal met, or too many have failed.

    Goes on where the journal ends: trials that were cut short run again with what they had been given.

    Args:
        experiment: the search, its command naming the data and the backbone of this machine.
        journal: what has been done so far; the trials' outputs go beside it.
        recorder: keeps each ended trial as an MLflow run.
        screen: shows the trials to a person.

    Raises:
        InputError: the experiment needs a cluster.
    """
    check_local(experiment)
    return _Search(experiment, journal, recorder, screen).run()


class _Search:
    """One run of a search: the only place that decides which trial starts when."""

    def __init__(self, experiment: Experiment, journal: Journal, recorder: Recorder, screen: Screen) -> None:
        self._experiment, self._journal, self._recorder, self._screen = experiment, journal, recorder, screen
        self._folder = journal.file.parent / TRIALS_FOLDER
        cpus = available_cpus()
        self._slots = min(experiment.parallel, cpus)
        self._threads = max(1, cpus // self._slots)
        self._cut_short = dict(journal.open)
        self._running: dict[Future[Trial], TrialProcess] = {}

    def run(self) -> Outcome:
        for number in self._cut_short:
            shutil.rmtree(self._trial_folder(number), ignore_errors=True)
        for trial in self._journal.ended:
            self._screen.ended(trial, earlier=True)
        with ThreadPoolExecutor(self._slots) as pool:
            try:
                while self._fill(pool) or self._running:
                    done, _ = wait(self._running, return_when=FIRST_COMPLETED)
                    # By number, so that trials that end in one moment are told in one order.
                    for trial in sorted((future.result() for future in done), key=lambda trial: trial.number):
                        self._take(trial)
                    for future in done:
                        del self._running[future]
            except BaseException:
                for process in self._running.values():
                    process.halt()
                raise
        return outcome(self._experiment, self._journal.ended)

    def _fill(self, pool: ThreadPoolExecutor) -> bool:
        """Start trials while there is room and reason; say whether one was started."""
        begun = False
        while len(self._running) < self._slots and not _over(self._experiment, self._journal.ended):
            if self._cut_short:
                number = min(self._cut_short)
                assignments: dict[str, str] | None = self._cut_short.pop(number)
            elif (number := self._journal.next_number) < self._experiment.most_trials:
                assignments = suggest(self._experiment, number, _observations(self._experiment, self._journal.ended))
            else:
                break
            if assignments is None:
                break
            self._journal.start(number, assignments)
            process = TrialProcess(
                self._experiment, number, assignments, self._trial_folder(number), self._threads, self._bar()
            )
            self._screen.started(number, assignments)
            self._running[pool.submit(partial(process.run, self._screen.told))] = process
            begun = True
        return begun

    def _take(self, trial: Trial) -> None:
        shutil.rmtree(self._trial_folder(trial.number) / "tmp", ignore_errors=True)
        # Recorded first: a kill between the two repeats the trial and replaces its record, rather than losing it.
        self._recorder.record(trial, values_of(self._experiment, trial))
        self._journal.end(trial)
        self._screen.ended(trial)

    def _bar(self) -> float | None:
        stopping, metric = self._experiment.early_stopping, self._experiment.objective.metric
        if stopping is None:
            return None
        return stopping.bar([trial.printed[metric] for trial in self._journal.ended if trial.state == SUCCEEDED])

    def _trial_folder(self, number: int) -> Path:
        return self._folder / trial_name(number)


def trial_name(number: int) -> str:
    """Return a trial's name, which is its folder's too."""
    return f"trial-{number:03d}"


def outcome(experiment: Experiment, ended: list[Trial]) -> Outcome:
    """Say what the ended trials come to: the best of those that told the objective, the earliest among equals."""
    counts = {state: sum(trial.state == state for trial in ended) for state in (SUCCEEDED, STOPPED, FAILED)}
    best, value = None, None
    for trial in sorted(_telling(experiment, ended), key=lambda trial: trial.number):
        now = values_of(experiment, trial)[experiment.objective.metric]
        if value is None or experiment.objective.better(now, value):
            best, value = trial, now
    told: dict[str, Any] = {"best_trial": "", "metrics": {}, "assignments": {}}
    if best:
        told = {
            "best_trial": trial_name(best.number),
            "metrics": values_of(experiment, best),
            "assignments": best.assignments,
        }
    reason = _over(experiment, ended) or "the grid is exhausted"
    return Outcome(best is not None and not _failed(experiment, counts), reason, objective=value, counts=counts, **told)


def _telling(experiment: Experiment, ended: list[Trial]) -> list[Trial]:
    metric = experiment.objective.metric
    return [trial for trial in ended if trial.state in (SUCCEEDED, STOPPED) and trial.printed.get(metric)]


def _observations(experiment: Experiment, ended: list[Trial]) -> list[Observation]:
    metric = experiment.objective.metric
    return [
        Observation(trial.assignments, values_of(experiment, trial)[metric]) for trial in _telling(experiment, ended)
    ]


def _failed(experiment: Experiment, counts: Mapping[str, int]) -> bool:
    # As Katib counts: the failure that makes the number full ends the search.
    return experiment.most_failed is not None and 0 < counts[FAILED] >= experiment.most_failed


def _over(experiment: Experiment, ended: list[Trial]) -> str:
    """Return why no trial has to start any more, empty if one has to."""
    objective, failed = experiment.objective, sum(trial.state == FAILED for trial in ended)
    if any(objective.reached(values_of(experiment, trial)[objective.metric]) for trial in _telling(experiment, ended)):
        return f"the goal {objective.goal:g} of {objective.metric} is reached"
    if _failed(experiment, {FAILED: failed}):
        last = [trial for trial in ended if trial.state == FAILED][-1]
        return f"{failed} trials failed, the last with: {last.reason}"
    return f"{len(ended)} trials ended" if len(ended) >= experiment.most_trials else ""
