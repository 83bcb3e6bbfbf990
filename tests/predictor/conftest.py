"""A real server in a process of its own, as users start it."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def serving(
    bundle: Path, log: Path, *options: str, model: str = "toy", program: str = "pipelines.cli"
) -> Iterator[Server]:
    """Start a server and wait until it is ready; end it with the block, if it has not ended before."""
    http, rpc = free_port(), free_port()
    command = [sys.executable, "-m", program, "serve", str(bundle)]
    command += ["--http-port", str(http), "--grpc-port", str(rpc), "--model-name", model, *options]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, text=True)
    server = Server(process, f"http://127.0.0.1:{http}", f"127.0.0.1:{rpc}", log)
    try:
        _until_ready(server, model)
        yield server
    finally:
        if process.poll() is None:
            server.stop()


def _until_ready(server: Server, model: str) -> None:
    for _ in range(600):
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}: {server.log.read_text()}")
        try:
            if httpx.get(f"{server.http}/v2/models/{model}/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"the server is not ready: {server.log.read_text()}")


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    options = ("--revision", "canary-1", "--log-url", str(folder / "predictions"))
    with serving(bundle, folder / "log", *options) as running:
        yield running


@pytest.fixture(scope="module")
def cascade_server(cascade_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(cascade_bundle, tmp_path_factory.mktemp("server") / "log", "--revision", "canary-1") as running:
        yield running
