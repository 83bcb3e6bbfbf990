"""Looks at prepared data: languages, probable label errors, lengths, and the words of each class."""

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from components.data.dataset import COLUMNS, SPLITS, Dataset, Split
from components.data.inspection.class_words import class_words
from components.data.inspection.processes import Processes
from components.data.label_errors import MOST_ROWS, probable_label_errors
from components.data.language import differing, languages, usual_languages
from components.platform.progress import say
from predictor.label_sets import parted
from predictor.model.cpus import available_cpus

# Bounds of the bars of the histogram of lengths; longer texts are in the last one.
_BOUNDS = [0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000]


@dataclass(frozen=True)
class Lengths:
    """Lengths of all texts in characters."""

    median: int
    percentile_95: int
    longest: int
    bars: list[tuple[str, int]]
    """A range in words, and the number of texts in it; from the shortest to the longest that there are."""


@dataclass(frozen=True)
class Inspection:
    """What was found; tables of rows have the columns `id`, `split`, `label` and `text`."""

    looked_at: int
    """Rows whose language and label were looked at: all, or a sample."""
    languages: dict[str, int]
    """Rows by language, the most common first."""
    foreign: pd.DataFrame
    """Rows in another language than the rest, which is in the column `language`."""
    judged: int
    """Rows whose label was judged: those of classes with enough rows."""
    errors: pd.DataFrame
    """Probable label errors, the most suspect first, with `suggested` and `score`, the probability of the label."""
    lengths: Lengths
    words: dict[str, list[str]]
    """Words of each class that other classes rarely have; of the largest classes."""

    def save_errors(self, file: Path) -> None:
        """Write the probable label errors as CSV with the columns `id,split,label,suggested,score,text`."""
        columns = ["id", "split", "label", "suggested", "score", "text"]
        self.errors.to_csv(file, columns=columns, index=False, float_format="%.4f")


def inspect(dataset: Dataset, seed: int) -> Inspection:
    """Look at the rows of all splits; at most `MOST_ROWS` for what takes long, with each class in proportion.

    Where rows have any number of labels, a probable label error is judged among the sets of labels that rows have.
    """
    frames = [getattr(dataset, name).frame[COLUMNS].assign(split=name) for name in SPLITS]
    everything = pd.concat(frames, ignore_index=True)
    frame = Split(everything).sample(MOST_ROWS, seed).frame.reset_index(drop=True)
    texts, labels = frame["text"].tolist(), frame["label"].tolist()
    with Processes(available_cpus()) as processes:
        found = processes.map(languages, texts)
        of_words, of_labels = _by_label(texts, labels) if dataset.multi_label else (texts, labels)
        words = class_words(of_words, of_labels, processes)
    counts = Counter(found)
    foreign = np.flatnonzero(differing(found, usual_languages(counts)))
    errors = probable_label_errors(texts, labels, seed)
    say(f"{len(errors.rows):,} of {errors.judged:,} labels are probably wrong")
    say(f"{len(foreign):,} of {len(frame):,} texts are in another language than the rest")
    return Inspection(
        looked_at=len(frame),
        languages=dict(counts.most_common()),
        foreign=frame.iloc[foreign].assign(language=[found[row] for row in foreign]),
        judged=errors.judged,
        errors=frame.iloc[errors.rows].assign(suggested=errors.suggested, score=errors.scores),
        lengths=_lengths(everything["text"]),
        words=words,
    )


def _by_label(texts: list[str], labels: list[str]) -> tuple[list[str], list[str]]:
    """Return each text once for each of its labels, and these labels."""
    pairs = [(text, label) for text, mine in zip(texts, labels, strict=True) for label in parted(mine)]
    return [text for text, _ in pairs], [label for _, label in pairs]


def _lengths(texts: "pd.Series[str]") -> Lengths:
    lengths = texts.str.len().to_numpy()
    counts = np.histogram(lengths, [*_BOUNDS, np.inf])[0].tolist()
    (filled,) = np.nonzero(counts)
    names = [f"{low:,} to {high - 1:,}" for low, high in pairwise(_BOUNDS)]
    bars = list(zip([*names, f"{_BOUNDS[-1]:,} and more"], counts, strict=True))[filled.min() : filled.max() + 1]
    median, most = np.percentile(lengths, (50, 95)).round().astype(int).tolist()
    return Lengths(median, most, int(lengths.max()), bars)
