"""Hashed n-grams: what is equal hashes alike, wherever it stands, and nothing else does."""

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.model.ngrams import MOST_CHARS, Unit, hashes, portions

UNITS: tuple[Unit, ...] = ("words", "characters")
TEXT = st.text(st.characters(exclude_categories=[]), max_size=40) | st.text("ab .,_é球İ\0\n", max_size=12)


def of(text: str, unit: Unit) -> list[list[int]]:
    found, bounds = hashes([text], unit)
    assert bounds.tolist() == [0, len(found)]
    return [list(map(int, row)) for row in found]


def read(text: str, unit: Unit) -> list[tuple[object, ...]]:
    """Return what each row stands for; None for the end."""
    text = text.lower()
    if unit == "characters":
        signs: list[str | None] = [*text, None, None, None]
        return [tuple(signs[place : place + size] for size in (1, 2, 3)) for place in range(len(text) + 1)]
    words: list[str | None] = [*re.findall(r"\w+|[^\w\s]+", text), None]
    return [*((word, (word, following)) for word, following in pairwise(words)), (None, (None, None))]


@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from(UNITS))
def test_a_text_has_the_same_hashes_in_any_company(texts: list[str], unit: Unit) -> None:
    found, bounds = hashes(texts, unit)
    assert bounds[-1] == len(found)
    for text, rows in zip(texts, np.split(found, bounds[1:-1]), strict=True):
        assert rows.tolist() == of(text, unit)


@given(st.lists(TEXT, min_size=1, max_size=8), st.sampled_from(UNITS))
def test_equal_ngrams_hash_alike_and_others_do_not(texts: list[str], unit: Unit) -> None:
    meant: dict[object, int] = {}
    for text in texts:
        rows, names = of(text, unit), read(text, unit)
        assert len(rows) == len(names)
        for row, name in zip(rows, names, strict=True):
            for size, (value, ngram) in enumerate(zip(row, name, strict=True)):
                assert meant.setdefault((size, str(ngram)), value) == value
    assert len(set(meant.values())) == len(meant)


def test_the_hashes_are_those_of_every_machine() -> None:
    (words, _), (characters, _) = hashes(["Shares fell."], "words"), hashes(["球赛"], "characters")
    assert [f"{value:016x}" for value in words[0]] == ["e970160412d59483", "32a97d0a32939889"]
    assert [f"{value:016x}" for value in characters[0]] == ["fd33b62d3e500e05", "cf23d408804695ff", "5eaa72de9e600a1b"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_long_text_is_cut(unit: Unit) -> None:
    long = "İ" * MOST_CHARS  # two characters in lower case
    assert of(long, unit) == of(long[: MOST_CHARS // 2], unit)


@given(st.lists(st.integers(0, MOST_CHARS * 2).map("a".__mul__), min_size=1, max_size=6))
def test_portions_are_all_texts_in_order_and_bounded(texts: list[str]) -> None:
    parts = list(portions(texts))
    assert [text for part in parts for text in part] == texts
    assert all(len(part) == 1 or sum(len(text) + 1 for text in part) <= MOST_CHARS for part in parts)
