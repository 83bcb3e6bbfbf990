"""`pigeonhole monitor drift`: what is printed, written, published and returned."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.monitoring.drift.index import LINE
from pipelines.cli.app import app
from predictor.errors import InputError
from predictor.model.bundle import REFERENCE_FILE, Bundle, seal
from tests.components.monitoring.records import feedback, part, prediction
from tests.conftest import toy_frame


def drift(*words: object) -> tuple[int, dict[str, Any]]:
    """Run the command in this process, and return its exit code and what it printed on stdout."""
    done = CliRunner().invoke(app, ["monitor", "drift", *map(str, words)], catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def usual(tmp_path: Path) -> Path:
    """Texts like those that the toy model is trained on, with numbers behind them that are in no other text."""
    file = tmp_path / "texts.csv"
    frame = toy_frame(40, 11)
    frame["text"] = [f"{text.rpartition(' ')[0]} {5000 + row}" for row, text in enumerate(frame["text"])]
    frame.to_csv(file, index=False)
    return file


def test_texts_as_before_end_with_0_and_others_with_1(bundle: Path, usual: Path, tmp_path: Path) -> None:
    out, metrics = tmp_path / "out", tmp_path / "drift.prom"
    code, verdict = drift(bundle, "--texts", usual, "--out", out, "--metrics-file", metrics, "--model-name", "toy")
    assert code == 0 and not verdict["drifted"] and verdict["drift"] <= LINE
    assert verdict["accuracy"]["feedback"]["rows"] == verdict["window"]["rows"] == 120
    assert verdict == json.loads((out / "verdict.json").read_text())
    assert 'text_classifier_window_rows{model_name="toy"} 120.0' in metrics.read_text()
    frame = toy_frame(40, 11)
    frame["text"] = [" ".join(word[::-1] for word in text.split()[:3]) for text in frame["text"]]
    frame.to_csv(usual, index=False)
    code, verdict = drift(bundle, "--texts", usual, "--out", out)
    assert code == 1 and verdict["drifted"] and verdict["drift"] > LINE
    assert verdict["parts"]["vocabulary"]["drifted"] and verdict["parts"]["length"]["drifted"]
    assert "has drifted" in (out / "drift.html").read_text() and (out / "unlike.parquet").is_file()


def test_a_drop_of_the_accuracy_in_a_log_is_drift(bundle: Path, tmp_path: Path) -> None:
    digest, now = Bundle.open(bundle).digest, datetime.now(UTC)
    stamp, day = now.isoformat(timespec="milliseconds"), f"{now:%Y-%m-%d}"
    rows = [
        prediction(number, bundle=digest, time=stamp, text=None, label=("Sports", "World", "Business")[number % 3])
        for number in range(150)
    ]
    part(tmp_path / "log", "predictions", "a", rows, day)
    true = [feedback(number, "Sports", time=stamp) for number in range(120)]
    part(tmp_path / "log", "feedback", "a", true, day)
    words = [bundle, "--log-url", tmp_path / "log", "--model-name", "news", "--out", tmp_path / "out"]
    code, verdict = drift(*words, "--until", "2100-01-01T00:00:00Z", "--hours", 24 * 365 * 80)
    assert code == 1 and verdict["accuracy"]["feedback"]["value"] == pytest.approx(1 / 3)
    assert any(reason.startswith("accuracy from feedback") for reason in verdict["reasons"])
    assert "redaction" in verdict["parts"]["length"]["note"]


def test_too_few_texts_have_no_index(bundle: Path, usual: Path, tmp_path: Path) -> None:
    toy_frame(10, 11).to_csv(usual, index=False)
    metrics = tmp_path / "drift.prom"
    code, verdict = drift(bundle, "--texts", usual, "--out", tmp_path / "out", "--metrics-file", metrics)
    assert code == 0 and verdict["parts"] == {} and "too few" in verdict["reasons"][0]
    assert "text_classifier_drift_ratio" not in metrics.read_text()
    assert "text_classifier_monitor_time_seconds" in metrics.read_text()


def test_no_verdict_stands_beside_the_files_of_another_window(bundle: Path, usual: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    drift(bundle, "--texts", usual, "--out", out)
    (out / "drift.html").unlink()
    (out / "drift.html" / "in the way").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        drift(bundle, "--texts", usual, "--out", out)
    assert not (out / "verdict.json").exists()


def test_a_bundle_without_reference_rows_says_what_it_cannot_tell(bundle: Path, usual: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(bundle, old)
    (old / REFERENCE_FILE).unlink()
    seal(old, Bundle.open(bundle).spec)
    _, verdict = drift(old, "--texts", usual, "--out", tmp_path / "out")
    assert verdict["parts"]["length"]["score"] is None and verdict["parts"]["predictions"]["score"] is not None
    assert verdict["accuracy"]["estimate"] is None


def test_it_is_wrong_to_give_no_texts_or_twice(bundle: Path, usual: Path, tmp_path: Path) -> None:
    for words in ([], ["--texts", usual, "--log-url", tmp_path]):
        with pytest.raises(InputError, match="either --log-url or --texts"):
            drift(bundle, "--out", tmp_path / "out", *words)
    with pytest.raises(InputError, match="no answers of this bundle"):
        drift(bundle, "--out", tmp_path / "out", "--log-url", tmp_path)
    with pytest.raises(InputError, match="textfile collector"):  # before the texts are looked for
        drift(bundle, "--out", tmp_path / "out", "--texts", tmp_path / "none.csv", "--metrics-file", tmp_path / "m.txt")
