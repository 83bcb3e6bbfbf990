"""Calibration: a confidence of 0.9 should mean that nine in ten of such answers are right."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from predictor.model.calibration import softmax


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64], lowest: float = 0.25) -> float:
    """Return the temperature, `lowest` to 8, that minimises cross-entropy.

    Method: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. `logits` has shape (rows,
    labels), `truth` the class id of each row.
    """

    def loss(log_temperature: float) -> float:
        rows = softmax(logits, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(rows[np.arange(len(truth)), truth], 1e-12)).mean())

    found = minimize_scalar(loss, bounds=(np.log(lowest), np.log(8.0)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error in [0, 1]: mean gap of confidence and accuracy over equal-width bins."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[index == bin_].mean() - right[index == bin_].mean()) * (index == bin_).mean()
        for bin_ in np.unique(index)
    ]
    return float(sum(gaps))
