"""A multi-label model watched: shares of each label, feedback, KServe's events, and what is not asked of people."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.data.collect import collect
from components.data.prepare import prepare_folder
from components.data.preparing.settings import Classes
from components.data.synthesis.augment import augment
from components.labelling.suggest import suggest
from components.monitoring.asking import ask
from components.monitoring.drift.index import Limits, compared
from components.monitoring.drift.measure import known_of, measure
from components.monitoring.drift.page import render_drift
from components.monitoring.drift.parts import findings, label_shares
from components.monitoring.drift.rows import Window
from components.monitoring.drift.windows import answered
from components.monitoring.labelled import Labelled, enlarge
from components.monitoring.log.kserve_events import REQUEST, RESPONSE, Event, predictions_of
from components.monitoring.retraining import run_options
from components.monitoring.retraining import train as begin
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from tests.components.monitoring.test_retraining import Program, program  # noqa: F401 - a fixture
from tests.multi_label import toy_dataset, toy_sets


def _window(folder: Path, bundle: Path, frame: pd.DataFrame) -> Window:
    frame.to_csv(folder / "window.csv", index=False)
    return answered(bundle, folder / "window.csv")


def test_a_label_that_comes_more_often_is_a_shift_and_the_same_mix_is_none(sets_draft: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(sets_draft)
    same = _window(tmp_path, sets_draft, toy_sets(20, 31))
    parts = compared(findings(known_of(bundle), same)[0], Limits())
    assert not parts["predictions"].drifted
    frame = toy_sets(40, 32)
    mostly = frame[frame["label"].str.contains("World")].head(160)
    measured = measure(bundle, "tags", _window(tmp_path, sets_draft, mostly))
    part = measured.verdict.parts["predictions"]
    assert part.drifted and "PSI" in part.note and "World" in part.note and "|" not in part.note
    assert measured.verdict.feedback and measured.verdict.feedback.rows == len(mostly)
    page = render_drift(measured)
    assert "World" in page and "Business|World" not in page.partition('id="answers"')[2].partition("</section>")[0]


def test_feedback_from_a_file_may_have_its_labels_in_any_order(sets_draft: Path, tmp_path: Path) -> None:
    frame = toy_sets(4, 33)
    turned = frame.assign(label=["|".join(label.split("|")[::-1]) for label in frame["label"]])
    assert _window(tmp_path, sets_draft, turned).labelled == _window(tmp_path, sets_draft, frame).labelled


def test_the_shift_of_labels_counts_texts_and_not_labels() -> None:
    before, now = {"a": 500.0, "b": 500.0}, {"a": 500.0, "b": 900.0}
    found = label_shares(before, 1000, now, 1000)
    assert found.size == pytest.approx(0.4) and found.p_value < 1e-6
    assert label_shares(before, 1000, before, 1000).p_value == 1.0
    assert label_shares({}, 10, {}, 10).size == 0.0


def test_with_chance_alone_shifts_are_as_rare_as_the_level_says() -> None:
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        counts = random.binomial(300, [[0.5, 0.2, 0.1]] * 2).astype(float)
        one, two = (dict(zip("abc", row, strict=True)) for row in counts)
        wrong += label_shares(one, 300, two, 300).p_value < 0.05
    assert wrong <= 18


def test_feedback_with_a_label_that_the_dataset_lacks_is_left_out(tmp_path: Path) -> None:
    toy_sets(10, 1).to_csv(tmp_path / "train.csv", index=False)
    collect(str(tmp_path / "train.csv"), tmp_path / "collected", multi_label=True)
    prepare_folder(tmp_path / "collected", tmp_path / "data", 1, classes=Classes(multi_label=True))
    rows = toy_sets(1, 40)
    rows.loc[0, "label"] = "Sports|Weather"
    frame = rows.assign(id=[str(n) for n in range(len(rows))], source="feedback", collected_at="2026-11-29")
    found = enlarge(tmp_path / "data", Labelled(frame, {"feedback": len(frame)}), tmp_path / "out")
    assert found.left_out["a label that the dataset lacks"] == 1 and found.added > 0


def test_a_training_on_enlarged_data_is_of_the_same_kind(program: Program, tmp_path: Path) -> None:  # noqa: F811
    from components.monitoring.retraining import Place

    (tmp_path / "enlarged/report.json").write_text('{"multi_label": true}')
    program.answers({"passed": True, "bundle": "b"})
    begin(tmp_path / "enlarged", "d1" * 32, str(tmp_path / "log"), "tags", str(tmp_path / "d"), Place("out"), "why", [])
    (call,) = program.calls()
    assert "--multi-label" in call
    program.answers({"run_id": "7"})
    place = Place(host="http://kfp")
    begin(tmp_path / "enlarged", "d1" * 32, str(tmp_path / "log"), "tags", str(tmp_path / "d"), place, "why", [])
    assert "multi_label=true" in program.calls()[-1]
    assert list(run_options(["multi_label=false"], tmp_path)) == []


def test_events_of_kserve_have_all_labels() -> None:
    asked = {"instances": ["a", "b"]}
    said = [
        {"labels": ["b", "a"], "confidence": 0.7, "confidences": {"a": 0.7, "b": 0.9}},
        {"labels": [], "confidence": 0.8, "confidences": {"a": 0.1, "b": 0.2}},
    ]
    time = "2026-11-29T12:00:00.000Z"
    request = Event(REQUEST, "1", time, json.dumps(asked).encode())
    v1 = Event(RESPONSE, "1", time, json.dumps({"predictions": said}).encode())
    assert [record.label for record in predictions_of(request, v1)] == ["a|b", ""]
    tensor = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]}
    outputs = [{"name": "labels", "data": ["a|b", ""]}, {"name": "confidence", "data": [0.7, 0.8]}]
    v2 = Event(RESPONSE, "1", time, json.dumps({"id": "1", "outputs": outputs}).encode())
    again = predictions_of(replace(request, body=json.dumps(tensor).encode()), v2)
    assert [record.label for record in again] == ["a|b", ""]


def test_what_works_class_by_class_is_refused(sets_draft: Path, tmp_path: Path) -> None:
    toy_sets(1, 1).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(InputError, match="any number of labels, and people are asked for one"):
        suggest(sets_draft, tmp_path / "rows.csv", 3)
    with pytest.raises(InputError, match="here a row has any number of labels"):
        augment(toy_dataset(), tmp_path / "made")
    region = tmp_path / "unlike.parquet"
    toy_sets(1, 1).to_parquet(region)
    assert ask(sets_draft, tmp_path / "data", region, tmp_path, 5, 1) == {"asked": 0}
