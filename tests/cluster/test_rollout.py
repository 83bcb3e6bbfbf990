"""Rollouts on a real API server, where tests play KServe: what is written, what gets traffic, what a kill leaves."""

import threading
import time as wall
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from kubernetes import client

from components.platform.kubernetes import Cluster
from components.rollout.controller import Clock, run_to_end, start
from components.rollout.endings import promote, roll_back
from components.rollout.inference_service import GROUP, PLURAL, VERSION
from components.rollout.record import VERDICT, load
from components.rollout.state import Phase
from predictor.errors import InputError
from tests.cluster.replay import SETTINGS, A, B, C, Killed, Time, evidence, mortal
from tests.components.rollout.traffic import BIASED, FAILING, STABLE, Behaviour
from tests.fakes.kserve_on_cluster import NAME, ROUTES, Kserve, uri

MODES = ["Standard", "Knative"]


@pytest.fixture
def kserve(cluster: Cluster) -> Kserve:
    return Kserve(cluster)


def whole(kserve: Kserve, version: str, canary: Behaviour | None = STABLE) -> Phase:
    """A rollout from its start to its end."""
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(version), SETTINGS, time.clock)
    return run_to_end(kserve.cluster, NAME, evidence(canary), time.clock).phase


def spec(kserve: Kserve) -> dict[str, object]:
    return dict(kserve.service()["spec"])


def outcomes(cluster: Cluster) -> list[tuple[str, str]]:
    return [(entry.version.name, entry.outcome) for entry in load(cluster, NAME).history]


@pytest.mark.parametrize("mode", MODES)
def test_an_equal_canary_gets_all_traffic_step_by_step(kserve: Kserve, mode: str) -> None:
    kserve.install(A, mode)
    assert whole(kserve, B) is Phase.PROMOTED
    assert kserve.routes == [{A: 100}, {A: 75, B: 25}, {A: 50, B: 50}, {B: 100}]
    assert outcomes(kserve.cluster) == [(A, "found"), (B, "promoted")]
    assert whole(kserve, C) is Phase.PROMOTED and kserve.routes[-1] == {C: 100}


def wait_for_a_younger_second(kserve: Kserve) -> None:
    """A ReplicaSet that has one pod too many drops the youngest, and takes pods of one second as equally old."""
    youngest = max(pod.metadata.creation_timestamp for pod in kserve.pods(f"{NAME}-predictor"))
    while datetime.now(UTC) < youngest + timedelta(seconds=1):
        wall.sleep(0.05)


def test_promotion_restarts_no_pod(kserve: Kserve) -> None:
    kserve.install(A, replicas=2)
    wait_for_a_younger_second(kserve)
    time = Time(kserve)
    stable = {pod.metadata.uid for pod in kserve.pods(f"{NAME}-predictor")}
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    time.sleep(0)
    (first,) = (pod.metadata.uid for pod in kserve.pods(f"{NAME}-v{B}-predictor"))
    restarted: list[set[str]] = []
    original = time.sleep

    def watched(seconds: float) -> None:
        original(seconds)
        restarted.append({pod.metadata.uid for pod in kserve.pods(f"{NAME}-predictor")} - stable)

    time.sleep = watched  # type: ignore[method-assign]
    assert run_to_end(kserve.cluster, NAME, evidence(), time.clock).phase is Phase.PROMOTED
    time.sleep(0)
    pods = [pod.metadata.uid for pod in kserve.pods(f"{NAME}-v{B}-predictor")]
    assert first in pods and len(pods) == 2 and not any(restarted)
    predictor = kserve.service()["spec"]["predictor"]
    assert predictor["minReplicas"] == 2 and predictor["model"]["args"] == ["--queue-tokens=65536"]


def test_a_canary_starts_with_one_pod_and_no_traffic(kserve: Kserve) -> None:
    kserve.install(A, replicas=3)
    start(kserve.cluster, NAME, uri(B), SETTINGS, Time(kserve).clock)
    (canary,) = kserve.service()["spec"]["canary"]
    assert canary["trafficPercent"] == 0 and canary["predictor"]["minReplicas"] == 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("canary", "reason"), [(FAILING, "of requests fail"), (BIASED, "class 0 is answered")])
def test_harm_goes_back_to_the_stable_version(kserve: Kserve, mode: str, canary: Behaviour, reason: str) -> None:
    kserve.install(A, mode)
    before = spec(kserve)
    assert whole(kserve, B, canary) is Phase.ROLLED_BACK
    assert kserve.routes[-1] == {A: 100} and spec(kserve) == before
    record = load(kserve.cluster, NAME)
    assert [e.outcome for e in record.history] == ["found", "rolled back"] and reason in record.history[-1].reasons[0]
    found = client.CoreV1Api(kserve.cluster.api.api_client).read_namespaced_config_map(
        f"{NAME}-rollout", kserve.cluster.namespace
    )
    assert reason in found.metadata.annotations[VERDICT]


@pytest.mark.parametrize("mode", MODES)
def test_without_evidence_the_stable_version_stays(kserve: Kserve, mode: str) -> None:
    kserve.install(A, mode)
    assert whole(kserve, B, None) is Phase.ROLLED_BACK
    assert kserve.routes[-1] == {A: 100} and max(route.get(B, 0) for route in kserve.routes) == 25
    assert "does not answer" in load(kserve.cluster, NAME).history[-1].reasons[0]


@pytest.mark.parametrize("mode", MODES)
def test_a_canary_that_never_gets_ready_never_gets_traffic(kserve: Kserve, mode: str) -> None:
    kserve.install(A, mode)
    kserve.broken.add(B)
    assert whole(kserve, B) is Phase.ROLLED_BACK
    assert kserve.routes == [{A: 100}]
    reasons = load(kserve.cluster, NAME).history[-1].reasons
    assert "not ready after 60 s" in reasons[0]
    assert mode == "Knative" or "ImagePullBackOff no such image" in reasons[1]


# Writes of a whole rollout, the record's before the service's. After the last there is no kill, so all are here.
WRITES = {"Standard": 12, "Knative": 11}
KILLS = [(mode, n) for mode in MODES for n in range(WRITES[mode] + 1)]


@pytest.mark.parametrize("then", ["finish", "undo"])
@pytest.mark.parametrize(("mode", "kill"), KILLS)
def test_a_kill_at_any_step_leaves_stable_traffic_and_the_next_call_ends_it(
    kserve: Kserve, mode: str, kill: int, then: str
) -> None:
    kserve.install(A, mode)
    cluster, connection = mortal(kserve.cluster, kill)
    time = Time(kserve)
    try:
        start(cluster, NAME, uri(B), SETTINGS, time.clock)
        run_to_end(cluster, NAME, evidence(), time.clock)
    except Killed:
        assert kill < WRITES[mode]
    else:
        assert kill == WRITES[mode] == connection.written
    for _ in range(3):
        time.sleep(60)  # nobody at work
    left = load(kserve.cluster, NAME)
    decided = left.rollout is not None and left.rollout.phase in (Phase.PROMOTING, Phase.PROMOTED)
    assert decided or all(route.get(A, 0) >= 50 for route in kserve.routes)
    if then == "finish":
        if not decided:
            start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
        time.seconds -= 180  # or the deadline of the step would be over
        assert run_to_end(kserve.cluster, NAME, evidence(), time.clock).phase is Phase.PROMOTED
        time.sleep(0)
        assert kserve.routes[-1] == {B: 100}
    elif left.rollout is None:
        assert kserve.routes == [{A: 100}]
    else:
        roll_back(kserve.cluster, NAME, clock=time.clock)
        time.sleep(0)
        assert kserve.routes[-1] == {A: 100} and kserve.service()["spec"]["predictor"]["model"]["storageUri"] == uri(A)
    assert not load(kserve.cluster, NAME).active and "canary" not in kserve.service()["spec"] and not kserve.lost
    assert kserve.service()["spec"]["predictor"]["minReplicas"] == 1
    assert "canaryTrafficPercent" not in kserve.service()["spec"]["predictor"]


def test_of_two_racing_rollouts_one_goes_on(kserve: Kserve) -> None:
    kserve.install(A)
    line = threading.Barrier(2)
    answers: dict[str, str] = {}

    def run(version: str) -> None:
        line.wait()
        try:
            start(kserve.cluster, NAME, uri(version), SETTINGS)
            answers[version] = "began"
        except InputError as error:
            answers[version] = str(error)

    threads = [threading.Thread(target=run, args=(version,)) for version in (B, C)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (refused,) = (answer for answer in answers.values() if answer != "began")
    assert "rolls out" in refused or "began at the same moment" in refused
    (canary,) = kserve.service()["spec"]["canary"]
    assert answers[canary["predictor"]["name"].removeprefix("v")] == "began"


def test_two_judges_of_one_rollout_do_what_one_does(kserve: Kserve) -> None:
    kserve.install(A)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    lock = threading.Lock()

    def slept(seconds: float) -> None:
        with lock:
            time.sleep(seconds)

    ends: list[Phase] = []
    clock = Clock(lambda: time.seconds, slept)
    judges = [
        threading.Thread(target=lambda: ends.append(run_to_end(kserve.cluster, NAME, evidence(), clock).phase))
        for _ in range(2)
    ]
    for judge in judges:
        judge.start()
    for judge in judges:
        judge.join()
    assert ends == [Phase.PROMOTED] * 2 and outcomes(kserve.cluster) == [(A, "found"), (B, "promoted")]


@pytest.mark.parametrize("mode", MODES)
def test_any_version_comes_back(kserve: Kserve, mode: str) -> None:
    kserve.install(A, mode)
    whole(kserve, B), whole(kserve, C)
    time = Time(kserve)
    roll_back(kserve.cluster, NAME, clock=time.clock)
    time.sleep(0)
    assert kserve.routes[-1] == {B: 100} and all(set(route) <= {B, C} for route in kserve.routes[-3:])
    roll_back(kserve.cluster, NAME, A, time.clock)
    time.sleep(0)
    assert kserve.routes[-1] == {A: 100}
    with pytest.raises(InputError, match=f"serves {A} already"):
        roll_back(kserve.cluster, NAME, A, time.clock)
    with pytest.raises(InputError, match=f"dddddddddddd is no version of {NAME}: choose one of {A}, {B}, {C}"):
        roll_back(kserve.cluster, NAME, "dddddddddddd", time.clock)


@pytest.mark.parametrize("mode", MODES)
def test_a_person_may_promote_and_roll_back(kserve: Kserve, mode: str) -> None:
    kserve.install(A, mode)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    if mode == "Standard":
        with pytest.raises(InputError, match="is not ready: promote it when it is"):
            promote(kserve.cluster, NAME, time.clock)
    with pytest.raises(InputError, match=f"already rolls out {B}"):
        start(kserve.cluster, NAME, uri(C), SETTINGS, time.clock)
    time.sleep(0)
    assert promote(kserve.cluster, NAME, time.clock).phase is Phase.PROMOTED
    time.sleep(0)
    start(kserve.cluster, NAME, uri(C), SETTINGS, time.clock)
    time.sleep(0)
    assert roll_back(kserve.cluster, NAME, clock=time.clock).phase is Phase.ROLLED_BACK
    time.sleep(0)
    assert kserve.routes[-1] == {B: 100}


def test_what_somebody_else_changes_is_left_alone(kserve: Kserve) -> None:
    kserve.install(A)
    time = Time(kserve)
    start(kserve.cluster, NAME, uri(B), SETTINGS, time.clock)
    body = {"spec": {"predictor": {"model": {"storageUri": uri(C)}}}}
    kserve.cluster.api.patch_namespaced_custom_object(GROUP, VERSION, kserve.cluster.namespace, PLURAL, NAME, body)
    end = run_to_end(kserve.cluster, NAME, evidence(), time.clock)
    assert end.phase is Phase.ROLLED_BACK and "somebody else changed" in end.reasons[0]
    assert kserve.service()["spec"]["predictor"]["model"]["storageUri"] == uri(C)
    assert "canary" not in kserve.service()["spec"]


def test_bad_input_is_a_sentence_and_touches_nothing(kserve: Kserve, tmp_path: Path) -> None:
    cluster, clock = kserve.cluster, Time(kserve).clock
    with pytest.raises(InputError, match=f"there is no inferenceservice {NAME} in namespace {cluster.namespace}"):
        start(cluster, NAME, uri(B), SETTINGS, clock)
    kserve.install(A)
    before = kserve.service()
    cases = [
        (str(tmp_path / B), "there is no bundle at"),
        ("s3://bucket/latest", "does not end in the twelve digits"),
        (uri(A), "serves aaaaaaaaaaaa already"),
    ]
    for address, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            start(cluster, NAME, address, SETTINGS, clock)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="never served another version"):
        roll_back(cluster, NAME, clock=clock)
    with pytest.raises(InputError, match="has no rollout under way"):
        promote(cluster, NAME, clock)
    for route in (NAME, f"{NAME}-predictor"):
        cluster.api.delete_namespaced_custom_object(ROUTES[0], ROUTES[1], cluster.namespace, ROUTES[2], route)
    with pytest.raises(InputError, match="has no HTTPRoute, so a canary would get no traffic"):
        start(cluster, NAME, uri(B), SETTINGS, clock)
    assert kserve.service() == before and load(cluster, NAME).rollout is None
