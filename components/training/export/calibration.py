"""Calibration: a confidence of 0.9 should mean that nine in ten of such answers are right."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

# A head that few rows were fitted to, or one of many classes, has logits that are a hundredth of others'.
_LOWEST, _HIGHEST = 1e-3, 1e3
BOUNDS = (float(np.log(_LOWEST)), float(np.log(_HIGHEST)))
"""Of the logarithm of a temperature."""


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """Return the temperature, 0.001 to 1,000, that minimises cross-entropy.

    Method: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Where the model has all rows right
    the cross-entropy falls with the temperature without end, and few rows are soon all right. So of n rows, 1 / (n + 2)
    of each counts as wrong, as for the targets in Platt 1999, "Probabilistic Outputs for Support Vector Machines".

    Args:
        logits: shape (rows, labels).
        truth: the class id of each row.
    """
    rows = np.arange(len(truth))
    wrong = 1 / (len(rows) + 2)
    others = logits.astype(np.float64)
    true = others[rows, truth].copy()
    others[rows, truth] = -np.inf

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        rest = logsumexp(others * scale, axis=1)
        right = true * scale
        return float((np.logaddexp(right, rest) - (1 - wrong) * right - wrong * rest).mean())

    found = minimize_scalar(loss, bounds=BOUNDS, method="bounded", options={"xatol": 1e-5})
    return float(f"{np.exp(found.x):.4g}")
