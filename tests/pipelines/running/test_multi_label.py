"""Multi-label data from a file to a served bundle, a scored file, a watched window, and a training on feedback."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from components.data.dataset import Dataset
from components.monitoring.labelled import enlarge, join
from components.monitoring.retraining import Place, train
from components.monitoring.trainings import read_trainings
from components.scoring.plan import Settings
from components.scoring.steps import score_here
from predictor.model.bundle import MULTI, Bundle
from predictor.model.classifier import Classifier
from predictor.records import Feedback, Prediction, text_hash
from tests.multi_label import LABELS, toy_sets

whole_run = pytest.mark.slow(reason="a whole run, and a second one on feedback")


@pytest.fixture(scope="module")
def result(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    rows = toy_sets(40, 1)
    (folder / "data").mkdir()
    lines = rows.assign(label=rows["label"].map(lambda text: [label for label in text.split("|") if label]))
    lines.to_json(folder / "data" / "train.jsonl", orient="records", lines=True)
    command = [sys.executable, "-m", "pipelines.cli", "run", "--multi-label", "--data", str(folder / "data")]
    command += ["--backbone", str(backbone), "--out", str(folder / "out"), "--name", "tags", "-o", "json"]
    command += ["--threshold", "min_micro_f1=0.1", "--threshold", "behaviour_margin=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode in (0, 1), done.stderr[-3000:]
    return {**json.loads(done.stdout), "stderr": done.stderr, "folder": folder, "backbone": backbone}


@whole_run
def test_the_run_keeps_the_kind_from_data_to_bundle(result: dict[str, Any]) -> None:
    dataset = Dataset.load(result["folder"] / "out/data")
    assert dataset.multi_label and dataset.labels == LABELS
    spec = Bundle.open(Path(result["bundle"])).spec
    assert spec.problem_type == MULTI and spec.metrics["test_micro_f1"] > 0.3
    assert "no cascade: the linear stage gives a text one label" in result["stderr"]
    assert any(reason.startswith("micro F1") for reason in result["reasons"])
    report = Path(result["report"]).read_text()
    assert "wrongly given" in report and "micro F1" in report
    answers = Classifier(Path(result["bundle"])).classify(dataset.test.texts)
    right = np.mean([answer.label == label for answer, label in zip(answers, dataset.test.labels, strict=True)])
    assert right == pytest.approx(result["accuracy"])


@whole_run
def test_a_file_is_scored_with_the_same_labels(result: dict[str, Any], tmp_path: Path) -> None:
    source = toy_sets(3, 9)
    source.to_parquet(tmp_path / "rows.parquet", index=False)
    done = score_here(
        str(tmp_path / "rows.parquet"), result["bundle"], str(tmp_path / "out"), Settings(probabilities=True)
    )
    out = pq.read_table(next((tmp_path / "out/output").glob("*.parquet")))
    answers = Classifier(Path(result["bundle"])).classify(source["text"].tolist())
    assert out["predicted_label"].to_pylist() == [answer.label for answer in answers]
    assert done["canaries"]["rows"] == int((source["label"] != "").sum())


@whole_run
def test_feedback_leads_to_a_training_of_the_same_kind(result: dict[str, Any], tmp_path: Path) -> None:
    more = toy_sets(2, 11)
    records = [
        Prediction(
            str(n), "2026-11-29T12:00:00.000Z", "r", "b", text, text_hash(text), len(text), 9, "", 0.9, None, None
        )
        for n, text in enumerate(more["text"])
    ]
    notes = [Feedback(str(n), "2026-11-29T13:00:00.000Z", label) for n, label in enumerate(more["label"])]
    found = enlarge(result["folder"] / "out/data", join(records, notes), tmp_path / "enlarged")
    assert found.added > 0 and Dataset.load(tmp_path / "enlarged").multi_label
    parameters = [
        "name=tags", f"backbone={result['backbone']}", 'thresholds={"min_micro_f1": 0.1, "behaviour_margin": 1}'
    ]  # fmt: skip
    place = Place(results=str(tmp_path / "out"))
    log, root = str(tmp_path / "log"), str(tmp_path / "datasets")
    train(tmp_path / "enlarged", found.digest, log, "tags", root, place, "a test", parameters)
    (record,) = read_trainings(log, "tags")
    assert record.state in ("passed", "closed")
    (bundle,) = (tmp_path / "out/bundles").iterdir()
    assert Bundle.open(bundle).spec.problem_type == MULTI
