"""What the trigger knows, in one SQLite file: the alerts that it took, and the runs that it started for them."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from components.monitoring.decision import Guards, Training, waiting
from pipelines.trigger.alerts import ACTED_ON, Alert, cause_of
from predictor.errors import InputError

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"
_ATTEMPTS = 2
"""Of a run that was cut short by the end of the trigger."""
_WITHOUT_TRAINING = ("stop", "label")
_TABLES = """
create table if not exists alerts (
  key text primary key, name text not null, response text not null, seen real not null, times integer not null,
  run integer, retry_at real not null
);
create table if not exists runs (
  id integer primary key, cause text not null, state text not null, queued real not null, started real, ended real,
  attempts integer not null default 0, answer text not null default '', detail text not null default '{}',
  remote text not null default ''
);
"""


class Outcome(StrEnum):
    """What became of a webhook."""

    STARTED = "started"
    DUPLICATE = "duplicate"
    PUT_OFF = "put off"
    IGNORED = "ignored"


@dataclass(frozen=True)
class Taken:
    """What became of a webhook, and why."""

    outcome: Outcome
    reason: str = ""
    run: int | None = None


@dataclass(frozen=True)
class Run:
    """A run that is queued, or at work."""

    id: int
    cause: str
    remote: str = ""
    """Its id on Kubeflow, if it was handed there."""


class State:
    """The state in its file. Every change is a transaction that is on disk when the method returns.

    Args:
        file: created if it is missing.
        guards: of them the trigger asks for the cool-down and the most a week before it starts a run; the run itself
            asks for all.
        retry_seconds: after a run that did not train, an alert that still fires may start another.

    Raises:
        InputError: the file cannot be opened, or is none of ours.
    """

    def __init__(self, file: Path, guards: Guards, retry_seconds: float = 3600.0) -> None:
        self._lock = threading.Lock()
        self._guards, self._retry_seconds = guards, retry_seconds
        try:
            self._connection = sqlite3.connect(file, check_same_thread=False, isolation_level=None, timeout=10)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            self._connection.executescript(_TABLES)
        except sqlite3.Error as error:
            raise InputError(f"--state {file} cannot be used ({error}): name another file") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def take(self, alerts: Sequence[Alert], now: float) -> Taken:
        """Take the alerts of a webhook, and queue a run unless they are known, or the guards forbid it.

        Args:
            alerts: what fires.
            now: Unix seconds.
        """
        wanted = [alert for alert in alerts if alert.response in ACTED_ON]
        if not wanted:
            return Taken(Outcome.IGNORED, "no firing alert asks to retrain or to label")
        with self._transaction() as database:
            fresh = [alert for alert in wanted if self._is_fresh(database, alert, now)]
            if not fresh:
                return Taken(Outcome.DUPLICATE, "each of these alerts has been taken")
            keys = [alert.key for alert in fresh]
            queued = database.execute("select id from runs where state = ?", (QUEUED,)).fetchone()
            if queued:
                self._link(database, keys, queued[0])
                return Taken(Outcome.DUPLICATE, "a run that waits to start answers these alerts, too", queued[0])
            if database.execute("select 1 from runs where state = ?", (RUNNING,)).fetchone():
                return Taken(Outcome.PUT_OFF, "another run is at work")
            if reasons := [*waiting(self._trainings(database), self._guards, now)]:
                return Taken(Outcome.PUT_OFF, "; ".join(reasons))
            cause = cause_of(fresh)
            run = database.execute(
                "insert into runs (cause, state, queued) values (?, ?, ?)", (cause, QUEUED, now)
            ).lastrowid
            assert run is not None
            self._link(database, keys, run)
        return Taken(Outcome.STARTED, cause, run)

    def next_run(self, now: float) -> Run | None:
        """Return the run to work on, if there is one: it is at work from now on."""
        with self._transaction() as database:
            row = database.execute("select id, cause, remote from runs where state = ?", (QUEUED,)).fetchone()
            if row is None:
                return None
            database.execute(
                "update runs set state = ?, started = coalesce(started, ?), attempts = attempts + 1 where id = ?",
                (RUNNING, now, row[0]),
            )
        return Run(*row)

    def handed_over(self, run: int, remote: str) -> None:
        """Say under which id a run goes on at Kubeflow."""
        with self._transaction() as database:
            database.execute("update runs set remote = ? where id = ?", (remote, run))

    def end(self, run: int, answer: str, detail: Mapping[str, Any], now: float, failed: bool = False) -> None:
        """Say how a run ended. If it trained nothing, its alerts may start another after a while."""
        with self._transaction() as database:
            self._end(database, run, answer, detail, now, failed)

    def give_back(self, run: int) -> None:
        """Queue a run again that the trigger stops because it is asked to end itself."""
        with self._transaction() as database:
            database.execute(
                "update runs set state = ?, attempts = attempts - 1 where id = ? and state = ?", (QUEUED, run, RUNNING)
            )

    def recover(self, now: float) -> None:
        """Queue runs again that were at work when the trigger was killed; one that was cut short twice has failed.

        What was handed to Kubeflow went on there, and is waited for again.
        """
        with self._transaction() as database:
            cut = database.execute(
                "select id from runs where state = ? and attempts >= ? and remote = ''", (RUNNING, _ATTEMPTS)
            )
            for (run,) in cut.fetchall():
                error = {"error": "the trigger was killed twice while it was at work"}
                self._end(database, run, "", error, now, failed=True)
            database.execute("update runs set state = ? where state = ?", (QUEUED, RUNNING))

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs, the latest first."""
        names = ["id", "cause", "state", "queued", "started", "ended", "attempts", "answer", "detail", "remote"]
        with self._lock:
            rows = self._connection.execute(f"select {', '.join(names)} from runs order by id desc").fetchall()
        return [{**dict(zip(names, row, strict=True)), "detail": json.loads(row[8])} for row in rows]

    def _end(
        self, database: sqlite3.Connection, run: int, answer: str, detail: Mapping[str, Any], now: float, failed: bool
    ) -> None:
        database.execute(
            "update runs set state = ?, answer = ?, detail = ?, ended = ? where id = ?",
            (FAILED if failed else DONE, answer, json.dumps(detail, ensure_ascii=False), now, run),
        )
        if failed or answer in _WITHOUT_TRAINING:
            database.execute(
                "update alerts set run = null, retry_at = ? where run = ?", (now + self._retry_seconds, run)
            )

    def _is_fresh(self, database: sqlite3.Connection, alert: Alert, now: float) -> bool:
        """Count the alert, and return whether it may start a run."""
        database.execute(
            "insert into alerts values (?, ?, ?, ?, 0, null, 0) on conflict do nothing",
            (alert.key, alert.name, alert.response, now),
        )
        database.execute("update alerts set times = times + 1 where key = ?", (alert.key,))
        run, retry_at = database.execute("select run, retry_at from alerts where key = ?", (alert.key,)).fetchone()
        return run is None and now >= retry_at

    def _trainings(self, database: sqlite3.Connection) -> list[Training]:
        """Return the runs that trained, or that may have."""
        marks = ", ".join("?" * len(_WITHOUT_TRAINING))
        rows = database.execute(
            f"select started from runs where state = ? and answer not in ({marks})", (DONE, *_WITHOUT_TRAINING)
        )
        return [Training(started, "") for (started,) in rows]

    def _link(self, database: sqlite3.Connection, keys: Sequence[str], run: int) -> None:
        database.executemany("update alerts set run = ? where key = ?", [(run, key) for key in keys])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")
