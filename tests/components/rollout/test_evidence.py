"""Evidence: what a real Prometheus answers about two revisions, and what is said when it does not."""

import math
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from components.rollout.judging.evidence import _SERIES, NoEvidence, Prometheus, Window, selector_of
from predictor.errors import InputError
from predictor.serving.metrics import _PROTOCOLS, Metrics
from tests.ports import free_port
from tests.prometheus import backfill, needs_prometheus, prometheus

_STEP = 15
STABLE, CANARY = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def _series(name: str, pod: str, revision: str, rate: float, first: int, last: int, start: int, **labels: str) -> str:
    """A counter that rises by `rate` a second while its pod lives; numbers are scrapes."""
    own = {"model_name": "news", "namespace": "team-a", "pod": pod, "revision": revision, **labels}
    text = ",".join(f'{key}="{value}"' for key, value in own.items())
    lines = [f"{name}{{{text}}} {rate * _STEP * (n - first):g} {start + n * _STEP}" for n in range(first, last)]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """An hour ago two stable pods and a canary ran for ten minutes; one stable pod was replaced in their midst."""
    needs_prometheus()
    folder, start = tmp_path_factory.mktemp("prometheus"), int(time.time()) - 3600
    pods = [("one", STABLE, 0, 41), ("two", STABLE, 0, 20), ("three", STABLE, 20, 41), ("canary", CANARY, 0, 41)]
    text = "# TYPE text_classifier_requests counter\n"
    for pod, revision, first, last in pods:
        text += _series(
            "text_classifier_requests_total", pod, revision, 10, first, last, start, protocol="v1", code="200"
        )
        text += _series(
            "text_classifier_requests_total", pod, revision, 2, first, last, start, protocol="v2", code="200"
        )
    text += _series("text_classifier_requests_total", "canary", CANARY, 1, 0, 41, start, protocol="v1", code="500")
    other = _series("text_classifier_requests_total", "four", STABLE, 100, 0, 41, start, protocol="v1", code="200")
    text += other.replace("team-a", "team-b")
    text += "# TYPE text_classifier_latency_seconds histogram\n"
    for le, rate in (("0.1", 9), ("+Inf", 10)):
        text += _series("text_classifier_latency_seconds_bucket", "canary", CANARY, rate, 0, 41, start, le=le)
    backfill(folder, text)
    with prometheus(folder) as url:
        yield url, start


def windows(address: tuple[str, int], minutes: int = 8) -> list[Window]:
    url, start = address
    return Prometheus(url, selector_of("team-a", "news")).windows(STABLE, CANARY, start + 60, start + 60 * minutes, 120)


def test_each_interval_has_what_both_revisions_did_in_it(address: tuple[str, int]) -> None:
    found = windows(address)
    assert [window.end for window in found] == [address[1] + 60 + 120 * n for n in (1, 2, 3)]
    for window in found:
        assert window.canary.requests["200"] == pytest.approx(12 * 120, rel=0.01)
        assert window.canary.requests["500"] == pytest.approx(120, rel=0.01)
        assert window.canary.latency == pytest.approx({0.1: 9 * 120, math.inf: 10 * 120}, rel=0.01)
    # Another namespace's requests are not counted, and those of a pod that was replaced are.
    assert [w.stable.served for w in found] == pytest.approx([2 * 12 * 120] * 3, rel=0.06)


def test_only_whole_intervals_count_and_the_same_question_has_the_same_answer(address: tuple[str, int]) -> None:
    assert windows(address, 2) == [] and len(windows(address, 4)) == 1
    assert windows(address, 8)[:1] == windows(address, 4)


def test_a_revision_without_series_has_done_nothing(address: tuple[str, int]) -> None:
    url, start = address
    (window,) = Prometheus(url).windows(STABLE, "cccccccccccc", start + 60, start + 200, 120)
    assert window.canary.served == 0 and window.stable.served > 0


def test_prometheus_away_is_no_evidence() -> None:
    with pytest.raises(NoEvidence, match=r"Prometheus at http://127.0.0.1:\d+ does not answer \(MaxRetryError\)"):
        Prometheus(f"http://127.0.0.1:{free_port()}").windows(STABLE, CANARY, 0, 120, 60)


def test_a_bad_selector_is_a_sentence(address: tuple[str, int]) -> None:
    with pytest.raises(InputError, match=r"Prometheus refuses the query \(.*parse error.*\): check --selector"):
        Prometheus(address[0], 'namespace="').windows(STABLE, CANARY, 0, 120, 60)


@pytest.mark.parametrize(("status", "kind"), [(200, InputError), (502, NoEvidence)])
def test_what_is_no_prometheus_is_told_apart_from_one_that_is_away(status: int, kind: type[Exception]) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>sign in</html>")

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with pytest.raises(kind, match="answers"):
            Prometheus(f"http://127.0.0.1:{server.server_port}").windows(STABLE, CANARY, 0, 120, 60)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_all_that_the_judge_reads_exists_at_zero_from_the_start() -> None:
    """Else the first error of a pod is where its series begins, and nothing has risen."""
    registry = CollectorRegistry()
    Metrics("news", CANARY, ["Sports", "World"], [8, 16], registry)
    lines = generate_latest(registry).decode().splitlines()
    for series, label in _SERIES.values():
        metric, _, own = series.rstrip("}").partition("{")
        found = [line for line in lines if line.startswith(f"{metric}{{") and own in line and f'{label}="' in line]
        assert found and all(line.endswith(" 0.0") for line in found)
    lines = [line for line in lines if "_created" not in line]
    codes = {code: sum(f'code="{code}"' in line for line in lines) for code in (200, 400, 429, 499, 500, 503, 504)}
    assert set(codes.values()) == {len(_PROTOCOLS)}
    assert sum("predictions_total{" in line for line in lines) == 2


def test_a_server_that_starts_again_loses_nothing_of_what_it_counts_then(tmp_path: Path) -> None:
    """Its counters begin at zero again, in the midst of an interval; the first errors after that are seen, too."""
    needs_prometheus()
    start = int(time.time()) - 3600
    text, name = "# TYPE text_classifier_requests counter\n", "text_classifier_requests_total"
    for code, before, after in (("200", 10.0, 10.0), ("500", 0.0, 1.0)):
        own = f'{{model_name="news",pod="canary",revision="{CANARY}",protocol="v1",code="{code}"}}'
        rows = [(n, before * _STEP * n) for n in range(20)]
        rows += [(n, after * _STEP * (n - 20)) for n in range(20, 41)]
        text += "".join(f"{name}{own} {value:g} {start + n * _STEP}\n" for n, value in rows)
    backfill(tmp_path, text)
    with prometheus(tmp_path) as url:
        first, second = Prometheus(url).windows(STABLE, CANARY, start + 120, start + 480, 180)
    assert first.canary.requests == pytest.approx({"200": 10 * 165, "500": 0}, rel=0.1)
    assert second.canary.requests == pytest.approx({"200": 10 * 180, "500": 180}, rel=0.1)
