"""Whether confidence can be believed, on the test rows of a bundle's data, and what explanations cost.

    make bench-confidence BUNDLE=out/ag/bundles/0123456789ab

The data is what the bundle's own run prepared, the folder `data` beside `bundles`. Another preparation divides the rows
in another way, and then rows that the model has learnt would set the thresholds. The expected calibration error is
above 0 for an honest model, too: a bin of few rows is off by chance. So it stands beside what a model with these very
confidences would have if each were true.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import Dataset
from components.training.export.coverage import fit_levels
from components.training.export.reliability import calibration_error, error_by_chance, reliability
from predictor.model.classifier import Classifier
from predictor.model.conformal import label_sets
from predictor.model.cpus import available_cpus
from predictor.model.gradients import MOST_GAP, Gradients
from tests.benchmarks.table import Row, publish, row

EXPLAINED = 20


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the data that its run prepared; the folder data beside bundles")
    asked = parser.parse_args()
    folder = asked.data or asked.bundle.resolve().parent.parent / "data"
    data, classifier = Dataset.load(folder), Classifier(asked.bundle)
    if data.digest != classifier.bundle.spec.data_digest:
        sys.exit(f"{folder} is not what {asked.bundle} was trained on: give the data folder of its own run")
    print(f"{len(data.validation):,} validation rows and {len(data.test):,} test rows", flush=True)
    rows, test = (classifier.probabilities(split.texts) for split in (data.validation, data.test))
    fitted, truth = (np.array(split.label_ids(classifier.labels)) for split in (data.validation, data.test))
    publish(
        "confidence",
        [*calibration(test, truth), *coverage(rows, fitted, test, truth), *attributions(classifier, data.test.texts)],
    )


def calibration(rows: NDArray[np.float32], truth: NDArray[np.int64]) -> list[Row]:
    """Return the calibration error, and what one of a model whose confidences are true exceeds once in twenty."""
    confidence, right = rows.max(axis=1), rows.argmax(axis=1) == truth
    found = calibration_error(reliability(confidence, right))
    return [
        row(
            "expected calibration error",
            "share",
            found,
            error_by_chance(confidence),
            "honest model, at most (95%)",
            goal=0.02,
            at_most=True,
        ),
    ]


def coverage(
    rows: NDArray[np.float32], fitted: NDArray[np.int64], test: NDArray[np.float32], truth: NDArray[np.int64]
) -> list[Row]:
    """Return how often sets hold the true label, with thresholds from the validation rows."""
    accuracy = 100 * float((test.argmax(axis=1) == truth).mean())
    found = []
    for level in fit_levels(rows, fitted).levels:
        sets = label_sets(test, level.threshold)
        held = 100 * float(np.mean([label in one for label, one in zip(truth, sets, strict=True)]))
        reached = 100 * float((test[np.arange(len(truth)), truth] >= np.float32(level.threshold)).mean())
        wanted = 100 * level.coverage
        name = f"sets for {wanted:g}%"
        # A set always has the answer, so it holds the truth at least as often as the answer is right.
        off = abs(held - max(wanted, accuracy))
        found += [
            row(f"{name}: hold the truth", "%", held, accuracy, "answer alone", value=off, goal=1.0, at_most=True),
            row(
                f"{name}: truth reaches the threshold",
                "%",
                reached,
                value=abs(reached - wanted),
                goal=1.0,
                at_most=True,
            ),
            row(f"{name}: labels", "mean", float(np.mean([len(one) for one in sets]))),
        ]
    return found


def attributions(classifier: Classifier, texts: list[str]) -> list[Row]:
    """Return what the transformer's attributions lack in their sum, and take, for texts as they are and the longest."""
    gradients = Gradients(classifier.bundle.path, classifier.bundle.spec, available_cpus())
    starts = range(0, len(texts), max(1, len(texts) // EXPLAINED))
    length = classifier.bundle.spec.max_length
    rows, gaps = [], []
    for what, chosen in (
        ("a test text", [texts[start] for start in starts]),
        (f"a text of {length} tokens", [" ".join(texts[start : start + 20]) for start in starts]),
    ):
        taken = [_attributed(classifier, gradients, text) for text in chosen]
        gaps += [gap for gap, _, _ in taken]
        seconds, cpu = np.array([wall for _, wall, _ in taken]), np.median([busy for _, _, busy in taken])
        rows += [
            row(f"an attribution of {what}, median", "s", float(np.median(seconds)), goal=1.0, at_most=True),
            row(
                f"an attribution of {what}, 95% of them", "s", float(np.quantile(seconds, 0.95)), goal=1.0, at_most=True
            ),
            row(f"an attribution of {what}, median", "CPU s", float(cpu)),
        ]
    return [row("largest gap of an attribution", "%", 100 * max(gaps), goal=100 * MOST_GAP, at_most=True), *rows]


def _attributed(classifier: Classifier, gradients: Gradients, text: str) -> tuple[float, float, float]:
    """Return the gap of a text's attribution, its seconds, and its seconds of processor time."""
    (cleaned,) = classifier.encoder.clean([text])
    label = int(classifier.probabilities([text])[0].argmax())
    wall, busy = time.perf_counter(), time.process_time()
    found, _ = gradients(cleaned, label)
    return found.gap, time.perf_counter() - wall, time.process_time() - busy


if __name__ == "__main__":
    main()
