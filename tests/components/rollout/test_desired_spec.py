"""How many pods a canary gets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.rollout.desired_spec import canary_pods


@given(stable=st.integers(1, 200), weight=st.integers(0, 66))
def test_no_pod_of_a_canary_has_more_to_do_than_a_stable_one(stable: int, weight: int) -> None:
    assert weight / canary_pods(stable, weight) <= (100 - weight) / stable


@given(stable=st.integers(1, 200), weight=st.integers(67, 100))
def test_pods_are_not_busier_than_they_are_without_a_canary(stable: int, weight: int) -> None:
    assert stable <= canary_pods(stable, weight) <= 2 * stable
    assert weight / canary_pods(stable, weight) <= 100 / stable


@pytest.mark.parametrize(
    ("stable", "weight", "pods"),
    [(2, 0, 1), (2, 10, 1), (2, 34, 2), (2, 50, 2), (6, 10, 1), (6, 20, 2), (6, 40, 4), (6, 50, 6), (6, 90, 12)],
)
def test_a_canary_gets_no_more_pods_than_it_needs(stable: int, weight: int, pods: int) -> None:
    assert canary_pods(stable, weight) == pods
