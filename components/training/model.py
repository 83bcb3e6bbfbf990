"""A backbone with a classification head."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from predictor.errors import InputError


def load_classifier(backbone: Path, labels: Sequence[str]) -> PreTrainedModel:
    """Load an encoder with a classification head that knows the label names.

    Raises:
        InputError: transformers cannot read the backbone.
    """
    try:
        return _load(backbone, labels)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"backbone {backbone} cannot be loaded ({reason}): save it again, or use another") from error


def _load(backbone: Path, labels: Sequence[str]) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(
        backbone,
        local_files_only=True,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
        problem_type="single_label_classification",
    )
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        backbone, config=config, local_files_only=True, dtype=torch.float32
    )
    return model
