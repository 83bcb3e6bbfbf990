"""Slices: rows of the test that have something in common, and on which a model may be worse than on the rest."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.language import languages

LEAST_ROWS = 30
"""Fewer rows say nothing about a slice."""
_MOST_VALUES = 50
"""A column with more values than this is a text or a number, and no group."""
_NOT_GROUPS = ("id", "text", "label", "synthetic")
_TIMES = ("collected_at", "date", "time", "published", "published_at", "created_at")
_FREQUENT_WORDS = 200
_FOUND = 5
_WEIGHT = 0.95
"""Of a high error rate, against that of a large slice: the paper's default."""
_WORD = re.compile(r"[^\W\d_]{3,}")


def slices(test: pd.DataFrame) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Yield name and rows of the slices that are known beforehand, those with `LEAST_ROWS` rows or more.

    They are: quarters by length, languages, months where a column holds times, and each value of every other column
    with 2 to 50 values, such as `source`.

    Args:
        test: columns `text`, `label` and whatever came along.
    """
    for column, values in columns_of(test).items():
        counts = values.value_counts()
        for value in sorted(counts[counts >= LEAST_ROWS].index):
            yield f"{column} {value}" if column == "length" else f"{column} = {value}", (values == value).to_numpy()


def columns_of(test: pd.DataFrame) -> "dict[str, pd.Series[str]]":
    """Return the columns that cut the test into groups, as texts: a missing value belongs to none."""
    lengths = test["text"].str.len()
    edges = sorted({0, int(lengths.max()), *map(int, lengths.quantile([0.25, 0.5, 0.75]))})
    names = [f"{low + 1:,} to {high:,} characters" for low, high in itertools.pairwise(edges)]
    found = {
        "length": pd.cut(lengths, edges, labels=names).astype(object),
        "language": pd.Series(languages(test["text"].tolist()), index=test.index),
    }
    for column in test.columns:
        if column in _NOT_GROUPS:
            continue
        values = test[column]
        if column in _TIMES:
            values = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601").dt.strftime("%Y-%m")
        values = values.dropna().map(str)
        if 2 <= values.nunique() <= _MOST_VALUES:
            found[str(column)] = values.reindex(test.index)
    return found


def weak_slices(test: pd.DataFrame, wrong: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Return name and rows of slices with far more mistakes than the test as a whole, the worst first, at most five.

    A slice is one property or two together; a property is a value of a column of `columns_of`, or one of the 200 most
    frequent words. Method: the score of SliceLine (Sagadeeva and Boehm 2021, "SliceLine: Fast, Linear-Algebra-based
    Slice Finding for ML Model Debugging"); all pairs are counted, by two products of matrices.

    Args:
        test: as for `slices`.
        wrong: whether each row is answered wrongly, shape (rows,).
    """
    names, rows = _properties(test)
    if not wrong.any() or not names:
        return []
    has = rows.astype(np.float32)
    sizes, errors = has.T @ has, (has * wrong[:, None]).T @ has  # on the diagonal, the properties alone
    with np.errstate(divide="ignore", invalid="ignore"):
        score = _WEIGHT * (errors / sizes / wrong.mean() - 1) - (1 - _WEIGHT) * (len(test) / sizes - 1)
    score[sizes < LEAST_ROWS] = -np.inf
    alone = np.diag(score)
    # Two properties have to say more than one of them, and a pair stands once.
    pairs = np.triu(score > np.maximum(alone[:, None], alone[None, :]), k=1) | np.eye(len(names), dtype=bool)
    score[~pairs] = -np.inf
    found: list[tuple[str, NDArray[np.bool_]]] = []
    for place in np.argsort(-score, axis=None, kind="stable"):
        one, other = divmod(int(place), len(names))
        if len(found) == _FOUND or not score[one, other] > 0:
            break
        both = rows[:, one] & rows[:, other]
        if all((both & known).sum() <= (both | known).sum() / 2 for _, known in found):  # else much the same rows
            found.append((names[one] if one == other else f"{names[one]} and {names[other]}", both))
    return found


def _properties(test: pd.DataFrame) -> tuple[list[str], NDArray[np.bool_]]:
    """Return names of properties and whether each row has them, shape (rows, properties)."""
    found = dict(slices(test))
    words = [set(_WORD.findall(text.lower())) for text in test["text"]]
    counts = Counter(word for each in words for word in each)
    for word, rows in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_FREQUENT_WORDS]:
        if rows >= LEAST_ROWS:
            found[f"has '{word}'"] = np.fromiter((word in each for each in words), dtype=bool, count=len(words))
    columns = list(found.values())
    return list(found), np.stack(columns, axis=1) if columns else np.zeros((len(test), 0), dtype=bool)
