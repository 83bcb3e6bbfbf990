"""Probable label errors: rows that a model, trained on the others, is sure belong to another class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.svm import LinearSVC

from components.data.tfidf import lowered, tfidf, writes_spaces
from components.platform.progress import Progress

MOST_ROWS = 65_536
"""Rows that are judged in a run; of more, a sample with each class in proportion."""
FOLDS = 5
"""Each row is judged by a model of the other folds. A class with fewer rows than folds is not judged."""

# A support vector machine for each class takes long with more classes; class means then tell them apart.
_MOST_MACHINES = 100
_MOST_FEATURES = 2**18
# Classes of each row whose probability is kept, and probabilities that are in memory at once, 256 MB.
_TOP = 10
_AT_ONCE = 32_000_000
# Turns cosines, which are from 0 to 1, into differences that a softmax takes.
_SHARPNESS = 20.0


@dataclass(frozen=True)
class LabelErrors:
    """Rows whose label is probably wrong, the most suspect first; all arrays have a row for each."""

    rows: NDArray[np.int64]
    suggested: list[str]
    """The class that the row probably belongs to."""
    scores: NDArray[np.float64]
    """The probability of the given label, from 0 to 1."""
    judged: int
    """How many rows were judged in all."""


def probable_label_errors(texts: Sequence[str], labels: Sequence[str], seed: int) -> LabelErrors:
    """Find probable label errors by confident learning (C. Northcutt, L. Jiang and I. Chuang, JAIR 2021).

    A class's threshold is the mean probability that rows with that label have of it. A row is suspect if the model's
    first choice is another class, and of the classes that reach their threshold the most probable one is another, too.
    Probabilities are the softmax of scores of a linear model on TF-IDF features, out of fold.

    Args:
        texts: raw texts, at most `MOST_ROWS`.
        labels: of each text.
        seed: fixes folds and solver.
    """
    names, numbers = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
    sizes = np.bincount(numbers, minlength=len(names))
    judged = np.flatnonzero(sizes[numbers] >= FOLDS)
    kept, given = np.unique(numbers[judged], return_inverse=True)
    nothing = LabelErrors(np.zeros(0, dtype=np.int64), [], np.zeros(0), 0)
    if len(kept) < 2:
        return nothing
    cleaned = lowered([texts[row] for row in judged.tolist()])
    features = tfidf(writes_spaces(cleaned)).set_params(min_df=2, max_features=_MOST_FEATURES, dtype=np.float32)
    try:
        matrix = csr_array(features.fit_transform(cleaned))
    except ValueError:  # no word is in two texts
        return nothing
    own, top, probabilities = _out_of_fold(matrix, given, len(kept), seed)
    thresholds = np.bincount(given, weights=own, minlength=len(kept)) / sizes[kept]
    confident = np.where(probabilities >= thresholds[top], probabilities, -1.0)
    best = np.take_along_axis(top, confident.argmax(axis=1)[:, None], axis=1)[:, 0]
    suspect = np.flatnonzero((confident.max(axis=1) >= 0) & (best != given) & (top[:, 0] != given))
    suspect = suspect[np.argsort(own[suspect], kind="stable")]
    return LabelErrors(judged[suspect], list(names[kept[best[suspect]]]), own[suspect], len(judged))


def _out_of_fold(
    matrix: Any, given: NDArray[np.int64], classes: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return each row's probability of its own class, shape (rows,), and its most probable classes with theirs.

    The latter two are sorted, of shape (rows, `_TOP` or fewer).
    """
    kept = min(_TOP, classes)
    own = np.zeros(len(given))
    top = np.zeros((len(given), kept), dtype=np.int64)
    probabilities = np.zeros((len(given), kept))
    progress = Progress("label errors", len(given), "rows")
    done = 0
    for rows, scores in _scores(matrix, given, classes, seed):
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        own[rows] = scores[np.arange(len(rows)), given[rows]]
        first = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
        values = np.take_along_axis(scores, first, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        top[rows] = np.take_along_axis(first, order, axis=1)
        probabilities[rows] = np.take_along_axis(values, order, axis=1)
        done += len(rows)
        progress(done)
    return own, top, probabilities


def _scores(
    matrix: Any, given: NDArray[np.int64], classes: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Yield row numbers with a score for each class, from a model of the rows of other folds."""
    folds = np.empty(len(given), dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(given))
    folds[shuffled[np.argsort(given[shuffled], kind="stable")]] = np.arange(len(given)) % FOLDS
    at_once = max(1, _AT_ONCE // classes)
    for fold in range(FOLDS):
        train, rows = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        score = (_machines if classes <= _MOST_MACHINES else _means)(matrix[train], given[train], classes, seed)
        for part in np.array_split(rows, -(-len(rows) // at_once)):
            yield part, score(matrix[part])


def _machines(matrix: Any, given: NDArray[np.int64], classes: int, seed: int) -> Any:
    model = LinearSVC(C=0.5, random_state=seed).fit(matrix, given)

    def score(rows: Any) -> NDArray[Any]:
        scores = model.decision_function(rows)
        # Of two classes scikit-learn scores the second against the first
        return np.stack([-scores, scores], axis=1) if classes == 2 else scores

    return score


def _means(matrix: Any, given: NDArray[np.int64], classes: int, seed: int) -> Any:
    """Score by the cosine with the mean of each class (J. Rocchio 1971)."""
    members = csr_array((np.ones(len(given), dtype=np.float32), (given, np.arange(len(given)))), (classes, len(given)))
    means = members @ matrix
    lengths = np.sqrt(means.multiply(means).sum(axis=1))
    means = (means.multiply(_SHARPNESS / np.maximum(lengths, 1e-9)[:, None])).T.tocsr()
    return lambda rows: (rows @ means).toarray()
