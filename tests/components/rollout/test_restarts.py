"""Pods that crash, which no metric tells: what the API server says of them, and what the judge makes of it."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from kubernetes import client

from components.platform.kubernetes import Cluster
from components.rollout.inference_service import Service
from components.rollout.judging.evidence import Pod, Pods, Prometheus
from components.rollout.judging.judge import judge
from components.rollout.observer import judge_canary
from components.rollout.restarts import read_pods
from components.rollout.state import ModelVersion, Phase, Rollout, Settings
from tests.ports import free_port

A, B = (ModelVersion(letter * 12, f"s3://models/news/{letter * 12}") for letter in "ab")
SINCE, NOW = 1_000_000.0, 1_000_600.0
ROLLOUT = Rollout(
    A, B, Phase.JUDGING, 0.0, 0.0, Settings(), weight=10, judged_since=SINCE, stable_revision="r1", canary_revision="r2"
)
WELL = Pod("one")
OUT_OF_MEMORY = Pod("two", 1, "OOMKilled, exit code 137", crashed=True)


def at(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def pod(
    name: str, restarts: int = 0, last: dict[str, Any] | None = None, state: str = "running", ready: bool = True
) -> dict[str, Any]:
    """A pod as the API server has it; `last` is how its server ended."""
    running: dict[str, Any] = {"running": {"startedAt": at(SINCE - 100)}}
    waiting: dict[str, Any] = {"waiting": {"reason": "CrashLoopBackOff"}}
    server = {
        "name": "kserve-container", "image": "i", "imageID": "i", "ready": ready, "started": True,
        "restartCount": restarts, "state": running if state == "running" else waiting,
        "lastState": {"terminated": last} if last else {},
    }  # fmt: skip
    sidecar = {**server, "name": "istio-proxy", "restartCount": 9}
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": at(SINCE)}
    status = {"phase": "Running", "containerStatuses": [sidecar, server], "conditions": [condition]}
    return {"metadata": {"name": name}, "spec": {"containers": []}, "status": status}


def ended(reason: str, code: int, when: float = SINCE + 60) -> dict[str, Any]:
    return {"reason": reason, "exitCode": code, "finishedAt": at(when)}


@pytest.fixture
def listed() -> Iterator[tuple[Cluster, dict[str, list[dict[str, Any]]]]]:
    """An API server that lists pods by selector, as it is told."""
    told: dict[str, list[dict[str, Any]]] = {}

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            (selector,) = parse_qs(urlsplit(self.path).query)["labelSelector"]
            content = json.dumps({"kind": "PodList", "items": told.get(selector, [])}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = client.ApiClient(client.Configuration(host=f"http://127.0.0.1:{server.server_port}"))
    yield Cluster(client.CustomObjectsApi(connection), "team-a"), told
    server.shutdown()
    server.server_close()
    thread.join()


def service(mode: str = "Standard") -> Service:
    predictor = {"name": f"v{A.name}", "model": {"storageUri": A.uri}}
    return Service({"metadata": {"name": "news"}, "spec": {"predictor": predictor}, "status": {"deploymentMode": mode}})


@pytest.mark.parametrize(
    ("mode", "stable", "canary"),
    [
        ("Standard", f"app=isvc.news-v{A.name}-predictor", f"app=isvc.news-v{B.name}-predictor"),
        ("Knative", "serving.knative.dev/revision=r1", "serving.knative.dev/revision=r2"),
    ],
)
def test_ends_of_servers_are_read_from_their_pods(
    listed: tuple[Cluster, dict[str, list[dict[str, Any]]]], mode: str, stable: str, canary: str
) -> None:
    cluster, told = listed
    evicted = {**pod("evicted", 1, ended("Error", 137)), "status": {"phase": "Failed", "reason": "Evicted"}}
    leaving = pod("leaving", 1, ended("Error", 1))
    leaving["metadata"]["deletionTimestamp"] = at(NOW)
    told[stable] = [
        pod("long ago", 3, ended("Error", 1, SINCE - 3600)), pod("rebooted", 1, ended("Unknown", 255)), evicted,
        leaving,
    ]  # fmt: skip
    told[canary] = [
        pod("well"), pod("probed", 2, ended("Completed", 0)), pod("looping", 2, ended("Error", 1), "waiting", False),
        pod("hungry", 1, ended("OOMKilled", 137)), pod("deaf", ready=False),
    ]  # fmt: skip
    found = read_pods(cluster, service(mode), ROLLOUT, NOW)
    assert found.stable == (Pod("long ago"), Pod("rebooted")) and found.seconds == 600
    assert found.canary == (
        Pod("well"), Pod("probed", 2, "Completed, exit code 0"), Pod("looping", 3, "Error, exit code 1", True),
        Pod("hungry", 1, "OOMKilled, exit code 137", True), Pod("deaf", silent=True),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stable", "canary", "harm"),
    [
        ([WELL], [WELL, OUT_OF_MEMORY], True),
        ([WELL], [Pod("two", 1, "Completed, exit code 0")], False),  # one probe may be a busy node's doing
        ([WELL], [Pod("two", 2, "Completed, exit code 0")], True),
        ([OUT_OF_MEMORY, WELL], [OUT_OF_MEMORY], False),  # what both do may be their requests' doing
        ([OUT_OF_MEMORY, *[WELL] * 8], [Pod("two", 5, "Error, exit code 1", True)], True),
        ([OUT_OF_MEMORY], [WELL], False),
        ([WELL], [Pod("two", silent=True), WELL], True),
        ([Pod("one", silent=True)], [Pod("two", silent=True)], False),
        ([], [], False),
    ],
)
def test_a_canary_whose_servers_end_is_worse_where_the_others_do_not(
    stable: list[Pod], canary: list[Pod], harm: bool
) -> None:
    verdict = judge((), pods=Pods(tuple(stable), tuple(canary), 600.0))
    assert verdict.harm is harm and [c.harm for c in verdict.checks if c.signal != "pods"] == [False] * 6


def test_a_crash_is_told_with_pod_and_reason_even_where_prometheus_is_away() -> None:
    pods = Pods((WELL,), (WELL, OUT_OF_MEMORY), 600.0)
    verdict = judge_canary(ROLLOUT, Prometheus(f"http://127.0.0.1:{free_port()}"), NOW, pods)
    assert verdict.harm and verdict.reasons == [
        "the canary's servers ended once (two: OOMKilled, exit code 137), the stable version's never"
    ]
