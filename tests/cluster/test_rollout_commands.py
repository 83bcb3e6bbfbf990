"""The commands as a person or a pipeline calls them, in processes of their own, against the real API server."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.platform.kubernetes import Cluster
from tests.cluster.replay import A, B
from tests.conftest import ROOT
from tests.fakes.kserve_on_cluster import NAME, Kserve, uri


@pytest.fixture
def kserve(cluster: Cluster) -> Iterator[Kserve]:
    """KServe at work beside the test."""
    service, over = Kserve(cluster), threading.Event()
    service.install(A)

    def work() -> None:
        while not over.wait(0.3):
            service.reconcile()

    thread = threading.Thread(target=work)
    thread.start()
    yield service
    over.set()
    thread.join()


@pytest.fixture
def call(kserve: Kserve, kubeconfig: Path, tmp_path: Path) -> Any:
    """Run a command of kubectl's plugin and return its exit code, its JSON and its stderr."""
    plugin = tmp_path / "kubectl-pigeonhole"
    plugin.write_text(f"#!{sys.executable}\nfrom pipelines.cli.app import plugin\nplugin()\n")
    plugin.chmod(0o755)
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
        "KUBECONFIG": str(kubeconfig), "PIGEONHOLE_NAMESPACE": kserve.cluster.namespace,
    }  # fmt: skip

    def run(*arguments: str) -> tuple[int, Any, str]:
        command = ["kubectl", "pigeonhole", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr

    return run


def test_start_status_promote_history_rollback(kserve: Kserve, call: Any) -> None:
    code, rollout, _ = call("start", NAME, "--bundle", uri(B))
    assert code == 0 and rollout["phase"] == "preparing" and rollout["canary"]["name"] == B
    code, _, said = call("start", NAME, "--bundle", uri("cccccccccccc"))
    assert code == 2 and f"already rolls out {B}" in said and len(said.splitlines()) == 1
    while (promoted := call("promote", NAME))[0]:
        assert promoted[0] == 2 and "is not ready" in promoted[2]
    end = promoted[1]
    assert end["phase"] == "promoted" and call("status", NAME)[1]["serves"] == B
    code, listed, _ = call("history", NAME)
    assert code == 0
    assert [(v["version"], v["outcome"], v["serves"]) for v in listed["versions"]] == [
        (A, "found", False),
        (B, "promoted", True),
    ]
    code, end, _ = call("rollback", NAME, "--to", A)
    assert code == 0 and end["phase"] == "promoted" and call("status", NAME)[1]["serves"] == A
    assert [(v["version"], v["reasons"], v["serves"]) for v in call("history", NAME)[1]["versions"]] == [
        (A, [], False),
        (B, ["promoted by hand"], False),
        (A, ["rolled back by hand"], True),
    ]


def test_a_judge_without_prometheus_goes_back_and_says_no(kserve: Kserve, call: Any) -> None:
    settings = ["--interval", "1", "--deadline", "60", "--step-weight", "50"]
    assert call("start", NAME, "--bundle", uri(B), *settings)[0] == 0
    code, end, said = call("judge", NAME, "--prometheus", "http://127.0.0.1:9")
    assert code == 1 and end["phase"] == "rolled back" and "does not answer" in end["reasons"][0]
    assert "rolling back" in said and "canary" not in kserve.service()["spec"]


def test_wrong_use_is_a_sentence(kserve: Kserve, call: Any) -> None:
    code, result, said = call("judge", "nobody", "--prometheus", "http://127.0.0.1:9")
    assert (code, result) == (2, None) and "there is no inferenceservice nobody" in said and len(said.splitlines()) == 1
    code, _, said = call("start", NAME, "--bundle", uri(B), "--step-weight", "60")
    assert code == 2 and "step weight 60 and maximum weight 50 make no steps" in said
