"""Rows made by rules: what they change, and what they never do, in any script."""

import json
import random
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data.dataset import Dataset, Split
from components.data.synthesis.augment import augment
from components.data.synthesis.rows import ROWS_FILE, key_of
from components.data.synthesis.rules import RULES, changed, units
from predictor.errors import InputError
from tests.components.data.synthesis.datasets import dataset

HINDI = "कमेटी ने सोमवार को रिपोर्ट पर लंबी चर्चा की और योजना मान ली"
CHINESE = "委员会星期一讨论了报告，并且通过了计划。"
THAI = "คณะกรรมการประชุมเมื่อวันจันทร์และเห็นชอบแผน"
TEXTS = st.one_of(st.text(max_size=60), st.sampled_from([HINDI, CHINESE, THAI, "Two words", "a", "", "Ein Satz."]))


def rows_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / ROWS_FILE).read_text(encoding="utf-8").splitlines()]


@given(text=TEXTS, name=st.sampled_from(sorted(RULES)), seed=st.integers(0, 99))
def test_a_rule_adds_no_letters_but_those_it_is_for_and_is_repeatable(text: str, name: str, seed: int) -> None:
    made = RULES[name](text, random.Random(seed))
    assert made == RULES[name](text, random.Random(seed))
    before, after = Counter("".join(text.split())), Counter("".join(made.split()))
    if name in ("delete", "drop"):
        assert after <= before
    elif name in ("swap", "transpose"):
        assert after == before
    elif name == "typo":
        changed_letters = (after - before) + (before - after)
        assert all(letter.isascii() and letter.isalpha() for letter in changed_letters)
    elif name == "punctuation":
        assert set(after - before) <= set(".,;:!?")


@given(text=TEXTS)
def test_units_are_the_whole_text(text: str) -> None:
    parts, space = units(text)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert not space or parts == text.split()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One more thing", (["One", "more", "thing"], " ")),
        ("计划。", (["计", "划", "。"], "")),
        ("ที่", (["ที่"], "")),
        ("हिन्दी", (["हि", "न्", "दी"], "")),
        ("e\u0301a", (["e\u0301", "a"], "")),
    ],
)
def test_texts_without_spaces_are_characters_with_their_marks(text: str, expected: tuple[list[str], str]) -> None:
    assert units(text) == expected


@pytest.mark.parametrize("text", [HINDI, CHINESE, THAI])
def test_scripts_without_capital_letters_lose_words_or_places_alone(text: str) -> None:
    for name in ("typo", "drop", "transpose", "case"):
        assert RULES[name](text, random.Random(1)) == text
    for name in ("delete", "swap"):
        assert RULES[name](text, random.Random(1)) != text


def test_rare_classes_are_raised_to_the_target_by_new_texts_of_their_own(tmp_path: Path) -> None:
    data = dataset(Sports=40, World=6, Technik=5)
    report = augment(data, tmp_path, target=30)
    rows = rows_of(tmp_path)
    assert report["rows_by_label"] == {"Technik": 25, "World": 24} and report["missing"] == {}
    known = {key_of(text) for split in (data.train, data.validation, data.test) for text in split.texts}
    keys = [key_of(str(row["text"])) for row in rows]
    assert len(set(keys)) == len(keys) == 49 and not known & set(keys) and "" not in keys
    for row in rows:
        assert row["synthetic"] is True and row["source"] == "synthetic:rules"
        own = "rechne" if row["label"] == "Technik" else "treaty"
        # Two rules of one word in ten leave most of the words.
        assert own in str(row["text"]).lower() or len(set(str(row["text"]).split())) > 8


def test_the_same_seed_makes_the_same_rows_whatever_other_classes_there_are(tmp_path: Path) -> None:
    def texts(folder: str, seed: int, **rows: int) -> list[object]:
        augment(dataset(**rows), tmp_path / folder, 12, seed=seed)
        return [row["text"] for row in rows_of(tmp_path / folder) if row["label"] == "World"]

    first = texts("a", 1, World=4, Sports=20)
    assert first == texts("b", 1, World=4, Sports=20, Technik=3) and len(first) == 8
    assert first != texts("c", 2, World=4, Sports=20)


def test_a_class_that_cannot_be_raised_is_named(tmp_path: Path) -> None:
    report = augment(dataset(Sports=20, World=2), tmp_path, 20, most=3)
    assert report["rows_by_label"]["World"] <= 6 and report["missing"] == {
        "World": 18 - report["rows_by_label"]["World"]
    }
    one = pd.DataFrame([{"id": "1", "text": "a", "label": "A"}, {"id": "2", "text": "b", "label": "B"}])
    tiny = Dataset(Split(one), Split(one), Split(one), ["A", "B"], {"sha256": ""})
    report = augment(tiny, tmp_path, 9, rules=("case", "delete"))
    assert report["rows"] == 0 and report["missing"] == {"A": 8, "B": 8} and report["rejected"]["copy of a row"] > 0


def test_made_rows_are_not_made_of_made_rows(tmp_path: Path) -> None:
    data = dataset(Sports=30, World=5)
    data.train.frame["synthetic"] = [label == "World" and n != 31 for n, label in enumerate(data.train.labels)]
    augment(data, tmp_path, 10)
    only = data.train.texts[31].split()
    for row in rows_of(tmp_path):
        assert len(set(only) & set(str(row["text"]).split())) > len(only) / 2


def test_a_rule_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rule 'synonym': choose from delete, swap"):
        augment(dataset(Sports=3, World=2), tmp_path, rules=("typo", "synonym"))


@given(text=TEXTS, seed=st.integers(0, 9))
def test_two_rules_never_make_a_text_empty_that_was_not(text: str, seed: int) -> None:
    made = changed(text, list(RULES.values()), random.Random(seed))
    assert bool(made) or len("".join(text.split())) <= 3
