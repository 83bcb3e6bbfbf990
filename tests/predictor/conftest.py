"""A real server in a process of its own, as users start it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.ports import free_port


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[str]
    http: str
    grpc: str
    log: Path

    def stop(self) -> int:
        """Stop as Kubernetes does and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def start_server(bundle: Path, log: Path, *options: str, model: str = "toy") -> Server:
    http, rpc = free_port(), free_port()
    command = [sys.executable, "-m", "pipelines.cli", "serve", str(bundle)]
    command += ["--http-port", str(http), "--grpc-port", str(rpc), "--model-name", model, *options]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, text=True)
    server = Server(process, f"http://127.0.0.1:{http}", f"127.0.0.1:{rpc}", log)
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode}: {log.read_text()}")
        try:
            if httpx.get(f"{server.http}/v2/models/{model}/ready").status_code == 200:
                return server
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the server is not ready: {log.read_text()}")


def _running(bundle: Path, work: pytest.TempPathFactory) -> Iterator[Server]:
    running = start_server(bundle, work.mktemp("server") / "log", "--revision", "canary-1")
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _running(bundle, tmp_path_factory)


@pytest.fixture(scope="module")
def cascade_server(cascade_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _running(cascade_bundle, tmp_path_factory)
