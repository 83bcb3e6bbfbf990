"""A stand-in for a cluster's API server: the paths of Katib's Experiments, over real HTTP.

What is posted and what is answered is held to the models that are generated from Katib's API.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from kubeflow_katib_api.models import V1beta1Experiment

NAMESPACE = "team-a"


@dataclass
class FakeCluster:
    """What the server has seen, and what it will answer."""

    statuses: list[Any] = field(default_factory=list)
    """Given out one a look, the last one for ever; a number is an HTTP error."""
    on_create: tuple[int, dict[str, Any]] | None = None
    keep: bool = False
    """Whether it heeds no deletion."""
    lose: int = 0
    """How many answers to a creation get lost."""
    seen: list[tuple[str, str]] = field(default_factory=list)
    posted: list[dict[str, Any]] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    labels: dict[str, str] | None = None
    """Of the namespace; None where the caller may not read it."""


def refusal(code: int, message: str, **details: Any) -> tuple[int, dict[str, Any]]:
    return code, {"kind": "Status", "status": "Failure", "code": code, "message": message, "details": details}


@contextmanager
def serving(cluster: FakeCluster, kubeconfig: Path) -> Iterator[FakeCluster]:
    """Serve the cluster and write a kubeconfig that leads to it."""
    root = f"/apis/kubeflow.org/v1beta1/namespaces/{NAMESPACE}/experiments"

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

        def _answer(self, code: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            cluster.seen.append(("POST", self.path))
            cluster.posted.append(body)
            if cluster.on_create:
                self._answer(*cluster.on_create)
            elif self.path != root:
                self._answer(*refusal(404, "the server could not find the requested resource"))
            elif (known := V1beta1Experiment.from_dict(body).to_dict()) != body:
                self._answer(*refusal(400, f"an Experiment has no such fields: {body}, but {known}"))
            elif body["metadata"]["name"] in cluster.experiments:
                self._answer(*refusal(409, "already exists", name=body["metadata"]["name"]))
            else:
                cluster.experiments[body["metadata"]["name"]] = body
                if cluster.lose:
                    cluster.lose -= 1
                    self.close_connection = True
                else:
                    self._answer(201, body)

        def do_GET(self) -> None:
            name = self.path.removeprefix(f"{root}/")
            if self.path.startswith("/api/v1/namespaces/"):
                found = {"kind": "Namespace", "metadata": {"labels": cluster.labels}}
                self._answer(*(refusal(403, "no") if cluster.labels is None else (200, found)))
                return
            cluster.seen.append(("GET", self.path))
            if name not in cluster.experiments:
                self._answer(*refusal(404, "not found", name=name))
                return
            status = cluster.statuses.pop(0) if len(cluster.statuses) > 1 else cluster.statuses[0]
            if isinstance(status, int):
                self._answer(*refusal(status, "not now"))
            else:
                answer = {**cluster.experiments[name], "status": status}
                assert V1beta1Experiment.from_dict(answer).to_dict() == answer, "Katib answers with no such status"
                self._answer(200, answer)

        def do_DELETE(self) -> None:
            cluster.seen.append(("DELETE", self.path))
            if not cluster.keep:
                cluster.experiments.pop(self.path.removeprefix(f"{root}/").split("?")[0], None)
            self._answer(200, {"kind": "Status", "status": "Success"})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": address}}],
        "users": [{"name": "fake", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake", "namespace": NAMESPACE}}],
    }
    kubeconfig.write_text(yaml.safe_dump(content))
    try:
        yield cluster
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def condition(kind: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": "True", "message": message}


RUNNING = {"conditions": [condition("Created"), condition("Running")], "trialsRunning": 2, "trialsSucceeded": 1}
DONE = {
    "conditions": [{"type": "Running", "status": "False"}, condition("Succeeded", "max trial count has reached")],
    "trialsSucceeded": 2,
    "trialsEarlyStopped": 1,
    "currentOptimalTrial": {
        "bestTrialName": "toy-x7k2",
        "parameterAssignments": [{"name": "learning_rate", "value": "0.0123"}],
        "observation": {
            "metrics": [
                {"name": "validation_accuracy", "min": "0.5", "max": "0.91", "latest": "0.9"},
                {"name": "validation_loss", "min": "0.3", "max": "0.7", "latest": "unavailable"},
            ]
        },
    },
}
