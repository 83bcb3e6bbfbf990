"""The trigger as a process: killed in the middle of a run, it goes on where it was, and nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil

from tests.pipelines.trigger.webhooks import body
from tests.ports import free_port

BEARER = {"authorization": "Bearer secret"}
_SCRIPT = """
import sys
from pathlib import Path
from components.monitoring.decision import Guards
from pipelines.trigger import starters
from pipelines.trigger.serving import serve
from pipelines.trigger.state import State
from predictor.tokens import TokenFile

folder, port = Path(sys.argv[1]), int(sys.argv[2])
starter = starters.Here([])
starter._command = [sys.executable, str(folder / "round.py")]
serve(State(folder / "trigger.db", Guards()), starter, TokenFile(folder / "token"), "news", "127.0.0.1", port)
"""
_ROUND = """
import json, os, sys, time
from pathlib import Path
folder = Path(__file__).parent
with (folder / "begun").open("a") as file:
    file.write(f"{os.getpid()}\\n")
while not (folder / "go").exists():
    time.sleep(0.05)
print(json.dumps({"answer": "retrain", "alert": sys.argv[-1]}))
"""


def _until(condition: Callable[[], object]) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def _start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", _SCRIPT, str(folder), str(port)])

    def ready() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    _until(ready)
    return process


def _begun(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "begun").read_text().split()] if (folder / "begun").exists() else []


def test_a_kill_loses_no_alert_and_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    (tmp_path / "round.py").write_text(_ROUND)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    first = _start(tmp_path, port)
    assert httpx.post(f"{url}/alerts", content=body(), headers=BEARER).json()["result"] == "started"
    _until(lambda: len(_begun(tmp_path)) == 1)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    _until(lambda: not psutil.pid_exists(_begun(tmp_path)[0]))

    second = _start(tmp_path, port)
    try:
        assert httpx.post(f"{url}/alerts", content=body(), headers=BEARER).json()["result"] == "duplicate"
        _until(lambda: len(_begun(tmp_path)) == 2)
        (tmp_path / "go").touch()
        _until(lambda: httpx.get(f"{url}/runs", headers=BEARER).json()["runs"][0]["state"] == "done")
        (run,) = httpx.get(f"{url}/runs", headers=BEARER).json()["runs"]
        assert (run["answer"], run["attempts"]) == ("retrain", 2)
        assert run["detail"]["alert"].startswith("alert=the alert TextClassifierAccuracyLow")
    finally:
        second.terminate()
        assert second.wait() is not None
    assert len(_begun(tmp_path)) == 2
