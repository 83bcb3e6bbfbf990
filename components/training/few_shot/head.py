"""Little data: the encoder stays as it is, or is pulled straight by a few contrastive steps, and a head is fitted.

Some hundred texts cannot move millions of weights anywhere good, while a logistic regression on sentence vectors is at
its best with them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedModel

from components.data.dataset import Split
from components.platform.progress import Progress, say
from components.training.few_shot.contrast import contrast
from components.training.few_shot.vocabulary_texts import WORDS, choose_words, whole_words
from components.training.fine_tuning.model import (
    features,
    load_classifier,
    load_tokenizer,
    output_layer,
    score,
    write_model,
)
from components.training.fine_tuning.pooling import pools_by_mean
from components.training.fine_tuning.precision import Precision, choose_precision
from components.training.recipe import Epoch, Recipe
from predictor.model.engine import pad
from predictor.model.text import Encoder

_BATCH = 32
_HEAD_BATCH = 1024
# What a word counts for in the head, of a text's 1: all words of a class are as 16 texts.
_WORD = 16 / WORDS
# How far the logit of a class without rows lies below the least that any other class has for a vector of length 1.
_UNSEEN = 20.0


def fit_head(
    backbone: Path,
    train: Split,
    validation: Split,
    labels: Sequence[str],
    recipe: Recipe,
    out: Path,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train a classifier as `fine_tune` does, by the methods `few-shot` and `frozen`.

    Args:
        backbone: folder with weights and tokenizer.
        train: rows to learn from.
        validation: rows the result is scored on.
        labels: names in the order of the class ids.
        recipe: its method and maximal length; the rest is for fine-tuning.
        out: folder to write: `config.json`, `model.safetensors`, tokenizer files and `training.json`.
        seed: fixes the batches and dropout; on one machine two runs give the same weights.
        on_epoch: told the result.

    Raises:
        InputError: the backbone cannot be loaded or takes fewer tokens than the recipe, or `out` cannot be written.
    """
    started = time.monotonic()
    torch.manual_seed(seed)
    model = load_classifier(backbone, labels, pooled=True)
    precision = choose_precision(model)
    model.to(precision.device)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(backbone, model, recipe.max_length)
    pad_id = int(tokenizer.pad_token_id or 0)
    encoder = Encoder(backbone, recipe.max_length)
    ids, classes = encoder(train.texts), np.array(train.label_ids(labels))
    say(f"{precision.name} on {precision.device.type}, since {precision.reason}")
    word_ids: list[list[int]] = []
    word_classes = np.empty(0, dtype=np.int64)
    if recipe.method == "few-shot":
        names = encoder(labels)
        # The vectors of single words mean something in a sentence encoder only.
        if pools_by_mean(backbone) and (every := encoder(whole_words(tokenizer))):
            of_names, of_texts, of_words = (embed(model, part, pad_id, precision) for part in (names, ids, every))
            chosen, word_classes = choose_words(of_names, of_texts, classes, of_words)
            word_ids = [every[row] for row in chosen]
        # A label's name is a text of its class, too: one point of accuracy with eight labels a class.
        ids, classes = [*ids, *names], np.concatenate([classes, np.arange(len(labels))])
        contrast(model, ids, classes, pad_id, precision, seed, (word_ids, word_classes))
    vectors = embed(model, [*ids, *word_ids], pad_id, precision)
    shares = np.concatenate([np.ones(len(ids)), np.full(len(word_ids), _WORD)])
    fit_logistic(model, vectors, np.concatenate([classes, word_classes]), shares)
    seconds = time.monotonic() - started
    loss = head_loss(model, vectors[: len(ids)], classes)
    truth = validation.label_ids(labels)
    validation_loss, right, answers = score(model, encoder(validation.texts), truth, pad_id, precision)
    rows = len(truth)
    answered = all(answers[class_] for class_ in set(truth))
    done = Epoch(1, loss, validation_loss / rows, right / rows, seconds, len(ids) / seconds, answered)
    say(f"validation loss {done.validation_loss:.3f}, validation accuracy {done.validation_accuracy:.2%}")
    on_epoch(done)
    record = {
        "precision": precision.name,
        "precision_reason": precision.reason,
        "device": str(precision.device),
        "processes": 1,
        "recipe": asdict(recipe),
        "history": [asdict(done)],
    }
    write_model(model, tokenizer, record, out)
    return [done]


@torch.inference_mode()
def embed(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], pad_id: int, precision: Precision
) -> NDArray[np.float32]:
    """Return what the head is given for each text, float32 of shape (texts, width)."""
    model.eval()
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    vectors = np.empty((len(ids), output_layer(model).in_features), dtype=np.float32)
    progress = Progress("embed", len(ids))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        tokens, mask = (torch.from_numpy(part) for part in pad([ids[row] for row in rows], pad_id))
        with precision.autocast():
            vectors[rows] = features(model, tokens, mask, precision).float().cpu().numpy()
        progress(start + len(rows))
    return vectors


@torch.no_grad()
def fit_logistic(
    model: PreTrainedModel,
    vectors: NDArray[np.float32],
    classes: NDArray[np.int64],
    shares: NDArray[np.float64] | None = None,
) -> None:
    """Set the output layer to the logistic regression of `classes` on `vectors`, each row counting for its share.

    The vectors are scaled to a mean length of 1 for the fit, which is the length sentence vectors have and what the
    regression's strength is set for; the weights take the scale back. A class without rows keeps its place in the
    output, with a logit far below the others'.
    """
    scale = 1 / max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-12)
    # The gradient is shared by all classes: with a thousand, sklearn's usual tolerance ends the fit before it begins.
    tolerance = 4e-4 / max(4, int(classes.max()) + 1)
    fitted = LogisticRegression(C=1.0, max_iter=1000, tol=tolerance).fit(vectors * scale, classes, shares)
    weight, bias = fitted.coef_ * scale, fitted.intercept_
    if len(weight) == 1:  # of two classes sklearn keeps one row, for the second against the first
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    layer, seen = output_layer(model), torch.from_numpy(fitted.classes_)
    layer.weight.zero_()
    layer.bias.fill_(float((bias - np.linalg.norm(weight, axis=1) / scale).min()) - _UNSEEN)
    layer.weight[seen] = torch.from_numpy(weight).to(layer.weight)
    layer.bias[seen] = torch.from_numpy(bias).to(layer.bias)


@torch.inference_mode()
def head_loss(model: PreTrainedModel, vectors: NDArray[np.float32], classes: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of the head on what `embed` gave, without another pass through the encoder."""
    layer, total = output_layer(model), 0.0
    for start in range(0, len(vectors), _HEAD_BATCH):
        part, truth = (torch.from_numpy(rows[start : start + _HEAD_BATCH]) for rows in (vectors, classes))
        logits = layer(part.to(layer.weight))
        total += float(torch.nn.functional.cross_entropy(logits, truth.to(logits.device), reduction="sum"))
    return total / len(vectors)
