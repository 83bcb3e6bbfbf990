"""Works on the trigger's runs in the background, one at a time."""

import sys
import threading
import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from components.monitoring.decision import Guards
from pipelines.metric_names import (
    PIPELINE,
    PIPELINE_FAILED,
    PIPELINE_SUCCESS_TIME,
    RESULT,
    TRIGGER_RUNS,
    TRIGGER_WAITING,
    TRIGGER_WEBHOOKS,
)
from pipelines.trigger.starters import Interrupted, Starter, sentence_of
from pipelines.trigger.state import DONE, FAILED, Outcome, State

MONITORING, TRAINING = "monitoring", "training"
"""Values of the label `PIPELINE`."""
UNAUTHORISED, MALFORMED, TOO_LARGE, UNREADY = "unauthorised", "malformed", "too large", "unready"
"""What becomes of a webhook that is refused."""
_ANSWERS = ("stop", "label", "retrain", "unknown", "failed")


class Metrics:
    """The trigger's metrics; each series is there from the start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.webhooks = Counter(TRIGGER_WEBHOOKS, "Webhooks by what became of them.", [RESULT], registry=self.registry)
        self.runs = Counter(TRIGGER_RUNS, "Runs that ended, by answer.", [RESULT], registry=self.registry)
        self.waiting = Gauge(TRIGGER_WAITING, "Runs that wait to start, or are at work.", registry=self.registry)
        self.success = Gauge(PIPELINE_SUCCESS_TIME, "Last success, Unix seconds.", [PIPELINE], registry=self.registry)
        self.failed = Gauge(PIPELINE_FAILED, "Whether the last run failed.", [PIPELINE], registry=self.registry)
        for result in (*Outcome, UNAUTHORISED, MALFORMED, TOO_LARGE, UNREADY):
            self.webhooks.labels(result)
        for answer in _ANSWERS:
            self.runs.labels(answer)

    def ended(self, answer: str, detail: Mapping[str, object], now: float, failed: bool) -> None:
        """Say how a run ended, now or before the trigger was started."""
        # When a round last succeeded is not said: one on an alert may be long ago, and an alert looks at the age.
        self.failed.labels(MONITORING).set(failed)
        training = detail.get("training")
        if isinstance(training, dict):
            closed = training.get("state") == "closed"
            self.failed.labels(TRAINING).set(closed)
            if not closed:
                self.success.labels(TRAINING).set(now)


class Worker:
    """Starts what is queued, and writes down how it ended.

    Args:
        state: the trigger's state.
        starter: starts a run.
        metrics: get how runs ended.
    """

    def __init__(self, state: State, starter: Starter, metrics: Metrics) -> None:
        self._state, self._starter, self._metrics = state, starter, metrics
        self._ending, self._work = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._loop, name="runs", daemon=True)

    def start(self) -> None:
        """Go on with what was at work when the trigger ended, and begin to work."""
        self._state.recover(time.time())
        for run in reversed(self._state.runs()):
            if run["state"] in (DONE, FAILED):
                self._metrics.ended(run["answer"], run["detail"], run["ended"], run["state"] == FAILED)
        self._count()
        self._work.set()
        self._thread.start()

    def look(self) -> None:
        """Look for a run that was queued."""
        self._count()
        self._work.set()

    def stop(self) -> None:
        """Stop; a run at work here is ended, and queued again."""
        self._ending.set()
        self._work.set()
        self._thread.join()

    @property
    def works(self) -> bool:
        """Whether the thread is alive."""
        return self._thread.is_alive()

    def _loop(self) -> None:
        while not self._ending.is_set():
            self._work.wait()
            self._work.clear()
            while not self._ending.is_set() and (run := self._state.next_run(time.time())):
                try:
                    ended = self._starter(run, lambda remote, run=run: self._state.handed_over(run.id, remote),  # type: ignore[misc]
                                          self._ending)  # fmt: skip
                except Interrupted:
                    self._state.give_back(run.id)
                except Exception as error:  # whatever broke, the next alert may start another run
                    self._end(run.id, "", {"error": sentence_of(error)}, failed=True)
                else:
                    self._end(run.id, ended.answer, ended.detail, failed=False)

    def _end(self, run: int, answer: str, detail: Mapping[str, object], failed: bool) -> None:
        now = time.time()
        self._state.end(run, answer, detail, now, failed)
        self._metrics.ended(answer, detail, now, failed)
        self._metrics.runs.labels("failed" if failed else answer or "unknown").inc()
        self._count()
        what = f"failed ({detail.get('error')})" if failed else f"ended: {answer or 'see the run on Kubeflow'}"
        print(f"pigeonhole: run {run} {what}", file=sys.stderr, flush=True)

    def _count(self) -> None:
        self._metrics.waiting.set(sum(run["state"] not in (DONE, FAILED) for run in self._state.runs()))


def guards_of(cooldown_hours: float, max_a_week: int) -> Guards:
    """Return the guards that the trigger itself asks; the number of rows is asked by the run."""
    return Guards(cooldown_hours=cooldown_hours, max_a_week=max_a_week, min_new_rows=0)
