"""From a bundle and a window to a verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from components.monitoring.drift.accuracy import Accuracy, Baseline, Scored, estimated, from_feedback
from components.monitoring.drift.index import Limits, Part, compared
from components.monitoring.drift.parts import LEAST_ROWS, findings
from components.monitoring.drift.rows import Known, ReferenceRows, Window, read_reference
from components.monitoring.drift.verdict import Span, Verdict
from predictor.model.bundle import MULTI, Bundle, ServingSpec
from predictor.model.text import Encoder

MOST_ROWS = 2_000
"""Texts of a window that are compared: as many as the reference has at most, which leaves tiny shifts unseen."""


@dataclass(frozen=True)
class Measured:
    """A verdict, and what it was made from."""

    verdict: Verdict
    known: Known
    window: Window
    """The texts that were compared."""
    unlike: NDArray[np.float64] | None = field(repr=False)
    """How unlike the reference each of them is, NaN where it has no text; None where that is not known."""


def measure(bundle: Bundle, model: str, window: Window, limits: Limits | None = None) -> Measured:
    """Compare a window with the bundle's reference.

    Args:
        bundle: the one that answered.
        model: its name in service.
        window: texts and answers; with fewer than `LEAST_ROWS` nothing is compared.
        limits: when a shift counts.

    Raises:
        InputError: the reference cannot be read.
    """
    known = known_of(bundle)
    baseline = _baseline(bundle.spec, known.rows)
    some = _cleaned(window.some(MOST_ROWS), bundle)
    parts: dict[str, Part] = {}
    unlike = None
    reasons: list[str] = []
    if len(some) >= LEAST_ROWS:
        found, unlike = findings(known, some)
        parts = compared(found, limits or Limits())
    else:
        reasons.append(f"{len(some)} texts are too few to compare: {LEAST_ROWS} are needed")
    feedback = _feedback(window, baseline)
    estimate = _estimate(known.rows, some, baseline)
    reasons += [f"{name}: {part.note}" for name, part in parts.items() if part.drifted]
    reasons += [f"accuracy from feedback: {feedback.note}"] if feedback and feedback.drifted else []
    reasons += [f"accuracy is {estimate.value:.1%}, {estimate.note}"] if estimate and estimate.drifted else []
    verdict = Verdict(
        model=model,
        bundle=bundle.digest,
        window=Span(window.since, window.until, len(window)),
        drift=max((part.score for part in parts.values() if part.score is not None), default=0.0),
        parts=parts,
        feedback=feedback,
        estimate=estimate,
        baseline=baseline.accuracy if baseline else None,
        reasons=reasons,
        left_out=window.left_out,
    )
    return Measured(verdict, known, some, unlike)


def known_of(bundle: Bundle) -> Known:
    """Return what a bundle knows of its answers.

    Raises:
        InputError: its reference cannot be read.
    """
    spec = bundle.spec
    reference = spec.cascade.reference if spec.cascade else spec.reference
    return Known(read_reference(bundle.path), reference, spec.problem_type == MULTI)


def _cleaned(window: Window, bundle: Bundle) -> Window:
    """Return a window whose texts are as the model reads them, like those of the reference."""
    rows = [row for row, text in enumerate(window.texts) if text is not None]
    if not rows:
        return window
    encoder = Encoder(bundle.path, bundle.spec.max_length, bundle.spec.cleaning)
    texts = list(window.texts)
    for row, text in zip(rows, encoder.clean(str(texts[row]) for row in rows), strict=True):
        texts[row] = text
    return replace(window, texts=texts)


def _baseline(spec: ServingSpec, rows: ReferenceRows | None) -> Baseline | None:
    """Return the test's accuracy; of a bundle that was not tested that on the reference's rows."""
    if "test_accuracy" in spec.metrics:
        return Baseline(spec.metrics["test_accuracy"], int(spec.metrics.get("test_rows", 0)))
    return Baseline(_right(rows.answers, rows.labels), len(rows.answers)) if rows else None


def _right(answers: Sequence[str], labels: Sequence[str]) -> float:
    return sum(answer == label for answer, label in zip(answers, labels, strict=True)) / len(labels)


def _feedback(window: Window, baseline: Baseline | None) -> Accuracy | None:
    if not window.labelled or baseline is None:
        return None
    answers, truth = zip(*window.labelled, strict=True)
    return from_feedback(answers, truth, baseline)


def _estimate(rows: ReferenceRows | None, window: Window, baseline: Baseline | None) -> Accuracy | None:
    if rows is None or baseline is None or len(window) < LEAST_ROWS:
        return None
    reference, now = Scored(rows.answers, rows.confidence), Scored(window.answers, window.confidence)
    return estimated(reference, rows.labels, now, baseline)
