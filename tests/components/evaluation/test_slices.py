from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.slices import LEAST_ROWS, slices, weak_slices


def texts(rows: int, **columns: Sequence[object]) -> pd.DataFrame:
    words = [f"the {'storm' if row % 5 == 0 else 'match'} was number {'long ' * (row % 7)}" for row in range(rows)]
    return pd.DataFrame({"id": range(rows), "text": words, "label": "a", **columns})


def test_the_values_of_a_column_are_slices_and_so_are_months_and_lengths() -> None:
    days = ["2026-01-05T10:00:00+00:00", "2026-01-20", None, "2026-02-01T00:00:00Z"] * 100
    test = texts(400, source=["wire", "blog", "wire", "blog"] * 100, collected_at=days, page=list(range(400)))
    found = {name: int(rows.sum()) for name, rows in slices(test)}
    assert found["source = wire"] == found["source = blog"] == 200
    assert found["collected_at = 2026-01"] == 200 and found["collected_at = 2026-02"] == 100
    assert sum(rows for name, rows in found.items() if name.startswith("length ")) == 400
    assert not any(name.startswith(("page", "id", "label", "text")) for name in found)


def test_a_slice_has_enough_rows_and_a_column_of_one_value_is_none() -> None:
    kinds = ["often"] * LEAST_ROWS + ["seldom"] * (LEAST_ROWS - 1)
    names = [name for name, _ in slices(texts(len(kinds), kind=kinds, same=["x"] * len(kinds)))]
    assert "kind = often" in names and "kind = seldom" not in names
    assert not any(name.startswith("same") for name in names)


def test_rows_in_one_language_are_a_slice() -> None:
    german = "Der Ausschuss trifft sich am Donnerstag wieder, um den Haushalt zu besprechen"
    english = "The committee meets again on Thursday in order to talk about the budget"
    test = pd.DataFrame({"text": [german] * 40 + [english] * 60, "label": "a"})
    found = dict(slices(test))
    assert found["language = de"].tolist() == [True] * 40 + [False] * 60
    assert found["language = en"].sum() == 60


@given(st.lists(st.integers(1, 40), min_size=1, max_size=120))
def test_every_row_has_one_length(lengths: list[int]) -> None:
    test = pd.DataFrame({"text": ["x" * length for length in lengths]})
    some = np.zeros(len(test), dtype=int)
    for _, rows in slices(test):
        assert rows.sum() >= LEAST_ROWS
        some += rows
    assert some.max(initial=0) <= 1


def test_a_word_that_comes_with_mistakes_is_found() -> None:
    test = texts(1000, source=["wire", "blog"] * 500)
    storm = test["text"].str.contains("storm").to_numpy()
    wrong = (np.random.default_rng(0).random(1000) < 0.05) | (storm & (test["source"] == "blog").to_numpy())
    name, rows = weak_slices(test, wrong)[0]
    assert name in ("source = blog and has 'storm'", "has 'storm' and source = blog")
    assert wrong[rows].mean() == 1 and rows.sum() == 100


def test_at_most_five_different_slices_of_enough_rows_are_found() -> None:
    random = np.random.default_rng(1)
    columns = {f"c{number}": random.choice(["x", "y", "z"], 3000).tolist() for number in range(8)}
    test = texts(3000, **columns, twin=columns["c0"], few=["rare"] * (LEAST_ROWS - 1) + ["x"] * (3001 - LEAST_ROWS))
    wrong = random.random(3000) < 0.02
    for name in list(columns)[:7]:
        wrong |= ((test[name] == "x") & (random.random(3000) < 0.2)).to_numpy()
    wrong |= (test["few"] == "rare").to_numpy()
    found = weak_slices(test, wrong)
    assert len(found) == 5 and not any("rare" in name for name, _ in found)
    for place, (_, one) in enumerate(found):
        assert one.sum() >= LEAST_ROWS and wrong[one].mean() > wrong.mean()
        assert all((one & other).sum() <= (one | other).sum() / 2 for _, other in found[:place])


def test_two_properties_say_more_than_either_alone() -> None:
    test = texts(1200, source=["wire", "blog", "mail"] * 400, half=["first"] * 600 + ["second"] * 600)
    wrong = (test["source"] == "wire").to_numpy() & (np.arange(1200) % 2 == 0)  # in both halves alike
    names = [name for name, _ in weak_slices(test, wrong)]
    assert names[0] == "source = wire" and not any("half" in name for name in names)


def test_few_rows_that_two_properties_share_are_no_slice() -> None:
    rows = np.arange(400)
    one, two = rows < 40, (rows >= 30) & (rows < 70)
    test = texts(400, one=np.where(one, "x", "y").tolist(), two=np.where(two, "x", "y").tolist())
    assert all(found.sum() >= LEAST_ROWS for _, found in weak_slices(test, one & two))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_a_difference_no_slice_is_weak(share: float) -> None:
    test = texts(200)
    assert weak_slices(test, np.arange(200) < 200 * share) == []
    assert weak_slices(texts(5), np.ones(5, dtype=bool)) == []
