"""What a model learns to answer: a class for each row, or which labels it has."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from components.data.dataset import Split

Targets = list[int] | NDArray[np.bool_]
"""The class id of each row; of multi-label data whether it has each label, shape (rows, labels)."""


def targets_of(split: Split, labels: Sequence[str], multi_label: bool) -> Targets:
    """Return the targets of a split's rows."""
    return split.label_matrix(labels) if multi_label else split.label_ids(labels)


def tensor_of(targets: Targets) -> torch.Tensor:
    """Return targets as the loss takes them: class ids as int64, labels as float32."""
    if isinstance(targets, np.ndarray):
        return torch.from_numpy(targets.astype(np.float32))
    return torch.tensor(targets)


def every_class_answered(answers: Sequence[float], targets: Targets) -> bool:
    """Return whether each class that rows have was predicted; of multi-label data this is taken for granted.

    Args:
        answers: predictions by class.
        targets: of the rows.
    """
    return isinstance(targets, np.ndarray) or all(answers[class_] for class_ in set(targets))
