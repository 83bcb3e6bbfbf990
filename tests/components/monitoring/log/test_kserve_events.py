"""Records from KServe's logger: events as it sends them, files as it stores them."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from components.monitoring.log.kserve_events import REQUEST, RESPONSE, Event, event_of, import_events, predictions_of
from components.monitoring.log.reading import read_predictions
from predictor.errors import InputError
from predictor.records import text_hash
from tests.components.monitoring.log.parts import MODEL

V1 = ({"instances": ["goal", {"text": "<b>treaty</b>"}]}, {
    "predictions": [{"label": "Sports", "confidence": 0.75}, {"label": "World", "confidence": 0.5}],
    "model_version": "0123456789ab",
})  # fmt: skip
V2 = ({"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["goal"]}]}, {
    "id": "mine", "model_version": "0123456789ab", "outputs": [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["Sports"]},
        {"name": "confidence", "datatype": "FP32", "shape": [1], "data": [0.75]},
    ],
})  # fmt: skip


def events(pair: tuple[Any, Any], id_: str = "e1") -> tuple[Event, Event]:
    halves = (
        event_of(
            {"Ce-Type": kind, "CE-ID": id_, "ce-time": "2026-11-20T12:00:00.5Z", "ce-endpoint": "default"},
            json.dumps(body).encode(),
        )
        for kind, body in zip((REQUEST, RESPONSE), pair, strict=True)
    )
    first, second = halves
    return first, second


def test_a_v1_pair_becomes_a_record_for_each_text() -> None:
    first, second = predictions_of(*events(V1))
    assert (first.id, first.label, first.confidence, first.text) == ("e1/0", "Sports", 0.75, "goal")
    assert (second.id, second.text, second.text_hash) == ("e1/1", "<b>treaty</b>", text_hash("treaty"))
    assert (first.bundle, first.revision, first.time) == ("0123456789ab", "default", "2026-11-20T12:00:00.500Z")
    assert (first.tokens, first.stage, first.probabilities) == (None, None, None)


def test_a_v2_pair_has_the_id_of_its_answer() -> None:
    (only,) = predictions_of(*events(V2))
    assert (only.id, only.label, only.confidence) == ("mine", "Sports", 0.75)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ((5, V1[1]), "no JSON object"),
        (({"instances": [5]}, V1[1]), "not V1's"),
        (({"instances": ["one"]}, V1[1]), "another number of texts"),
        ((V1[0], {"error": "no"}), "not V1's"),
        ((V2[0], {"outputs": V2[1]["outputs"][:1]}), "lack the outputs"),
    ],
)
def test_pairs_that_are_none_are_refused(pair: tuple[Any, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        predictions_of(*events(pair))


def test_binary_bodies_and_foreign_events_are_refused() -> None:
    request, response = events(V2)
    with pytest.raises(InputError, match="binary tensors are not read"):
        predictions_of(Event(REQUEST, "e", request.time, b"\x04\x00\x00\x00goal"), response)
    for headers in ({}, {"ce-type": "other", "ce-id": "1", "ce-time": request.time}, {"ce-type": REQUEST}):
        with pytest.raises(InputError, match="no CloudEvent of KServe's logger"):
            event_of(headers, b"")


def stored(folder: Path, id_: str, kind: str, body: Any) -> None:
    """Write a file as KServe's agent does for a batch of one."""
    packed = base64.b64encode(json.dumps(body).encode()).decode()
    row = {
        "Url": {"Scheme": "s3", "Host": "b"}, "Bytes": packed, "ContentType": "application/json", "ReqType": kind,
        "Id": id_, "InferenceService": MODEL, "Namespace": "pigeonhole", "Component": "predictor", "Endpoint": "",
        "Metadata": {}, "Annotations": None, "CertName": "", "TlsSkipVerify": False,
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{id_}-{kind.rpartition('.')[2]}.json").write_text(json.dumps([row]))


def test_stored_files_become_parts_of_the_log_and_only_once(tmp_path: Path) -> None:
    source, log = tmp_path / "events/pigeonhole/news/predictor", str(tmp_path / "log")
    for number in range(3):
        for kind, body in zip((REQUEST, RESPONSE), V1, strict=True):
            stored(source, f"e{number}", kind, body)
    stored(source, "refused", REQUEST, {"instances": [5]})
    stored(source, "odd", REQUEST, {"instances": ["a"]})
    stored(source, "odd", RESPONSE, V1[1])
    (source / "broken.json").write_text("[{")
    done = import_events(str(tmp_path / "events"), log, MODEL)
    assert (done.predictions, done.unpaired) == (6, 1) and done.left.total() == 2
    before = list(read_predictions(log, MODEL))
    assert sorted(record.id for record in before) == [f"e{number}/{place}" for number in range(3) for place in (0, 1)]
    import_events(str(tmp_path / "events"), log, MODEL)
    assert list(read_predictions(log, MODEL)) == before
    assert len(list((tmp_path / "log").rglob("*.jsonl.gz"))) == 1
