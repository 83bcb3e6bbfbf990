"""The report of a window: one page with the verdict, what it rests on, and the texts that are most unlike."""

from pathlib import Path
from typing import Any

import numpy as np

from components.monitoring.drift.index import LINE
from components.monitoring.drift.measure import Measured
from components.platform.pages import page_environment

_MOST_CLASSES = 30
_MOST_TEXTS = 20
_TENTHS = 10


def render_drift(measured: Measured) -> str:
    """Return the page as HTML."""
    environment = page_environment(Path(__file__).parent)
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}%"
    verdict = measured.verdict
    by_score = sorted(verdict.parts.items(), key=lambda item: -1.0 if item[1].score is None else -item[1].score)
    return environment.get_template("drift.html").render(
        verdict=verdict,
        line=LINE,
        compared=len(measured.window),
        parts=sorted(by_score, key=lambda item: item[1].score is None),
        accuracies=[(name, each) for name, each in _accuracies(measured) if each],
        classes=_classes(measured),
        confidences=_confidences(measured),
        texts=_texts(measured),
    )


def _accuracies(measured: Measured) -> list[tuple[str, Any]]:
    verdict = measured.verdict
    return [("from feedback", verdict.feedback), ("estimated without labels", verdict.estimate)]


def _classes(measured: Measured) -> list[dict[str, Any]]:
    """Return the answers' shares of 1 before and now, the largest change first."""
    known = measured.known
    rows = known.rows
    before = (
        {label: count / len(rows.answers) for label, count in known.label_counts(rows.answers).items()}
        if rows
        else known.histograms.class_shares
    )
    counts = known.label_counts(measured.window.answers)
    now = {label: count / max(1, len(measured.window)) for label, count in counts.items()}
    found: list[dict[str, Any]] = [
        {"label": label, "before": before.get(label, 0.0), "now": now.get(label, 0.0)} for label in {*before, *now}
    ]
    return sorted(found, key=lambda row: (-abs(row["now"] - row["before"]), row["label"]))[:_MOST_CLASSES]


def _confidences(measured: Measured) -> list[dict[str, Any]]:
    """Return the shares of confidences by tenths, before and now; none where the bundle has no rows."""
    if not measured.known.rows or not len(measured.window):
        return []
    edges = np.linspace(0, 1, _TENTHS + 1)
    sides = (measured.known.rows.confidence, measured.window.confidence)
    before, now = (np.histogram(np.minimum(side, 1.0), edges)[0] / len(side) for side in sides)
    return [
        {"low": edges[tenth], "high": edges[tenth + 1], "before": before[tenth], "now": now[tenth]}
        for tenth in range(_TENTHS)
        if before[tenth] or now[tenth]
    ]


def _texts(measured: Measured) -> list[dict[str, Any]]:
    if measured.unlike is None:
        return []
    window = measured.window
    order = [row for row in np.argsort(-measured.unlike, kind="stable") if window.texts[row] is not None]
    return [
        {"text": window.texts[row], "answer": window.answers[row], "confidence": window.confidence[row]}
        for row in order[:_MOST_TEXTS]
    ]
