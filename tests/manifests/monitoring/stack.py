"""Real parts on this machine: a predictor, a Pushgateway, a Prometheus with the rules, an Alertmanager."""

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from tests.docs.checks import named, options
from tests.manifests.monitoring.rules import MONITORING, own_thresholds, write
from tests.manifests.monitoring.series import LOG, PUSHED, TRIGGER, names_in
from tests.ports import free_port
from tests.predictor.conftest import Server, serving
from tests.prometheus import backfill, needs_prometheus, prometheus

TOKEN = "a token of the tests"
_DAY = 86400
_LABELS = {"part": "vocabulary", "source": "feedback", "pipeline": "monitoring"}


@dataclass
class Received:
    """What a small HTTP server got."""

    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """Path, Authorization, body."""

    def alerts(self, path: str, status: str = "firing") -> dict[str, dict[str, str]]:
        """Return the labels of the alerts that came to a path, by name."""
        found = [alert for at, _, body in self.calls if at == path for alert in body["alerts"]]
        return {alert["labels"]["alertname"]: alert["labels"] for alert in found if alert["status"] == status}


@dataclass(frozen=True)
class Stack:
    predictor: Server
    prometheus: str
    pushgateway: str
    received: Received

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series of an instant query that have a number.

        Raises:
            HTTPError: Prometheus refuses the query.
        """
        address = f"{self.prometheus}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
        with urllib.request.urlopen(address, timeout=60) as answer:
            result = json.load(answer)["data"]["result"]
        return [row for row in result if row["value"][1] != "NaN"]

    def push(self, accuracy: float) -> None:
        """Publish what pipelines publish: all gauges, with times of now."""
        registry = CollectorRegistry()
        for name in sorted(PUSHED):
            labels = {"model_name": "toy"}
            if "pipeline" in name:
                labels = {"pipeline": _LABELS["pipeline"]}
            elif "part_ratio" in name:
                labels["part"] = _LABELS["part"]
            elif name.startswith("text_classifier_accuracy"):
                labels["source"] = _LABELS["source"]
            value = time.time() if "_time_" in name else 400.0 if name.endswith("_rows") else accuracy
            value = 0.0 if name.endswith(("failed", "paused", "drift_ratio")) else value
            Gauge(name, "Of a test.", list(labels), registry=registry).labels(**labels).set(value)
        push_to_gateway(self.pushgateway.removeprefix("http://"), job="monitoring", registry=registry)


def eventually(holds: Callable[[], Any], what: str, tries: int = 240) -> Any:
    """Ask again and again until there is an answer."""
    for _ in range(tries):
        if answer := holds():
            return answer
        time.sleep(0.5)
    raise AssertionError(f"it never came to this: {what}")


@contextmanager
def _http(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def _receiver(received: Received) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            received.calls.append((self.path, self.headers.get("authorization", ""), body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with _http(Handler) as address:
        yield address


@contextmanager
def _cluster() -> Iterator[str]:
    """Serve what cAdvisor, kube-state-metrics and the trigger would, and what the predictor does not have yet."""
    pod = 'namespace="pigeonhole",pod="toy-1",container="kserve-container"'
    service = 'namespace="pigeonhole",name="toy",part_of="pigeonhole"'
    verdict = 'annotation_pigeonhole_verdict="0123456789ab promoted: no difference"'
    lines = [
        f"container_cpu_usage_seconds_total{{{pod}}} {{seconds}}",
        f"container_memory_working_set_bytes{{{pod}}} 1e9",
        f'kube_pod_container_resource_limits{{{pod},resource="cpu"}} 2',
        f'kube_pod_container_resource_limits{{{pod},resource="memory"}} 2e9',
        f'kube_configmap_annotations{{namespace="pigeonhole",configmap="toy-rollout",{verdict}}} 1',
        f'kserve_inferenceservice_condition{{{service},type="Ready"}} 1',
        f'kserve_inferenceservice_canary_traffic_percent{{{service},canary="v0123456789ab"}} 10',
    ]
    lines += [f'{name}{{model_name="toy",namespace="pigeonhole"}} 0' for name in sorted(LOG - names_in("predictor"))]

    lines += [f'{name}{{result="stop"}} 0' for name in sorted(TRIGGER)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(ConnectionError):  # Prometheus gave up on a machine that is busy
                self.wfile.write(("\n".join(lines) + "\n").replace("{seconds}", f"{time.time():.0f}").encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    with _http(Handler) as address:
        yield address


@contextmanager
def program(*command: str, ready: str, environment: dict[str, str] | None = None) -> Iterator[None]:
    """Run a program, and begin when it answers at an address."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)

    def answers() -> bool:
        assert process.poll() is None, f"{command[0]} ended at once"
        try:
            return httpx.get(ready).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(answers, f"{command[0]} is ready")
        yield
    finally:
        process.terminate()
        process.wait()


def _history(folder: Path) -> None:
    """Make the series that rules compare with: around this hour of the last seven days."""
    now, text = int(time.time()), ""
    for name, more in (("requests", [""]), ("predictions", [f',category="{c}"' for c in ("Business", "Sports")])):
        text += f"# TYPE text_classifier:{name}:rate1h gauge\n"
        for own in more:
            for day in range(7, 0, -1):
                for minute in range(-5, 40):
                    labels = f'namespace="pigeonhole",model_name="toy"{own}'
                    time_ = now - day * _DAY + 60 * minute
                    text += f"text_classifier:{name}:rate1h{{{labels}}} 1 {time_}\n"
    backfill(folder, text)


def _alertmanager_config(folder: Path, receiver: str) -> Path:
    """Write the configuration that is delivered, with addresses and without its waits."""
    config = yaml.safe_load((MONITORING / "alertmanager/alertmanager.yml").read_text())
    config["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    trigger, people = config["receivers"]
    trigger["webhook_configs"][0]["url"] = f"http://{receiver}/alerts"
    people["webhook_configs"] = [{"url": f"http://{receiver}/people"}]
    (folder / "trigger-token").write_text(TOKEN)
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    return folder / "alertmanager.yml"


def _scrapes(rules: Path, alertmanager: str, targets: dict[str, str]) -> str:
    own = {"namespace": "pigeonhole", "pod": "toy-1"}
    jobs = [
        {
            "job_name": job,
            "honor_labels": True,
            "static_configs": [{"targets": [target], "labels": own if job == "predictor" else {}}],
        }
        for job, target in targets.items()
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{rules}/*.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": jobs,
    }
    return yaml.safe_dump(config)


@contextmanager
def running(bundle: Path, folder: Path, own: list[tuple[dict[str, str], float]]) -> Iterator[Stack]:
    """Start everything, with thresholds of one's own and alerts that do not wait."""
    needs_prometheus()
    for name in ("prometheus-alertmanager", "prometheus-pushgateway"):
        if not shutil.which(name):
            pytest.skip(f"no {name}: install Debian's package")
    logging = ["--log-url", str(folder / "log")] if "--log-url" in options(named(["serve"])[0]) else []
    write(folder / "rules", at_once=True)
    own_thresholds(folder / "rules", own)
    _history(folder)
    received, pushes, alerts = Received(), f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        server = stack.enter_context(serving(bundle, folder / "server.log", "--revision", "stable", *logging))
        receiver, cluster = stack.enter_context(_receiver(received)), stack.enter_context(_cluster())
        stack.enter_context(
            program(
                "prometheus-pushgateway",
                f"--web.listen-address={pushes}",
                "--persistence.file=",
                ready=f"http://{pushes}/-/ready",
            )
        )
        stack.enter_context(
            program(
                "prometheus-alertmanager",
                f"--config.file={_alertmanager_config(folder, receiver)}", f"--storage.path={folder}/alertmanager",
                f"--web.listen-address={alerts}", "--cluster.listen-address=", ready=f"http://{alerts}/-/ready",
            )
        )  # fmt: skip
        targets = {"predictor": server.http.removeprefix("http://"), "pushed": pushes, "cluster": cluster}
        address = stack.enter_context(prometheus(folder, _scrapes(folder / "rules", alerts, targets)))
        yield Stack(server, address, f"http://{pushes}", received)
