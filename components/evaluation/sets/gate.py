"""The checks of the gate that a multi-label model has in place of those of its accuracy."""

from collections.abc import Iterator

from components.evaluation.checks import Check
from components.evaluation.scores import Champion, Evaluation, F1Gain, listed
from components.evaluation.statistics import LEVEL
from components.evaluation.thresholds import Thresholds


def f1_checks(evaluation: Evaluation, thresholds: Thresholds) -> Iterator[Check]:
    """Yield the checks of micro F1, against its threshold and against the baseline."""
    sets, gain = evaluation.score.sets, evaluation.baseline_gain
    assert sets and gain
    enough = sets.micro_f1 >= thresholds.min_micro_f1
    yield Check(
        "micro F1", enough,
        f"micro F1 {sets.micro_f1:.3f} ({sets.micro_f1_low:.3f} to {sets.micro_f1_high:.3f}) is "
        f"{'at least' if enough else 'below'} {thresholds.min_micro_f1:.3f}",
        sets.micro_f1, thresholds.min_micro_f1,
    )  # fmt: skip
    good = gain.p_worse >= LEVEL
    yield Check(
        "baseline", good,
        f"the linear baseline (micro F1 {evaluation.baseline_micro_f1:.3f}) is {'not ' if good else ''}significantly "
        f"better (bootstrap p = {gain.p_worse:.3f})",
        gain.gain, 0.0, gain.p_worse,
    )  # fmt: skip


def f1_champion(champion: Champion, gain: F1Gain, thresholds: Thresholds, name: str) -> Check:
    """Return the check against the champion, which `name` names."""
    assert champion.score
    sets = champion.score.sets
    worse = gain.p_worse < LEVEL and gain.high < -thresholds.champion_margin
    seen = (
        "is shown to be better" if worse else "is shown to be worse" if gain.p_better < LEVEL
        else "is not shown to be better or worse"
    )  # fmt: skip
    lacks = f"; it lacks {listed(champion.unknown)}" if champion.unknown else ""
    return Check(
        "champion", not worse,
        f"{name} (micro F1 {sets.micro_f1 if sets else 0:.3f}), {seen}: the gain is {gain.gain:+.4f} ({gain.low:+.4f} "
        f"to {gain.high:+.4f}){lacks}",
        gain.gain, 0.0 - thresholds.champion_margin, gain.p_worse,
    )  # fmt: skip
