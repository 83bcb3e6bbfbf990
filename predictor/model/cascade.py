"""The first stage of a cascade: a linear model that answers a text where it is sure, in the transformer's place.

It takes microseconds where the transformer takes milliseconds. Its weights are integers, so their sum does not depend
on the order: a text gets the same answer, bit for bit, alone and beside any others.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from predictor.errors import InputError
from predictor.model.bundle import CascadeSpec, ServingSpec
from predictor.model.calibration import softmax
from predictor.model.ngrams import Hashes, Unit, hashes, portions

CASCADE_FILE = "cascade.safetensors"
_SCALE = 32_767


class LinearStage:
    """The linear model.

    Args:
        weights: int16 of shape (buckets, labels); buckets are a power of two.
        scales: float32 of shape (labels,), what a weight's unit is worth.
        bias: float32 of shape (labels,).
        unit: what a text is divided into.
    """

    def __init__(
        self, weights: NDArray[np.int16], scales: NDArray[np.float32], bias: NDArray[np.float32], unit: Unit
    ) -> None:
        self.weights = weights
        self.scales = scales
        self.bias = bias
        self.unit = unit

    @classmethod
    def rounded(cls, weights: NDArray[np.float64], bias: NDArray[np.float64], unit: Unit) -> "LinearStage":
        """Return the model with weights rounded to 16 bits; `weights` has shape (buckets, labels)."""
        scales = np.maximum(np.abs(weights).max(axis=0), 1e-12) / _SCALE
        rounded = np.rint(weights / scales).astype(np.int16)
        return cls(rounded, scales.astype(np.float32), bias.astype(np.float32), unit)

    def __call__(self, cleaned: Sequence[str]) -> NDArray[np.float32]:
        """Return logits, float32 of shape (texts, labels), of texts that were cleaned; at least one."""
        return np.concatenate([self._logits(part) for part in portions(cleaned)])

    def _logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        found, bounds = hashes(texts, self.unit)
        taken = self.weights.take(buckets(found, len(self.weights)).ravel(), axis=0)
        sums = np.add.reduceat(taken, bounds[:-1] * found.shape[1], axis=0, dtype=np.int64)
        logits = sums * (self.scales.astype(np.float64) / np.sqrt(np.diff(bounds))[:, None]) + self.bias
        return logits.astype(np.float32)

    def contributions(self, cleaned: str, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each n-gram of a text adds to a weighted sum of the logits.

        Args:
            cleaned: one text that was cleaned.
            weights: of the logits, shape (labels,).

        Returns:
            Shape (rows, sizes): rows as `hashes` has them, and n-grams of 1 and 2, or of 1, 2 and 3. Together with the
            weighted bias they are the weighted sum.
        """
        found, _ = hashes([cleaned], self.unit)
        units = weights * self.scales / np.sqrt(len(found))
        sums: NDArray[np.float64] = self.weights[buckets(found, len(self.weights))] @ units
        return sums

    def save(self, folder: Path) -> None:
        """Write `cascade.safetensors`."""
        save_file({"weights": self.weights, "scales": self.scales, "bias": self.bias}, folder / CASCADE_FILE)

    @classmethod
    def load(cls, folder: Path, unit: Unit, labels: int) -> "LinearStage":
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it has other tensors.
        """
        file = folder / CASCADE_FILE
        try:
            tensors = load_file(file)
            weights, scales, bias = (tensors[name] for name in ("weights", "scales", "bias"))
        except (OSError, SafetensorError, KeyError) as error:
            raise InputError(f"{file} cannot be read ({error}): train the bundle again") from error
        if weights.dtype != np.int16 or weights.shape[1:] != (labels,) or not scales.shape == bias.shape == (labels,):
            raise InputError(f"{file} is not of {labels} labels: train the bundle again")
        return cls(weights, scales, bias, unit)


class Cascade:
    """The linear stage with the confidence from which on it answers."""

    def __init__(self, stage: LinearStage, spec: CascadeSpec) -> None:
        self.stage = stage
        self.spec = spec

    @classmethod
    def load(cls, folder: Path, spec: ServingSpec) -> "Cascade | None":
        """Return a bundle's cascade; None where it has none.

        Raises:
            InputError: its file cannot be read.
        """
        if spec.cascade is None:
            return None
        return cls(LinearStage.load(folder, spec.cascade.unit, len(spec.labels)), spec.cascade)

    def __call__(self, cleaned: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return probabilities, float32 of shape (texts, labels), and for which texts they are the answer."""
        rows = softmax(self.stage(cleaned), self.spec.temperature)
        return rows, rows.max(axis=1) >= self.spec.threshold


def buckets(found: Hashes, count: int) -> NDArray[np.int64]:
    """Return the bucket of each hash; `count` is a power of two."""
    bits = count.bit_length() - 1
    return (found >> np.uint64(64 - bits)).view(np.int64)
