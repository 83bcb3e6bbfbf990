"""What training makes small: cross-entropy over the rows of a batch, wherever these rows are computed."""

import torch

from components.training.recipe import Recipe


class Objective:
    """The mean loss of a batch as a sum over shares of it, so that processes can compute a share each.

    With class weights the mean of means is not the mean: a share's sum is divided by the weight of the whole batch,
    as `torch.nn.CrossEntropyLoss` divides by the weight of all its rows.

    Args:
        targets: class id of each training row.
        classes: how many classes there are.
        recipe: says whether classes are balanced and targets smoothed.
        device: where logits come from.
    """

    def __init__(self, targets: torch.Tensor, classes: int, recipe: Recipe, device: torch.device) -> None:
        weights = balance(targets, classes) if recipe.balance_classes else torch.ones(classes)
        self._targets, self._row_weights = targets, weights[targets]
        self._sum = torch.nn.CrossEntropyLoss(
            weights if recipe.balance_classes else None, reduction="sum", label_smoothing=recipe.label_smoothing
        ).to(device)

    def __call__(self, logits: torch.Tensor, rows: list[int], batch: list[int]) -> torch.Tensor:
        """Return what `rows`, whose logits these are, add to the mean loss of `batch`."""
        loss: torch.Tensor = self._sum(logits.float(), self._targets[rows].to(logits.device))
        return loss / float(self._row_weights[batch].sum())


def balance(targets: torch.Tensor, classes: int) -> torch.Tensor:
    """Return the weight of each class: 1 on average over the rows, and inverse to the class's share."""
    counts = torch.bincount(targets, minlength=classes).float()
    return len(targets) / (classes * counts.clamp(min=1))
