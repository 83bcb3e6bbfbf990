"""Measuring a bundle on the test split, through the same classifier that serves it."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import precision_recall_fscore_support

from components.data.dataset import Dataset
from components.evaluation.card import model_card
from components.evaluation.metrics import by_key
from components.evaluation.scores import CascadeScore, ClassScore, Evaluation, Mistake
from components.platform.progress import Progress, say
from components.training.baseline import Baseline
from components.training.export.calibration import calibration_error
from predictor.model.bundle import SPEC_FILE, Bundle, seal
from predictor.model.classifier import BATCH, Classifier

_EXAMPLES = 12
# The most probabilities in memory at a time: 64 MB of them, or 4 million texts of four classes.
_PROBABILITIES = 16_000_000


def evaluate(bundle: Path, dataset: Dataset, baseline: Baseline, baseline_answers: dict[str, str]) -> Evaluation:
    """Answer every test row with the bundle and compare with the truth and with the baseline's answers."""
    classifier = Classifier(bundle)
    test = dataset.test
    truth = np.array(test.label_ids(classifier.labels))
    started = time.monotonic()
    answers, confidence = _answers(classifier, test.texts)
    seconds = time.monotonic() - started
    right = answers == truth
    cascade = _cascade_score(classifier, test.texts, truth, right)
    classifier.close()
    other = np.array([baseline_answers[id_] == label for id_, label in zip(test.frame["id"], test.labels, strict=True)])
    numbers = range(len(classifier.labels))
    scores = precision_recall_fscore_support(truth, answers, labels=list(numbers), zero_division=0.0)
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    result = Evaluation(
        task=classifier.bundle.spec.task,
        rows=len(test),
        accuracy=float(right.mean()),
        accuracy_low=float(interval.low),
        accuracy_high=float(interval.high),
        macro_f1=float(np.mean(scores[2][scores[3] > 0])),  # a class without rows has no F1
        calibration_error=calibration_error(confidence, right),
        baseline_accuracy=baseline.test_accuracy,
        only_model_right=int((right & ~other).sum()),
        only_baseline_right=int((~right & other).sum()),
        precision=classifier.bundle.spec.precision,
        precision_reason=classifier.bundle.spec.precision_reason,
        texts_per_second=len(test) / seconds,
        labels=list(classifier.labels),
        classes=[
            ClassScore(label, float(scores[0][i]), float(scores[1][i]), float(scores[2][i]), int(scores[3][i]))
            for i, label in enumerate(classifier.labels)
        ],
        confusion=_pairs(truth, answers),
        mistakes=_mistakes(test.texts, classifier.labels, truth, answers, confidence),
        cascade=cascade,
    )
    say(
        f"test accuracy {result.accuracy:.2%} (95% interval {result.accuracy_low:.1%} to {result.accuracy_high:.1%}), "
        f"baseline {result.baseline_accuracy:.2%}"
    )
    return result


def _answers(classifier: Classifier, texts: list[str]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the class of each text and its confidence, in portions: all probabilities together may be billions."""
    portion = max(BATCH, _PROBABILITIES // len(classifier.labels))
    progress = Progress("evaluate", len(texts))
    answers, confidence = [], []
    for start in range(0, len(texts), portion):

        def done(texts: int, before: int = start) -> None:
            progress(before + texts)

        rows = classifier.probabilities(texts[start : start + portion], done)
        answers.append(rows.argmax(axis=1))
        confidence.append(rows.max(axis=1))
    return np.concatenate(answers), np.concatenate(confidence)


def _cascade_score(
    classifier: Classifier, texts: list[str], truth: NDArray[np.int64], right: NDArray[np.bool_]
) -> CascadeScore | None:
    """Ask the transformer for the texts that the linear model of a cascade answered."""
    if classifier.cascade is None:
        return None
    portion = max(BATCH, _PROBABILITIES // len(classifier.labels))
    cleaned = classifier.encoder.clean(texts)
    exits = np.concatenate(
        [classifier.cascade(cleaned[start : start + portion])[1] for start in range(0, len(cleaned), portion)]
    )
    alone = right.copy()
    if exits.any():
        transformer = Classifier(classifier.bundle.path, cascade=False)
        answers, _ = _answers(transformer, [text for text, gone in zip(texts, exits, strict=True) if gone])
        transformer.close()
        alone[exits] = answers == truth[exits]
    return CascadeScore(
        share=float(exits.mean()),
        transformer_accuracy=float(alone.mean()),
        lost=int((alone & ~right).sum()),
        won=int((right & ~alone).sum()),
    )


def finish_bundle(bundle: Path, evaluation: Evaluation, dataset: Dataset, out: Path) -> Bundle:
    """Return a copy of the bundle with its test metrics and its model card."""
    draft = Bundle.open(bundle)
    shutil.copytree(
        bundle, out, copy_function=_link, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SPEC_FILE, "README.md")
    )
    metrics = {**draft.spec.metrics, "test_rows": float(evaluation.rows), **by_key(evaluation)}
    spec = draft.spec.model_copy(update={"metrics": metrics})
    (out / "README.md").write_text(model_card(spec, evaluation.classes, dataset.report["rows"]), encoding="utf-8")
    return seal(out, spec)


def _link(source: str, target: str) -> None:
    """Link the file where the file system can, since no file of a bundle ever changes; copy it otherwise."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _pairs(truth: NDArray[np.int64], answers: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Count the rows of each (true class, answer); most of a matrix of many classes would be zeros."""
    pairs, rows = np.unique(np.stack([truth, answers]), axis=1, return_counts=True)
    return list(zip(*pairs.tolist(), rows.tolist(), strict=True))


def _mistakes(
    texts: list[str],
    labels: list[str],
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    confidence: NDArray[np.float32],
) -> list[Mistake]:
    wrong = np.flatnonzero(answers != truth)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:_EXAMPLES]
    return [Mistake(texts[i][:300], labels[truth[i]], labels[answers[i]], float(confidence[i])) for i in wrong]
