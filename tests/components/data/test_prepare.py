import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.dataset import Dataset, Split
from components.data.prepare import prepare
from predictor.errors import InputError
from predictor.model.text import Cleaning, clean


def _frame(*rows: tuple[str | None, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label"])


def _rows(label: str, count: int, start: int = 0) -> list[tuple[str | None, str | None]]:
    return [(f"{label} text {number}", label) for number in range(start, start + count)]


TRAIN = _frame(*_rows("a", 20), *_rows("b", 20))
TEST = _frame(*_rows("a", 5, 100), *_rows("b", 5, 100))


def test_counts_what_it_leaves_out() -> None:
    train = pd.concat(
        [
            TRAIN,
            _frame(
                ("", "a"), (None, "b"), ("\x00 ", "a"), ("good", None), ("fine", " "),  # unusable
                ("A  TEXT 1", "a"),  # a copy but for case and space
                ("torn", "a"), ("torn", "b"),  # copies that disagree
                ("b text 101", "b"),  # also a test row
            ),
        ],
        ignore_index=True,
    )  # fmt: skip
    report = prepare({"train": train, "test": TEST}, seed=1).report
    assert report["rejected"] == {"train: no text": 3, "train: no label": 2}
    assert report["duplicates"] == {"removed from train": 3, "of them with conflicting labels": 2}
    assert report["leakage"] == {"train rows also in test": 1}
    assert report["rows"] == {"train": 36, "validation": 4, "test": 10}
    assert report["drawn_from_train"] == ["validation"]


def test_rows_that_show_nothing_are_rejected_and_what_cleaning_merges_is_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    extra = _frame(("<p></p>", "a"), ("\u200b", "a"), ("<i>same</i>", "b"), ("same", "b"), ("<b>Same</b>", "b"))
    test = pd.concat([TEST, _frame(("&nbsp;<br>", "a"))], ignore_index=True)
    report = prepare({"train": pd.concat([TRAIN, extra], ignore_index=True), "test": test}, seed=1).report
    assert report["rejected"] == {"train: no text": 2, "test: no text": 1}
    assert report["cleaning"] == {"texts made equal to others": 2, "texts made empty": 2}
    said = capsys.readouterr()
    assert "without markup and entities 2 texts are equal to others and 2 are empty" in said.out + said.err
    assert prepare({"train": TRAIN, "test": TEST}, seed=1).report["cleaning"].keys() == report["cleaning"].keys()
    said = capsys.readouterr()
    assert "warning" not in said.out + said.err


def test_placeholders_tell_classes_apart() -> None:
    rows = [(f"{thing} number {n} is a {kind}", kind) for n in range(20) for kind, thing in
            (("a", "<PERSON>"), ("b", "List<String>"), ("c", "<TIME>"))]  # fmt: skip
    train = _frame(*((text.rpartition(" is ")[0], label) for text, label in rows))
    report = prepare({"train": train}, seed=1).report
    assert report["duplicates"] == {"removed from train": 0, "of them with conflicting labels": 0}
    assert report["cleaning"] == {"texts made equal to others": 0, "texts made empty": 0}


def test_the_given_test_split_keeps_its_rows_even_copies() -> None:
    test = pd.concat([TEST, TEST], ignore_index=True)
    assert prepare({"train": TRAIN, "test": test}, seed=1).report["rows"]["test"] == 20


def test_without_test_and_validation_both_are_drawn_from_train() -> None:
    made = prepare({"train": TRAIN}, seed=1)
    assert made.report["drawn_from_train"] == ["test", "validation"]
    texts = made.train.texts + made.validation.texts + made.test.texts
    assert sorted(texts) == sorted(TRAIN["text"])


def test_a_validation_file_that_is_the_test_file_is_drawn_anew() -> None:
    report = prepare({"train": TRAIN, "validation": TEST, "test": TEST}, seed=1).report
    assert report["rows"] == {"train": 36, "validation": 4, "test": 10}
    assert report["leakage"]["validation rows also in test"] == 10
    assert report["drawn_from_train"] == ["validation"]
    assert report["origins"]["validation"] == "drawn from train: every row given as validation is a test row too"
    assert report["origins"]["test"] == "given"


@pytest.mark.parametrize("name", ["test", "validation"])
def test_a_file_that_is_a_copy_of_train_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=f"every row of train is also in {name}: give other rows, or leave"):
        prepare({"train": TRAIN, "test": TEST, name: TRAIN}, seed=1)


@pytest.mark.parametrize("withheld", [None, " ", "-1"])
def test_a_split_without_labels_is_none(withheld: str | None) -> None:
    unlabelled = _frame(*((f"new {number}", withheld) for number in range(7)))
    report = prepare({"train": TRAIN, "validation": TEST, "test": unlabelled}, seed=1).report
    assert report["rows"] == {"train": 36, "validation": 4, "test": 10}
    assert report["origins"] == {
        "train": "given",
        "validation": "drawn from train: the rows given as validation are the test split",
        "test": "the rows given as validation: none of the 7 rows given as test has a label",
    }
    report = prepare({"train": TRAIN, "validation": unlabelled, "test": unlabelled}, seed=1).report
    assert report["drawn_from_train"] == ["test", "validation"]
    assert report["origins"]["test"] == "drawn from train: none of the 7 rows given as test has a label"


def test_minus_one_is_a_class_where_train_has_it() -> None:
    train, test = (frame.replace({"label": {"b": "-1"}}) for frame in (TRAIN, TEST))
    made = prepare({"train": train, "test": test[test["label"] == "-1"]}, seed=1)
    assert made.labels == ["-1", "a"] and len(made.test) == 5


def test_validation_rows_without_a_test_split_are_the_test_split() -> None:
    made = prepare({"train": TRAIN, "validation": TEST}, seed=1)
    assert made.test.texts == TEST["text"].tolist()
    assert made.report["origins"]["test"] == "the rows given as validation: no test split was given"


def test_the_same_rows_and_seed_give_the_same_digest_and_another_seed_another() -> None:
    frames = {"train": TRAIN, "test": TEST}
    assert prepare(frames, seed=1).digest == prepare(frames, seed=1).digest
    assert prepare(frames, seed=1).digest != prepare(frames, seed=2).digest


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    made = prepare({"train": TRAIN, "test": TEST}, seed=1)
    made.save(tmp_path)
    loaded = Dataset.load(tmp_path)
    assert (loaded.labels, loaded.digest, loaded.train.texts) == (made.labels, made.digest, made.train.texts)


def test_given_ids_and_sources_are_kept() -> None:
    train = TRAIN.assign(id=[f"row{n}" for n in range(len(TRAIN))], source="feed")
    made = prepare({"train": train, "test": TEST}, seed=1)
    assert set(made.train.frame["id"]) < set(train["id"])
    assert set(made.train.frame["source"]) == {"feed"}
    assert made.test.frame["id"].tolist()[:2] == ["test-0", "test-1"]


def test_a_sample_keeps_the_class_shares() -> None:
    made = prepare({"train": _frame(*_rows("a", 80), *_rows("b", 20)), "test": TEST}, seed=1)
    labels = made.train.sample(20, 3).labels
    assert (labels.count("a"), labels.count("b")) == (16, 4)
    assert made.train.sample(0, 3).texts == made.train.texts


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.data())
def test_a_sample_has_the_size_asked_for_and_loses_no_class(sizes: list[int], data: st.DataObject) -> None:
    counts = Counter({str(number): size for number, size in enumerate(sizes)})
    order = data.draw(st.permutations(list(counts.elements())))
    split = Split(pd.DataFrame({"text": map(str, range(len(order))), "label": order}))
    asked = data.draw(st.integers(1, len(order)))
    sample = split.sample(asked, 3)
    kept = Counter(sample.labels)
    assert len(sample) == asked and sample.texts == sorted(set(sample.texts), key=int)
    assert sample.texts == split.sample(asked, 3).texts
    ordered = sorted(counts, key=lambda name: counts[name])
    assert all(kept[one] <= kept[other] + 1 for one, other in pairwise(ordered))  # equal classes may differ by a row
    assert len(kept) == min(asked, len(counts))
    shares = {name: counts[name] * asked / len(order) for name in kept}
    assert all(kept[name] <= max(1, math.ceil(share)) for name, share in shares.items())
    if min(shares.values()) >= 1:
        assert all(kept[name] >= math.floor(share) for name, share in shares.items())


@pytest.mark.parametrize("rows", [24_001, 24_002, 24_003])
def test_a_sample_may_leave_out_fewer_rows_than_there_are_classes(rows: int) -> None:
    labels = [str(row % 4) for row in range(rows)]
    assert len(Split(pd.DataFrame({"text": labels, "label": labels})).sample(24_000, 42)) == 24_000


texts = st.text(alphabet="abcAB &;lt\\ \n", max_size=8)
rows = st.tuples(texts, st.sampled_from(["x", "y", "z", ""]))


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=40), st.lists(rows, max_size=15), st.integers(0, 3))
def test_whatever_comes_in_the_splits_never_share_a_text(
    train: list[tuple[str, str]], test: list[tuple[str, str]], seed: int
) -> None:
    try:
        made = prepare({"train": _frame(*train), "test": _frame(*test)}, seed=seed)
    except InputError as error:
        assert "\n" not in str(error)
        return
    keys = [
        {clean(text, Cleaning(lowercase=True)) for text in split.texts}
        for split in (made.train, made.validation, made.test)
    ]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert len(keys[0]) == len(made.train)
    assert set(made.train.labels) == set(made.labels)
    assert all(made.train.texts) and all(made.test.texts)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"train": _frame(*_rows("a", 9)), "test": TEST}, "only the class 'a'"),
        ({"train": _frame((None, None)), "test": TEST}, "no labelled rows"),
        ({"train": pd.concat([TRAIN, _frame(("", "c"))]), "test": TEST}, "class 'c' in train has no row with text"),
        ({"train": TRAIN, "test": _frame(("new", "c"))}, "test has the label 'c', which train lacks"),
        ({"train": TRAIN, "test": _frame((None, "a"))}, "test has no row"),
        ({"train": pd.concat([TRAIN, _frame(("one", "c"))]), "test": TEST}, "class 'c' has 1 rows in train"),
        (
            {"train": _frame(*(pair for n in range(9) for pair in ((f"<i>{n}</i>", "a"), (f"<b>{n}</b>", "b"))))},
            "every row of train has its text in another row with another label",
        ),
        ({"train": pd.concat([TRAIN, _frame(("<i>one</i>", "c"), ("<b>one</b>", "a"))])}, "class 'c' has 0 rows"),
    ],
)
def test_data_that_cannot_be_learnt_from_is_refused(frames: dict[str, pd.DataFrame], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(frames, seed=1)
