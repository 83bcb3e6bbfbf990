"""A run that is stopped, as a real process with real steps under it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from predictor.model.bundle import Bundle


@contextmanager
def _started(out: Path, backbone: Path, *options: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pipelines.cli", "run", "--data", "sample", "--backbone", str(backbone)]
    command += ["--out", str(out), "--min-accuracy", "0", *map(str, options)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        try:
            yield process
        finally:
            process.terminate()


def _stop_at(process: subprocess.Popen[str], number: int, reached: Callable[[str], bool]) -> str:
    """Send the signal to this process alone when a line of stderr says so, and return the last line."""
    assert process.stderr is not None and process.stdout is not None
    seen: list[str] = []
    for line in process.stderr:
        if reached(line) and not any(map(reached, seen)):
            process.send_signal(number)
        seen.append(line)
    process.wait(timeout=60)
    assert process.stdout.read() == ""
    assert any(map(reached, seen)), seen
    assert not any("Traceback" in line for line in seen), seen
    return seen[-1]


def _of_session(session: int) -> list[list[str]]:
    """The commands of the processes that a session still has."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.cmdline())
        except (psutil.NoSuchProcess, ProcessLookupError):
            continue
    return found


@pytest.mark.slow(reason="trains ten epochs in a run that is stopped and one that resumes")
def test_a_run_stopped_in_training_ends_its_step_and_resumes_from_the_checkpoint(
    backbone: Path, tmp_path: Path
) -> None:
    values = tmp_path / "values.json"
    values.write_text(json.dumps({"epochs": "10"}))
    out = tmp_path / "out"
    with _started(out, backbone, "--hyperparameters", values) as stopped:
        last = _stop_at(stopped, signal.SIGTERM, lambda line: "epoch 2:" in line)
    assert stopped.returncode == 128 + signal.SIGTERM
    assert last == f"pigeonhole: SIGTERM stopped the run; the next one into {out} goes on from its checkpoint\n"
    assert _of_session(stopped.pid) == []
    assert [file.name for file in out.iterdir()] == [".checkpoints"]
    assert [file.suffix for file in (out / ".checkpoints").iterdir()] == [".pt"]

    with _started(out, backbone, "--hyperparameters", values) as whole:
        printed, said = whole.communicate(timeout=300)
    assert whole.returncode in (0, 1), said  # so small a model may lose to the baseline
    assert "going on from the checkpoint in epoch " in said and "epoch 1:" not in said
    assert Bundle.open(Path(json.loads(printed)["bundle"]))
    assert not list(out.glob(".*"))


def test_ctrl_c_before_there_is_anything_leaves_nothing(backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with _started(out, backbone) as stopped:
        last = _stop_at(stopped, signal.SIGINT, lambda line: line.startswith("prepare"))
    assert stopped.returncode == 128 + signal.SIGINT
    assert last == f"pigeonhole: SIGINT stopped the run; the next one into {out} begins anew\n"
    assert _of_session(stopped.pid) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow(reason="a whole run up to its first epoch")
def test_a_run_that_is_killed_takes_its_step_along(backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _started(out, backbone) as killed:
        assert killed.stderr is not None
        assert any("epoch 1:" in line for line in killed.stderr)
        assert any("kfp.dsl.executor_main" in command for command in _of_session(killed.pid))
        killed.kill()
        killed.wait()
        deadline = time.monotonic() + 60
        while _of_session(killed.pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.mark.slow(reason="two whole runs that train")
def test_what_was_trained_is_kept_where_a_later_step_fails(backbone: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with _started(out, backbone) as broken:
        assert broken.stderr is not None
        said = []
        for line in broken.stderr:
            said.append(line)
            if line.startswith("evaluate"):
                shutil.rmtree(out / "bundles", ignore_errors=True)
                (out / "bundles").write_text("a file where the folder of bundles has to be")
        assert broken.wait(timeout=300) == 2
    assert said[-2] == f"pigeonhole: what the finished steps made is kept in {out / 'unfinished'}\n"
    assert said[-1].startswith("pigeonhole: ") and "cannot be written" in said[-1]
    assert (out / "unfinished" / "fine-tune" / "checkpoint" / "model.safetensors").is_file()
    assert Bundle.open(out / "unfinished" / "evaluate" / "bundle") and (out / "mlflow.db").is_file()
    assert not list(out.glob(".*"))

    (out / "bundles").unlink()
    with _started(out, backbone) as whole:
        printed, _ = whole.communicate(timeout=300)
    assert Bundle.open(Path(json.loads(printed)["bundle"])) and not (out / "unfinished").exists()


def test_a_child_that_heeds_no_signal_is_killed(tmp_path: Path) -> None:
    script = """
import subprocess, sys, time
import pipelines.running.stopping as stopping
stopping._GRACE_SECONDS = 0.5
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(99)"
with stopping.signals_stop_children(), subprocess.Popen(["sh", "-c", f'{sys.executable} -c "{deaf}"; sleep 99']):
    time.sleep(99)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert next(lines) == "deaf\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
    assert _of_session(process.pid) == []
