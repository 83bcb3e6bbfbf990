"""The programs of the demo: Prometheus, Alertmanager, a Pushgateway, the trigger and the server, on free ports."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from pipelines.demo import free_port
from predictor.errors import Unavailable

MODEL = "paper"
PIGEONHOLE = [sys.executable, "-m", "pipelines.cli"]
_RULES = Path(__file__).parents[2] / "manifests/monitoring/alerts"
_NEEDED = ("prometheus", "prometheus-alertmanager", "prometheus-pushgateway")
_START_SECONDS = 120
_EVERY = "1s"
_FOR = "3s"
"""How long what an alert says has to hold; in production it is minutes."""


def check_programs() -> None:
    """Check that the programs of others are installed.

    Raises:
        Unavailable: one is not.
    """
    if missing := [name for name in _NEEDED if not shutil.which(name)]:
        raise Unavailable(f"{missing[0]} is not installed: install Debian's packages {', '.join(_NEEDED)}")


class Services:
    """All programs of a run of the demo, with their files in a folder.

    Args:
        folder: an empty one, of this run alone.
        results: the folder of `pigeonhole run`.
        training: parameters of the training pipeline, as JSON.
    """

    def __init__(self, folder: Path, results: Path, training: str) -> None:
        self.folder, self.results, self._training = folder, results, training
        self.log_url = folder / "log"
        self._ports = {
            name: free_port() for name in ("server", "grpc", "push", "prometheus", "alertmanager", "trigger")
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = secrets.token_hex(16)

    def url(self, name: str) -> str:
        """Return the address of a program."""
        return f"http://127.0.0.1:{self._ports[name]}"

    def start(self, bundle: Path) -> None:
        """Start all of them, and wait until they are ready."""
        self._write_files()
        at = {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}
        # Debian's keeps figures in a file that all of them share.
        gateway = ["prometheus-pushgateway", f"--web.listen-address={at['push']}", "--persistence.file="]
        self._run("push", gateway, "/-/ready")
        self._run(
            "alertmanager",
            ["prometheus-alertmanager", f"--config.file={self.folder}/alertmanager.yml", "--cluster.listen-address=",
             f"--storage.path={self.folder}/alertmanager", f"--web.listen-address={at['alertmanager']}"],
            "/-/ready",
        )  # fmt: skip
        self._run(
            "prometheus",
            ["prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/tsdb",
             f"--web.listen-address={at['prometheus']}"],
            "/-/ready",
        )  # fmt: skip
        parameters = {
            "log_url": str(self.log_url), "hours": "1", "push_url": self.url("push"),
            "training": self._training,
        }  # fmt: skip
        self._run(
            "trigger",
            [*PIGEONHOLE, "trigger", "--webhook-token-file", str(self.folder / "token"), "--model-name", MODEL,
             "--state", str(self.folder / "trigger.db"), "--out", str(self.results),
             "--port", str(self._ports["trigger"]),
             *(word for name, value in parameters.items() for word in ("-p", f"{name}={value}"))],
            "/healthz",
        )  # fmt: skip
        self.serve(bundle)

    def serve(self, bundle: Path) -> None:
        """Serve a bundle, in the place of what is served now."""
        self._end("server")
        self._run(
            "server",
            [*PIGEONHOLE, "serve", str(bundle), "--model-name", MODEL, "--http-port", str(self._ports["server"]),
             "--grpc-port", str(self._ports["grpc"]), "--log-url", str(self.log_url), "--log-interval", "1"],
            f"/v2/models/{MODEL}/ready",
        )  # fmt: skip

    def watch(self, bundle: Path) -> dict[str, Any]:
        """Look for drift once and publish the figures, as the recurring run does; return the verdict."""
        done = subprocess.run(
            [*PIGEONHOLE, "monitor", "drift", str(bundle), "--log-url", str(self.log_url), "--model-name", MODEL,
             "--hours", "1", "--push-url", self.url("push"), "--out", str(self.folder / "drift"), "-o", "json"],
            stdout=subprocess.PIPE, stderr=self._log("drift"), check=False,
        )  # fmt: skip
        if done.returncode > 1:
            raise Unavailable(f"looking for drift failed: {self.folder}/drift.log says why")
        return dict(yaml.safe_load(done.stdout))

    def firing(self) -> dict[str, str]:
        """Return the alerts of Prometheus that fire and ask for a response: name to response."""
        found = httpx.get(f"{self.url('prometheus')}/api/v1/alerts").json()["data"]["alerts"]
        return {
            alert["labels"]["alertname"]: alert["labels"].get("response", "none")
            for alert in found
            if alert["state"] == "firing"
            and alert["labels"].get("model_name") == MODEL
            and alert["labels"].get("response", "none") in ("retrain", "label")
        }

    def runs(self) -> list[dict[str, Any]]:
        """Return the trigger's runs, the latest first."""
        headers = {"authorization": f"Bearer {self.token}"}
        return list(httpx.get(f"{self.url('trigger')}/runs", headers=headers).json()["runs"])

    def stop(self) -> None:
        """Stop all, as Kubernetes does, in the opposite order."""
        for name in reversed([*self._processes]):
            self._end(name)

    def _write_files(self) -> None:
        self.folder.mkdir(parents=True)
        token = self.folder / "token"
        token.touch(0o600)
        token.write_text(self.token)
        scrapes = [
            {"job_name": name, "honor_labels": name == "push", "static_configs": [{"targets": [self.url(name)[7:]]}]}
            for name in ("server", "push", "trigger")
        ]
        prometheus = {
            "global": {"scrape_interval": _EVERY, "evaluation_interval": _EVERY},
            "rule_files": [str(self.folder / "rules.yml")],
            "scrape_configs": scrapes,
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [self.url("alertmanager")[7:]]}]}]},
        }
        hook = {
            "url": f"{self.url('trigger')}/alerts",
            "send_resolved": True,
            "http_config": {"authorization": {"type": "Bearer", "credentials_file": str(token)}},
        }
        wanted = {"matchers": ['response=~"retrain|label|pause-batch"'], "receiver": "trigger"}
        alertmanager = {
            "route": {
                "receiver": "nobody", "group_by": ["alertname", "model_name"], "group_wait": "1s",
                "group_interval": "5s", "repeat_interval": "1m", "routes": [wanted],
            },
            "receivers": [{"name": "nobody"}, {"name": "trigger", "webhook_configs": [hook]}],
        }  # fmt: skip
        files = {"prometheus.yml": prometheus, "alertmanager.yml": alertmanager, "rules.yml": {"groups": _groups()}}
        for name, content in files.items():
            (self.folder / name).write_text(yaml.safe_dump(content))

    def _run(self, name: str, command: Sequence[str], ready: str) -> None:
        process = subprocess.Popen(command, stdout=self._log(name), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        self._processes[name] = process
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self.url(name) + ready):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"{command[0]} did not start: {self.folder}/{name}.log says why")
            time.sleep(0.2)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def _log(self, name: str) -> int:
        return os.open(self.folder / f"{name}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)


def _groups() -> list[dict[str, Any]]:
    """Return the groups of the rules that are deployed; only how often and how long is in seconds here."""
    groups: list[dict[str, Any]] = []
    for file in sorted(_RULES.glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            if document and document["kind"] == "PrometheusRule":
                groups += document["spec"]["groups"]
    for group in groups:
        group["interval"] = _EVERY
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = _FOR
    return groups


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait until a condition holds.

    Raises:
        Unavailable: it does not within the time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Unavailable(f"{what} did not happen within {seconds:g} seconds")
        time.sleep(0.5)
