"""The tensors of V2: what they are called, of which type and shape."""

from typing import Any

INPUTS = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
USUAL = ("label", "confidence")
"""Those of a request that names none."""
TOP = ("top_labels", "top_confidences")
SET = "set"
SCORE = "score"
OUTPUTS = (*USUAL, "probabilities", *TOP, SET, SCORE)
SEVERAL = "labels"
USUAL_SETS = (SEVERAL, "confidence", "probabilities")
"""Those of a request to a multi-label model that names none."""
OUTPUTS_OF_SETS = (*USUAL_SETS, *TOP)
# Outputs that hold names of labels.
_NAMES = ("label", SEVERAL, "top_labels", SET)


def output_names(ordinal: bool, multi_label: bool = False) -> tuple[str, ...]:
    """Return the names of the outputs that a model has."""
    if multi_label:
        return OUTPUTS_OF_SETS
    return OUTPUTS if ordinal else OUTPUTS[:-1]


def output_types(labels: int, ordinal: bool, multi_label: bool = False) -> list[dict[str, Any]]:
    """Return the V2 output tensors; `probabilities` are in the order of the bundle's labels.

    `labels` of a multi-label model has a text for each text: its labels in the same order, joined by `|`.
    """
    shapes = {"probabilities": [-1, labels], "top_labels": [-1, -1], "top_confidences": [-1, -1], SET: [-1, -1]}
    return [
        {"name": name, "datatype": "BYTES" if name in _NAMES else "FP32", "shape": shapes.get(name, [-1])}
        for name in output_names(ordinal, multi_label)
    ]
