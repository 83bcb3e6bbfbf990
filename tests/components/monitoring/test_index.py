"""The index: over 0.2 where a shift is both beyond chance and not too small."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.monitoring.drift.index import LEAST_LEVEL, LINE, Finding, Limits, compared, score
from components.monitoring.drift.two_sample import permutation_p
from predictor.errors import InputError

LIMITS = Limits(level=0.01, least_size=0.05)
shares = st.floats(0, 1)


@given(shares, shares)
def test_it_is_over_the_line_if_and_only_if_both_are_enough(size: float, p_value: float) -> None:
    found = score(size, p_value, LIMITS)
    assert 0 <= found <= 1
    assert (found > LINE) == (size > LIMITS.least_size and p_value <= LIMITS.level)


@given(shares, shares, shares)
def test_more_evidence_or_a_larger_shift_never_lowers_it(size: float, more: float, p_value: float) -> None:
    size, more = sorted((size, more))
    assert score(size, p_value, LIMITS) <= score(more, p_value, LIMITS)
    assert score(more, p_value, LIMITS) <= score(more, p_value / 2, LIMITS)


def test_its_ends_are_no_shift_and_all_texts() -> None:
    assert score(0.0, 1.0, LIMITS) == 0.0 and score(1.0, 0.0, LIMITS) == 1.0
    assert score(0.5, 0.1, LIMITS) == pytest.approx(0.1)  # half the way to 0.01, by its logarithm
    assert score(0.025, 0.0, LIMITS) == pytest.approx(0.1)  # half the size


def test_the_parts_share_the_chance_of_a_false_alarm() -> None:
    one = {"length": Finding(0.3, 0.006, "")}
    assert compared(one, LIMITS)["length"].drifted
    several: dict[str, Finding | str] = {**one, "language": Finding(0.0, 1.0, ""), "vocabulary": "no texts"}
    parts = compared(several, LIMITS)
    assert parts["length"].p_value == pytest.approx(0.012) and not parts["length"].drifted
    assert parts["vocabulary"].score is None and parts["vocabulary"].note == "no texts"


def test_the_least_level_is_one_that_permutations_can_show() -> None:
    rows = np.arange(200.0)[:, None]
    drifted = (rows >= 100).astype(np.float64)
    least = permutation_p(lambda window: (rows * window).sum(axis=0), drifted, np.random.default_rng(0))
    parts = {"embedding": Finding(0.5, least, ""), **{str(other): Finding(0.0, 1.0, "") for other in range(6)}}
    assert compared(parts, Limits(LEAST_LEVEL))["embedding"].drifted
    for wrong in ((0.001, 0.05), (1.0, 0.05), (0.01, 0.0)):
        with pytest.raises(InputError, match="decides nothing"):
            Limits(*wrong)
