"""Words of a vocabulary as texts of a class."""

from typing import Any

import numpy as np
import pytest

from components.training.few_shot import vocabulary_texts as words
from components.training.few_shot.vocabulary_texts import nearest_words, whole_words


class Vocabulary:
    """A tokenizer, as far as its vocabulary goes."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = {token: number for number, token in enumerate(tokens)}

    def get_vocab(self) -> dict[str, int]:
        return dict(reversed(self._tokens.items()))


def test_whole_words_are_those_of_any_script_in_the_order_of_the_vocabulary() -> None:
    tokenizer: Any = Vocabulary("[CLS]", "the", "##ing", "of", "▁goal", "Ġbank", "goal", "股", "1999", "x-ray", "Ärger")
    assert whole_words(tokenizer) == ["the", "goal", "bank", "股", "Ärger"]


def test_rare_words_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "_MAX_WORDS", 2)
    tokenizer: Any = Vocabulary("goal", "bank", "army")
    assert whole_words(tokenizer) == ["goal", "bank"]


def test_a_class_gets_the_words_that_are_nearer_to_it_than_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "WORDS_PER_CLASS", 2)
    names = np.array([[1, 0, 0], [0, 1, 0]], dtype=np.float32)
    texts = np.array([[9, 0, 3], [0, 2, 0], [1, 0, 0]], dtype=np.float32)
    every = np.array([[5, 5, 0], [1, 0.1, 0], [0, 7, 1], [2, 0, 0], [0.1, 1, 0], [0, 0, 1]], dtype=np.float32)
    rows, classes = nearest_words(names, texts, np.array([0, 1, 0]), every)
    assert [set(rows[:2].tolist()), set(rows[2:].tolist())] == [{1, 3}, {2, 4}]
    assert classes.tolist() == [0, 0, 1, 1]


def test_few_words_are_shared_out() -> None:
    names = np.eye(2, dtype=np.float32)
    rows, classes = nearest_words(names, names, np.array([0, 1]), np.array([[1, 0], [0, 1], [1, 1]], dtype=np.float32))
    assert rows.tolist() == [0, 1] and classes.tolist() == [0, 1]


def test_a_class_without_texts_lies_where_its_name_does() -> None:
    names = np.eye(3, dtype=np.float32)
    rows, classes = nearest_words(names, names[[0, 2]], np.array([0, 2]), np.eye(3, dtype=np.float32))
    assert rows.tolist() == [0, 1, 2] and classes.tolist() == [0, 1, 2]
