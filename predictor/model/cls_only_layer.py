"""A last layer that computes the first token ([CLS]) only, the one token that a BERT classifier reads.

The other tokens still have keys and values, but no queries and no feed-forward pass: of a layer's ten matrix products a
token, two remain. Outputs and gradients are the same, and a model of six layers costs a seventh less.
"""

from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel


def use_cls_only_layer(model: PreTrainedModel) -> None:
    """Make the last layer of a BERT classifier compute its first token only; other architectures stay as they are."""
    if model.config.model_type == "bert":
        bert: Any = model.bert
        layer = bert.encoder.layer[-1]
        layer.forward = partial(_forward, layer)


def _forward(
    layer: Any, hidden: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
) -> torch.Tensor:
    """Return the layer's output for the first token, of shape (texts, 1, width)."""
    attention = layer.attention.self
    first = hidden[:, :1]

    def heads(values: torch.Tensor) -> torch.Tensor:
        return values.view(*values.shape[:2], -1, attention.attention_head_size).transpose(1, 2)

    scores = heads(attention.query(first)) @ heads(attention.key(hidden)).transpose(2, 3) * attention.scaling
    if attention_mask is not None:
        mask = attention_mask[:, :, :1]
        scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    weights = attention.dropout(scores.softmax(-1))
    context = (weights @ heads(attention.value(hidden))).transpose(1, 2).flatten(2)
    output: torch.Tensor = layer.feed_forward_chunk(layer.attention.output(context, first))
    return output
