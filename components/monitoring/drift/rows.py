"""What is compared: the rows of the bundle's reference, and those of a window."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.language import languages
from components.monitoring.drift.features import writes_spaces
from predictor.errors import InputError, one_line
from predictor.label_sets import labels_in
from predictor.model.bundle import REFERENCE_FILE
from predictor.model.reference import Reference as Histograms

COLUMNS = ("text", "label", "answer", "confidence")
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class ReferenceRows:
    """Validation rows with the bundle's answers; what takes time is computed once."""

    texts: Sequence[str]
    labels: Sequence[str]
    answers: Sequence[str]
    confidence: NDArray[np.float64]

    @cached_property
    def languages(self) -> list[str]:
        """The language of each text."""
        return languages(self.texts)

    @cached_property
    def spaced(self) -> bool:
        """Whether most texts are in a language with spaces between words."""
        return writes_spaces(self.texts)

    @cached_property
    def words(self) -> Counter[str]:
        """In how many texts each word stands."""
        return Counter(word for text in self.texts for word in self.words_of(text))

    @cached_property
    def unknown(self) -> NDArray[np.float64]:
        """For each text the share of its words that stand in no other; shape (rows,)."""
        return self._shares(self.texts, 1)

    def unknown_in(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return for each text of a window the share of its words that no text of the reference has."""
        return self._shares(texts, 0)

    def words_of(self, text: str) -> set[str]:
        """Return the words of a text in lower case; pairs of characters where the language has no spaces."""
        lowered = text.lower()
        if self.spaced:
            return set(_WORD.findall(lowered))
        return {lowered[start : start + 2] for start in range(max(1, len(lowered) - 1))}

    def _shares(self, texts: Sequence[str], most: int) -> NDArray[np.float64]:
        found = (self.words_of(text) for text in texts)
        known = self.words
        return np.array([sum(known[word] <= most for word in words) / max(1, len(words)) for words in found])


def read_reference(bundle: Path) -> ReferenceRows | None:
    """Return the rows of a bundle's reference; None where the bundle is older than that file.

    Raises:
        InputError: the file cannot be read.
    """
    file = bundle / REFERENCE_FILE
    if not file.exists():
        return None
    try:
        frame = pd.read_parquet(file, columns=list(COLUMNS))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error)}): train the bundle again") from error
    texts, labels, answers = (frame[name].astype(str).tolist() for name in COLUMNS[:3])
    return ReferenceRows(texts, labels, answers, frame["confidence"].to_numpy(np.float64))


@dataclass(frozen=True)
class Window:
    """Texts that came in and what the model made of them, one element a text."""

    ids: Sequence[str]
    texts: Sequence[str | None]
    """None where the log leaves texts out."""
    answers: Sequence[str]
    confidence: NDArray[np.float64]
    labelled: Sequence[tuple[str, str]] = ()
    """Answer and true label, where one came back."""
    since: str = ""
    """ISO 8601 times of the first text and the last; empty where nobody knows."""
    until: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    """Records that do not count, by reason."""

    def __len__(self) -> int:
        return len(self.answers)

    def some(self, rows: int, seed: int = 0) -> "Window":
        """Return at most so many of its texts, drawn at random, without what came back."""
        if len(self) <= rows:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self), rows, replace=False)).tolist()
        return replace(
            self,
            ids=[self.ids[row] for row in kept],
            texts=[self.texts[row] for row in kept],
            answers=[self.answers[row] for row in kept],
            confidence=self.confidence[kept],
            labelled=(),
        )


@dataclass(frozen=True)
class Known:
    """What a bundle knows of its own answers."""

    rows: ReferenceRows | None
    histograms: Histograms
    """Of `serving.json`, which every bundle has."""
    multi_label: bool = False
    """Whether an answer is any number of labels, joined by `|`."""

    def label_counts(self, answers: Sequence[str]) -> Counter[str]:
        """Return how many answers have each label."""
        return Counter(label for answer in answers for label in labels_in(answer, self.multi_label))
