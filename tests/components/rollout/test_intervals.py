"""What is the same for both versions never looks like a difference between them, however the canary's share grows."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.rollout.judging.evidence import Counts, Window
from components.rollout.judging.intervals import distributions, quantile, shares
from components.rollout.judging.judge import judge
from components.rollout.verdict import Verdict

_TEN_CHECKS = (10, 10, 20, 20, 30, 30, 40, 40, 50, 50)
_REQUESTS = 12_000


def counts(
    requests: float, failed: float = 0.0, first: float = 0.25, unsure: float = 0.02, slower: float = 1.0
) -> Counts:
    """Return what is expected of so many requests of one text each, which take 20 to 120 ms, evenly, if not slower."""
    ran = requests * (1 - failed)
    edges = [edge / 100 for edge in range(10, 33, 2)] + [0.4, 0.5]
    within = {edge: min(1.0, max(0.0, (edge / slower - 0.02) / 0.1)) for edge in edges}
    return Counts(
        {"200": ran, "500": requests - ran},
        {"Sports": ran * first, "World": ran * (1 - first)},
        {**{edge: share * ran for edge, share in within.items()}, math.inf: ran},
        {0.5: ran * unsure, 0.95: ran * (0.3 + unsure / 2), math.inf: ran},
        {0.5: ran, math.inf: ran},
    )


def rolled_out(stable: Sequence[Counts], canary: Sequence[Counts]) -> Verdict:
    return judge([Window(120.0 * n, *both) for n, both in enumerate(zip(stable, canary, strict=True), 1)])


def harms(verdict: Verdict) -> dict[str, str]:
    return {check.signal: check.reason for check in verdict.checks if check.harm}


def test_an_incident_of_both_versions_does_not_hide_that_one_fails_more() -> None:
    incident = [0.3, *[0.0] * 9]
    stable = [counts(_REQUESTS * (1 - w / 100), 0.001 + i) for w, i in zip(_TEN_CHECKS, incident, strict=True)]
    canary = [counts(_REQUESTS * w / 100, 0.009 + i) for w, i in zip(_TEN_CHECKS, incident, strict=True)]
    assert "errors" in harms(rolled_out(stable[:4], canary[:4]))
    told = harms(rolled_out(stable, canary))["errors"]
    after, before = (float(word.rstrip("%")) for word in told.split() if word.endswith("%"))
    assert after - before == pytest.approx(0.8, abs=0.011)


def test_a_day_that_slows_does_not_make_a_slightly_slower_canary_a_slow_one() -> None:
    day = [1 + 0.15 * n for n in range(10)]
    stable = [counts(_REQUESTS * (1 - w / 100), slower=now) for w, now in zip(_TEN_CHECKS, day, strict=True)]
    canary = [counts(_REQUESTS * w / 100, slower=now * 1.04) for w, now in zip(_TEN_CHECKS, day, strict=True)]
    verdict = rolled_out(stable, canary)
    (latency,) = (check for check in verdict.checks if check.signal == "latency")
    after, before = (float(word) for word in latency.reason.replace(",", "").split() if word.isdigit())
    assert latency.evidence > 1000 and not verdict.harm and after / before == pytest.approx(1.04, abs=0.01)


# What an interval may have: the canary's percent of the requests, and how things stand for both versions.
_HOURS = st.tuples(st.floats(500, 5_000), st.floats(0, 0.5), st.floats(0.05, 0.9), st.floats(0, 0.3), st.floats(0.5, 5))
_SHARES = st.lists(st.integers(1, 60), min_size=1, max_size=6).map(sorted)


@settings(max_examples=8)
@given(data=st.data(), weights=_SHARES)
def test_an_equal_canary_is_as_good_whatever_both_go_through(data: st.DataObject, weights: list[int]) -> None:
    hours = [data.draw(_HOURS) for _ in weights]
    stable = [counts(total * (1 - w / 100), *hour) for w, (total, *hour) in zip(weights, hours, strict=True)]
    canary = [counts(total * w / 100, *hour) for w, (total, *hour) in zip(weights, hours, strict=True)]
    windows = [Window(0.0, *both) for both in zip(stable, canary, strict=True)]
    assert not judge(windows).harm
    one, other = shares(windows, lambda c: c.requests["500"], lambda c: c.served)
    assert one == pytest.approx(other)
    before, after = distributions(windows, "latency")
    assert quantile(0.99, before) == pytest.approx(quantile(0.99, after))


@settings(max_examples=30)
@given(data=st.data(), weights=_SHARES, more=st.floats(-0.2, 0.2))
def test_a_constant_difference_is_measured_as_such(data: st.DataObject, weights: list[int], more: float) -> None:
    hours = [data.draw(st.tuples(st.floats(500, 50_000), st.floats(0.2, 0.8))) for _ in weights]
    windows = [
        Window(0.0, counts(total * (1 - w / 100), share), counts(total * w / 100, share + more))
        for w, (total, share) in zip(weights, hours, strict=True)
    ]
    stable, canary = shares(windows, lambda c: c.requests["500"], lambda c: c.served)
    assert canary - stable == pytest.approx(more)


@settings(max_examples=30)
@given(data=st.data(), weights=_SHARES, slower=st.sampled_from([1.0, 2.0, 5.0]))
def test_so_many_times_slower_is_measured_as_such(data: st.DataObject, weights: list[int], slower: float) -> None:
    """All requests of an interval take one edge's seconds, or that many times as long."""
    windows = []
    for weight in weights:
        seconds, total = data.draw(st.sampled_from([0.1, 0.2, 1.0])), data.draw(st.floats(500, 50_000))
        edges = [0.05, 0.1, 0.2, 0.4, 0.5, 1.0, 2.0, 5.0, math.inf]
        took = [{edge: n if edge >= each else 0.0 for edge in edges} for each, n in (
            (seconds, total * (1 - weight / 100)), (seconds * slower, total * weight / 100),
        )]  # fmt: skip
        windows.append(Window(0.0, *(Counts({"200": each[math.inf]}, latency=each) for each in took)))
    for share in (0.5, 0.99, 1.0):
        stable, canary = (_edge(share, histogram) for histogram in distributions(windows, "latency"))
        assert canary == pytest.approx(stable * slower)


def _edge(share: float, histogram: dict[float, float]) -> float:
    return min(edge for edge, below in histogram.items() if below >= share - 1e-9)


def test_an_interval_in_which_one_version_had_nothing_says_nothing() -> None:
    windows = [Window(120.0, counts(1000, 0.5), Counts()), Window(240.0, counts(900), counts(100, 0.1))]
    assert shares(windows, lambda c: c.requests.get("500", 0.0), lambda c: c.served) == pytest.approx((0.0, 0.1))
    assert distributions([windows[0]], "latency") == ({}, {})
