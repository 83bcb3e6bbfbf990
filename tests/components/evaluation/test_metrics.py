"""A metric of an evaluation is one line, and has one name in each place that shows it."""

from dataclasses import replace
from pathlib import Path

import pytest
from kfp import dsl
from mlflow.tracking import MlflowClient

from components.data.dataset import Dataset
from components.evaluation import metrics
from components.evaluation.component import evaluate, gate, report
from components.evaluation.metrics import Metric
from components.training.baseline import train_baseline
from predictor.model.bundle import Bundle

TODAY = {"accuracy", "macro_f1", "macro_precision", "macro_recall", "log_loss", "calibration_error"}


def test_a_metric_has_one_name_for_programs_and_one_for_people() -> None:
    assert {metric.name for metric in metrics.METRICS} == TODAY
    assert {metric.key for metric in metrics.METRICS} == {f"test_{name}" for name in TODAY}
    assert {metric.title for metric in metrics.METRICS} == {
        "accuracy", "macro F1", "macro precision", "macro recall", "log loss", "expected calibration error",
    }  # fmt: skip


@pytest.mark.parametrize("hub_type", ["", "recall"])
def test_a_new_line_is_a_metric_everywhere(
    hub_type: str, bundle: Path, checkpoint: Path, dataset: Dataset, own_tracking: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    added = Metric("recall_of_sports", "recall of sports", lambda result: 0.4321, hub_type=hub_type)
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, added))
    dataset.save(tmp_path / "data")
    train_baseline(dataset, tmp_path / "baseline", 0, 1)
    data, shown, page = (
        dsl.Dataset(uri=str(tmp_path / "data")),
        dsl.Metrics(),
        dsl.HTML(uri=str(tmp_path / "page.html")),
    )
    figures = dsl.Artifact(uri=str(tmp_path / "figures"))
    evaluate.python_func(
        dataset=data, draft=dsl.Model(uri=str(bundle)), baseline=dsl.Artifact(uri=str(tmp_path / "baseline")),
        bundle=dsl.Model(uri=str(tmp_path / "finished")), evaluation=figures, metrics=shown,
        confusion=dsl.ClassificationMetrics(), predictions=dsl.Dataset(uri=str(tmp_path / "answers")), name="news",
        pipeline_run="one", mlflow_tracking_uri=own_tracking,
    )  # fmt: skip
    decision = dsl.Artifact(uri=str(tmp_path / "decision"))
    gate.python_func(evaluation=figures, decision=decision)
    report.python_func(
        dataset=data, checkpoint=dsl.Model(uri=str(checkpoint)), evaluation=figures, decision=decision, page=page,
        text=dsl.Markdown(uri=str(tmp_path / "page.md")),
    )  # fmt: skip

    assert set(shown.metadata) == {*TODAY, "recall_of_sports"}
    (run,) = MlflowClient(own_tracking).search_runs(["1"], "tags.`pigeonhole.step` = 'evaluate'")
    tracked = {name: value for name, value in run.data.metrics.items() if name.startswith("test_")}
    served = Bundle.open(tmp_path / "finished").spec.metrics
    assert set(tracked) == {f"test_{name}" for name in (*TODAY, "recall_of_sports")}
    assert tracked == {name: served[name] for name in tracked}
    assert served["test_recall_of_sports"] == shown.metadata["recall_of_sports"] == 0.4321
    for file in ("finished/README.md", "page.html", "page.md"):
        text = (tmp_path / file).read_text()
        assert "0.4321" in text and "recall of sports" in text


def test_what_people_read_is_rounded_and_a_share_is_a_percentage() -> None:
    share = Metric("a", "a", lambda result: 0.0, percent=True)
    assert share.shown(0.91666) == "91.67%"
    assert replace(share, percent=False).shown(0.91666) == "0.9167"
