"""What holds of prepared data whatever the rows are, with near-copies found by comparing every pair of texts."""

from collections import Counter
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from components.data import prepare as preparing
from components.data.dataset import SPLITS, Dataset
from components.data.prepare import prepare, prepare_folder
from components.data.preparing import chunks, near
from components.data.preparing.settings import Checks, SplitRule
from predictor.errors import InputError
from predictor.model.text import Cleaning, clean

LAX = Checks(1, 1, 1, 1, 1, 1, 1, 1e9)
_RUN = 5


def _similarity(one: str, other: str) -> float:
    first, second = ({tuple(t.split()[n : n + _RUN]) for n in range(max(1, len(t.split()) - _RUN + 1))}
                     for t in (one, other))  # fmt: skip
    return len(first & second) / len(first | second)


def _compare_all(keys: Iterable[list[str]], similarity: float = 0.7, **_: object) -> NDArray[np.int64]:
    texts = [text for chunk in keys for text in chunk]
    pairs = [pair for pair in combinations(range(len(texts)), 2)
             if _similarity(texts[pair[0]], texts[pair[1]]) >= similarity]  # fmt: skip
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


@pytest.fixture(autouse=True, scope="module")
def _exact_near_copies() -> Iterable[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "near_duplicates", _compare_all)
        yield


_WORDS = [f"word{number}of" for number in range(13)]
# Texts of one stem with a few words more or less are near-copies; stems have no run of words in common.
_NEAR = st.builds(
    lambda stem, first, more: " ".join([*(f"{word}{stem}" for word in _WORDS[first:]), *more]),
    st.integers(0, 6), st.integers(0, 1), st.lists(st.sampled_from(["x", "Y"]), max_size=1),
)  # fmt: skip
_ROW = st.fixed_dictionaries(
    {
        "text": st.one_of(_NEAR, st.integers(0, 60).map(lambda n: f"text {n}"), st.sampled_from([None, " ", "<b>"])),
        "label": st.sampled_from(["a", "b", "b", "c", None]),
        "synthetic": st.sampled_from([False, False, False, True]),
        "day": st.one_of(st.none(), st.integers(1, 28).map(lambda n: f"2026-02-{n:02}"), st.just("soon")),
        "who": st.one_of(st.none(), st.integers(0, 12).map(lambda n: f"user {n}")),
    }
)
_COLUMNS = ["text", "label", "synthetic", "day", "who"]
_FRAME = st.lists(_ROW, min_size=20, max_size=60).map(lambda rows: pd.DataFrame(rows, columns=_COLUMNS))
_RULES = st.sampled_from(
    [SplitRule(held_out=0.2), SplitRule("time", "day", 0.2), SplitRule("group", "who", 0.2)]
)  # fmt: skip
_FRAMES = st.fixed_dictionaries({"train": _FRAME}, optional={"test": _FRAME, "validation": _FRAME})
_SETTINGS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _made(frames: dict[str, pd.DataFrame], rule: SplitRule, seed: int = 1) -> Dataset | None:
    try:
        return prepare(frames, seed, LAX, rule)
    except InputError as error:
        assert "\n" not in str(error)
        return None


@_SETTINGS
@given(_FRAMES, _RULES, st.integers(0, 3))
def test_every_row_is_kept_or_counted_and_no_text_or_group_is_in_two_splits(
    frames: dict[str, pd.DataFrame], rule: SplitRule, seed: int
) -> None:
    made = _made(frames, rule, seed)
    if made is None:
        return
    report = made.report
    left_out = [*report["rejected"].values(), report["duplicates"]["removed from train"], *report["leakage"].values()]
    assert sum(report["rows"].values()) + sum(left_out) == sum(map(len, frames.values()))
    splits = {name: getattr(made, name).frame for name in SPLITS}
    assert report["rows"] == {name: len(frame) for name, frame in splits.items()}
    keys = {name: [clean(t, Cleaning(lowercase=True)) for t in frame["text"]] for name, frame in splits.items()}
    for one, other in combinations(SPLITS, 2):
        assert not any(_similarity(a, b) >= 0.7 for a in keys[one] for b in keys[other])
        if rule.by == "group":
            assert not set(splits[one]["who"].dropna()) & set(splits[other]["who"].dropna())
    assert len(set(keys["train"])) == len(keys["train"])
    assert set(splits["train"]["label"]) == set(made.labels)
    assert not splits["test"]["synthetic"].any() and not splits["validation"]["synthetic"].any()
    assert set(report["untested"]) == set(made.labels) - set(splits["test"]["label"])
    if rule.by == "time" and "test" in report["drawn_from_train"]:
        assert not (splits["train"]["day"][~splits["train"]["synthetic"]] >= splits["test"]["day"].min()).any()


@_SETTINGS
@given(st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=2), st.integers(0, 5))
def test_every_class_with_two_rows_is_tested_and_with_one_is_said(sizes: dict[str, int], seed: int) -> None:
    rows = [(f"{label} {number}", label) for label, size in sizes.items() for number in range(size)]
    made = _made({"train": pd.DataFrame(rows, columns=["text", "label"])}, SplitRule(), seed)
    if made is not None:
        assert made.report["untested"] == sorted(label for label, size in sizes.items() if size == 1)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(_FRAMES, _RULES, st.integers(1, 25))
def test_files_in_chunks_of_any_size_give_what_frames_give(
    tmp_path_factory: pytest.TempPathFactory, frames: dict[str, pd.DataFrame], rule: SplitRule, size: int
) -> None:
    made = _made(frames, rule)
    folder = tmp_path_factory.mktemp("data")
    (folder / "in").mkdir()
    columns = pa.schema([(name, pa.bool_() if name == "synthetic" else pa.string()) for name in _COLUMNS])
    for name, frame in frames.items():
        pq.write_table(pa.Table.from_pandas(frame, columns, preserve_index=False), folder / f"in/{name}.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "of_folder", lambda where: chunks.of_folder(where, size))
        try:
            report = prepare_folder(folder / "in", folder / "out", 1, LAX, rule)
        except InputError:
            assert made is None and not (folder / "out").exists()
            return
    assert made is not None and report == made.report
    loaded = Dataset.load(folder / "out")
    for name in SPLITS:
        ours, theirs = (getattr(each, name).frame.astype(object) for each in (loaded, made))
        pd.testing.assert_frame_equal(ours, theirs)
    assert Counter(loaded.labels) == Counter(made.labels)
