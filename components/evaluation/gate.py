"""The gate: whether a bundle may replace the one in service."""

from dataclasses import dataclass

from scipy.stats import binomtest

from components.evaluation.scores import Evaluation, listed

# The gate closes if the baseline is better at this level of significance.
_LEVEL = 0.05


@dataclass(frozen=True)
class GateDecision:
    """Whether the bundle passed, and each check in words."""

    passed: bool
    reasons: list[str]


def gate(evaluation: Evaluation, min_accuracy: float) -> GateDecision:
    """Check a bundle's test results.

    The accuracy must reach `min_accuracy` (a share of 1); the linear baseline must not be significantly better (exact
    McNemar test, one-sided at 5%); every class that has test rows must be answered at least once.
    """
    enough = evaluation.accuracy >= min_accuracy
    discordant = evaluation.only_model_right + evaluation.only_baseline_right
    p = 1.0
    if discordant:
        p = float(binomtest(evaluation.only_baseline_right, discordant, alternative="greater").pvalue)
    not_worse = p >= _LEVEL
    asked, answered = ({pair[side] for pair in evaluation.confusion} for side in (0, 1))
    silent = [evaluation.labels[number] for number in sorted(asked - answered)]
    reasons = [
        f"accuracy {evaluation.accuracy:.2%} is {'at least' if enough else 'below'} {min_accuracy:.2%}",
        f"the linear baseline ({evaluation.baseline_accuracy:.2%}) is {'not ' if not_worse else ''}significantly better"
        f" (McNemar p = {p:.3f})",
        f"never answered: {listed(silent)}" if silent else "every class that has test rows is answered",
    ]
    if cascade := evaluation.cascade:
        reasons.append(
            f"the cascade's linear model answers {cascade.share:.1%}; the transformer alone has "
            f"{cascade.transformer_accuracy:.2%} (the cascade loses {cascade.lost} rows and wins {cascade.won})"
        )
    if evaluation.unknown:
        reasons.append(f"without test rows, so that nothing is known of it: {listed(evaluation.unknown)}")
    return GateDecision(enough and not_worse and not silent, reasons)
