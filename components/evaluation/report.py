"""The HTML report: one self-contained page with the verdict, the figures and the pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from components.evaluation.gate import Verdict
from components.evaluation.scores import Evaluation

_WIDTH, _HEIGHT, _MARGIN = 520, 200, 36


def render_report(evaluation: Evaluation, verdict: Verdict, training: dict[str, Any], data: dict[str, Any]) -> str:
    """Return the page.

    Args:
        evaluation: test results.
        verdict: what the gate said.
        training: content of the checkpoint's `training.json`.
        data: content of the dataset's `report.json`.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape(["html"]), trim_blocks=True
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.2f}%"
    history = training["history"]
    return environment.get_template("report.html").render(
        evaluation=asdict(evaluation),
        verdict=verdict,
        training=training,
        data=data,
        matrix=_matrix(evaluation.confusion),
        curves=[
            _curve("loss", history, {"train": "train_loss", "validation": "validation_loss"}),
            _curve("validation accuracy", history, {"validation": "validation_accuracy"}),
        ],
        width=_WIDTH,
        height=_HEIGHT,
    )


def _matrix(confusion: list[list[int]]) -> list[list[dict[str, Any]]]:
    """Return cells with count, share of the row and the shade (0 to 1) to paint them in."""
    return [
        [{"count": count, "share": count / max(1, sum(row)), "right": i == j} for j, count in enumerate(row)]
        for i, row in enumerate(confusion)
    ]


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
