import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from components.data.dataset import Dataset
from components.evaluation.gate import gate
from components.evaluation.report import render_report
from components.evaluation.scores import ClassScore, Evaluation, Mistake
from predictor.bundle import Bundle

GOOD = Evaluation(
    task="toy",
    rows=1000,
    accuracy=0.95,
    accuracy_low=0.93,
    accuracy_high=0.96,
    macro_f1=0.95,
    calibration_error=0.01,
    baseline_accuracy=0.94,
    only_model_right=30,
    only_baseline_right=20,
    precision="int8",
    precision_reason="int8 loses nothing",
    texts_per_second=300.0,
    labels=["a", "<b>"],
    classes=[ClassScore("a", 0.95, 0.95, 0.95, 500), ClassScore("<b>", 0.95, 0.95, 0.95, 500)],
    confusion=[[475, 25], [25, 475]],
    mistakes=[Mistake("<script>alert(1)</script>", "a", "<b>", 0.99)],
)


def test_a_good_model_passes() -> None:
    verdict = gate(GOOD, 0.9)
    assert verdict.passed is True and len(verdict.reasons) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accuracy": 0.8999}, "below 90.00%"),
        ({"only_model_right": 20, "only_baseline_right": 60}, "is significantly better"),
        ({"confusion": [[500, 0], [500, 0]]}, "never answered: <b>"),
    ],
)
def test_each_check_can_close_the_gate(change: dict[str, object], reason: str) -> None:
    verdict = gate(replace(GOOD, **change), 0.9)  # type: ignore[arg-type]
    assert not verdict.passed
    assert any(reason in said for said in verdict.reasons)


def test_a_baseline_that_is_better_by_chance_does_not_close_it() -> None:
    assert gate(replace(GOOD, only_model_right=28, only_baseline_right=32), 0.9).passed
    assert gate(replace(GOOD, only_model_right=0, only_baseline_right=0), 0.9).passed


def test_the_figures_survive_a_file(tmp_path: Path) -> None:
    GOOD.save(tmp_path / "evaluation.json")
    assert Evaluation.load(tmp_path / "evaluation.json") == GOOD


class _Balanced(HTMLParser):
    VOID = frozenset({"meta", "br", "link", "img", "line", "circle", "polyline"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_report_shows_the_figures_and_escapes_texts(dataset: Dataset, checkpoint: Path) -> None:
    training = json.loads((checkpoint / "training.json").read_text())
    data = {**dataset.report, "rows_by_label": {s: {"a": 1, "<b>": 2} for s in ("train", "validation", "test")}}
    page = render_report(GOOD, gate(GOOD, 0.9), training, data)
    parser = _Balanced()
    parser.feed(page)
    assert not parser.open
    assert "Gate passed" in page and "95.00%" in page and dataset.digest in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=", page)


def test_the_model_card_has_front_matter_that_hubs_read(bundle: Path) -> None:
    spec = Bundle.open(bundle).spec
    card = (bundle / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "text-classification"
    metric = front["model-index"][0]["results"][0]["metrics"][0]
    assert metric == {"type": "accuracy", "value": round(spec.metrics["test_accuracy"], 4)}
    assert f"sha256:{spec.data_digest}" in card
    assert all(f"| {label} |" in card for label in spec.labels)
