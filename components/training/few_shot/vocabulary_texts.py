"""Words of the backbone's vocabulary as additional texts of a class, for training with few labels.

Eight texts describe a class badly, while the encoder knows hundreds of words that belong to it: its vectors of
football, coach and league are near those of texts on sports. They come with the tokenizer, without any more rows.
"""

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from components.training.fine_tuning.batches import rows_by_class

# 100 and 300 were as good on news topics with eight labels a class.
WORDS_PER_CLASS = 200
# Only the most frequent words, with which vocabularies begin: rare ones did not help.
_MAX_WORDS = 8000
# Shorter words mean little, except in scripts where one character is a word.
_MIN_LETTERS = 3


def whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the most frequent words that are a single token, in the order of the vocabulary."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    words = (token.lstrip("▁Ġ") for token, _ in vocabulary)  # where a tokenizer marks the start of a word
    found = (word for word in words if word.isalpha() and (len(word) >= _MIN_LETTERS or not word.isascii()))
    return list(dict.fromkeys(found))[:_MAX_WORDS]


def nearest_words(
    names: NDArray[np.float32], vectors: NDArray[np.float32], classes: NDArray[np.int64], words: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows of words, their classes): for each class the words that are nearest to it, compared to the others.

    The vector of a class is halfway between its name and the mean of its texts; without texts it is the name's.

    Args:
        names: vectors of the labels' names, in the order of the class ids.
        vectors: of the texts.
        classes: the class of each text.
        words: vectors of the words.
    """
    count = len(names)
    no_texts = np.zeros(vectors.shape[1], dtype=np.float32)
    means = np.stack([vectors[rows].mean(0) if len(rows) else no_texts for rows in rows_by_class(classes, count)])
    similarity = _unit(words) @ _unit(_unit(means) + _unit(names)).T
    # Compared with the mean of the other classes, since some words are near to everything.
    lead = similarity - (similarity.sum(1, keepdims=True) - similarity) / (count - 1)
    most = min(WORDS_PER_CLASS, len(words) // count)
    rows = np.argsort(-lead, axis=0, kind="stable")[:most].T
    return rows.ravel(), np.repeat(np.arange(count), most)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    return unit
