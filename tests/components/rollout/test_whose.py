"""Rollouts beside KServe: whose they are, what counts as the same, and who refuses."""

import json
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client

from components.platform.kubernetes import Cluster
from components.rollout import endings
from components.rollout.controller import RolloutRef, run_to_end, start, step
from components.rollout.endings import abort, roll_back
from components.rollout.observer import Evidence
from components.rollout.record import load, save
from components.rollout.state import Phase, Rollout
from predictor.errors import InputError
from tests.cluster.replay import SETTINGS, A, B, C, Mortal, Replay, Time, evidence
from tests.components.rollout.replayed import Watched, merge, replicas, whole
from tests.components.rollout.traffic import STABLE, Behaviour
from tests.fakes.kserve_on_cluster import NAME, uri
from tests.fakes.memory_cluster import MemoryClient


@pytest.fixture
def kserve() -> Watched:
    return Watched()


def test_a_pipeline_run_touches_no_rollout_but_its_own(kserve: Watched) -> None:
    kserve.install(A)
    time, cluster = Time(kserve), kserve.cluster
    start(cluster, NAME, uri(B), SETTINGS, time.clock, owner="run-1")
    assert abort(cluster, NAME, "run-2", time.clock) is None
    for version in (B, C):
        with pytest.raises(InputError, match=f"already rolls out {B} .*pipeline run run-1 began"):
            start(cluster, NAME, uri(version), SETTINGS, time.clock, owner="run-2")
    for which in (RolloutRef("run-2", B), RolloutRef("run-1", C)):
        with pytest.raises(InputError, match=f"is that of {B}, which pipeline run run-1 began, and not the one"):
            run_to_end(cluster, NAME, evidence(), time.clock, which)
    active = load(cluster, NAME).active
    assert active and active.phase is Phase.PREPARING
    assert start(cluster, NAME, uri(B), SETTINGS, time.clock, owner="run-1").active  # the step is tried again
    assert start(cluster, NAME, uri(B), SETTINGS, time.clock).active  # a person goes on with any
    ended = abort(cluster, NAME, "run-1", time.clock)
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
        run_to_end(kserve.cluster, NAME, evidence(), time.clock)
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
            rollout = step(kserve.cluster, NAME, Evidence(where), time.clock, since=began)
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
    for field in ["owner", "canary_predictor", "stable_predictor", "running", "min_replicas", "max_replicas", "looked"]:
        del record[field]
    found.data["rollout"] = json.dumps(record)
    core.replace_namespaced_config_map(f"{NAME}-rollout", cluster.namespace, found)
    merge(kserve, {"predictor": {"minReplicas": 2}})  # which it left as it was
    time.sleep(5)
    assert run_to_end(cluster, NAME, evidence(), time.clock).phase is Phase.PROMOTED
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


def test_a_kserve_that_knows_no_canaries_is_left_as_it_was(kserve: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    kserve.install(A, replicas=2, maxReplicas=8)
    before, done = kserve.service()["spec"], MemoryClient._done

    def older(self: MemoryClient, method: str, path: str, query: Any, body: Any) -> Any:
        if method == "PATCH" and path.endswith("/inferenceservices/news"):
            body["spec"].pop("canary", None)
        return done(self, method, path, query, body)

    monkeypatch.setattr(MemoryClient, "_done", older)
    with pytest.raises(InputError, match=r"dropped spec\.canary .* its KServe is older than 0\.21"):
        start(kserve.cluster, NAME, uri(B), SETTINGS)
    record = load(kserve.cluster, NAME)
    assert record.active is None and "older than 0.21" in record.history[-1].reasons[0]
    assert kserve.service()["spec"] == before


class WithoutPods(Mortal):
    """A connection whose account may not list pods."""

    def call_api(self, resource_path, method, *args, **kwargs):  # type: ignore[no-untyped-def]
        if resource_path.endswith("/pods"):
            error = client.exceptions.ApiException(status=403)
            error.body = json.dumps({"message": 'pods is forbidden: User "system:serviceaccount:a" cannot list'})
            raise error
        return super().call_api(resource_path, method, *args, **kwargs)  # type: ignore[no-untyped-call]


def test_a_canary_goes_back_where_its_pods_may_not_be_looked_at(kserve: Watched) -> None:
    kserve.install(A)
    kserve.broken.add(B)
    connection = WithoutPods(kserve.cluster.api.api_client, left=10**6)
    time, own = Time(kserve), Cluster(client.CustomObjectsApi(connection), kserve.cluster.namespace)
    start(own, NAME, uri(B), SETTINGS, time.clock)
    end = run_to_end(own, NAME, evidence(), time.clock)
    assert end.phase is Phase.ROLLED_BACK and "not ready after 60 s" in end.reasons[0]
    assert "let this account do that" in end.reasons[1]


def test_a_promotion_that_is_decided_just_before_the_end_of_a_run_stays(
    kserve: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    kserve.install(A)
    time, cluster = Time(kserve), kserve.cluster
    start(cluster, NAME, uri(B), SETTINGS, time.clock, owner="run-1")
    while step(cluster, NAME, evidence(), time.clock).phase is not Phase.FILLING:
        time.sleep(5)

    def late(*arguments: Any) -> Any:
        monkeypatch.undo()
        while step(cluster, NAME, evidence(), time.clock).phase is not Phase.PROMOTING:  # by a judge that still runs
            time.sleep(5)
        return save(*arguments)

    monkeypatch.setattr(endings, "save", late)
    ended = abort(cluster, NAME, "run-1", time.clock)
    assert ended and (ended.phase, ended.canary.name) == (Phase.PROMOTED, B)
    assert kserve.service()["spec"]["predictor"]["model"]["storageUri"] == uri(B)
