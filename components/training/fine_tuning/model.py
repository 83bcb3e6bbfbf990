"""A backbone with a classification head: loading, scoring, writing."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from components.training.fine_tuning.dropout import use_cheap_dropout
from components.training.fine_tuning.pooling import pools_by_mean, set_mean_layer
from components.training.fine_tuning.precision import TrainingPrecision
from components.training.recipe import HISTORY_FILE, Epoch, Recipe
from predictor.errors import InputError, one_line
from predictor.model.bundle import MULTI, SINGLE, ProblemType
from predictor.model.cls_only_layer import use_cls_only_layer
from predictor.model.engine import pad

# Dropout of attention weights is switched off: it takes a tenth of the time on a CPU. (PyTorch's fused attention has it
# for less, but is slower on a CPU with short texts: its backward pass takes 16 ms a layer.) The other dropouts stay as
# the backbone has them.
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")
# Texts a forward pass, of similar length.
_BATCH = 32


def load_classifier(
    backbone: Path, labels: Sequence[str], pooled: bool = False, multi_label: bool = False
) -> PreTrainedModel:
    """Load an encoder with a classification head that knows the label names.

    Args:
        backbone: folder with weights and tokenizer.
        labels: names in the order of the class ids.
        pooled: add a last layer to a sentence encoder that pools by the mean, which does this pooling, for a head that
            is fitted to frozen features. Fine-tuning does not need it, since it trains the first token anyway.
        multi_label: whether a text may have any number of labels.

    Raises:
        InputError: transformers cannot read the backbone.
    """
    try:
        return _load(backbone, labels, pooled and pools_by_mean(backbone), MULTI if multi_label else SINGLE)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = one_line(error)
        raise InputError(f"backbone {backbone} cannot be loaded ({reason}): save it again, or use another") from error


def _load(backbone: Path, labels: Sequence[str], mean_layer: bool, problem_type: ProblemType) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(
        backbone,
        local_files_only=True,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={name: number for number, name in enumerate(labels)},
        problem_type=problem_type,
    )
    if mean_layer:
        config.num_hidden_layers += 1
    for name in _ATTENTION_DROPOUT:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    on_cpu = not torch.cuda.is_available()
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        backbone, config=config, local_files_only=True, dtype=torch.float32,
        attn_implementation="eager" if on_cpu else "sdpa",
    )  # fmt: skip
    if mean_layer:
        set_mean_layer(model)
    use_cls_only_layer(model)
    if on_cpu:
        use_cheap_dropout(model)
    return model


def load_tokenizer(backbone: Path, model: PreTrainedModel, max_length: int) -> PreTrainedTokenizerBase:
    """Load the backbone's tokenizer, cutting at `max_length` tokens.

    Raises:
        InputError: the model takes fewer tokens.
    """
    longest = model.config.max_position_embeddings
    if max_length > longest:
        raise InputError(f"--max-length {max_length} is more than the {longest} tokens of backbone {backbone}")
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(backbone, local_files_only=True)
    tokenizer.model_max_length = max_length
    return tokenizer


def output_layer(model: PreTrainedModel) -> torch.nn.Linear:
    """Return the layer that makes the logits: the last linear one, whatever the architecture calls it."""
    return [part for part in model.modules() if isinstance(part, torch.nn.Linear)][-1]


def features(
    model: PreTrainedModel, tokens: torch.Tensor, mask: torch.Tensor, precision: TrainingPrecision
) -> torch.Tensor:
    """Return the input of the output layer for a padded batch, of shape (texts, width)."""
    seen: list[torch.Tensor] = []
    hook = output_layer(model).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        model(input_ids=tokens.to(precision.device), attention_mask=mask.to(precision.device))
    finally:
        hook.remove()
    return seen[0]


@torch.inference_mode()
def score(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    classes: Sequence[int] | NDArray[np.bool_],
    pad_id: int,
    precision: TrainingPrecision,
    share: tuple[int, int] = (0, 1),
) -> tuple[float, int, int, list[int]]:
    """Return (sum of losses, what is right, of how much, predictions by class), over the batches of `share`.

    Rows are right where a row has one label. Of a multi-label model, whose answers are here the labels with a
    probability over a half, the middle two are the parts of micro F1: labels that are rightly found, twice, and labels
    that are found with those that there are.

    Args:
        model: a classifier, on the device of `precision`.
        ids: token ids of the texts.
        classes: the true class of each, or of a multi-label model whether it has each label, shape (texts, labels).
        pad_id: what a batch is padded with.
        precision: how to compute.
        share: (which part, of how many), where several processes score one split together.
    """
    model.eval()
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    loss, right, whole = 0.0, 0, 0
    truth_of = torch.as_tensor(np.asarray(classes))
    answers = torch.zeros(len(model.config.id2label or ()), dtype=torch.int64, device=precision.device)
    for start in range(_BATCH * share[0], len(order), _BATCH * share[1]):
        rows = order[start : start + _BATCH]
        tokens, mask = (torch.from_numpy(part).to(precision.device) for part in pad([ids[row] for row in rows], pad_id))
        with precision.autocast():
            logits = model(input_ids=tokens, attention_mask=mask).logits
        truth = truth_of[rows].to(precision.device)
        if truth.ndim == 2:
            found = logits > 0
            of_labels = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), truth.float())
            loss += float(of_labels) * len(rows)
            right += 2 * int((found & truth).sum())
            whole += int(found.sum() + truth.sum())
            answers += found.sum(dim=0)
            continue
        whole += len(rows)
        loss += float(torch.nn.functional.cross_entropy(logits.float(), truth, reduction="sum"))
        right += int((logits.argmax(-1) == truth).sum())
        answers += torch.bincount(logits.argmax(-1), minlength=len(answers))
    return loss, right, whole, answers.tolist()


def write_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    out: Path,
    recipe: Recipe,
    precision: TrainingPrecision,
    history: Sequence[Epoch],
    processes: int = 1,
) -> None:
    """Write weights, tokenizer and `training.json`, the record of how they were trained.

    Args:
        model: trained, on any device.
        tokenizer: its tokenizer.
        out: folder to write.
        recipe: how it was trained.
        precision: how training computed.
        history: a row for each epoch.
        processes: how many trained it together.

    Raises:
        InputError: `out` cannot be written, for lack of room, say.
    """
    record = {
        "precision": precision.name,
        "precision_reason": precision.reason,
        "device": str(precision.device),
        "processes": processes,
        "recipe": asdict(recipe),
        "history": [asdict(row) for row in history],
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        (out / HISTORY_FILE).write_text(json.dumps(record, indent=2))
    except (OSError, SafetensorError) as error:
        raise InputError(f"the model cannot be written to {out} ({error}): make room there and run again") from error
