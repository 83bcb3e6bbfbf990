"""The words that tell classes apart, for people who want to see what a class is about."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array
from sklearn.feature_extraction.text import CountVectorizer

from components.data.inspection.classical import content_words
from components.data.inspection.processes import Processes
from components.data.tfidf import writes_spaces
from predictor.model.text import clean

_MOST_CLASSES, _WORDS, _LEAST_TEXTS, _MOST_WORDS = 20, 10, 3, 20_000


def class_words(texts: Sequence[str], labels: Sequence[str], processes: Processes) -> dict[str, list[str]]:
    """Return for each of the largest classes the words that are more common in it than in all, the strongest first.

    The strength is a word's part of the Kullback-Leibler divergence of the class's texts from all texts. The result is
    empty for languages that write no spaces between words.
    """
    if not texts or not writes_spaces(texts):
        return {}
    counter = CountVectorizer(
        analyzer=str.split, binary=True, min_df=_LEAST_TEXTS, max_features=_MOST_WORDS, dtype=np.float32
    )
    try:
        counts = counter.fit_transform(processes.map(clean_words, texts))
    except ValueError:  # no word is in so many texts
        return {}
    names = [name for name, _ in Counter(labels).most_common(_MOST_CLASSES)]
    position = {name: number for number, name in enumerate(names)}
    rows = [row for row, label in enumerate(labels) if label in position]
    numbers = [position[labels[row]] for row in rows]
    members = csr_array((np.ones(len(rows), dtype=np.float32), (numbers, rows)), shape=(len(names), len(texts)))
    inside = (members @ counts).toarray() / np.bincount(numbers, minlength=len(names))[:, None]
    overall = np.asarray(counts.sum(axis=0)).ravel() / len(texts)
    strength = inside * np.log(np.maximum(inside, 1e-12) / overall)
    words = counter.get_feature_names_out()
    best = np.argsort(-strength, axis=1, kind="stable")[:, :_WORDS]
    return {
        name: [str(words[place]) for place in places if strength[row, place] > 0]
        for row, (name, places) in enumerate(zip(names, best, strict=True))
    }


def clean_words(texts: Sequence[str]) -> list[str]:
    """Return the content words of texts, after the cleaning that all texts get."""
    return content_words([clean(text) for text in texts])
