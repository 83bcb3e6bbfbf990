"""From logits to calibrated probabilities."""

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return calibrated probabilities, float32 of the same shape, each row summing to 1."""
    scaled = logits / np.float32(temperature)
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    result: NDArray[np.float32] = scaled / scaled.sum(axis=-1, keepdims=True)
    return result
