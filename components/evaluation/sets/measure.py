"""The answers of a multi-label model to the test rows, and their figures: a row may have any number of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support

from components.evaluation.measure import EXAMPLES, SHOWN_CHARACTERS, model_score
from components.evaluation.predictions import PROBABILITIES
from components.evaluation.scores import LabelCounts, Mistake, ModelScore, SetScore
from components.evaluation.statistics import Parts, f1_interval
from components.platform.progress import Progress
from components.training.export.reliability import calibration_error, reliability
from predictor.label_matrix import texts_of
from predictor.model.calibration import decided
from predictor.model.classifier import BATCH, Classifier


@dataclass(frozen=True)
class SetPredictions:
    """Answers of a model, a row for each text and a column for each label of the data set."""

    has: NDArray[np.bool_]
    """The labels that each row gets; none that the model lacks."""
    sure: NDArray[np.float32]
    """Probability of each of these decisions."""
    truth_probability: NDArray[np.float32]
    """Probability of what is true of each row and label; of a label that the model lacks 1 where the row lacks it."""
    numbers: NDArray[np.bool_]
    """Whether the probabilities of the row are finite; a row whose are not gets no label."""

    def right(self, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return of which rows all labels are right."""
        return np.asarray((self.has == truth).all(axis=1) & self.numbers)

    def parts(self, truth: NDArray[np.bool_]) -> Parts:
        """Return what micro F1 is made of, by row."""
        return Parts.of(self.has, truth)

    @property
    def confidence(self) -> NDArray[np.float32]:
        """Of each row, that of its least sure decision."""
        least: NDArray[np.float32] = self.sure.min(axis=1)
        return least

    def texts(self, labels: Sequence[str]) -> list[str]:
        """Return the labels that each row gets, joined by `|`."""
        return texts_of(self.has, labels)


def predict_sets(
    classifier: Classifier, texts: Sequence[str], truth: NDArray[np.bool_], labels: Sequence[str], what: str
) -> SetPredictions:
    """Answer texts with a bundle, through the code that serves it.

    Args:
        classifier: of the bundle; its labels need not be those of the data set. One that gives a text one label gets
            that of the greatest probability.
        texts: as they were collected.
        truth: whether each row has each label, shape (rows, labels).
        labels: of the data set.
        what: the model, for the progress.
    """
    place = {label: number for number, label in enumerate(classifier.labels)}
    known = [number for number, label in enumerate(labels) if label in place]
    columns = [place[labels[number]] for number in known]
    has = np.zeros(truth.shape, dtype=bool)
    shares = np.zeros(truth.shape, dtype=np.float32)
    numbers = np.zeros(len(texts), dtype=bool)
    portion = max(BATCH, PROBABILITIES // len(classifier.labels))
    progress = Progress(what, len(texts))
    for start in range(0, len(texts), portion):

        def done(count: int, before: int = start) -> None:
            progress(before + count)

        part = slice(start, start + portion)
        rows = classifier.probabilities(list(texts[part]), done)
        numbers[part] = np.isfinite(rows).all(axis=1)
        rows = np.where(numbers[part, None], rows, np.float32(0.0))
        said = rows == rows.max(axis=1, keepdims=True) if classifier.thresholds is None else None
        mine = said if said is not None else decided(rows, classifier.thresholds)  # type: ignore[arg-type]
        has[part, known] = (mine & numbers[part, None])[:, columns]
        shares[part, known] = rows[:, columns]
    return SetPredictions(has, np.where(has, shares, 1 - shares), np.where(truth, shares, 1 - shares), numbers)


def measure_sets(given: SetPredictions, truth: NDArray[np.bool_], labels: Sequence[str]) -> ModelScore:
    """Return the figures of a multi-label model.

    The accuracy is that of whole rows (subset accuracy): a row is right where all its labels are. Calibration is that
    of all decisions about a label of a row; the chance that it may be due to takes them as independent.

    Args:
        given: its answers, at least one.
        truth: whether each row has each label, shape (rows, labels).
        labels: of the data set.
    """
    good = given.has == truth
    micro = precision_recall_fscore_support(truth, given.has, average="micro", zero_division=0.0)
    low, high = f1_interval(given.parts(truth))
    score = model_score(
        labels,
        given.right(truth),
        given.confidence,
        precision_recall_fscore_support(truth, given.has, zero_division=0.0),
        [calibration_error(reliability(*column)) for column in zip(given.sure.T, good.T, strict=True)],
        (given.sure.ravel(), good.ravel()),
        given.truth_probability,
        given.numbers,
    )
    sets = SetScore(
        micro_precision=float(micro[0]),
        micro_recall=float(micro[1]),
        micro_f1=float(micro[2]),
        micro_f1_low=low,
        micro_f1_high=high,
        hamming_loss=float((~good).mean()),
        counts=[
            LabelCounts(label, *(int(found.sum()) for found in (mine & has, mine & ~has, ~mine & has, ~mine & ~has)))
            for label, mine, has in zip(labels, given.has.T, truth.T, strict=True)
        ],
    )
    return replace(score, sets=sets)


def worst_sets(
    texts: Sequence[str], labels: Sequence[str], truth: NDArray[np.bool_], given: SetPredictions
) -> list[Mistake]:
    """Return the rows with a wrong label, given or missed, that the model is surest of."""
    sure = np.where(given.has != truth, given.sure, np.float32(-1)).max(axis=1)
    wrong = np.flatnonzero(~given.right(truth) & given.numbers)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:EXAMPLES]
    rows = zip(wrong.tolist(), texts_of(truth[wrong], labels), texts_of(given.has[wrong], labels), strict=True)
    return [Mistake(texts[row][:SHOWN_CHARACTERS], true, answer, float(sure[row])) for row, true, answer in rows]
