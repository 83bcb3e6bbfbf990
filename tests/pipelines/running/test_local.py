"""What a local run says of a step that broke, and what it leaves of one that was stopped."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.running.local import _LOG_TAIL, _end_of_failed_step, _workspace

FAILED = "12:00:00.000 - ERROR - Task \x1b[96m'register'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m"
"""As kfp's runner writes it."""


def test_the_log_shown_ends_where_the_step_failed_not_where_the_exit_handler_did() -> None:
    after = ["Task 'end-rollout' finished with status \x1b[92mSUCCESS\x1b[0m"] * _LOG_TAIL
    shown = _end_of_failed_step("\n".join(["earlier"] * 50 + ["the reason", FAILED, *after])).splitlines()
    assert shown[-2:] == ["the reason", FAILED] and len(shown) == _LOG_TAIL


def test_a_short_log_without_a_failed_step_is_shown_whole() -> None:
    assert _end_of_failed_step("one\ntwo\n") == "one\ntwo"


def _die_while_writing(database: Path) -> None:
    """Have a process killed in the middle of a transaction, as a step may be."""
    script = f"""
import os, sqlite3
connection = sqlite3.connect({str(database)!r})
connection.execute("pragma cache_size = 1")
connection.execute("create table if not exists runs (name)")
connection.commit()
connection.executemany("insert into runs values (?)", [("half" * 1000,)] * 100)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert database.with_name("mlflow.db-journal").exists()


def test_a_step_stopped_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _workspace(tmp_path):
        (tmp_path / "bundles").mkdir()
        _die_while_writing(tmp_path / "mlflow.db")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_database_is_as_it_was(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("create table runs (name)")
        connection.execute("insert into runs values ('earlier')")
    connection.close()
    with pytest.raises(KeyboardInterrupt), _workspace(tmp_path):
        _die_while_writing(tmp_path / "mlflow.db")
        raise KeyboardInterrupt
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("select name from runs").fetchall() == [("earlier",)]
    connection.close()
