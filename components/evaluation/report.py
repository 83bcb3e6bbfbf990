"""The HTML report: one self-contained page with the gate's decision, the figures and the pictures."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median_low
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from components.evaluation import metrics
from components.evaluation.gate import GateDecision
from components.evaluation.scores import MOST_SHOWN, ClassScore, Evaluation, listed, worst_and_best

_WIDTH, _HEIGHT, _MARGIN = 520, 200, 36
_BARS = 10


def render_report(
    evaluation: Evaluation, decision: GateDecision, training: dict[str, Any], data: dict[str, Any]
) -> str:
    """Return the page. With many classes its length no longer grows with their number.

    Args:
        evaluation: test results.
        decision: what the gate decided.
        training: content of the checkpoint's `training.json`.
        data: content of the dataset's `report.json`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(["html"]), trim_blocks=True
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}%"
    history = training["history"]
    shown, matrix = evaluation.matrix()
    many = len(evaluation.labels) > MOST_SHOWN
    worst, best = worst_and_best(evaluation.classes)
    supports = {row.label: row.support for row in evaluation.classes}
    pairs = evaluation.confused()[:MOST_SHOWN] if many else []
    return environment.get_template("report.html").render(
        evaluation=evaluation,
        figures=_figures(evaluation),
        gaps=_gaps(data["rows_by_label"]),
        decision=decision,
        training=training,
        data=data,
        matrix=list(zip(shown, _matrix(matrix), strict=True)),
        many=many,
        pairs=[
            (evaluation.labels[truth], evaluation.labels[answer], rows, rows / supports[evaluation.labels[truth]])
            for truth, answer, rows in pairs
        ],
        classes={"lowest F1": worst, "highest F1": best} if many else {"": evaluation.classes},
        bars=_bars(evaluation.classes) if many else [],
        spread={split: _spread(list(rows.values())) for split, rows in data["rows_by_label"].items()} if many else {},
        curves=[
            _curve("loss", history, {"train": "train_loss", "validation": "validation_loss"}),
            _curve("validation accuracy", history, {"validation": "validation_accuracy"}),
        ],
        width=_WIDTH,
        height=_HEIGHT,
    )


def _figures(evaluation: Evaluation) -> list[dict[str, str]]:
    """Return value and words of each metric but the accuracy, which has a figure of its own with its interval."""
    tested = len(evaluation.labels) - len(evaluation.unknown)
    return [
        {
            "value": metric.shown(metric.value(evaluation)),
            "words": metric.title + (f" of {tested} classes" if metric.of_classes and evaluation.unknown else ""),
        }
        for metric in metrics.metrics_of(evaluation)
        if metric.name != "accuracy"
    ]


def _gaps(rows_by_label: dict[str, dict[str, int]]) -> list[str]:
    """Return a sentence for each of validation and test that has no rows of some classes."""
    return [
        f"no {split} rows of {listed(missing)}: nothing is known of how it does on them there"
        for split in ("validation", "test")
        if (missing := [label for label, rows in rows_by_label[split].items() if not rows])
    ]


def _matrix(confusion: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Return cells with their count, its share of the row (0 to 1), and whether they are on the diagonal."""
    return [
        [{"count": count, "share": count / max(1, sum(row)), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(confusion)
    ]


def _bars(classes: Sequence[ClassScore]) -> list[dict[str, Any]]:
    """Return a histogram of F1 over the classes that have test rows: a bar for each tenth."""
    counts = [0] * _BARS
    for row in classes:
        if row.support:
            counts[min(_BARS - 1, int(row.f1 * _BARS))] += 1
    width = (_WIDTH - 2 * _MARGIN) / _BARS
    tallest = (_HEIGHT - 2 * _MARGIN) / max(1, *counts)
    return [
        {"x": round(_MARGIN + number * width, 1), "width": round(width - 4, 1), "height": round(count * tallest, 1),
         "count": count, "low": number / _BARS}
        for number, count in enumerate(counts)
    ]  # fmt: skip


def _spread(rows: list[int]) -> list[int]:
    """Return the rows of the smallest class, of the median one and of the largest."""
    return [min(rows), median_low(rows), max(rows)]


def _curve(name: str, history: list[dict[str, Any]], series: dict[str, str]) -> dict[str, Any]:
    values = [row[key] for key in series.values() for row in history]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    steps = max(1, len(history) - 1)

    def point(index: int, value: float) -> tuple[float, float]:
        x = _MARGIN + index * (_WIDTH - 2 * _MARGIN) / steps
        y = _HEIGHT - _MARGIN - (value - low) / span * (_HEIGHT - 2 * _MARGIN)
        return round(x, 1), round(y, 1)

    return {
        "name": name,
        "low": low,
        "high": high,
        "epochs": len(history),
        "lines": {label: [point(i, row[key]) for i, row in enumerate(history)] for label, key in series.items()},
    }
