"""Words of the backbone's own vocabulary as further texts of a class, for training with few labels.

Eight texts name a class badly, while the encoder knows hundreds of words that belong to it: football, coach and league
lie near texts on sports. No row is needed for them, labelled or not; the tokenizer brings them along.
"""

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from components.training.fine_tuning.batches import rows_by_class

# Words a class: 100 and 300 were as good on news topics with eight labels a class.
WORDS = 200
# Vocabularies begin with the frequent words, and rare ones were of no use.
_POOL = 8000
# Shorter ones say little, unless a character of the script is a word.
_LEAST_LETTERS = 3


def whole_words(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the frequent words that are a token of their own, in the order of the vocabulary."""
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    words = (token.lstrip("▁Ġ") for token, _ in vocabulary)  # where a tokenizer marks the start of a word
    found = (word for word in words if word.isalpha() and (len(word) >= _LEAST_LETTERS or not word.isascii()))
    return list(dict.fromkeys(found))[:_POOL]


def choose_words(
    names: NDArray[np.float32], vectors: NDArray[np.float32], classes: NDArray[np.int64], words: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows of words, their classes): for each class the words that are nearer to it than to the others.

    A class lies halfway between its name and the middle of its texts, or where its name does if it has none.

    Args:
        names: vectors of the labels' names, in the order of the class ids.
        vectors: of the texts.
        classes: the class of each text.
        words: vectors of the words.
    """
    count = len(names)
    nowhere = np.zeros(vectors.shape[1], dtype=np.float32)
    middles = np.stack([vectors[rows].mean(0) if len(rows) else nowhere for rows in rows_by_class(classes, count)])
    nearness = _unit(words) @ _unit(_unit(middles) + _unit(names)).T
    # Against the mean of the others: some words are near to everything.
    lead = nearness - (nearness.sum(1, keepdims=True) - nearness) / (count - 1)
    most = min(WORDS, len(words) // count)
    rows = np.argsort(-lead, axis=0, kind="stable")[:most].T
    return rows.ravel(), np.repeat(np.arange(count), most)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    return unit
