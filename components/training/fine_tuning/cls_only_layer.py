"""A last layer that works for the first token alone, the only one a classifier of the BERT family reads.

The other tokens are still looked at (keys and values), but ask nothing and are not fed forward: of a layer's ten
matrix products a token, two remain. Answers and gradients are the same; six layers cost a seventh less.
"""

from functools import partial
from typing import Any

import torch
from transformers import PreTrainedModel


def read_first_token_only(model: PreTrainedModel) -> None:
    """Change how the last layer of a BERT classifier computes, not what; other architectures are left alone."""
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
