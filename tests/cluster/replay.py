"""Rollouts without waiting: a clock that moves when it is slept on, and evidence that is drawn."""

from dataclasses import dataclass

from kubernetes import client

from components.platform.kubernetes import Cluster
from components.rollout.controller import Clock
from components.rollout.judging.evidence import NoEvidence, Prometheus, Window
from components.rollout.observer import Evidence
from components.rollout.state import Settings
from tests.components.rollout.traffic import STABLE, Behaviour, windows
from tests.fakes.kserve_on_cluster import Kserve

A, B, C = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"
SETTINGS = Settings(interval=5, step_weight=25, max_weight=50, min_requests=100, deadline=60)


class Killed(BaseException):
    """The process is no more."""


@dataclass
class Time:
    """Whenever somebody sleeps, KServe looks at its object."""

    kserve: Kserve
    seconds: float = 1_000_000.0

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        self.kserve.reconcile()

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.seconds, self.sleep)


@dataclass(frozen=True)
class Replay(Prometheus):
    """A canary that behaves as drawn; None for a Prometheus that is away."""

    canary: Behaviour | None = STABLE

    def windows(self, stable: str, canary: str, since: float, until: float, interval: float) -> list[Window]:
        if self.canary is None:
            raise NoEvidence("Prometheus at http://prometheus:9090 does not answer (MaxRetryError)")
        return windows(self.canary, [10] * int((until - since) // interval), rate=200, interval=120, seed=1)


def evidence(canary: Behaviour | None = STABLE) -> Evidence:
    return Evidence(Replay("http://prometheus:9090", canary=canary))


class Mortal(client.ApiClient):  # type: ignore[misc]
    """A connection whose process is killed instead of its write number `left` + 1."""

    def __init__(self, connection: client.ApiClient, left: int) -> None:
        super().__init__(connection.configuration)
        self.left, self.written, self._connection = left, 0, connection

    def call_api(self, resource_path, method, *args, **kwargs):  # type: ignore[no-untyped-def]
        if method != "GET":
            if self.left == self.written:
                raise Killed
            self.written += 1
        return self._connection.call_api(resource_path, method, *args, **kwargs)


def mortal(cluster: Cluster, left: int = 10**6) -> tuple[Cluster, Mortal]:
    connection = Mortal(cluster.api.api_client, left)
    return Cluster(client.CustomObjectsApi(connection), cluster.namespace), connection
