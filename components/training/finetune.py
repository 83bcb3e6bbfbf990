"""Full fine-tuning of a pretrained encoder for sequence classification."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from components.data.dataset import Split
from components.progress import Progress, say
from components.training.batches import token_batches
from components.training.recipe import HISTORY_FILE, Epoch, Recipe
from predictor.engine import pad
from predictor.errors import InputError
from predictor.text import Encoder


def choose_precision() -> tuple[str, torch.device, AbstractContextManager[None], str]:
    """Return (precision, device, autocast context, the reason in words)."""
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported()
        name = torch.cuda.get_device_name()
        context = torch.autocast("cuda", torch.bfloat16) if bf16 else nullcontext()
        return ("bf16" if bf16 else "fp32"), torch.device("cuda"), context, f"{name} {'has' if bf16 else 'lacks'} bf16"
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        context = torch.autocast("cpu", torch.bfloat16)
        return "bf16", torch.device("cpu"), context, "the CPU multiplies bf16 matrices in hardware"
    return "fp32", torch.device("cpu"), nullcontext(), "the CPU has no bf16 matrix instructions"


def fine_tune(
    backbone: Path,
    train: Split,
    validation: Split,
    labels: Sequence[str],
    recipe: Recipe,
    out: Path,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Fine-tune and keep the weights of the best epoch by validation accuracy.

    Args:
        backbone: folder with weights and tokenizer.
        train: rows to learn from.
        validation: rows that choose the epoch.
        labels: names in the order of the class ids.
        recipe: hyper-parameters.
        out: folder to write: `config.json`, `model.safetensors`, tokenizer files and `training.json`.
        seed: fixes initial head, dropout and order; on one machine two runs give the same weights.
        on_epoch: told each finished epoch.

    Raises:
        InputError: the backbone takes fewer tokens than the recipe, or the loss is no longer a number.
    """
    torch.manual_seed(seed)
    precision, device, autocast, reason = choose_precision()
    say(f"{precision} on {device.type}, since {reason}")
    model = load_classifier(backbone, labels)
    tokenizer = AutoTokenizer.from_pretrained(backbone, local_files_only=True)
    longest = model.config.max_position_embeddings
    if recipe.max_length > longest:
        raise InputError(f"--max-length {recipe.max_length} is more than the {longest} tokens of backbone {backbone}")
    tokenizer.model_max_length = recipe.max_length
    encoder = Encoder(backbone, recipe.max_length)
    model.to(device)  # type: ignore[arg-type]
    train_ids, validation_ids = encoder(train.texts), encoder(validation.texts)
    lengths = [len(ids) for ids in train_ids]
    targets = torch.tensor(train.label_ids(labels))
    plan = [list(token_batches(lengths, recipe.batch_tokens, seed, epoch)) for epoch in range(recipe.epochs)]
    steps = sum(map(len, plan))
    say(f"{len(lengths):,} texts, {sum(lengths):,} tokens, {recipe.epochs} epochs, {steps:,} steps")
    optimiser = torch.optim.AdamW(_groups(model, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    warmup = max(1, round(recipe.warmup * steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / max(1, steps - warmup)))
    )
    progress = Progress("fine-tune", recipe.epochs * len(lengths))
    history: list[Epoch] = []
    pad_id = int(tokenizer.pad_token_id or 0)
    for epoch, batches in enumerate(plan):
        model.train()
        started, total, seen = time.monotonic(), 0.0, 0
        for batch in batches:
            tokens, mask = (
                torch.from_numpy(part).to(device) for part in pad([train_ids[row] for row in batch], pad_id)
            )
            with autocast:
                logits = model(input_ids=tokens, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), targets[batch].to(device))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.gradient_norm)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
            total += float(loss.detach()) * len(batch)
            seen += len(batch)
            if not np.isfinite(total):
                raise InputError(
                    f"the loss became {float(loss.detach())} in epoch {epoch + 1}: lower the learning rate "
                    f"(now {recipe.learning_rate:g}) or look for broken rows in the training data"
                )
            progress(epoch * len(lengths) + seen, f"loss {total / seen:.3f}")
        seconds = time.monotonic() - started
        loss_v, accuracy = _evaluate(model, validation_ids, validation.label_ids(labels), pad_id, device, autocast)
        done = Epoch(epoch + 1, total / seen, loss_v, accuracy, seconds, seen / seconds)
        history.append(done)
        on_epoch(done)
        say(
            f"epoch {done.epoch}: train loss {done.train_loss:.3f}, validation loss {loss_v:.3f}, "
            f"validation accuracy {accuracy:.2%}, {done.texts_per_second:.0f} texts/s"
        )
        if accuracy >= max(row.validation_accuracy for row in history):
            model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    record = {
        "precision": precision,
        "precision_reason": reason,
        "device": str(device),
        "recipe": asdict(recipe),
        "history": [asdict(row) for row in history],
    }
    (out / HISTORY_FILE).write_text(json.dumps(record, indent=2))
    return history


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


def _groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices only: biases and norms are scales, not weights (as in the BERT paper's recipe)."""
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    vectors = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


@torch.inference_mode()
def _evaluate(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    targets: Sequence[int],
    pad_id: int,
    device: torch.device,
    autocast: AbstractContextManager[None],
) -> tuple[float, float]:
    """Return (mean cross-entropy, accuracy)."""
    model.eval()
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    loss, right = 0.0, 0
    for start in range(0, len(order), 32):
        rows = order[start : start + 32]
        tokens, mask = (torch.from_numpy(part).to(device) for part in pad([ids[row] for row in rows], pad_id))
        with autocast:
            logits = model(input_ids=tokens, attention_mask=mask).logits.float()
        truth = torch.tensor([targets[row] for row in rows], device=device)
        loss += float(torch.nn.functional.cross_entropy(logits, truth, reduction="sum"))
        right += int((logits.argmax(-1) == truth).sum())
    return loss / len(ids), right / len(ids)
