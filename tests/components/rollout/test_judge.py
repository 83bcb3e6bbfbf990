"""The judge: what it proves, what it lets pass, and that looking often does not make it see things."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import fisher_exact

from components.rollout.judging import judge as judging
from components.rollout.judging.evidence import Counts, Window
from components.rollout.judging.intervals import quantile
from components.rollout.judging.judge import ALPHA, Tolerance, judge
from components.rollout.judging.sequential import EITHER, MORE, Table, log_evidence, mean_evidence
from components.rollout.verdict import Check
from tests.components.rollout.traffic import BIASED, FAILING, SLOW, STABLE, Behaviour, Recorded, Simulated, windows

# Of the seconds a test may take: two intervals of 100 requests a second for two minutes, a tenth of them the canary's.
RATE, INTERVAL = 100.0, 120.0


def harms(canary: Behaviour) -> set[str]:
    return {c.signal for c in judge(windows(canary, [10] * 3, RATE, INTERVAL, 1)).checks if c.harm}


@pytest.mark.parametrize(
    ("canary", "signal"),
    [
        (FAILING, "errors"),
        (SLOW, "latency"),
        (BIASED, "class mix"),
        (replace(STABLE, unsure=0.08), "low confidence"),
        (replace(STABLE, unsure=0.3), "confidence"),
    ],
)
def test_each_harm_is_found_by_its_own_signal(canary: Behaviour, signal: str) -> None:
    assert signal in harms(canary)
    assert harms(STABLE) == set()


def test_each_signal_has_to_prove_more_where_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    signals = judging._SIGNALS
    enough_for_as_many = math.log((len(signals) + 0.5) / ALPHA)

    def another(*_: object) -> Check:
        return judging._check("another", enough_for_as_many, True, "it is worse")

    monkeypatch.setattr(judging, "_SIGNALS", (*signals[1:], another))
    assert judge(()).reasons == ["it is worse"]
    monkeypatch.setattr(judging, "_SIGNALS", (*signals, another))
    assert not judge(()).harm


def test_a_refusing_canary_is_saturated_not_failing() -> None:
    found = windows(STABLE, [10] * 2, RATE, INTERVAL, 1)
    refusing = [
        replace(w, canary=replace(w.canary, requests={**w.canary.requests, "429": w.canary.served * 0.05}))
        for w in found
    ]
    (check,) = (c for c in judge(refusing).checks if c.harm)
    assert check.signal == "saturation" and "4.76% of requests are refused, 0.00% were" in check.reason


def test_what_is_proven_but_within_the_tolerance_is_no_harm() -> None:
    assert "errors" not in {
        c.signal for c in judge(windows(FAILING, [10] * 3, RATE, INTERVAL, 1), Tolerance(errors=0.05)).checks if c.harm
    }
    verdict = judge(windows(FAILING, [10] * 3, RATE, INTERVAL, 1), Tolerance(errors=0.05))
    assert verdict.checks[0].evidence > 1000 and not verdict.checks[0].harm


def test_while_all_is_well_the_category_that_moved_most_is_told() -> None:
    found = windows(STABLE, [10] * 3, RATE, INTERVAL, 1)
    with_a_rare_one = [
        replace(w, stable=replace(w.stable, predictions={**w.stable.predictions, "Weather": 0.0})) for w in found
    ]
    (check,) = (c for c in judge(with_a_rare_one).checks if c.signal == "class mix")
    assert not check.harm and not check.reason.startswith("Weather")


def test_a_better_canary_is_no_harm() -> None:
    assert harms(replace(STABLE, errors=0.0, median=0.015, unsure=0.0)) == set()


def test_texts_of_one_request_do_not_count_as_many() -> None:
    """Requests of four texts of one kind: an equal canary that got some more of a kind is still equal."""
    false = [judge(windows(STABLE, [10] * 2, 20, 120, seed, Simulated(of_one_kind=1.0))).harm for seed in range(20)]
    assert sum(false) == 0


def test_looking_after_every_interval_raises_no_more_alarms_than_promised() -> None:
    random = np.random.default_rng(5)
    alarms = 0
    for _ in range(100):
        tables = [
            Table(*map(float, (random.binomial(50, rate), 50, random.binomial(450, rate), 450)))
            for rate in random.uniform(0.02, 0.2, 20)
        ]
        alarms += any(log_evidence(tables[: n + 1], EITHER) > math.log(20) for n in range(20))
    assert alarms <= 5  # 5%
    # The same looks with Fisher's test at 5%, which is right once, are wrong much more often.
    random = np.random.default_rng(5)
    naive = 0
    for _ in range(50):
        counts = np.array([(random.binomial(50, 0.1), random.binomial(450, 0.1)) for _ in range(40)]).cumsum(axis=0)
        naive += any(
            fisher_exact([[a, 50 * n - a], [b, 450 * n - b]]).pvalue < 0.05 for n, (a, b) in enumerate(counts, start=1)
        )
    assert naive > 5


def test_evidence_is_the_likelihood_ratio_of_fishers_table() -> None:
    """By hand: of 2 events among 2 + 2 trials both are the canary's, at odds of e^d."""
    chance = np.array([1, 4, 1]) / 6  # of 0, 1, 2 of them
    by_hand = [np.exp(2 * d) / (chance * np.exp(d * np.arange(3))).sum() for d in MORE]
    # One chance in four is left for a difference that begins later.
    assert log_evidence([Table(2, 2, 0, 2)], MORE) == pytest.approx(math.log(0.75 * np.mean(by_hand) + 0.25))
    # From the first table on, or from the second: 2 of 2 events at odds of e^d, then 1 of 1 at one half to one.
    second = [np.exp(d) / ((1 + np.exp(d)) / 2) for d in MORE]
    both = np.array(by_hand) * second
    mixed = 0.75 * np.mean(both) + 0.125 * np.mean(second) + 0.125
    assert log_evidence([Table(2, 2, 0, 2), Table(1, 5, 0, 5)], MORE) == pytest.approx(math.log(mixed))
    assert log_evidence([Table(0, 0, 5, 10), Table(0, 10, 0, 10), Table(10, 10, 7, 7)], MORE) == pytest.approx(0)
    assert mean_evidence([0.0, math.log(3)]) == pytest.approx(math.log(2))


def test_evidence_does_not_depend_on_the_traffics_share_nor_on_the_hour() -> None:
    more_events_later = [Table(1, 100, 9, 900), Table(50, 100, 450, 900)]  # a bad hour for both
    assert log_evidence(more_events_later, MORE) < 0


def test_an_hour_that_is_bad_for_both_does_not_speak_against_what_comes_after() -> None:
    bad, after = Table(300, 1000, 2700, 9000), [Table(9, 1000, 9, 9000)] * 3
    assert log_evidence(after, MORE) > log_evidence([bad, *after], MORE) > math.log(1e6)


def test_nothing_seen_is_no_harm() -> None:
    verdict = judge([Window(0.0, Counts(), Counts())])
    assert not verdict.harm and verdict.requests == 0


def test_recorded_traffic_has_the_faults_that_are_put_on_top() -> None:
    random = np.random.default_rng(3)
    answers = Recorded(
        random.exponential(0.02, 500), random.multinomial(2, [0.2, 0.3, 0.5], 500).astype(float),
        random.uniform(0.5, 1.0, (500, 2)),
    )  # fmt: skip
    found = {
        name: windows(canary, [50] * 4, 50, 120, 2, answers)
        for name, canary in (("equal", STABLE), ("slow", SLOW), ("biased", BIASED), ("failing", FAILING))
    }
    assert not judge(found["equal"]).harm
    assert {name: {c.signal for c in judge(found[name]).checks if c.harm} for name in found if name != "equal"} == {
        "slow": {"latency"}, "biased": {"class mix"}, "failing": {"errors"},
    }  # fmt: skip
    first = [sum(w.canary.predictions["class 0"] for w in found[name]) for name in ("equal", "biased")]
    assert first[1] / first[0] == pytest.approx(1.2, abs=0.05)
    texts = sum(w.canary.texts for w in found["equal"])
    assert texts == sum(w.canary.confidence[math.inf] for w in found["equal"])


def test_quantiles_lie_between_the_edges() -> None:
    histogram = {0.1: 50.0, 0.2: 90.0, math.inf: 100.0}
    assert quantile(0.5, histogram) == pytest.approx(0.1)
    assert quantile(0.7, histogram) == pytest.approx(0.15)
    assert quantile(0.99, histogram) == pytest.approx(0.2)  # no more is known than that it is above
    assert quantile(0.99, {}) == 0.0
