"""Rollouts on a cluster in memory, beside a KServe that does what upstream's controller does."""

from typing import Any

from components.rollout.controller import run_to_end, start, step
from components.rollout.inference_service import GROUP, PLURAL, VERSION
from components.rollout.state import Phase
from tests.cluster.replay import SETTINGS, Time, evidence
from tests.components.rollout.traffic import STABLE, Behaviour
from tests.fakes.kserve_on_cluster import NAME, Kserve, uri
from tests.fakes.memory_cluster import memory_cluster


class Watched(Kserve):
    """KServe, and what a pod of each version had to do at most whenever both had traffic."""

    def reconcile(self) -> None:
        super().reconcile()
        shares = {name: share for name, share in self._shares().items() if share}
        if len(shares) > 1:
            pods = {name: len(self.pods(name)) for name in shares}
            loads = {self.versions[name]: share / pods[name] for name, share in shares.items()}
            self.loads.append((dict(pods), loads))

    def __init__(self) -> None:
        super().__init__(memory_cluster())
        self.loads: list[tuple[dict[str, int], dict[str, float]]] = []


def whole(kserve: Kserve, version: str, canary: Behaviour | None = STABLE) -> Phase:
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(version), SETTINGS, time.clock)
    return run_to_end(kserve.cluster, NAME, evidence(canary), time.clock).phase


def replicas(kserve: Kserve) -> tuple[int | None, int | None]:
    predictor = kserve.service()["spec"]["predictor"]
    return predictor.get("minReplicas"), predictor.get("maxReplicas")


def merge(kserve: Kserve, spec: dict[str, Any]) -> None:
    where = (GROUP, VERSION, kserve.cluster.namespace, PLURAL, NAME)
    kserve.cluster.api.patch_namespaced_custom_object(*where, {"spec": spec})


def step_once(kserve: Kserve, time: Time) -> None:
    step(kserve.cluster, NAME, evidence(), time.clock)
    time.sleep(5)
