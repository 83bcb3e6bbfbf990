"""How a model answered on its validation split, in buckets like Prometheus's: later traffic is compared with it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict

from predictor.model.calibration import decided, least_sure

CONFIDENCE_EDGES = [n / 20 for n in range(1, 21)]
"""Upper edges of the 20 buckets of confidence, in the reference and in the metrics."""


class Reference(BaseModel):
    """How the model answered on the validation split.

    A histogram has a count for each edge: of the values above the edge before and not above this one. The last count is
    of the values above all edges.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_shares: dict[str, float]
    confidence_histogram: list[int]
    """By `CONFIDENCE_EDGES`."""
    token_edges: list[int]
    """Deciles of the texts' token counts, special tokens included."""
    token_histogram: list[int]


def reference_of(
    rows: NDArray[np.float32], lengths: Sequence[int], labels: Sequence[str],
    thresholds: NDArray[np.float32] | None = None,
) -> Reference:  # fmt: skip
    """Return the reference for probabilities of shape (texts, labels) and the texts' token counts.

    Of a multi-label model, which has thresholds, the shares are those of texts with the label; they need not add up to
    1.
    """
    if thresholds is None:
        shares, sure = np.bincount(rows.argmax(axis=1), minlength=len(labels)) / len(rows), rows.max(axis=1)
    else:
        shares, sure = decided(rows, thresholds).mean(axis=0), least_sure(rows, thresholds)
    edges = sorted({int(edge) for edge in np.quantile(lengths, np.linspace(0.1, 1.0, 10))})
    return Reference(
        class_shares={label: float(share) for label, share in zip(labels, shares, strict=True)},
        confidence_histogram=bucket_counts(sure, CONFIDENCE_EDGES),
        token_edges=edges,
        token_histogram=bucket_counts(lengths, edges),
    )


def bucket_counts(values: ArrayLike, edges: Sequence[float]) -> list[int]:
    """Return the count of values for each edge, and last of those above all edges."""
    places = np.searchsorted(edges, np.asarray(values, dtype=np.float64), side="left")
    counts: list[int] = np.bincount(places, minlength=len(edges) + 1).tolist()
    return counts
