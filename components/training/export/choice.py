"""int8 or fp32: int8 is served unless it is shown to be worse.

A few rows cannot tell a loss of 0.3 points from chance, and int8 was faster on every CPU so far; a training says by how
much. Speed decides nothing, or a bundle would depend on what else its machine was doing. So int8 is refused where one
of two tests, each at 5%, shows a loss over the limit: a paired one on validation rows, and one on further rows without
their labels (fp32 has learned training rows by heart, so theirs would flatter it), where fp32's own probabilities say
what each other answer of int8 costs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from components.training.export.paired import LEVEL, paired_interval
from predictor.model.bundle import Precision
from predictor.model.calibration import softmax

# The share of accuracy that int8 may cost.
MAX_INT8_LOSS = 0.003

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """What was seen of int8 beside fp32; accuracies, losses and shifts are shares of 1, losses positive."""

    labelled: int
    """Rows behind the accuracies."""
    fp32: float
    int8: float
    low: float
    high: float
    """The loss of accuracy, each end one-sided at `LEVEL`."""
    rows: int
    """Rows behind the agreement and the shifts: the labelled ones and further ones."""
    agreement: float
    expected: float
    """The loss of accuracy on the further rows, if fp32's probabilities are right; 0 where there are none."""
    expected_low: float
    """Its bound, one-sided at `LEVEL`."""
    mean_shift: float
    largest_shift: float
    """Of any probability."""

    @property
    def metrics(self) -> dict[str, float]:
        """For `serving.json`."""
        return {
            "validation_rows": float(self.labelled),
            "validation_accuracy_fp32": self.fp32,
            "validation_accuracy_int8": self.int8,
            "int8_loss_low": self.low,
            "int8_loss_high": self.high,
            "compared_rows": float(self.rows),
            "agreement_fp32_int8": self.agreement,
            "int8_expected_loss": self.expected,
            "int8_mean_shift": self.mean_shift,
            "int8_largest_shift": self.largest_shift,
        }


def compare(fp32: Logits, int8: Logits, truth: NDArray[np.int64], temperature: float) -> Comparison:
    """Compare two precisions on the same rows.

    Args:
        fp32: logits, shape (rows, labels).
        int8: likewise.
        truth: class ids of the first rows, shape (labelled,); the others need no label.
        temperature: what makes fp32's probabilities honest.
    """
    one, other = fp32.argmax(axis=1), int8.argmax(axis=1)
    labelled = len(truth)
    right, right_too = one[:labelled] == truth, other[:labelled] == truth
    before, after = softmax(fp32, temperature), softmax(int8, temperature)
    further = np.arange(labelled, len(one))
    cost = before[further, one[labelled:]] - before[further, other[labelled:]]
    return comparison(right, right_too, one == other, cost, np.abs(before - after))


def comparison(
    right: NDArray[np.bool_],
    right_too: NDArray[np.bool_],
    agree: NDArray[np.bool_] | NDArray[np.floating],
    cost: NDArray[np.floating],
    shift: NDArray[np.floating],
) -> Comparison:
    """Return what is seen of two precisions.

    Args:
        right: which labelled rows fp32 has right.
        right_too: which of them int8 has right.
        agree: on which rows, labelled and further ones, the answers are the same; a share where an answer has parts.
        cost: of each further row, what int8's answer costs of the probability of being right, by fp32's probabilities.
        shift: how far each probability of each row moves.
    """
    labelled = len(right)
    low, high = paired_interval(int((right & ~right_too).sum()), int((~right & right_too).sum()), labelled)
    expected = float(cost.mean()) if len(cost) else 0.0
    return Comparison(
        labelled=labelled,
        fp32=float(right.mean()),
        int8=float(right_too.mean()),
        low=low,
        high=high,
        rows=len(agree),
        agreement=float(agree.mean()),
        expected=expected,
        expected_low=least_mean(expected, len(cost)),
        mean_shift=float(shift.mean()),
        largest_shift=float(shift.max()),
    )


def choose_served_precision(seen: Comparison) -> tuple[Precision, str]:
    """Return the precision to serve, and the reason in one sentence."""
    loss = (
        f"int8 {'gains' if seen.int8 > seen.fp32 else 'loses'} {100 * abs(seen.fp32 - seen.int8):.2f} points on "
        f"{seen.labelled:,} validation rows ({seen.fp32:.2%} fp32, {seen.int8:.2%} int8; a loss between "
        f"{100 * seen.low:.1f} and {100 * seen.high:.1f} is likely) and agrees with fp32 on {seen.agreement:.2%} of "
        f"{seen.rows:,} rows"
    )
    limit = f"the limit of {100 * MAX_INT8_LOSS:.1f}"
    shown = max(seen.low, seen.expected_low)
    if shown > MAX_INT8_LOSS:
        return "fp32", f"{loss}, which shows a loss of at least {100 * shown:.1f}, over {limit}"
    return "int8", f"{loss}, which shows no loss over {limit}"


def least_mean(mean: float, rows: int) -> float:
    """Return the lower bound, one-sided at `LEVEL`, of the mean of numbers in [0, 1].

    The exact binomial bound (Clopper and Pearson 1934) with the sum in the place of a count: of all numbers with this
    mean, zeros and ones vary the most.
    """
    total = mean * rows
    return float(beta.ppf(LEVEL, total, rows - total + 1)) if total > 0 else 0.0
