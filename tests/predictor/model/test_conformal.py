"""Sets of labels: never empty, in the order of their probability, and only at levels that there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from predictor.errors import BadRequest
from predictor.model.conformal import Conformal, Level, label_sets, levels_of, threshold_of

TWO = Conformal(
    rows=100,
    levels=[
        Level(coverage=0.9, threshold=0.25, low=0.8, high=1.0),
        Level(coverage=0.95, threshold=0.1, low=0.9, high=1.0),
    ],
)


@given(arrays(np.float32, (5, 4), elements=st.floats(0, 1, width=32)), st.floats(0, 1, width=32))
def test_a_set_has_what_reaches_the_threshold_and_always_the_best(rows: np.ndarray, threshold: float) -> None:
    for row, inside in zip(rows, label_sets(rows, threshold), strict=True):
        assert inside[0] == row.argmax() and len(set(inside)) == len(inside)
        assert set(inside) == set(np.flatnonzero(row >= threshold)) | {int(row.argmax())}
        assert (np.diff(row[inside]) <= 0).all()


def test_a_level_is_found_and_another_one_is_refused_with_those_there_are() -> None:
    assert threshold_of(TWO, None) is None and threshold_of(None, None) is None
    assert threshold_of(TWO, 0.95) == 0.1
    assert levels_of(TWO) == [0.9, 0.95] and levels_of(None) == []
    with pytest.raises(BadRequest, match=r"there is no coverage 0.8: ask for 0.9, 0.95"):
        threshold_of(TWO, 0.8)
    for older in (None, Conformal(rows=3, levels=[])):
        with pytest.raises(BadRequest, match="this bundle has no thresholds for label sets: leave coverage out"):
            threshold_of(older, 0.9)
