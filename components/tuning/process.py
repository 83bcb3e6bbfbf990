"""A trial as a process on this machine: its output is read for metrics, and it is stopped early if it falls behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from components.tuning.experiment import Experiment
from components.tuning.journal import FAILED, STOPPED, SUCCEEDED, Trial

_PYTHON = ("python", "python3")
_GRACE_SECONDS = 10
LOG_FILE = "output.log"


class TrialProcess:
    """The process of one trial.

    Args:
        experiment: the search.
        number: the trial's number.
        assignments: its hyper-parameters.
        folder: gets the trial's output, and its temporary files while it runs.
        threads: how many threads its numerical libraries may use.
        threshold: what the objective has to reach by the early stopping's step; None for no early stopping.
    """

    def __init__(
        self,
        experiment: Experiment,
        number: int,
        assignments: dict[str, str],
        folder: Path,
        threads: int,
        threshold: float | None,
    ) -> None:
        self._experiment, self._number, self._assignments = experiment, number, assignments
        self._folder, self._threshold = folder, threshold
        program, *arguments = experiment.command_for(assignments)
        self._command = [_in_this_environment(program), *arguments]
        scratch = folder / "tmp"
        scratch.mkdir(parents=True, exist_ok=True)
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(scratch),
            "TQDM_DISABLE": "1",
        }
        self._process: subprocess.Popen[str] | None = None
        self._stop_requested = False

    def run(self, on_metric: Callable[[int, str, float], None]) -> Trial:
        """Run to the end and return the ended trial.

        Args:
            on_metric: called with (trial number, name, value) as soon as the trial prints a metric.
        """
        objective, printed = self._experiment.objective, dict[str, list[float]]()
        started, stopped_early, last = time.monotonic(), False, ""
        try:
            # In a new session, so that processes which the trial starts can be stopped with it.
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return self._ended(FAILED, printed, started, f"cannot be started: {error}")
        if self._stop_requested:
            self.stop()
        assert self._process.stdout is not None
        with self._process.stdout as lines, (self._folder / LOG_FILE).open("w", encoding="utf-8") as log:
            for line in lines:
                log.write(line)
                last = line.strip() or last
                for name, value in parse_metrics(line, objective.metrics, self._experiment.metric_formats):
                    printed.setdefault(name, []).append(value)
                    on_metric(self._number, name, value)
                    if name == objective.metric and not stopped_early and self._behind(printed[name]):
                        stopped_early = True
                        self.stop()
        code = self._process.wait()
        if stopped_early:
            return self._ended(STOPPED, printed, started)
        if code != 0:
            return self._ended(FAILED, printed, started, last or f"exit code {code}")
        if objective.metric not in printed:
            return self._ended(FAILED, printed, started, f"it printed no {objective.metric}=NUMBER")
        return self._ended(SUCCEEDED, printed, started)

    def stop(self) -> None:
        """End the process by SIGTERM, and by SIGKILL if it does not end."""
        self._stop_requested = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=_GRACE_SECONDS)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
            return

    def _behind(self, values: Sequence[float]) -> bool:
        stopping, objective = self._experiment.early_stopping, self._experiment.objective
        if stopping is None or self._threshold is None or len(values) != stopping.start_step:
            return False
        best = max(values) if objective.maximize else min(values)
        return objective.better(self._threshold, best)

    def _ended(self, state: str, printed: dict[str, list[float]], started: float, reason: str = "") -> Trial:
        seconds = round(time.monotonic() - started, 3)
        return Trial(self._number, self._assignments, state, printed, seconds, reason)


def _in_this_environment(program: str) -> str:
    """Return the path of a program of the trial's command in this Python environment, which need not be activated."""
    if program in _PYTHON:
        return sys.executable
    return shutil.which(program, path=Path(sys.executable).parent) or program


def parse_metrics(line: str, names: Sequence[str], formats: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Yield the metrics in a line of output, as Katib's collector finds them."""
    if not any(name in line for name in names):
        return
    for pattern in formats:
        for found in re.finditer(pattern, line):
            name, text = (found[1] or "").strip(), (found[2] or "").strip()
            if name in names:
                try:
                    yield name, float(text)
                except ValueError:
                    continue


def metric_values(experiment: Experiment, trial: Trial) -> Mapping[str, float]:
    """Return the value of each metric of a trial, chosen from the printed ones by the metric's strategy."""
    return {name: experiment.objective.value(name, printed) for name, printed in trial.printed.items()}
