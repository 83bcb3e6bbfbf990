"""A statistical test that may be looked at after every interval without raising more false alarms.

The evidence is a mixture sequential probability ratio (Robbins 1970; for comparisons of live versions: Johari, Koomen,
Pekelis and Walsh, "Always Valid Inference: Continuous Monitoring of A/B Tests", Operations Research 2022). The
likelihood is the conditional one of Fisher's exact test: given the number of events in an interval and the number of
requests of each version, how many of the events are the canary's. So neither the rate of events nor its course over
the day has to be known, and intervals may have different traffic shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Floats = NDArray[np.float64]

# Log odds ratios with equal prior probabilities: from 10% more odds to eighty times the odds.
MORE = tuple(0.1 * 2.0 ** (n / 2) for n in range(12))
EITHER = (*(-each for each in MORE), *MORE)
_FROM_THE_FIRST = 0.75


@dataclass(frozen=True)
class Table:
    """Events among the trials of both versions in one interval."""

    canary: float
    canary_trials: float
    stable: float
    stable_trials: float


def log_evidence(tables: Sequence[Table], odds: tuple[float, ...]) -> float:
    """Return the log of the evidence that the versions differ; it grows where they do, and shrinks where they do not.

    While both have the same rate, the probability that the evidence ever exceeds 1/alpha is at most alpha, however
    often it is computed (Ville's inequality). The mean of several such evidences is one, too.

    The difference may begin with the first interval, which has the highest prior probability, or with any later one.
    So an interval in which an incident hit both versions, beside which a small difference does not show, is not
    evidence against a difference for ever after.

    Args:
        tables: one for each interval, earliest first.
        odds: the log odds ratios of the alternatives, `MORE` or `EITHER`.
    """
    if not tables:
        return 0.0
    ratios = np.array([_log_ratio(table, odds) for table in tables])
    since = np.cumsum(ratios[::-1], axis=0)[::-1]  # by the interval in which the difference begins, and by odds
    begun = _log_sum(since) - np.log(len(odds))
    number = np.arange(2, len(tables) + 1)
    later = (1 - _FROM_THE_FIRST) / (number * (number - 1))
    not_yet = (1 - _FROM_THE_FIRST) / len(tables)  # it begins later: no evidence so far
    chances = np.array([_FROM_THE_FIRST, *later, not_yet])
    return float(_log_sum(np.log(chances) + np.array([*begun, 0.0])))


def mean_evidence(logs: Sequence[float] | Floats) -> float:
    """Return the log of the mean of evidences that are given as logs."""
    return float(_log_sum(np.asarray(logs, dtype=np.float64)) - np.log(len(logs)))


@lru_cache(maxsize=65536)  # each check has the intervals of all checks before it
def _log_ratio(table: Table, odds: tuple[float, ...]) -> Floats:
    """Return log of P(events | odds ratio, margins) / P(events | no difference, margins) for each odds ratio."""
    mine, theirs = round(table.canary_trials), round(table.stable_trials)
    seen = min(round(table.canary), mine)
    events = seen + min(round(table.stable), theirs)
    least, most = max(0, events - theirs), min(events, mine)
    if least == most:  # only one outcome was possible
        return np.zeros(len(odds))
    possible = np.arange(least, most + 1, dtype=np.float64)
    chance = _log_choose(mine, possible) + _log_choose(theirs, events - possible)
    chance -= _log_sum(chance)
    each = np.array(odds)
    return each * seen - _log_sum(chance + each[:, None] * possible)


def _log_choose(n: int, k: Floats) -> Floats:
    return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), dtype=np.float64)


def _log_sum(logs: Floats) -> Floats:
    """Return the log of the sum over the last axis; scipy's logsumexp takes longer than all the rest here."""
    highest = logs.max(axis=-1)
    return np.asarray(highest + np.log(np.exp(logs - highest[..., None]).sum(axis=-1)), dtype=np.float64)
