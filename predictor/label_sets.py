"""The labels of a text that may have any number of them, as one text: joined by `|`, in the order of the labels.

Data sets, records of the prediction log and tables have a column for the label of a text; of a multi-label task it
holds such a text, which is empty where a text has no label.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SEPARATOR = "|"


def joined(labels: Iterable[str]) -> str:
    """Return labels as one text."""
    return SEPARATOR.join(labels)


def parted(text: str) -> list[str]:
    """Return the labels of a text as `joined` or a person wrote it, each once; spaces around a label do not count."""
    return list(dict.fromkeys(filter(None, map(str.strip, text.split(SEPARATOR)))))


def labels_in(text: str, multi_label: bool) -> list[str]:
    """Return the labels that the column's text stands for: itself, or of multi-label data its parts."""
    return parted(text) if multi_label else [text]


def label_of(prediction: Mapping[str, Any]) -> Any:
    """Return the label of a V1 prediction; of one with `labels` these as one text, in the order of its confidences."""
    if "labels" not in prediction:
        return prediction["label"]
    return joined(label for label in prediction["confidences"] if label in prediction["labels"])


def ordered(text: str, labels: Sequence[str]) -> str:
    """Return a text of labels in the order of `labels`; those that are not among these are left out."""
    mine = set(parted(text))
    return joined(label for label in labels if label in mine)
