"""From answers to labels: nothing depends on an order, unanimous rows keep their label, no tie is decided silently."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.labelling.aggregation import dawid_skene, majority
from components.labelling.annotators import BELOW, ONE_LABEL, SPAMMER, UNKNOWN
from components.labelling.merge import COLUMNS, merge
from predictor.errors import InputError

SEVERAL = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(0, 3)), st.sampled_from(["A", "B", "体育 😀"]), min_size=1, max_size=20
)


def table(answers: dict[tuple[int, int], str], **columns: Any) -> pd.DataFrame:
    rows = [(f"r{row}", f"text {row}", f"p{who}", label) for (row, who), label in answers.items()]
    return pd.DataFrame(rows, columns=["id", "text", "annotator", "label"]).assign(**columns)


def labels_of(frame: pd.DataFrame, method: str, ties: str) -> dict[str, str]:
    return dict(merge(frame, method, ties).rows.set_index("id")["label"])


def votes(answers: dict[tuple[int, int], str]) -> dict[str, Counter[str]]:
    return {
        f"r{row}": Counter(label for (place, _), label in answers.items() if place == row) for row, _ in answers
    }  # fmt: skip


def crowd(seed: int, rows: int, skills: list[float], spam: list[int | None], classes: int = 4) -> tuple[Any, Any]:
    """Return the truth, and the answers of annotators with a skill each and of spammers: one class, or any (None)."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    said = [
        np.where(random.random(rows) < skill, truth, (truth + random.integers(1, classes, rows)) % classes)
        for skill in skills
    ]
    said += [random.integers(0, classes, rows) if each is None else np.full(rows, each) for each in spam]
    return truth, np.array(said)


@settings(max_examples=40)
@given(SEVERAL, st.sampled_from(["drop", "ask"]), st.randoms())
def test_a_majority_depends_on_no_order_and_decides_no_tie(
    answers: dict[tuple[int, int], str], ties: str, random: Any
) -> None:
    frame = table(answers)
    found = merge(frame, "majority", ties)
    expected = {}
    for row, counts in votes(answers).items():
        (label, most), *rest = counts.most_common()
        if not rest or rest[0][1] < most:
            expected[row] = label
    assert dict(found.rows.set_index("id")["label"]) == expected
    tied = set(votes(answers)) - set(expected)
    assert found.report["ties"] == {"policy": ties, "rows": len(tied), "decided": 0, "left_out": len(tied)}
    assert {task["data"]["id"] for task in found.ask} == (tied if ties == "ask" else set())
    names = [f"p{n}" for n in range(4)]
    renamed = dict(zip(names, random.sample(names, 4), strict=True))
    shuffled = frame.sample(frac=1, random_state=random.randint(0, 9999)).assign(
        annotator=lambda each: each["annotator"].map(renamed)
    )
    again = merge(shuffled, "majority", ties)
    pd.testing.assert_frame_equal(again.rows.drop(columns="collected_at"), found.rows.drop(columns="collected_at"))
    assert again.report["agreement"]["krippendorff_alpha"] == found.report["agreement"]["krippendorff_alpha"]


@settings(max_examples=8)
@given(SEVERAL, st.randoms())
def test_dawid_skene_depends_on_no_order_and_keeps_what_all_say(
    answers: dict[tuple[int, int], str], random: Any
) -> None:
    frame = table(answers)
    found = merge(frame, "dawid-skene", "drop")
    labels = dict(found.rows.set_index("id")["label"])
    for row, counts in votes(answers).items():
        if len(counts) == 1:
            assert labels[row] == next(iter(counts))
    assert len(labels) + found.report["ties"]["left_out"] == found.report["rows"]
    shuffled = frame.sample(frac=1, random_state=random.randint(0, 9999))
    assert labels_of(shuffled, "dawid-skene", "drop") == labels


def test_two_who_differ_are_a_tie_for_dawid_skene_too() -> None:
    frame = table({(0, 0): "A", (0, 1): "B"})
    for method in ("majority", "dawid-skene"):
        found = merge(frame, method, "ask")
        assert found.rows.empty and [task["data"]["row_id"] for task in found.ask] == ["r0"]


def test_the_first_answer_breaks_a_tie_where_the_times_tell() -> None:
    answers = {(0, 0): "A", (0, 1): "B", (1, 0): "A", (1, 1): "B", (2, 0): "A", (2, 1): "B", (3, 0): "A", (3, 1): "A"}
    early, late = "2026-01-01T10:00:00Z", "2026-01-01T11:30:00+01:00"
    frame = table(answers, at=[late, early, early, early, late, None, None, None])
    found = merge(frame, "majority", "first-annotator")
    assert dict(found.rows.set_index("id")["label"]) == {"r0": "B", "r3": "A"}
    assert found.report["ties"] == {"policy": "first-annotator", "rows": 3, "decided": 1, "left_out": 2}


def test_rows_are_ready_to_be_appended_and_say_where_they_come_from() -> None:
    frame = table(
        {(0, 0): "A", (0, 1): "A", (0, 2): "B"},
        at=["2026-01-01T10:00:00Z", "2026-01-02T10:00:00+02:00", None], source="made.csv", picked="random",
        predicted="A",
    )  # fmt: skip
    found = merge(frame, "majority", "drop")
    assert tuple(found.rows.columns) == COLUMNS
    assert found.rows.to_dict("records") == [
        {
            "id": "r0", "text": "text 0", "label": "A", "source": "made.csv",
            "collected_at": "2026-01-02T08:00:00+00:00", "annotators": 3, "agreement": 0.6667,
        }
    ]  # fmt: skip
    assert found.report["model"] == {
        "random_rows": 1,
        "of_them_labelled": 1,
        "accuracy": 1.0,
        "low": 0.2065,
        "high": 1.0,
    }
    assert found.report["most_disagreeing"] == [{"id": "r0", "answers": "A 2, B 1", "label": "A"}]


@pytest.mark.parametrize("spam", [[None, None], [0, 0], [0, 1]])
def test_dawid_skene_beats_the_majority_where_two_of_five_answer_anything(spam: list[int | None]) -> None:
    gains = []
    for seed in range(3):
        truth, said = crowd(seed, 400, [0.75, 0.75, 0.75], spam)
        rows, who = np.tile(np.arange(400), 5), np.repeat(np.arange(5), 400)
        ours, votes_ = dawid_skene(rows, who, said.ravel()), majority(rows, said.ravel())
        gains.append(
            np.mean(
                [(t in a) / len(a) - (t in b) / len(b) for t, a, b in zip(truth, ours.best, votes_.best, strict=True)]
            )
        )
    assert np.mean(gains) > 0.03


def test_spammers_are_flagged_and_people_who_work_well_are_not() -> None:
    _, said = crowd(1, 300, [0.9, 0.9, 0.85, 0.5], [None, 2])
    found = merge(
        table({(row, who): str(said[who, row]) for who in range(6) for row in range(300)}), "majority", "drop"
    )
    flags = {each["annotator"]: each["flag"] for each in found.report["annotators"]}
    assert flags == {"p0": "", "p1": "", "p2": "", "p3": BELOW, "p4": SPAMMER, "p5": SPAMMER}
    for each in found.report["annotators"]:
        assert each["low"] <= each["accuracy"] <= each["high"]


def test_few_rows_say_nothing_about_an_annotator_and_one_label_does() -> None:
    few = merge(table({(row, who): "A" for row in range(5) for who in range(3)}), "majority", "drop")
    assert {each["flag"] for each in few.report["annotators"]} == {UNKNOWN}
    answers = {(row, who): "A" if row % 20 else "B" for row in range(40) for who in range(3)}
    answers |= {(row, 3): "A" for row in range(40)}
    found = merge(table(answers), "majority", "drop")
    assert found.report["annotators"][3]["flag"] in (ONE_LABEL, SPAMMER)


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (table({(0, 0): ""}), "no label"),
        (pd.concat([table({(0, 0): "A"})] * 2), "twice"),
        (pd.concat([table({(0, 0): "A"}), table({(0, 1): "A"}).assign(text="other")]), "two texts"),
    ],
)
def test_what_cannot_be_merged_is_said(frame: pd.DataFrame, part: str) -> None:
    with pytest.raises(InputError, match=part):
        merge(frame, "majority", "drop")


def test_thousands_of_classes_are_merged_and_what_is_too_much_is_refused() -> None:
    said = {(row, who): f"class {(row + (who == 2)) % 5000}" for row in range(5000) for who in range(3)}
    found = merge(table(said), "majority", "drop")
    assert found.report["labelled"] == 5000 and found.report["ties"]["rows"] == 0
    with pytest.raises(InputError, match="--method majority"):
        merge(table(said), "dawid-skene", "drop")
