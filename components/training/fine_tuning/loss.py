"""The loss over a batch, whose rows may be spread over several processes.

Cross-entropy where a row has one label; of multi-label data the mean over labels of the binary cross-entropy.
"""

import torch

from components.training.recipe import Recipe


class LossFunction:
    """The mean loss of a batch as a sum over its shards, so that each process can compute one.

    With class weights the mean of the shards' means is not the batch's mean. So a shard's sum is divided by the weight
    of the whole batch, as `torch.nn.CrossEntropyLoss` divides by the weight of all its rows.

    Args:
        targets: class id of each training row, shape (rows,), or of multi-label data whether it has each label, float32
            of shape (rows, labels).
        classes: how many classes there are.
        recipe: says whether classes are balanced and targets smoothed.
        device: of the logits.
    """

    def __init__(self, targets: torch.Tensor, classes: int, recipe: Recipe, device: torch.device) -> None:
        self._sum: torch.nn.Module
        if targets.ndim == 2:
            self._targets = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / 2
            self._row_weights = torch.full((len(targets),), float(classes))
            balanced = positive_weights(targets) if recipe.balance_classes else None
            self._sum = torch.nn.BCEWithLogitsLoss(reduction="sum", pos_weight=balanced).to(device)
            return
        weights = class_weights(targets, classes) if recipe.balance_classes else torch.ones(classes)
        self._targets, self._row_weights = targets, weights[targets]
        self._sum = torch.nn.CrossEntropyLoss(
            weights if recipe.balance_classes else None, reduction="sum", label_smoothing=recipe.label_smoothing
        ).to(device)

    def __call__(self, logits: torch.Tensor, rows: list[int], batch: list[int]) -> torch.Tensor:
        """Return what `rows`, which the logits are of, contribute to the mean loss of `batch`."""
        loss: torch.Tensor = self._sum(logits.float(), self._targets[rows].to(logits.device))
        return loss / float(self._row_weights[batch].sum())


def positive_weights(targets: torch.Tensor) -> torch.Tensor:
    """Return for each label how many rows lack it for each that has it, so that both kinds count as much."""
    positive = targets.sum(dim=0)
    return (len(targets) - positive).clamp(min=1) / positive.clamp(min=1)


def class_weights(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return a weight for each class: inverse to its share of the rows, and 1 on average over the rows."""
    counts = torch.bincount(targets, minlength=classes).float()
    return len(targets) / (classes * counts.clamp(min=1))
