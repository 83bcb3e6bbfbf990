"""Data with many classes: texts of 8 to 20 words, of which some are a class's own."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

_OWN_WORDS = 12
"""Words of a class; other classes have some of them, too."""
_OWN_SHARE = 0.35
"""The share of a text that is drawn from them."""


def many_classes(words: Sequence[str], classes: int, rows_a_class: int, seed: int) -> pd.DataFrame:
    """Return rows in random order, each class named by two of its words and a number."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(classes):
        own = random.choice(len(words), _OWN_WORDS, replace=False)
        label = f"{words[own[0]]} {words[own[1]]} {number}"
        for _ in range(rows_a_class):
            length = int(random.integers(8, 21))
            mine = random.random(length) < _OWN_SHARE
            drawn = np.where(mine, random.choice(own, length), random.integers(len(words), size=length))
            rows.append({"text": " ".join(words[word] for word in drawn), "label": label})
    return pd.DataFrame(rows).sample(frac=1.0, random_state=seed).reset_index(drop=True)
