"""The linear baseline, TF-IDF and a linear SVM, which a transformer has to beat to be worth its cost.

Of multi-label data it has a machine for each label, and a row is right where all its labels are.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import sem, t
from sklearn.svm import LinearSVC

from components.data.dataset import FOLD, Dataset, Split
from components.data.tfidf import lowered, tfidf, writes_spaces
from components.platform.progress import say
from predictor.errors import InputError
from predictor.label_matrix import label_matrix, texts_of

RESULT_FILE = "baseline.json"
PREDICTIONS_FILE = "predictions.parquet"
# Weights, or scores, that are in memory at once, 256 MB: four classes of three million features take less.
_MAX_WEIGHTS = 32_000_000
_Learn = Callable[[Any, NDArray[Any], list[Any], int], list[NDArray[Any]]]
# The class that stands for all classes outside the current block.
_OTHERS = -1


@dataclass(frozen=True)
class Baseline:
    """The baseline's result: accuracies as shares of 1, its features in words."""

    features: str
    train_rows: int
    validation_accuracy: float
    test_accuracy: float
    fold_accuracies: tuple[float, ...] = ()
    """By cross-validation on the train rows, where they have folds."""


def train_baseline(dataset: Dataset, out: Path, max_rows: int, seed: int) -> Baseline:
    """Train on `max_rows` rows (0: all), score validation and test, and keep the result and the test predictions.

    Word 1-2 grams, or character 1-3 grams where the language writes no spaces between words.

    Args:
        dataset: the prepared data.
        out: folder to write `baseline.json` and `predictions.parquet` (columns `id`, `label`) into.
        max_rows: the number of rows that the model it is compared with gets.
        seed: fixes the sample and the solver.
    """
    train = dataset.train.sample(max_rows, seed)
    texts = lowered(train.texts)
    spaced = writes_spaces(texts)
    features = tfidf(spaced)
    matrix = features.fit_transform(texts)
    splits = [features.transform(lowered(split.texts)) for split in (dataset.validation, dataset.test)]
    learn = partial(_set_predictions, labels=dataset.labels) if dataset.multi_label else _predictions
    validation, test = learn(matrix, np.array(train.labels, dtype=object), splits, seed)
    result = Baseline(
        features="word 1-2 grams" if spaced else "character 1-3 grams",
        train_rows=len(train),
        validation_accuracy=float((validation == dataset.validation.labels).mean()),
        test_accuracy=float((test == dataset.test.labels).mean()),
        fold_accuracies=_cross_validated(train, seed, learn),
    )
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": dataset.test.frame["id"], "label": test}).to_parquet(out / PREDICTIONS_FILE, index=False)
    (out / RESULT_FILE).write_text(json.dumps(asdict(result), indent=2))
    say(f"linear baseline on {len(train):,} rows, {result.features}: test accuracy {result.test_accuracy:.2%}")
    if result.fold_accuracies:
        mean, low, high = mean_and_interval(result.fold_accuracies)
        folds = len(result.fold_accuracies)
        say(f"cross-validated in {folds} folds: accuracy {mean:.2%} (95% interval {low:.1%} to {high:.1%})")
    return result


def mean_and_interval(accuracies: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean over folds and Student's 95% interval of it, in the bounds of a share.

    Folds share rows to learn from, so the interval is a little too narrow; no unbiased one exists (Y. Bengio and
    Y. Grandvalet, JMLR 2004).
    """
    mean, error = float(np.mean(accuracies)), float(sem(accuracies))
    reach = float(t.ppf(0.975, len(accuracies) - 1)) * error
    return mean, max(mean - reach, 0.0), min(mean + reach, 1.0)


def _cross_validated(train: Split, seed: int, learn: _Learn) -> tuple[float, ...]:
    """Return the accuracy on each fold of the train rows, learnt from the other folds; synthetic rows are not asked."""
    frame = train.frame
    if FOLD not in frame:
        return ()
    real = ~frame["synthetic"] if "synthetic" in frame else pd.Series(True, frame.index)
    accuracies = []
    for fold in sorted(frame[FOLD].unique()):
        learnt, asked = Split(frame[frame[FOLD] != fold]), Split(frame[(frame[FOLD] == fold) & real])
        if not len(asked) or len(set(learnt.labels)) < 2:
            continue
        texts = lowered(learnt.texts)
        features = tfidf(writes_spaces(texts))
        matrix, asked_matrix = features.fit_transform(texts), features.transform(lowered(asked.texts))
        (answers,) = learn(matrix, np.array(learnt.labels, dtype=object), [asked_matrix], seed)
        accuracies.append(float((answers == asked.labels).mean()))
    return tuple(accuracies) if len(accuracies) > 1 else ()


def load_baseline(folder: Path) -> tuple[Baseline, dict[str, str]]:
    """Return the result and the test predictions by row id.

    Raises:
        InputError: the folder holds none.
    """
    try:
        raw = json.loads((folder / RESULT_FILE).read_text())
        result = Baseline(**{**raw, "fold_accuracies": tuple(raw["fold_accuracies"])})
        predictions = pd.read_parquet(folder / PREDICTIONS_FILE)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder} holds no baseline ({error}): run the baseline step again") from error
    return result, dict(zip(predictions["id"], predictions["label"], strict=True))


def _set_predictions(
    train: Any, sets: NDArray[Any], splits: list[Any], seed: int, labels: Sequence[str]
) -> list[NDArray[Any]]:
    """Fit a linear SVM for each label and return the labels that each row gets, joined by `|`.

    Args:
        train: the training rows, a sparse matrix of shape (rows, features).
        sets: labels of the training rows, joined by `|`.
        splits: sparse matrices of rows to predict.
        seed: fixes the solver.
        labels: all labels in their order.
    """
    found = [np.zeros((rows.shape[0], len(labels)), dtype=bool) for rows in splits]
    for place, mine in enumerate(label_matrix(sets.tolist(), labels).T):
        if mine.all() or not mine.any():  # nothing to learn
            for has in found:
                has[:, place] = mine.all()
            continue
        model = LinearSVC(C=0.5, random_state=seed).fit(train, mine)
        for rows, has in zip(splits, found, strict=True):
            has[:, place] = model.decision_function(rows) > 0
    return [np.array(texts_of(has, labels), dtype=object) for has in found]


def _predictions(train: Any, labels: NDArray[Any], splits: list[Any], seed: int) -> list[NDArray[Any]]:
    """Fit a one-against-all linear SVM and return its predictions.

    Classes are fitted in blocks, with all other classes merged into one: the weights of all classes, a dense matrix of
    features and classes, may not fit into memory.

    Args:
        train: the training rows, a sparse matrix of shape (rows, features).
        labels: of the training rows.
        splits: sparse matrices of rows to predict.
        seed: fixes the solver.

    Returns:
        The predicted labels of each matrix's rows.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    best = [np.full(rows.shape[0], -np.inf) for rows in splits]
    answers = [np.zeros(rows.shape[0], dtype=np.int64) for rows in splits]
    at_once = max(1, _MAX_WEIGHTS // max(train.shape[1], *(rows.shape[0] for rows in splits)))
    for block in np.array_split(np.arange(len(names)), math.ceil(len(names) / at_once)):
        model = LinearSVC(C=0.5, random_state=seed).fit(train, np.where(np.isin(numbers, block), numbers, _OTHERS))
        for rows, so_far, answer in zip(splits, best, answers, strict=True):
            scores = model.decision_function(rows)
            if scores.ndim == 1:  # of two classes sklearn scores the second against the first
                scores = np.stack([-scores, scores], axis=1)
            scores = scores[:, model.classes_ != _OTHERS]
            better = scores.max(axis=1) > so_far
            so_far[better] = scores[better].max(axis=1)
            answer[better] = block[scores[better].argmax(axis=1)]
    return [names[answer] for answer in answers]
