"""A judge on real traffic: two predictors behind nginx's weights, what Prometheus counts of them, a real API server.

Tests play KServe and nginx plays its gateway, which splits traffic as the InferenceService says.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from components.platform.kubernetes import Cluster
from predictor.model.bundle import Bundle, ServingSpec, seal
from tests.cluster.callers import Callers
from tests.conftest import toy_frame
from tests.fakes.kserve_on_cluster import NAME, Kserve, uri
from tests.ports import free_port
from tests.predictor.conftest import Server, serving
from tests.prometheus import needs_prometheus, prometheus

_PATIENCE_SECONDS = 180
_SETTINGS = ["--interval=5", "--step-weight=25", "--max-weight=50", "--min-requests=100", "--deadline=120"]


class Gateway:
    """nginx, which sends each version its percent of the requests."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        self._folder, self._ports = folder, ports
        self.port = free_port()
        self._config({next(iter(ports)): 100})
        self._process = subprocess.Popen(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"])

    def split(self, shares: dict[str, int]) -> None:
        self._config(shares)
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def _config(self, shares: dict[str, int]) -> None:
        servers = "".join(f"server 127.0.0.1:{self._ports[name]} weight={share};" for name, share in shares.items())
        (self._folder / "nginx.conf").write_text(f"""
daemon off; pid nginx.pid; worker_processes 1; events {{}}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s;
  upstream news {{ {servers} keepalive 8; }}
  server {{
    listen 127.0.0.1:{self.port};
    location / {{
      proxy_pass http://news; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_next_upstream off;
    }}
  }}
}}
""")


def _half_sports(number: int) -> Callable[[], str]:
    """Half of the texts about sports, and in no order: callers in turns would keep step with nginx's shares."""
    frame, random, count = toy_frame(40, number), Random(number), itertools.count()
    sports, others = (list(frame.text[keep]) for keep in (frame.label == "Sports", frame.label != "Sports"))
    return lambda: f"{random.choice(random.choice((sports, others)))} {next(count)}"


@dataclass
class Town:
    """A service with its traffic, and another version beside it."""

    kserve: Kserve
    stable: str
    canary: str
    callers: Callers
    call: Callable[..., "subprocess.Popen[str]"]
    """Begins a rollout command."""

    def judged(self) -> tuple[int, Any]:
        """Judge to the end, and return the exit code and what was printed."""
        process = self.call("judge")
        out, said = process.communicate(timeout=_PATIENCE_SECONDS)
        assert out, said
        return process.returncode, json.loads(out)


@pytest.fixture
def town(cluster: Cluster, kubeconfig: Path, bundle: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a way to set up a town with a canary of a changed bundle or with other options."""
    needs_prometheus()
    if not shutil.which("nginx"):
        pytest.skip("no nginx: install Debian's package nginx-light")

    @contextmanager
    def built(change: Callable[[ServingSpec], ServingSpec], *options: str) -> Iterator[Town]:
        changed = tmp_path / "changed"
        shutil.copytree(bundle, changed)
        seal(changed, change(Bundle.open(bundle).spec))
        versions = [Bundle.open(folder).digest[:12] for folder in (bundle, changed)]
        with ExitStack() as stack:
            servers = [
                _served(stack, folder, tmp_path / f"log-{number}", *(options if number else ()))
                for number, folder in enumerate((bundle, changed))
            ]
            numbers = [int(server.http.rpartition(":")[2]) for server in servers]
            ports = dict(zip(versions, numbers, strict=True))
            gateway = Gateway(tmp_path, ports)
            stack.callback(gateway.stop)
            targets = [f"127.0.0.1:{port}" for port in ports.values()]
            (tmp_path / "prometheus").mkdir()
            url = stack.enter_context(prometheus(tmp_path / "prometheus", _scraping(targets, cluster.namespace)))
            kserve = Kserve(cluster)
            kserve.install(versions[0])
            stack.callback(_at_work(kserve, gateway))
            callers = stack.enter_context(Callers(gateway.port, NAME, _half_sports))
            environment = {
                **os.environ, "KUBECONFIG": str(kubeconfig), "PIGEONHOLE_NAMESPACE": cluster.namespace,
                "PIGEONHOLE_PROMETHEUS": url, "PYTHONWARNINGS": "ignore",
            }  # fmt: skip

            def call(command: str, *arguments: str) -> "subprocess.Popen[str]":
                return subprocess.Popen(
                    [sys.executable, "-m", "pipelines.cli", "rollout", command, NAME, *arguments],
                    env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )  # fmt: skip

            begun = call("start", "--bundle", uri(versions[1]), *_SETTINGS)
            assert begun.wait() == 0, begun.communicate()[1]
            begun.communicate()
            yield Town(kserve, versions[0], versions[1], callers, call)

    yield built


def _served(stack: ExitStack, folder: Path, log: Path, *options: str) -> Server:
    return stack.enter_context(serving(folder, log, "--cache-entries", "0", *options, model=NAME))


def _scraping(targets: list[str], namespace: str) -> str:
    labels = {"namespace": namespace}
    jobs = [{"job_name": "predictors", "static_configs": [{"targets": targets, "labels": labels}]}]
    return json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs})  # which is YAML, too


def _at_work(kserve: Kserve, gateway: Gateway) -> Callable[[], None]:
    """Let KServe look at its object all the time and the gateway follow; return the end of it."""
    over = threading.Event()

    def work() -> None:
        known = len(kserve.routes)
        while not over.wait(0.3):
            kserve.reconcile()
            if len(kserve.routes) > known:
                known = len(kserve.routes)
                gateway.split(kserve.routes[-1])

    thread = threading.Thread(target=work)
    thread.start()

    def end() -> None:
        over.set()
        thread.join()

    return end


def _same(spec: ServingSpec) -> ServingSpec:
    return spec.model_copy(update={"versions": {**spec.versions, "rebuilt": "1"}})


def _mixed_up(spec: ServingSpec) -> ServingSpec:
    """The labels in another order, as after a mistake in an export."""
    return spec.model_copy(update={"labels": spec.labels[1:] + spec.labels[:1]})


def test_an_equal_canary_gets_all_traffic_though_its_judge_is_killed(town: Callable[..., Any]) -> None:
    with town(_same) as there:
        first = there.call("judge")
        _until(lambda: {there.stable: 75, there.canary: 25} in there.kserve.routes, "the canary gets traffic")
        first.send_signal(signal.SIGKILL)
        first.communicate()
        code, end = there.judged()
        assert (code, end["phase"]) == (0, "promoted"), end["reasons"]
        _until(lambda: there.kserve.routes[-1] == {there.canary: 100}, "all traffic goes to the new version")
        assert [route.get(there.canary, 0) for route in there.kserve.routes] == [0, 25, 50, 100]
        time.sleep(1)
        before = len(there.callers.answers)
        _until(lambda: len(there.callers.answers) > before + 50, "callers are answered")
    assert not there.callers.failures() and {version for _, version in there.callers.answers[before:]} == {there.canary}


@pytest.mark.parametrize(
    ("change", "options", "reason"),
    [(_mixed_up, (), "is answered"), (_same, ("--timeout", "0.001"), "of requests fail")],
    ids=["another mix of classes", "no answers in time"],
)
def test_a_bad_canary_loses_its_traffic(
    town: Callable[..., Any], change: Callable[[ServingSpec], ServingSpec], options: tuple[str, ...], reason: str
) -> None:
    with town(change, *options) as there:
        code, end = there.judged()
        assert (code, end["phase"]) == (1, "rolled back") and reason in end["reasons"][0], end["reasons"]
        assert end["weight"] == 0 and there.kserve.routes == [
            {there.stable: 100},
            {there.stable: 75, there.canary: 25},
            {there.stable: 100},
        ]
        time.sleep(1)
        before = len(there.callers.answers)
        _until(lambda: len(there.callers.answers) > before + 50, "callers are answered")
    assert set(there.callers.answers[before:]) == {(200, there.stable)}


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, f"not in {_PATIENCE_SECONDS} s: {what}"
        time.sleep(0.2)
