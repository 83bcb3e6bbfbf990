from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from predictor.model.cls_only_layer import use_cls_only_layer


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_answers_and_gradients_stay_the_same(checkpoint: Path, attention: str) -> None:
    tokens = torch.randint(5, 60, (3, 12))
    mask = (torch.arange(12) < torch.tensor([[12], [1], [7]])).long()
    logits, gradients = [], []
    for short in (False, True):
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint, attn_implementation=attention).eval()
        if short:
            use_cls_only_layer(model)
            assert model.bert(input_ids=tokens, attention_mask=mask).last_hidden_state.shape[1] == 1
        answer = model(input_ids=tokens, attention_mask=mask).logits
        answer.square().sum().backward()
        logits.append(answer.detach())
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        assert expected is not None and gradients[1][name] is not None, name
        torch.testing.assert_close(gradients[1][name], expected, rtol=1e-3, atol=1e-4, msg=name)
