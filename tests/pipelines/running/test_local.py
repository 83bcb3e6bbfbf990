"""What a local run says of a step that broke, and what it leaves of one that was stopped."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.running.local import _workspace
from pipelines.running.steps import LOG_TAIL, end_of_failed_step

FAILED = "12:00:00.000 - ERROR - Task \x1b[96m'register'\x1b[0m finished with status \x1b[91mFAILURE\x1b[0m"
"""As kfp's runner writes it."""


def test_the_log_shown_ends_where_the_step_failed_not_where_the_exit_handler_did() -> None:
    after = ["Task 'end-rollout' finished with status \x1b[92mSUCCESS\x1b[0m"] * LOG_TAIL
    shown = end_of_failed_step("\n".join(["earlier"] * 50 + ["the reason", FAILED, *after])).splitlines()
    assert shown[-2:] == ["the reason", FAILED] and len(shown) == LOG_TAIL


def test_a_short_log_without_a_failed_step_is_shown_whole() -> None:
    assert end_of_failed_step("one\ntwo\n") == "one\ntwo"


def _filled(database: Path) -> Path:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("create table runs (name)")
        connection.executemany("insert into runs values (?)", [("earlier",)] * 5_000)
    return database


def _die_while_writing(database: Path) -> None:
    """Have a process killed in the middle of a transaction of which a part is in the file, as a step may be."""
    script = f"""
import os, sqlite3
connection = sqlite3.connect({str(database)!r})
connection.execute("pragma cache_size = 1")
connection.execute("update runs set name = 'half'")
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert database.with_name("mlflow.db-journal").exists()


def test_a_step_stopped_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), _workspace(tmp_path):
        (tmp_path / "bundles").mkdir()
        (tmp_path / "mlflow.db-backup").write_text("somebody else's")
        _die_while_writing(_filled(tmp_path / "mlflow.db"))
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["mlflow.db-backup"]


def test_an_earlier_database_is_as_it_was(tmp_path: Path) -> None:
    database = _filled(tmp_path / "mlflow.db")
    with pytest.raises(KeyboardInterrupt), _workspace(tmp_path):
        _die_while_writing(database)
        raise KeyboardInterrupt
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select name, count(*) from runs group by name").fetchall() == [("earlier", 5_000)]
