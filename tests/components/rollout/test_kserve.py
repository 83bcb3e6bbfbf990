"""Rollouts beside KServe: pods, traffic and names as its controller lets them be."""

from dataclasses import replace

import pytest

from components.platform.kubernetes import Cluster
from components.rollout.controller import run_to_end, start
from components.rollout.endings import promote, roll_back
from components.rollout.record import load
from components.rollout.state import Phase
from predictor.errors import InputError
from tests.cluster.replay import SETTINGS, A, B, C, Time, evidence
from tests.components.rollout.replayed import Watched, merge, replicas, step_once, whole
from tests.components.rollout.traffic import FAILING, STABLE, Behaviour
from tests.fakes.kserve_controller import AUTOSCALER
from tests.fakes.kserve_on_cluster import NAME, uri


@pytest.fixture
def kserve() -> Watched:
    return Watched()


@pytest.mark.parametrize(
    ("scaler", "canary"), [("hpa", STABLE), ("hpa", FAILING), ("none", STABLE), ("keda", STABLE), ("external", STABLE)]
)
def test_no_pod_of_a_canary_is_busier_than_a_stable_one(kserve: Watched, scaler: str, canary: Behaviour) -> None:
    kserve.load = 2 if scaler == "none" else 6
    metrics = {"metrics": [{"type": "External"}]} if scaler == "keda" else None
    kserve.install(A, replicas=2, scaler=scaler, maxReplicas=8, autoScaling=metrics)
    assert whole(kserve, B, canary) is (Phase.PROMOTED if canary is STABLE else Phase.ROLLED_BACK)
    assert kserve.loads and not kserve.errors and not kserve.lost
    for pods, loads in kserve.loads:
        assert loads[B] <= loads[A] and pods[f"{NAME}-predictor"] >= kserve.load
    assert replicas(kserve) == (2, 8) and "canary" not in kserve.service()["spec"]
    annotations = kserve.service()["spec"]["predictor"].get("annotations")
    assert not annotations  # what is for the canary alone does not stay


def test_a_canary_follows_a_stable_version_that_is_scaled_up_meanwhile(kserve: Watched) -> None:
    kserve.install(A, replicas=2, maxReplicas=8)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    original = time.sleep

    def busier(seconds: float) -> None:
        original(seconds)
        kserve.load = 5 if len(kserve.loads) > 2 else 0

    time.sleep = busier  # type: ignore[method-assign]
    assert run_to_end(kserve.cluster, NAME, evidence(), time.clock).phase is Phase.PROMOTED
    pods, loads = kserve.loads[-1]
    assert pods == {f"{NAME}-predictor": 5, f"{NAME}-v{B}-predictor": 5} and loads[B] == loads[A]
    assert replicas(kserve) == (2, 8)


def test_a_spec_without_replicas_has_none_again_at_the_end(kserve: Watched) -> None:
    kserve.install(A)
    merge(kserve, {"predictor": {"minReplicas": None}})
    assert whole(kserve, B) is Phase.PROMOTED and replicas(kserve) == (None, None)
    assert whole(kserve, C, FAILING) is Phase.ROLLED_BACK and replicas(kserve) == (None, None)


def test_without_room_for_its_pods_a_canary_gets_no_more_traffic(kserve: Watched) -> None:
    kserve.install(A, replicas=4)
    kserve.fit[B] = 2  # enough for a quarter of the traffic, not for half
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), replace(SETTINGS, deadline=20), time.clock)
    assert run_to_end(kserve.cluster, NAME, evidence(), time.clock).phase is Phase.ROLLED_BACK
    assert max(route.get(B, 0) for route in kserve.routes) == 25 and replicas(kserve) == (4, None)
    assert load(kserve.cluster, NAME).history[-1].reasons == ("only 2 of the canary's 4 pods are ready",)


@pytest.mark.parametrize("undo", [False, True])
def test_nobody_is_told_of_an_end_that_the_route_does_not_show(kserve: Watched, undo: bool) -> None:
    """While the stable version is not available KServe leaves the route, and says in the status what the spec says."""
    kserve.install(A, replicas=4)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    phases: list[str] = []
    original = time.sleep

    def watched(seconds: float) -> None:
        rollout = load(kserve.cluster, NAME).rollout
        assert rollout
        phases.append(rollout.phase)
        begun = rollout.phase in (Phase.PROMOTING, Phase.ROLLING_BACK)
        held = begun and phases.count(rollout.phase) < 15
        kserve.fit = {A: 2} if held else {}
        original(seconds)
        if held:
            assert kserve.routes[-1] == {A: 50, B: 50} and len(kserve.service()["spec"]["canary"]) == 1

    time.sleep = watched  # type: ignore[method-assign]
    while undo and len(kserve.routes) < 3:
        step_once(kserve, time)
    end = roll_back(kserve.cluster, NAME, clock=time.clock) if undo else None
    end = end or run_to_end(kserve.cluster, NAME, evidence(), time.clock)
    assert end.phase is (Phase.ROLLED_BACK if undo else Phase.PROMOTED) and not kserve.lost
    assert "as it does only while all pods of the stable version are available" in end.reasons[-1]
    assert kserve.routes[-1] == ({A: 100} if undo else {B: 100})
    assert list(kserve._available()) == [f"{NAME}-predictor" if undo else f"{NAME}-v{B}-predictor"]


def test_a_person_may_promote_where_no_stable_pod_is_left(kserve: Watched) -> None:
    kserve.install(A, replicas=2)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    time.sleep(5)
    kserve.broken.add(A)
    assert promote(kserve.cluster, NAME, time.clock).phase is Phase.PROMOTED and kserve.routes[-1] == {B: 100}


@pytest.mark.parametrize(("namespace", "name"), [("t" * 34, f"v{B}"), ("t" * 38, f"v{B[:8]}"), ("t" * 42, f"v{B[:4]}")])
def test_a_canary_has_a_name_that_kserve_can_make_a_host_of(namespace: str, name: str) -> None:
    kserve = Watched()
    kserve.cluster = Cluster(kserve.cluster.api, namespace)
    kserve.install(A)
    assert whole(kserve, B) is Phase.PROMOTED and not kserve.errors
    assert kserve.service()["spec"]["predictor"]["name"] == name


def test_a_service_whose_canary_could_have_no_name_is_refused(kserve: Watched) -> None:
    kserve.cluster = Cluster(kserve.cluster.api, "t" * 43)
    kserve.install(A)
    before = kserve.service()
    with pytest.raises(InputError, match=r"leaves 4 of 63 characters .* 5 are needed: serve it under a shorter name"):
        start(kserve.cluster, NAME, uri(B), SETTINGS)
    assert kserve.service() == before and load(kserve.cluster, NAME).rollout is None


def test_a_canary_of_somebody_else_stays_when_ours_goes(kserve: Watched) -> None:
    kserve.install(A, replicas=3)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    time.sleep(5)
    other = {"predictor": {"name": "other", "minReplicas": 1, "model": {"storageUri": uri(C)}}, "trafficPercent": 0}
    merge(kserve, {"canary": [*kserve.service()["spec"]["canary"], other]})
    end = run_to_end(kserve.cluster, NAME, evidence(), time.clock)
    assert end.phase is Phase.ROLLED_BACK and "somebody else changed" in end.reasons[0]
    assert kserve.service()["spec"]["canary"] == [other] and replicas(kserve) == (3, None)


def test_under_keda_a_canary_is_scaled_by_nobody(kserve: Watched) -> None:
    kserve.install(A, scaler="keda", autoScaling={"metrics": [{"type": "External"}]})
    start(kserve.cluster, NAME, uri(B), SETTINGS, Time(kserve).clock)
    (canary,) = kserve.service()["spec"]["canary"]
    assert canary["predictor"]["annotations"] == {AUTOSCALER: "none"}
