"""Limits, splits and leaks that close texts, times and groups make."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.data.prepare import prepare, prepare_folder
from components.data.preparing.settings import Checks, SplitRule
from components.training.baseline import load_baseline, mean_and_interval, train_baseline
from predictor.errors import InputError

LONG = "the {} text that everybody quotes has more than a dozen words in a row and ends with {}"
PLAIN = "class {} says {} in words that no other row of this made data set has in a run"


def _frame(rows: Sequence[tuple[object, ...]], *columns: str) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label", *columns])


def _plain(count: int, labels: str = "ab", start: int = 0) -> list[tuple[object, ...]]:
    return [
        (PLAIN.format(label, f"{label}{n} {n} x{n}"), label) for label in labels for n in range(start, start + count)
    ]


def test_train_rows_close_to_test_rows_are_dropped_and_test_rows_never() -> None:
    train = _frame([*_plain(20), (LONG.format("first", "one"), "a"), (LONG.format("first", "two"), "b")])
    test = _frame([*_plain(5, start=50), (LONG.format("first", "three"), "a"), (LONG.format("first", "four"), "a")])
    report = prepare({"train": train, "test": test}, seed=1).report
    assert report["leakage"] == {"train rows also in test": 0, "train rows near test": 2}
    assert report["rows"]["test"] == 12 and sum(report["rows"].values()) == 52
    near = report["near_duplicates"]
    assert (near["pairs"], near["with different labels"]) == (6, 3)
    assert {row["label"] for row in near["examples"][0]} == {"a", "b"}
    (example, _) = report["examples"]["near-copy in a held-out split"]
    assert example == {"id": "train-40", "text": train["text"][40], "label": "a"}


def test_drawn_splits_keep_near_copies_together() -> None:
    close = [(LONG.format(f"n{n} m{n} k{n}", word), "ab"[n % 2]) for n in range(40) for word in ("one", "two", "three")]
    for seed in range(3):
        made = prepare({"train": _frame(close)}, seed)
        splits = [{text.split()[1] for text in each.texts} for each in (made.train, made.validation, made.test)]
        assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
        assert sum(made.report["rows"].values()) == 120 and set(made.test.labels) == {"a", "b"}


def test_of_a_family_too_large_to_list_all_pairs_no_row_is_left_beside_the_test() -> None:
    family = [(LONG.format("same", f"{n}"), "a") for n in range(150)]
    report = prepare(
        {"train": _frame([*family[3:], *_plain(40)]), "test": _frame([*family[:3], *_plain(5, start=50)])},
        1, Checks(max_leaked=1),
    ).report  # fmt: skip
    assert report["leakage"]["train rows near test"] == 147


def test_synthetic_rows_train_but_never_test() -> None:
    made = [(text, label, True) for text, label in _plain(60, start=100)]
    real = [(text, label, False) for text, label in _plain(20)]
    test = _frame([*((text, label, False) for text, label in _plain(4, start=50)), *made[:2]], "synthetic")
    frames = {"train": _frame(made[2:] + real, "synthetic"), "test": test}
    report = prepare(frames, seed=1).report
    assert report["rejected"] == {"test: synthetic, and not for train": 2}
    drawn = prepare({"train": frames["train"]}, seed=1)
    assert drawn.train.frame["synthetic"].sum() == 118
    assert len(drawn.test) == 4 and not drawn.test.frame["synthetic"].any()


def test_a_synthetic_row_yields_to_the_real_row_that_it_is_like() -> None:
    real = [(LONG.format(f"n{n} m{n}", "here"), "ab"[n % 2], False) for n in range(40)]
    made = [(LONG.format(f"n{n} m{n}", "there"), "ab"[n % 2], True) for n in range(40)]
    wrong = [(real[0][0], "b", True), (real[1][0], "b", True)]
    report = prepare({"train": _frame([*wrong, *made, *real], "synthetic")}, seed=1).report
    assert report["duplicates"] == {"removed from train": 2, "of them with conflicting labels": 0}
    assert report["leakage"] == {"train rows near test": 4, "train rows near validation": 4}
    assert report["rows"] == {"train": 64, "validation": 4, "test": 4}


def test_by_time_the_newest_rows_are_the_test_and_rows_of_one_time_stay_together() -> None:
    rows: list[tuple[object, ...]]
    rows = [(text, label, f"2026-01-{1 + number % 20:02}T08:00:00Z") for number, (text, label) in enumerate(_plain(50))]
    rows += [("undated", "a", "some day"), ("nor this", "b", None)]
    shuffled = _frame(rows, "sent").sample(frac=1, random_state=3)
    made = prepare({"train": shuffled}, 1, rule=SplitRule("time", "sent", held_out=0.12))
    days = [set(split.frame["sent"].str[8:10].map(int)) for split in (made.train, made.validation, made.test)]
    assert days == [set(range(1, 17)), {17, 18}, {19, 20}]
    assert made.report["rejected"] == {"train: no time": 2} and made.report["split"]["by"] == "time"
    seconds = shuffled.assign(sent=[str(n) for n in np.arange(len(shuffled)) + 1_700_000_000])
    assert len(prepare({"train": seconds}, 1, rule=SplitRule("time", "sent")).test) == 10


@pytest.mark.parametrize("rule", [SplitRule(), SplitRule("time", "sent"), SplitRule("group", "sent")])
def test_nothing_is_held_out_of_synthetic_rows_alone(rule: SplitRule) -> None:
    rows = [(text, label, f"2026-01-{1 + number:02}", True) for number, (text, label) in enumerate(_plain(10))]
    frame = pd.DataFrame(rows, columns=["text", "label", "sent", "synthetic"])
    with pytest.raises(InputError, match="all 20 rows are synthetic"):
        prepare({"train": frame}, 1, rule=rule)


def test_rows_of_a_class_that_another_split_took_are_rejected() -> None:
    rows: list[tuple[object, ...]]
    rows = [(text, label, f"2026-01-{1 + number % 20:02}") for number, (text, label) in enumerate(_plain(50))]
    newest = [(PLAIN.format("c", f"c{n} {n} x{n}"), "c", "2026-01-20") for n in range(10)]
    test = _frame([(PLAIN.format(label, f"t{n}"), label, "2026-02-01") for n, label in enumerate("ababababc")], "sent")
    given, rule = {"train": _frame([*rows, *newest], "sent"), "test": test}, SplitRule("time", "sent")
    with pytest.raises(InputError, match="test has the label 'c', which train lacks"):
        prepare(given, 1, rule=rule)
    made = prepare(given, 1, Checks(max_unknown_labels=1), rule)
    assert made.labels == ["a", "b"] and made.report["rows"] == {"train": 95, "validation": 5, "test": 8}


def test_by_group_no_group_is_in_two_splits_given_or_drawn() -> None:
    rows: list[tuple[object, ...]]
    rows = [(text, label, f"user {number % 25}") for number, (text, label) in enumerate(_plain(100))]
    rows += [(text, label, None) for text, label in _plain(10, start=200)]
    rule = SplitRule("group", "user")
    made = prepare({"train": _frame(rows, "user")}, 1, rule=rule)
    users = [set(split.frame["user"].dropna()) for split in (made.train, made.validation, made.test)]
    assert not users[0] & users[1] and not users[0] & users[2] and not users[1] & users[2]
    assert made.report["untested"] == [] and 10 <= len(made.test) <= 30
    test = _frame([(text, label, "user 3") for text, label in _plain(3, start=300)], "user")
    given = prepare({"train": _frame(rows, "user"), "test": test}, 1, rule=rule)
    assert given.report["leakage"]["train rows of a group in test"] == 8
    assert "user 3" not in set(given.train.frame["user"])


def test_folds_are_even_and_keep_near_copies_and_groups_together(tmp_path: Path) -> None:
    close = [(LONG.format(f"n{n} m{n} k{n}", word), "ab"[n % 2]) for n in range(40) for word in ("one", "two", "three")]
    train = prepare({"train": _frame(close)}, 1, rule=SplitRule(folds=4)).train.frame
    assert train.groupby(train["text"].str.split().str[1])["fold"].nunique().max() == 1
    assert all(24 >= count >= 9 for count in train.groupby(["label", "fold"]).size()) and train["fold"].nunique() == 4
    grouped = _frame([(text, label, f"user {n % 25}") for n, (text, label) in enumerate(_plain(100))], "user")
    made = prepare({"train": grouped}, 1, rule=SplitRule("group", "user", folds=3))
    assert made.train.frame.groupby("user")["fold"].nunique().max() == 1 and "fold" not in made.test.frame
    result = train_baseline(made, tmp_path, 0, 1)
    assert len(result.fold_accuracies) == 3 and load_baseline(tmp_path)[0].features == result.features
    mean, low, high = mean_and_interval(result.fold_accuracies)
    assert 0 <= low <= mean <= high <= 1 and mean > 0.9  # the class is a word of the text
    assert mean_and_interval((0.5, 0.7)) == pytest.approx((0.6, 0, 1))
    assert mean_and_interval((0.59, 0.6, 0.61)) == pytest.approx((0.6, 0.5752, 0.6248), abs=1e-4)
    with pytest.raises(InputError, match="has a column 'fold'"):
        prepare({"train": grouped.assign(fold="1")}, 1, rule=SplitRule(folds=3))


def test_a_class_that_cannot_be_tested_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    frame = _frame([*_plain(30), *_plain(1, "c"), *_plain(2, "d")])
    made = prepare({"train": frame}, 1, Checks(min_rows_per_class=1))
    assert made.report["untested"] == ["c"] and Counter(made.test.labels)["d"] == 1
    assert made.labels == ["a", "b", "c", "d"] and set(made.train.labels) == set(made.labels)
    assert "without test rows, so that nothing will be known of them: c" in capsys.readouterr().out


TEST = _frame(_plain(5, start=50))


@pytest.mark.parametrize(
    ("train", "test", "checks", "message"),
    [
        ([*_plain(20), *[("", "a")] * 20], TEST, Checks(), "28.6% of the rows cannot be used, and max"),
        ([*_plain(20), ("x " * 600, "a")], TEST, Checks(max_rejected=0, max_characters=999), "2.0% of the rows cannot"),
        ([*_plain(20), ("caf\ufffd \ufffd\ufffd", "a")], TEST, Checks(max_rejected=0), "2.0% of the rows cannot"),
        ([*_plain(20), ("p", "a"), ("p", "b")], TEST, Checks(max_conflicts=0.01), "4.8% of the train rows have their"),
        ([*_plain(20), *[("p", "a")] * 40], TEST, Checks(max_duplicates=0.4), "48.8% of the train rows are copies"),
        ([*_plain(20), *_plain(5, start=50)], TEST, Checks(max_leaked=0.1), "20.0% of the train rows are in"),
        ([*_plain(20), *_plain(9, "c")], TEST, Checks(min_rows_per_class=10), "class 'c' has 9 rows .* 10 are needed"),
        ([*_plain(20), *_plain(4, "c")], TEST, Checks(max_imbalance=4), "class 'a' has 20 rows in train and class 'c'"),
        (_plain(20), pd.concat([TEST, _frame(_plain(1, "c"))]), Checks(max_unknown_labels=0.05), "the label 'c'"),
    ],
)  # fmt: skip
def test_data_beyond_a_limit_fails_with_the_figure(
    train: list[tuple[object, ...]], test: pd.DataFrame, checks: Checks, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare({"train": _frame(train), "test": test}, 1, checks)


def test_rows_of_unknown_labels_are_rejected_where_that_is_allowed() -> None:
    test = pd.concat([TEST, _frame(_plain(1, "c"))], ignore_index=True)
    made = prepare({"train": _frame(_plain(20)), "test": test}, 1, Checks(max_unknown_labels=0.1))
    assert made.report["rejected"] == {"test: label that train lacks": 1} and made.labels == ["a", "b"]
    assert made.report["examples"]["label that train lacks"][0]["label"] == "c"


def test_rows_in_a_language_that_few_others_have_are_listed() -> None:
    german = "Die Katze sitzt auf der Mauer und wartet darauf, dass der Regen endlich aufhört"
    english = "The report says that shares of the company number {} rose after the {} results were published"
    rows: list[tuple[object, ...]] = [(english.format(n, f"n{n} m{n} k{n}"), "ab"[n % 2]) for n in range(60)]
    frames = {"train": _frame([*rows, (german, "a")])}
    language = prepare(frames, 1).report["language"]
    assert language["looked_at"] == 61 and language["rows"]["de"] == 1
    assert [row["language"] for row in language["examples"]] == ["de"]
    with pytest.raises(InputError, match=r"1.6% of the rows that were looked at are in another language"):
        prepare(frames, 1, Checks(max_foreign_language=0.01))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_reject": 0.1}, "there is no check max_reject: name some of max_rejected, "),
        ({"max_rejected": 2}, "the check max_rejected is 2: give a share from 0 to 1"),
        ({"min_rows_per_class": float("nan")}, "the check min_rows_per_class is nan"),
        ({"max_leaked": "much"}, "the check max_leaked is 'much': give a number"),
    ],
)
def test_checks_that_mean_nothing_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Checks.named(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bye": "time"}, "there is no split setting bye: name some of by, column"),
        ({"by": "author"}, "by is 'author': give random, time or group"),
        ({"by": "time"}, "by=time and column='' do not fit"),
        ({"column": "sent"}, "give by=time or by=group, too"),
        ({"folds": "1"}, "folds is 1: give 2 to 100"),
        ({"held_out": "0.7"}, "held_out is 0.7: give a share above 0, at most 0.5"),
        ({"folds": "1"}, "folds is 1: give 2 to 100"),
        ({"most_held_out": "1e3"}, "most_held_out is '1e3': give a number"),
        ({"by": "group", "column": "label"}, "column is 'label'"),
    ],
)
def test_split_settings_that_mean_nothing_are_refused(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SplitRule.named(values)


def test_a_column_that_is_missing_or_of_another_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train has no column 'sent' to split by time .it has: text, label"):
        prepare({"train": _frame(_plain(9))}, 1, rule=SplitRule("time", "sent"))
    with pytest.raises(InputError, match=r"train, rows 1 to 18: .*'label'"):
        prepare({"train": _frame(_plain(9)).assign(label=3)}, 1)
    with pytest.raises(InputError, match=r"train, rows 1 to 18: .*'text'"):
        prepare({"train": _frame(_plain(9)).drop(columns="text")}, 1)
    (tmp_path / "train.parquet").write_bytes(b"PAR1 is how it begins")
    with pytest.raises(InputError, match=r"train.parquet cannot be read"):
        prepare_folder(tmp_path, tmp_path / "out", 1)
    with pytest.raises(InputError, match=r"has no train.parquet"):
        prepare_folder(tmp_path / "out", tmp_path / "out", 1)
