"""Which rows to ask people about: those the model is unsure of, and no two that are much alike.

scikit-activeml has both ideas, but its strategies take a dense pool (k-center, CLUE) or all probabilities at once
(FALCUN, BADGE): 4 GB for 100,000 rows in 5,000 classes. Here of the probabilities one number a row is kept, and the
features are sparse.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

CANDIDATES = 10
"""Rows that are looked at for each that is picked, as in Zhdanov, "Diverse mini-batch active learning" (2019)."""

_FAR = 0.5
"""Rows whose cosine is below this are different, and it does not matter how much: else what is odd would be picked."""
_BUCKETS = 2**18
# Scripts that write no spaces between words: Thai to Lao, Burmese, Khmer, Chinese and Japanese.
_NO_SPACES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = f"[{_NO_SPACES}]|[^\\W{_NO_SPACES}]+"


def uncertainty(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Return 1 minus the lead of the first class over the second, in 0 to 1, for probabilities of (rows, classes).

    Margin sampling: Scheffer, Decomain and Wrobel, "Active hidden Markov models for information extraction" (2001).
    """
    top = np.partition(probabilities, -2, axis=1)[:, -2:]
    return (1 - (top[:, 1] - top[:, 0])).astype(np.float32)


def features(cleaned: Sequence[str]) -> csr_matrix:
    """Return TF-IDF of hashed words and pairs of words, rows of length 1 (0 without words), shape (texts, 2^18).

    Where a script writes no spaces, each character counts as a word.
    """
    counts = HashingVectorizer(
        n_features=_BUCKETS, alternate_sign=False, norm=None, token_pattern=_UNIT, ngram_range=(1, 2)
    )
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts.transform(cleaned))


def pick(
    scores: NDArray[np.float32], points: csr_matrix, budget: int, done: Callable[[int], None] | None = None
) -> NDArray[np.int64]:
    """Return the rows to ask, the most urgent first.

    Each pick is the row with the greatest product of uncertainty and distance to what was picked before: the greedy
    k-center of Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach" (2018),
    weighted by uncertainty, with distances that end where rows are simply different. Time goes with rows times budget,
    memory with rows.

    Args:
        scores: uncertainty of each row, in 0 to 1.
        points: features of each row, of length 1.
        budget: how many rows to pick; all are returned where there are no more.
        done: called with the number of rows picked so far.
    """
    weights, distances = scores.astype(np.float64), np.ones(len(scores))
    picks = np.empty(min(budget, len(scores)), dtype=np.int64)
    for number in range(len(picks)):
        urgency = weights * np.minimum(distances, _FAR)
        urgency[picks[:number]] = -1
        row = picks[number] = np.argmax(urgency)
        near = (points @ points[row].T).toarray().ravel()  # the cosine
        distances = np.minimum(distances, np.maximum(1 - near, 0))
        if done:
            done(number + 1)
    return picks


def most(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the `count` rows with the highest scores, the highest first, equals in the order of rows."""
    return np.lexsort((np.arange(len(scores)), -scores))[:count].astype(np.int64)
