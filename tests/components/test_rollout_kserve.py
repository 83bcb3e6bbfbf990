"""Rollouts beside a KServe that does what upstream's controller does, on a cluster in memory."""

import json
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client

from components.cluster import Cluster
from components.rollout.conduct import Evidence, Which, conduct, start, turn
from components.rollout.endings import close, promote, roll_back
from components.rollout.inference_service import GROUP, PLURAL, VERSION
from components.rollout.record import load
from components.rollout.rollout import Phase, Rollout
from predictor.errors import InputError
from tests.cluster.kserve import NAME, Kserve, uri
from tests.cluster.replay import SETTINGS, A, B, C, Replay, Time, evidence
from tests.kserve_controller import AUTOSCALER
from tests.memory_cluster import MemoryClient, memory_cluster
from tests.traffic import FAILING, STABLE, Behaviour


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


@pytest.fixture
def kserve() -> Watched:
    return Watched()


def whole(kserve: Kserve, version: str, canary: Behaviour | None = STABLE) -> Phase:
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(version), SETTINGS, time.clock)
    return conduct(kserve.cluster, NAME, evidence(canary), time.clock).phase


def replicas(kserve: Kserve) -> tuple[int | None, int | None]:
    predictor = kserve.service()["spec"]["predictor"]
    return predictor.get("minReplicas"), predictor.get("maxReplicas")


def merge(kserve: Kserve, spec: dict[str, Any]) -> None:
    where = (GROUP, VERSION, kserve.cluster.namespace, PLURAL, NAME)
    kserve.cluster.api.patch_namespaced_custom_object(*where, {"spec": spec})


@pytest.mark.parametrize("scaler", ["hpa", "none", "keda", "external"])
@pytest.mark.parametrize("canary", [STABLE, FAILING])
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
    assert conduct(kserve.cluster, NAME, evidence(), time.clock).phase is Phase.PROMOTED
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
    assert conduct(kserve.cluster, NAME, evidence(), time.clock).phase is Phase.ROLLED_BACK
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
        held = begun and phases.count(rollout.phase) < 20
        kserve.fit = {A: 2} if held else {}
        original(seconds)
        if held:
            assert kserve.routes[-1] == {A: 50, B: 50} and len(kserve.service()["spec"]["canary"]) == 1

    time.sleep = watched  # type: ignore[method-assign]
    while undo and len(kserve.routes) < 3:
        conduct_once(kserve, time)
    end = roll_back(kserve.cluster, NAME, clock=time.clock) if undo else None
    end = end or conduct(kserve.cluster, NAME, evidence(), time.clock)
    assert end.phase is (Phase.ROLLED_BACK if undo else Phase.PROMOTED) and not kserve.lost
    assert "as it does only while all pods of the stable version are available" in end.reasons[-1]
    assert kserve.routes[-1] == ({A: 100} if undo else {B: 100})
    assert list(kserve._available()) == [f"{NAME}-predictor" if undo else f"{NAME}-v{B}-predictor"]


def conduct_once(kserve: Kserve, time: Time) -> None:
    turn(kserve.cluster, NAME, evidence(), time.clock)
    time.sleep(5)


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


def test_a_pipeline_run_touches_no_rollout_but_its_own(kserve: Watched) -> None:
    kserve.install(A)
    time, cluster = Time(kserve), kserve.cluster
    start(cluster, NAME, uri(B), SETTINGS, time.clock, owner="run-1")
    assert close(cluster, NAME, "run-2", time.clock) is None
    for version in (B, C):
        with pytest.raises(InputError, match=f"already rolls out {B} .*pipeline run run-1 began"):
            start(cluster, NAME, uri(version), SETTINGS, time.clock, owner="run-2")
    for which in (Which("run-2", B), Which("run-1", C)):
        with pytest.raises(InputError, match=f"is that of {B}, which pipeline run run-1 began, and not the one"):
            conduct(cluster, NAME, evidence(), time.clock, which)
    active = load(cluster, NAME).active
    assert active and active.phase is Phase.PREPARING
    assert start(cluster, NAME, uri(B), SETTINGS, time.clock, owner="run-1").active  # the step is tried again
    assert start(cluster, NAME, uri(B), SETTINGS, time.clock).active  # a person goes on with any
    ended = close(cluster, NAME, "run-1", time.clock)
    assert ended and ended.phase is Phase.ROLLED_BACK and "canary" not in kserve.service()["spec"]


def test_a_judge_does_not_go_on_with_a_rollout_that_began_after_its_own(kserve: Watched) -> None:
    kserve.install(A)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    original = time.sleep

    def another(seconds: float) -> None:
        time.sleep = original  # type: ignore[method-assign]
        roll_back(kserve.cluster, NAME, clock=time.clock)
        start(kserve.cluster, NAME, uri(C), SETTINGS, time.clock)

    time.sleep = another  # type: ignore[method-assign]
    with pytest.raises(InputError, match=f"is that of {C}, which a person began, and not the one that is meant"):
        conduct(kserve.cluster, NAME, evidence(), time.clock)
    active = load(kserve.cluster, NAME).active
    assert active and active.phase is Phase.PREPARING


@pytest.mark.parametrize("mode", ["Standard", "Knative"])
def test_the_same_digest_is_served_already_at_any_address(kserve: Watched, mode: str) -> None:
    kserve.install(A, mode)
    before = kserve.service()
    for address in (uri(A), uri(A) + "/"):
        with pytest.raises(InputError, match=f"serves {A} already: there is nothing to roll out"):
            start(kserve.cluster, NAME, address, SETTINGS)
    with pytest.raises(InputError, match=f"serves {A} already, from {uri(A)}; to move it set storageUri: there is"):
        start(kserve.cluster, NAME, f"pvc://elsewhere/{A}", SETTINGS)
    assert kserve.service() == before
    merge(kserve, {"predictor": {"model": {"storageUri": uri(A) + "/"}}})
    for _ in range(2):  # other pods come first
        kserve.reconcile()
    assert whole(kserve, B) is Phase.PROMOTED  # the slash is nobody else's change


@pytest.mark.parametrize("away", [False, True])
def test_a_judge_that_was_down_makes_one_check_an_interval(kserve: Watched, away: bool) -> None:
    kserve.install(A)
    time, looks = Time(kserve), list[float]()

    class Counted(Replay):
        def windows(self, *arguments: Any) -> Any:
            looks.append(time.seconds)
            return super().windows(*arguments)

    def judge(canary: Behaviour | None, seconds: float) -> Rollout:
        end, began, where = time.seconds + seconds, time.seconds, Counted("http://p:9090", canary=canary)
        while time.seconds < end:
            rollout = turn(kserve.cluster, NAME, Evidence(where), time.clock, since=began)
            time.sleep(5)
        return rollout

    settings = replace(SETTINGS, interval=60, deadline=10_000, threshold=3, min_requests=10**9)
    start(kserve.cluster, NAME, uri(B), settings, time.clock)
    judge(STABLE, 80)
    time.seconds += 5 * 60  # nobody judges
    looks.clear()
    rollout = judge(None if away else STABLE, 70)
    assert rollout.phase is Phase.JUDGING
    if away:  # it is asked over and over, and counts once it was silent for an interval
        assert rollout.failed == 1
    else:
        ends = [int((when - rollout.judged_since) // 60) for when in looks]
        assert len(ends) == len(set(ends)) == 2


def test_a_record_of_an_earlier_release_goes_on(kserve: Watched) -> None:
    kserve.install(A, replicas=2)
    time, cluster = Time(kserve), kserve.cluster
    start(cluster, NAME, uri(B), SETTINGS, time.clock)
    core = client.CoreV1Api(cluster.api.api_client)
    found = core.read_namespaced_config_map(f"{NAME}-rollout", cluster.namespace)
    record = json.loads(found.data["rollout"])
    for field in "owner canary_predictor stable_predictor running min_replicas max_replicas looked".split():
        del record[field]
    found.data["rollout"] = json.dumps(record)
    core.replace_namespaced_config_map(f"{NAME}-rollout", cluster.namespace, found)
    merge(kserve, {"predictor": {"minReplicas": 2}})  # which it left as it was
    time.sleep(5)
    assert conduct(cluster, NAME, evidence(), time.clock).phase is Phase.PROMOTED
    assert replicas(kserve) == (2, None) and kserve.routes[-1] == {B: 100} and not kserve.lost
    assert all(loads[B] <= loads[A] for _, loads in kserve.loads)


_REFUSALS: list[tuple[str, str]] = [
    (
        'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: canary "v1" '
        "minReplicas (3) must not exceed stable predictor minReplicas (2)",
        'refuses inferenceservice news (canary "v1" minReplicas (3) must not exceed stable predictor minReplicas (2))',
    ),
    (
        'ValidatingAdmissionPolicy "p" with binding "b" denied request: no canaries on Fridays',
        "refuses inferenceservice news (no canaries on Fridays)",
    ),
    (
        'inferenceservices.serving.kserve.io "news" is forbidden: exceeded quota: team',
        "refuses inferenceservice news (exceeded quota: team)",
    ),
    (
        'inferenceservices.serving.kserve.io "news" is forbidden: User "system:serviceaccount:a" cannot patch resource',
        "let this account do that",
    ),
]


@pytest.mark.parametrize(("said", "told"), _REFUSALS, ids=["webhook", "policy", "quota", "permission"])
def test_a_refusal_is_told_in_the_words_of_who_refuses(
    kserve: Watched, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    kserve.install(A)
    before, done = kserve.service(), MemoryClient._done
    error = client.exceptions.ApiException(status=403)
    error.body = json.dumps({"message": said})

    def refusing(self: MemoryClient, method: str, path: str, *rest: Any) -> Any:
        if method == "PATCH" and path.endswith("/inferenceservices/news"):
            raise error
        return done(self, method, path, *rest)

    monkeypatch.setattr(MemoryClient, "_done", refusing)
    with pytest.raises(InputError) as caught:
        start(kserve.cluster, NAME, uri(B), SETTINGS)
    assert told in str(caught.value) and kserve.service() == before
    assert load(kserve.cluster, NAME).active is None
    assert ("role" in str(caught.value)) == ("cannot" in said)


def test_a_canary_of_somebody_else_stays_when_ours_goes(kserve: Watched) -> None:
    kserve.install(A, replicas=3)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    time.sleep(5)
    other = {"predictor": {"name": "other", "minReplicas": 1, "model": {"storageUri": uri(C)}}, "trafficPercent": 0}
    merge(kserve, {"canary": [*kserve.service()["spec"]["canary"], other]})
    end = conduct(kserve.cluster, NAME, evidence(), time.clock)
    assert end.phase is Phase.ROLLED_BACK and "somebody else changed" in end.reasons[0]
    assert kserve.service()["spec"]["canary"] == [other] and replicas(kserve) == (3, None)


def test_under_keda_a_canary_is_scaled_by_nobody(kserve: Watched) -> None:
    kserve.install(A, scaler="keda", autoScaling={"metrics": [{"type": "External"}]})
    start(kserve.cluster, NAME, uri(B), SETTINGS, Time(kserve).clock)
    (canary,) = kserve.service()["spec"]["canary"]
    assert canary["predictor"]["annotations"] == {AUTOSCALER: "none"}
