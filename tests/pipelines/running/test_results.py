"""Who holds a folder for results, and what becomes of the processes of one who is killed: with real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pipelines.running.results import locked_folder
from predictor.errors import InputError

# Children and grandchildren, some in sessions of their own, some without a parent; each leaves its pid.
FAMILY = """
import subprocess, sys, time
from pathlib import Path
from pipelines.running.results import locked_folder

out, notes = Path(sys.argv[1]), Path(sys.argv[2])
note = f"import os, pathlib, signal, subprocess, sys, time; pathlib.Path({str(notes)!r}, str(os.getpid())).touch(); "
sleep = "time.sleep(600)"
worker = f"os.fork() or pathlib.Path({str(notes)!r}, str(os.getpid())).touch(); "
grandchild = f"subprocess.Popen([sys.executable, '-c', {note + sleep!r}], start_new_session=True); "
deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
with locked_folder(out):
    subprocess.Popen([sys.executable, "-c", note + worker + sleep], start_new_session=True)
    subprocess.Popen(["sh", "-c", '"$0" -c "$1"; sleep 600', sys.executable, note + grandchild + sleep])
    subprocess.Popen([sys.executable, "-c", note + grandchild])  # leaves an orphan
    subprocess.Popen([sys.executable, "-c", "import signal; " + deaf + note + sleep])
    time.sleep(600)
"""


@contextmanager
def _family(out: Path, notes: Path) -> Iterator[subprocess.Popen[bytes]]:
    notes.mkdir()
    with subprocess.Popen([sys.executable, "-c", FAMILY, str(out), str(notes)]) as process:
        try:
            _until(lambda: len(list(notes.iterdir())) == 7)
            yield process
        finally:
            process.kill()


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _live(notes: Path) -> list[int]:
    """The family's processes that still run: each has left a note, or has where to leave one in its command."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(notes) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def _is_held(out: Path) -> bool:
    try:
        with locked_folder(out):
            return False
    except InputError:
        return True


def test_nothing_survives_a_process_that_is_killed_and_the_folder_is_held_so_long(tmp_path: Path) -> None:
    out, notes = tmp_path / "out", tmp_path / "notes"
    with _family(out, notes) as process:
        with (
            pytest.raises(InputError, match=rf"--out {out} is in use by process {process.pid} on .+: wait until"),
            locked_folder(out),
        ):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert _is_held(out)  # by a child that heeds no SIGTERM: it might write
        _until(lambda: not _live(notes))
        _until(lambda: not _is_held(out))
    assert not list(out.iterdir())


def test_what_a_dead_holder_left_locks_nobody_out(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("process 1 on another-host")  # as in a container, where 1 is always alive
    with locked_folder(tmp_path):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_stays_empty_goes_away_with_those_made_for_it(tmp_path: Path) -> None:
    with locked_folder(tmp_path / "deep" / "out"):
        assert (tmp_path / "deep" / "out").is_dir()
    assert list(tmp_path.iterdir()) == []
    with locked_folder(tmp_path / "deep" / "out"):
        (tmp_path / "deep" / "out" / "result.json").touch()
    assert [file.name for file in (tmp_path / "deep" / "out").iterdir()] == ["result.json"]


def test_of_many_who_want_a_folder_one_at_a_time_gets_it(tmp_path: Path) -> None:
    """Each holder takes its lock file away at the end, just when others open it."""
    script = f"""
import sys
from contextlib import nullcontext
from pathlib import Path
import pipelines.running.results as results
from predictor.errors import InputError
results.no_orphans = lambda lock: nullcontext()
out, got = Path({str(tmp_path)!r}), 0
while got < 200:
    try:
        with results.locked_folder(out):
            (out / "mark").touch(exist_ok=False)
            (out / "mark").unlink()
            got += 1
    except InputError:
        continue
"""
    several = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in several] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_held_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for out in (tmp_path / "file" / "out", Path("/proc/none")):
        with pytest.raises(InputError, match="cannot be written"), locked_folder(out):
            pass
