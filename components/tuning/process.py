"""A trial as a process on this machine: started, listened to, ended early where it falls behind."""

import os
import re
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
        folder: gets the trial's output; temporary files live in it and are gone afterwards.
        threads: how many threads its numerical libraries may use.
        bar: what the objective has to reach by the early stopping's step, None for no such demand.
    """

    def __init__(
        self,
        experiment: Experiment,
        number: int,
        assignments: dict[str, str],
        folder: Path,
        threads: int,
        bar: float | None,
    ) -> None:
        self._experiment, self._number, self._assignments = experiment, number, assignments
        self._folder, self._bar = folder, bar
        self._command = experiment.command_for(assignments)
        if self._command[0] in _PYTHON:
            self._command[0] = sys.executable
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
        self._halted = False

    def run(self, told: Callable[[int, str, float], None]) -> Trial:
        """Run to the end, telling each metric as it is printed, and return what came out."""
        objective, printed = self._experiment.objective, dict[str, list[float]]()
        started, stopped, last = time.monotonic(), False, ""
        try:
            # A session of its own, so that what the trial itself starts ends with it.
            self._process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return self._ended(FAILED, printed, started, f"cannot be started: {error}")
        if self._halted:
            self.halt()
        assert self._process.stdout is not None
        with self._process.stdout as lines, (self._folder / LOG_FILE).open("w", encoding="utf-8") as log:
            for line in lines:
                log.write(line)
                last = line.strip() or last
                for name, value in metrics_in(line, objective.metrics, self._experiment.metric_formats):
                    printed.setdefault(name, []).append(value)
                    told(self._number, name, value)
                    if name == objective.metric and not stopped and self._behind(printed[name]):
                        stopped = True
                        self.halt()
        code = self._process.wait()
        if stopped:
            return self._ended(STOPPED, printed, started)
        if code != 0:
            return self._ended(FAILED, printed, started, last or f"exit code {code}")
        if objective.metric not in printed:
            return self._ended(FAILED, printed, started, f"it printed no {objective.metric}=NUMBER")
        return self._ended(SUCCEEDED, printed, started)

    def halt(self) -> None:
        """End the process, kindly at first."""
        self._halted = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, how)
                process.wait(timeout=_GRACE_SECONDS)
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
            return

    def _behind(self, values: Sequence[float]) -> bool:
        stopping, objective = self._experiment.early_stopping, self._experiment.objective
        if stopping is None or self._bar is None or len(values) != stopping.start_step:
            return False
        best = max(values) if objective.maximize else min(values)
        return objective.better(self._bar, best)

    def _ended(self, state: str, printed: dict[str, list[float]], started: float, reason: str = "") -> Trial:
        seconds = round(time.monotonic() - started, 3)
        return Trial(self._number, self._assignments, state, printed, seconds, reason)


def metrics_in(line: str, names: Sequence[str], formats: Sequence[str]) -> Iterator[tuple[str, float]]:
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


def values_of(experiment: Experiment, trial: Trial) -> Mapping[str, float]:
    """Return for each metric of a trial the printed value that counts."""
    return {name: experiment.objective.value(name, printed) for name, printed in trial.printed.items()}
