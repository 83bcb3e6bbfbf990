"""Data whose rows have any number of labels: read, normalised, checked, split and added to."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from components.data.append import append
from components.data.collect import collect, collect_frames
from components.data.dataset import Dataset
from components.data.prepare import prepare, prepare_folder
from components.data.preparing.label_sets import LabelSets
from components.data.preparing.settings import Checks, Classes, SplitRule
from components.data.preparing.stratify import held_out
from components.tasks.task import load_task
from predictor.errors import InputError
from predictor.label_sets import joined, ordered, parted

ANY = Classes(multi_label=True)
WORDS = ["alpha", "bravo", "kilo", "lima", "oscar", "papa", "tango", "zulu"]


def _frame(labels: list[str], start: int = 0) -> pd.DataFrame:
    texts = [f"{WORDS[n % 8]} {WORDS[n // 8 % 8]} number {n * 7919}" for n in range(start, start + len(labels))]
    return pd.DataFrame({"text": texts, "label": labels})


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="|"), min_size=1).map(str.strip)))
def test_labels_come_back_from_their_text_each_once(labels: list[str]) -> None:
    found = parted(joined(labels))
    assert found == list(dict.fromkeys(label for label in labels if label))
    assert ordered(joined(found[::-1]), found) == joined(found)


@given(st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, unique_by=lambda part: joined(sorted(part))))
def test_sets_of_labels_count_like_a_loop(sets: list[set[str]]) -> None:
    found = LabelSets.of([joined(sorted(part)) for part in sets])
    rows = np.arange(1, len(sets) + 1)
    expected = {
        name: sum(n for n, part in zip(rows.tolist(), sets, strict=True) if name in part) for name in found.names
    }
    assert dict(zip(found.names, found.counts(rows).tolist(), strict=True)) == expected
    known = np.array([name < "d" for name in found.names], dtype=bool)
    assert found.within(known).tolist() == [all(name < "d" for name in part) for part in sets]
    kept, left = found.keep(np.flatnonzero(known)[::-1].astype(np.int32))
    assert kept.written() == [joined(sorted(sets[n], reverse=True)) for n in left]


def test_a_cell_of_a_csv_holds_labels_and_is_normalised(tmp_path: Path) -> None:
    cells = ["b | a", "a|b|a", "", " c ", "a||b"] * 8
    _frame(cells).to_csv(tmp_path / "train.csv", index=False)
    frames = collect_frames(str(tmp_path / "train.csv"), multi_label=True)
    dataset = prepare(frames, 1, classes=ANY)
    everything = pd.concat([dataset.train.frame, dataset.validation.frame, dataset.test.frame])
    assert dataset.labels == ["a", "b", "c"] and dataset.multi_label
    assert set(everything["label"]) == {"a|b", "", "c"} and len(everything) == 40
    has = dataset.train.label_matrix(dataset.labels)
    assert [joined(np.array(dataset.labels)[row]) for row in has] == dataset.train.labels
    assert dataset.report["rows_by_label"]["train"] == dict(zip(dataset.labels, has.sum(axis=0).tolist(), strict=True))
    assert dataset.report["rows"]["train"] == len(dataset.train)


def test_lists_of_json_lines_and_parquet_are_the_same_as_cells(tmp_path: Path) -> None:
    lists = [["b", "a"], ["a"], [], ["c", "c"]] * 6
    frame = _frame([""] * len(lists))
    frame["label"] = pd.Series(lists, dtype=object)
    lines = (json.dumps(row) + "\n" for row in frame.to_dict("records"))
    (tmp_path / "train.jsonl").write_text("".join(lines))
    (tmp_path / "parquet").mkdir()
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "parquet" / "train.parquet")
    frame.assign(label=list(map(joined, lists))).to_csv(tmp_path / "train.csv", index=False)
    digests = {
        prepare(collect_frames(str(tmp_path / name), multi_label=True), 1, classes=ANY).digest
        for name in ("train.jsonl", "parquet/train.parquet", "train.csv")
    }
    assert len(digests) == 1


def test_lists_are_refused_where_a_row_has_one_label_and_the_separator_in_names(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"text": "a text", "label": ["a|b"]}\n')
    with pytest.raises(InputError, match="value of type list in 'label'"):
        collect(str(tmp_path / "train.jsonl"), tmp_path / "one")
    with pytest.raises(InputError, match=r"line 1 has the label 'a\|b': rename it"):
        collect(str(tmp_path / "train.jsonl"), tmp_path / "several", multi_label=True)
    with pytest.raises(InputError, match=r"the label 'a\|b' has a \|"):
        Classes(("a|b", "c"), multi_label=True)
    with pytest.raises(InputError, match="ordinal and multi_label"):
        Classes(("a", "b"), ordinal=True, multi_label=True)


def test_numbers_as_labels_are_the_same_in_all_files(tmp_path: Path) -> None:
    _frame(["1|2", "2", ""] * 8).to_csv(tmp_path / "train.csv", index=False)
    _frame(["1.0|2.0", "1.0", "2.0"] * 3, 100).to_csv(tmp_path / "test.csv", index=False)
    dataset = prepare(collect_frames(str(tmp_path), multi_label=True), 1, classes=ANY)
    assert dataset.labels == ["1", "2"] and set(dataset.test.labels) == {"1|2", "1", "2"}


def test_the_same_text_with_other_labels_is_a_conflict_and_with_the_same_a_copy() -> None:
    frame = _frame(["a|b", "b", ""] * 10)
    more = pd.DataFrame({"text": frame["text"][:3], "label": ["b|a", "a", "a"]})
    report = prepare({"train": pd.concat([frame, more], ignore_index=True)}, 1, classes=ANY).report
    assert report["duplicates"] == {"removed from train": 5, "of them with conflicting labels": 4}


def test_labels_that_train_or_the_task_lacks_and_rare_ones_are_refused() -> None:
    frames = {"train": _frame(["a|b", "b", "a"] * 10), "test": _frame(["a|z"] * 5, 100)}
    with pytest.raises(InputError, match="test has the label 'z', which train lacks"):
        prepare(frames, 1, classes=ANY)
    with pytest.raises(InputError, match="the label 'b', which the task lacks"):
        prepare({"train": frames["train"]}, 1, classes=Classes(("a", "c"), multi_label=True))
    with pytest.raises(InputError, match="class 'rare' has 1 rows in train"):
        prepare({"train": _frame(["a|b", "b", "a"] * 10 + ["a|rare"])}, 1, classes=ANY)
    with pytest.raises(InputError, match="only the class 'a'"):
        prepare({"train": _frame(["a", ""] * 10)}, 1, classes=ANY)


def test_labels_keep_the_tasks_order_and_a_split_without_any_is_drawn_anew() -> None:
    frames = {"train": _frame(["a|b", "b", "a", ""] * 10), "test": _frame([""] * 8, 100)}
    dataset = prepare(frames, 1, classes=Classes(("b", "a", "absent"), multi_label=True))
    assert dataset.labels == ["b", "a"] and "b|a" in dataset.train.labels
    assert dataset.report["drawn_from_train"] == ["test", "validation"]


@st.composite
def _units(draw: st.DrawFn) -> list[set[int]]:
    sets = st.sets(st.integers(0, 5), max_size=4)
    return draw(st.lists(sets, min_size=6, max_size=60))


@settings(deadline=None)
@given(_units(), st.integers(0, 3))
def test_each_label_keeps_a_unit_in_train_and_has_one_held_out_where_it_can(units: list[set[int]], seed: int) -> None:
    has = np.array([[number in unit for number in range(6)] for unit in units], dtype=np.int64)
    wanted = max(6, len(units) // 10)
    held = held_out(csr_array(has), np.ones(len(units)), np.ones(len(units), dtype=bool), wanted, seed)
    there = has.sum(axis=0) > 0
    assert (has[~held].sum(axis=0)[there] > 0).all()
    for label in np.flatnonzero(there & (has[held].sum(axis=0) == 0)):
        for unit in np.flatnonzero(has[:, label]):  # moving any unit with it would leave a label without rows in train
            left = has[~held].sum(axis=0) - has[unit]
            assert (left[has[unit] > 0] == 0).any()


def test_common_labels_have_their_share_in_what_is_held_out() -> None:
    random = np.random.default_rng(0)
    has = csr_array((random.random((2000, 5)) < [0.5, 0.3, 0.1, 0.05, 0.01]).astype(np.int64))
    held = held_out(has, np.ones(2000), np.ones(2000, dtype=bool), 200, 1)
    total, mine = has.sum(axis=0), has[held].sum(axis=0)
    assert 190 <= held.sum() <= 215
    assert np.abs(mine - 0.1 * total).max() <= 2


@pytest.mark.parametrize("rule", [SplitRule(), SplitRule("group", "author"), SplitRule(folds=3)])
def test_splits_follow_each_rule_and_near_copies_stay_together(rule: SplitRule) -> None:
    frame = _frame(["a|b", "b", "a", "c", ""] * 20)
    frame["author"] = [f"author {n % 17}" for n in range(len(frame))]
    base = "the quick brown fox jumps over the lazy dog near the old river bank every single morning"
    near = pd.DataFrame({"text": [base, base + " again"], "label": ["a|c", "a"], "author": ["author 1", "author 1"]})
    dataset = prepare({"train": pd.concat([frame, near], ignore_index=True)}, 1, rule=rule, classes=ANY)
    assert dataset.report["untested"] == []
    splits = (dataset.train, dataset.validation, dataset.test)
    assert [any(text.startswith(base) for text in split.texts) for split in splits].count(True) == 1
    assert set(dataset.report["rows_by_label"]["train"]) == {"a", "b", "c"}


def test_rows_are_added_with_their_labels(tmp_path: Path) -> None:
    _frame(["a|b", "b", ""] * 20).to_csv(tmp_path / "train.csv", index=False)
    collect(str(tmp_path / "train.csv"), tmp_path / "collected", multi_label=True)
    prepare_folder(tmp_path / "collected", tmp_path / "data", 1, classes=ANY)
    _frame(["b|a", "", "a"] * 5, 200).to_csv(tmp_path / "more.csv", index=False)
    collect(str(tmp_path / "more.csv"), tmp_path / "more", multi_label=True)
    append(tmp_path / "data", tmp_path / "more", tmp_path / "larger", 1, Checks())
    larger = Dataset.load(tmp_path / "larger")
    assert larger.multi_label and larger.labels == ["a", "b"]
    assert sum(map(len, (larger.train, larger.validation, larger.test))) == 75 and "a" in larger.train.labels
    _frame(["b|new"] * 5, 300).to_csv(tmp_path / "new.csv", index=False)
    collect(str(tmp_path / "new.csv"), tmp_path / "new", multi_label=True)
    with pytest.raises(InputError, match="the label 'new', which the dataset lacks"):
        append(tmp_path / "data", tmp_path / "new", tmp_path / "refused", 1, Checks())
    append(tmp_path / "data", tmp_path / "new", tmp_path / "newer", 1, Checks(), new_labels=True)
    assert Dataset.load(tmp_path / "newer").labels == ["a", "b", "new"]


def test_a_task_says_that_texts_have_several_labels(tmp_path: Path) -> None:
    file = tmp_path / "task.toml"
    file.write_text('name = "tags"\nmulti_label = true\nlabels = ["a", "b"]\n')
    assert load_task(str(file)).parameters()["multi_label"]
    file.write_text('name = "tags"\nmulti_label = true\nordinal = true\nlabels = ["a", "b"]\n')
    with pytest.raises(InputError, match="ordinal or multi_label"):
        load_task(str(file))
    file.write_text('name = "tags"\nmulti_label = true\nlabels = ["a|c", "b"]\n')
    with pytest.raises(InputError, match=r"has no \|"):
        load_task(str(file))
