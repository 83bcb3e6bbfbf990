"""The display of a search: a live table on a terminal, else a line for each trial that ends."""

import threading
import time
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from components.tuning.experiment import Experiment
from components.tuning.journal import Trial

_SHOWN = 20


class LiveTable:
    """Shows trials; its methods may be called from several threads.

    Args:
        experiment: the search.
        stream: where to show them.
    """

    def __init__(self, experiment: Experiment, stream: TextIO) -> None:
        self._experiment, self._stream = experiment, stream
        self._live = Live(console=Console(file=stream), auto_refresh=False) if stream.isatty() else None
        self._lock = threading.Lock()
        self._running: dict[int, tuple[float, dict[str, str], list[float]]] = {}
        self._ended: list[Trial] = []

    def __enter__(self) -> "LiveTable":
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def started(self, number: int, assignments: dict[str, str]) -> None:
        """Show that a trial runs."""
        with self._lock:
            self._running[number] = (time.monotonic(), assignments, [])
            self._draw()

    def reported(self, number: int, metric: str, value: float) -> None:
        """Show a metric that a running trial printed."""
        with self._lock:
            if metric == self._experiment.objective.metric:
                self._running[number][2].append(value)
                self._draw()

    def ended(self, trial: Trial, earlier: bool = False) -> None:
        """Show how a trial ended; `earlier` is for trials of an earlier run of the same search."""
        with self._lock:
            self._running.pop(trial.number, None)
            self._ended.append(trial)
            self._draw()
            if not self._live:
                result = trial.reason or self._value(trial.printed.get(self._experiment.objective.metric, []))
                given = "  ".join(f"{name} {_short(value)}" for name, value in trial.assignments.items())
                when = "  (earlier run)" if earlier else ""
                count = f"{len(self._ended)}/{self._experiment.max_trials}"
                print(f"  trial {trial.number}  {trial.state}  {result}  {given}  {trial.seconds:.0f} s  {count}{when}",
                      file=self._stream, flush=True)  # fmt: skip

    def _value(self, printed: list[float]) -> str:
        objective = self._experiment.objective
        return f"{objective.metric} {objective.value(objective.metric, printed):.4f}" if printed else ""

    def _draw(self) -> None:
        if not self._live:
            return
        names = [parameter.name for parameter in self._experiment.parameters]
        table = Table(box=None, pad_edge=False)
        for heading in ("trial", "state", self._experiment.objective.metric, "steps", "seconds", *names):
            table.add_column(heading, justify="left" if heading == "state" else "right")
        printed_of = self._experiment.objective.metric
        for trial in self._ended[-_SHOWN:]:
            printed = trial.printed.get(printed_of, [])
            self._row(table, trial.number, trial.state, printed, trial.seconds, trial.assignments)
        for number, (began, assignments, printed) in sorted(self._running.items()):
            self._row(table, number, "running", printed, time.monotonic() - began, assignments)
        self._live.update(table, refresh=True)

    def _row(
        self, table: Table, number: int, state: str, printed: list[float], seconds: float, assignments: dict[str, str]
    ) -> None:
        objective = self._experiment.objective
        value = f"{objective.value(objective.metric, printed):.4f}" if printed else ""
        shown = [_short(assignments[parameter.name]) for parameter in self._experiment.parameters]
        table.add_row(str(number), state, value, str(len(printed)), f"{seconds:.0f}", *shown)


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
