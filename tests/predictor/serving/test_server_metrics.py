"""What a running server counts."""

import shutil
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.predictor.conftest import Server, serving
from tests.predictor.serving.asking import TEXTS, answers_grpc, answers_v1, many, metric


def test_counters_tell_protocol_code_category_and_revision(server: Server) -> None:
    before = metric(server, "text_classifier_")
    answers_v1(server), answers_grpc(server)
    httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [5]})
    after = metric(server, "text_classifier_")
    grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
    who = 'model_name="toy",revision="canary-1"'

    def requests(code: str, protocol: str) -> str:
        labels = f'code="{code}",model_name="toy",protocol="{protocol}",revision="canary-1"'
        return f"text_classifier_requests_total{{{labels}}}"

    assert grown[requests("200", "v1")] == 1
    assert grown[requests("200", "grpc")] == 1
    assert grown[requests("400", "v1")] == 1
    predictions = [value for key, value in grown.items() if key.startswith("text_classifier_predictions_total")]
    assert sum(predictions) == 2 * len(TEXTS)
    assert grown[f"text_classifier_latency_seconds_count{{{who}}}"] == 2
    assert {'category="World"' in key for key in after if "predictions_total" in key} == {True, False}


def test_the_metrics_are_sound_openmetrics(server: Server) -> None:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    answers_v1(server)
    got = httpx.get(f"{server.http}/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert got.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in text_string_to_metric_families(got.text)}  # type: ignore[no-untyped-call]
    ours = {name for name in families if name.startswith("text_classifier_")}
    wanted = {"requests", "predictions", "latency_seconds", "stage_seconds", "batch_texts", "batch_tokens", "model"}
    wanted |= {"padding_tokens", "queue_texts", "queue_tokens", "confidence_ratio", "text_tokens", "cache_lookups"}
    wanted |= {"answers", "explanations", "explanation_seconds", "low_confidence", "feedback"}
    wanted |= {"job_backlog_chunks", "job_backlog_texts", "jobs", "job_texts", "job_dead_letters"}
    wanted |= {"job_damaged_results", "shared_cache_lookups"}
    wanted |= {"log_records", "log_waiting_records", "log_oldest_seconds", "log_errors"}
    assert ours == {f"text_classifier_{name}" for name in wanted}
    for name in ours:
        for sample in families[name].samples:
            assert (sample.labels["model_name"], sample.labels["revision"]) == ("toy", "canary-1")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say_of_a_busy_server(server: Server) -> None:
    def load() -> None:
        httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": many(1200)}, timeout=120)
        httpx.post(f"{server.http}/v1/models/toy:predict", json={"instances": [5]}, timeout=120)

    work = threading.Thread(target=load)
    work.start()
    pages = []
    while work.is_alive():
        pages.append(httpx.get(f"{server.http}/metrics", timeout=60).text)
    work.join()
    for page in (pages[0], pages[len(pages) // 2], pages[-1]):
        ours = "".join(f"{line}\n" for line in page.splitlines() if "text_classifier_" in line)
        subprocess.run(["promtool", "check", "metrics"], input=ours, text=True, check=True)


def test_a_cascade_is_counted_by_stage_beside_the_share_it_had_before(cascade_server: Server) -> None:
    before = metric(cascade_server, "text_classifier_answers_total")
    texts = many(400)
    httpx.post(
        f"{cascade_server.http}/v1/models/toy:predict", json={"instances": texts}, timeout=120
    ).raise_for_status()
    after = metric(cascade_server, "text_classifier_answers_total")
    by_stage = {stage: sum(after[key] - before[key] for key in after if stage in key) for stage in ("linear", "transf")}
    assert sum(by_stage.values()) == len(set(texts))
    (reference,) = metric(cascade_server, "text_classifier_cascade_reference_ratio").values()
    (share,) = metric(cascade_server, "text_classifier_cascade_share_ratio").values()
    assert reference == 0.5 and 0 <= share <= 1


def test_without_its_cascade_a_bundle_leaves_all_texts_to_the_transformer(cascade_bundle: Path, tmp_path: Path) -> None:
    with serving(cascade_bundle, tmp_path / "log", "--cascade", "off") as running:
        answers_v1(running)
        counts = metric(running, "text_classifier_answers_total")
        assert sorted(counts.values()) == [0, len(TEXTS)] and not metric(running, "text_classifier_cascade")
    assert ", no cascade, 3 labels" in running.log.read_text()
