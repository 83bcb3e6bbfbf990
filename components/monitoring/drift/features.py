"""Texts and answers as numbers, without a model to download.

What is counted or fitted is so on reference and window together: a decomposition of the reference alone would describe
its own rows better than any others, and every window would look shifted.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, hstack
from scipy.stats import rankdata
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

DIMENSIONS = 64
_BUCKETS = 2**13
_BINS = 10
# With more characters between spaces on average, a language is taken to write no spaces between words.
_MAX_MEAN_WORD = 12.0
_SEED = 0


def writes_spaces(texts: Sequence[str]) -> bool:
    """Whether most texts are of a language that writes spaces between words."""
    return sum(map(len, texts)) <= _MAX_MEAN_WORD * sum(text.count(" ") + 1 for text in texts)


def embedding(texts: Sequence[str], dimensions: int = DIMENSIONS) -> NDArray[np.float64]:
    """Return hashed TF-IDF reduced by a singular value decomposition: shape (texts, at most `dimensions`).

    Case counts: a source that writes in lower case is another source.
    """
    counted = TfidfTransformer(sublinear_tf=True).fit_transform(_hashed(texts, lowercase=False))
    wanted = min(dimensions, len(texts) - 1, _BUCKETS - 1)
    reduced: NDArray[np.float64] = TruncatedSVD(wanted, n_iter=2, random_state=_SEED).fit_transform(counted)
    return reduced


def traits(texts: Sequence[str], answers: Sequence[str], confidence: NDArray[np.float64]) -> csr_matrix:
    """Return what each text has of words, of its answer and of how sure that is: 0 or 1, shape (texts, traits).

    A trait that a single text has tells nothing about others, and is left out.

    Args:
        texts: of reference and window together.
        answers: the label of each.
        confidence: of each answer; counted by tenths of the rows.
    """
    words = _hashed(texts, lowercase=True)
    words.data[:] = 1.0
    bins = np.minimum(_BINS - 1, (rankdata(confidence) / len(confidence) * _BINS).astype(int))
    _, places = np.unique(np.array(answers, dtype=object).astype(str), return_inverse=True)
    both = hstack([words, _one_hot(bins), _one_hot(places * _BINS + bins)]).tocsr()
    return both[:, np.asarray(both.sum(axis=0)).ravel() > 1]


def _one_hot(places: NDArray[np.int64]) -> csr_matrix:
    rows = len(places)
    return csr_matrix((np.ones(rows), (np.arange(rows), places)), shape=(rows, int(places.max()) + 1))


def _hashed(texts: Sequence[str], lowercase: bool) -> csr_matrix:
    """Return counts of words; of characters and pairs of them where the language has no spaces."""
    spaced = writes_spaces(texts)
    hashing = HashingVectorizer(
        n_features=_BUCKETS, lowercase=lowercase, alternate_sign=False, norm=None,
        analyzer="word" if spaced else "char", token_pattern=r"\w+" if spaced else None,
        ngram_range=(1, 1) if spaced else (1, 2),
    )  # fmt: skip
    return hashing.transform(texts).tocsr()
