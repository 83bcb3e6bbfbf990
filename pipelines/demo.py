"""A demo: train on the sample, serve the bundle, send requests over three protocols, show the metrics, stop."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from components.tasks.task import Task, default_task, load_task
from pipelines.running.stopping import no_orphans, signals_stop_children
from predictor.client import Answers, Server, ask
from predictor.metric_names import PREDICTIONS, REQUESTS

_START_SECONDS = 60


def main(out: str = "demo", name: str = "") -> int:
    """Run the demo of a task, the default one if no other is named, and return the exit code."""
    task = load_task(name) if name else default_task()
    with signals_stop_children(), no_orphans():
        return _demo(Path(out), task, ["--task", name] if name else [])


def _demo(out: Path, task: Task, named: list[str]) -> int:
    command = [sys.executable, "-m", "pipelines.cli"]
    print(f"\n== Training on the embedded sample, into {out}\n", flush=True)
    trained = subprocess.run(
        [*command, "run", "--data", "sample", *named, "--out", str(out), "-o", "json"],
        stdout=subprocess.PIPE,
        check=False,
    )
    if trained.returncode > 1:
        return trained.returncode
    result = json.loads(trained.stdout)
    print("\n== Result\n")
    for name, value in _table(result):
        print(f"  {name:<22}{value}")
    http, rpc = free_port(), free_port()
    print(
        f"\n== Serving the bundle: pigeonhole serve {result['bundle']} --http-port {http} --grpc-port {rpc}\n",
        flush=True,
    )
    with _server([*command, "serve", result["bundle"], "--http-port", str(http), "--grpc-port", str(rpc)], http):
        _ask(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{rpc}", task.demo.texts)
    print(f"\n== Done. The server has stopped.\n\n  bundle  {result['bundle']}\n  report  {result['report']}")
    print("  runs    make mlflow\n")
    return trained.returncode


def _table(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("test accuracy", f"{result['accuracy']:.2%}"),
        ("linear baseline", f"{result['baseline_accuracy']:.2%}"),
        ("precision served", result["precision"]),
        ("gate", "passed" if result["passed"] else "closed: " + "; ".join(result["reasons"])),
        ("model version", result["version"]),
        ("bundle digest", result["digest"][:12]),
        ("data digest", result["data_digest"][:12]),
        ("seconds", f"{result['seconds']:.0f}"),
    ]


def _ask(http: str, grpc: str, texts: Sequence[str]) -> None:
    addresses = {"V1 REST": ("v1", http), "V2 REST": ("v2", http), "V2 gRPC": ("grpc", grpc)}
    answers = [
        Answers.joined(ask(Server.at(protocol, url, "classifier"), texts)) for protocol, url in addresses.values()
    ]
    width = 4 + max(len(_cell(given, row)) for given in answers for row in range(len(texts)))
    print("  " + "".join(f"{title:<{width}}" for title in addresses) + "text")
    for row, text in enumerate(texts):
        cells = (_cell(given, row) for given in answers)
        print("  " + "".join(f"{cell:<{width}}" for cell in cells) + text[:60] + "...")
    print(f"\n== Counters on {http}/metrics\n")
    for line in httpx.get(f"{http}/metrics").text.splitlines():
        if line.startswith((REQUESTS, PREDICTIONS)) and not line.endswith(" 0.0"):
            print(f"  {line}")


def _cell(given: Answers, row: int) -> str:
    score = f" ({given.scores[row]:+.3f})" if given.scores else ""
    return f"{given.labels[row]} {given.confidences[row]:.3f}{score}"


@contextmanager
def _server(command: list[str], port: int) -> Iterator[None]:
    """Start a server, wait until it is ready, and stop it afterwards with SIGTERM, as Kubernetes does."""
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("demo: the server did not start; its message is above")
            time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait(timeout=_START_SECONDS)


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(main(*sys.argv[1:]))
