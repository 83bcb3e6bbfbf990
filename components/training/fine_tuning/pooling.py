"""Mean pooling as a BERT layer with suitable weights.

The output of a sentence encoder is the mean of all tokens; classifiers of the BERT family read the first token. One
more layer turns the one into the other exactly: attention with queries and keys of 0 weighs all tokens equally, so the
first token becomes their mean, and layer normalisation scales it, as sentence encoders scale their vectors to length 1.
The result is an ordinary BERT, which every tool can load, train and export.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

# Factor of the mean, beside which the first token's own state, added by the residual connection, is negligible.
_GAIN = 1e4
# Small enough that the pooler's tanh is nearly linear.
_SLOPE = 0.02


def pools_by_mean(backbone: Path) -> bool:
    """Whether the backbone is a BERT that pools by the mean, as sentence-transformers notes beside the weights."""
    pooling, config = backbone / "1_Pooling" / "config.json", backbone / "config.json"
    if not pooling.is_file():
        return False
    return bool(
        json.loads(pooling.read_text()).get("pooling_mode_mean_tokens")
        and json.loads(config.read_text()).get("model_type") == "bert"
    )


@torch.no_grad()
def set_mean_layer(model: PreTrainedModel) -> None:
    """Make the last layer of a BERT classifier give the normalised mean of all tokens to the head.

    Args:
        model: a `BertForSequenceClassification` with one layer more than its backbone has.
    """
    bert: Any = model.bert
    layer = bert.encoder.layer[-1]
    identity = torch.eye(model.config.hidden_size)
    for part in layer.modules():
        if isinstance(part, torch.nn.Linear):
            part.weight.zero_()
            part.bias.zero_()
        elif isinstance(part, torch.nn.LayerNorm):
            part.weight.fill_(1.0)
            part.bias.zero_()
    layer.attention.self.value.weight.copy_(identity)
    layer.attention.output.dense.weight.copy_(identity * _GAIN)
    bert.pooler.dense.weight.copy_(identity * _SLOPE)
    bert.pooler.dense.bias.zero_()
