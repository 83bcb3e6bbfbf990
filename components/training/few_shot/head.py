"""Training with few labels: a head is fitted to an encoder that is frozen, or trained by a few contrastive steps.

A few hundred texts are too few to fine-tune millions of weights, and enough for a logistic regression on sentence
vectors.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedModel

from components.data.dataset import Split
from components.platform.progress import Progress, say
from components.training.few_shot.contrast import contrast
from components.training.few_shot.vocabulary_texts import WORDS_PER_CLASS, nearest_words, whole_words
from components.training.fine_tuning.model import (
    features,
    load_classifier,
    load_tokenizer,
    output_layer,
    score,
    write_model,
)
from components.training.fine_tuning.pooling import pools_by_mean
from components.training.fine_tuning.precision import TrainingPrecision, choose_precision
from components.training.fine_tuning.targets import every_class_answered, targets_of
from components.training.recipe import Epoch, Recipe
from predictor.model.engine import pad
from predictor.model.text import Encoder

_BATCH = 32
_HEAD_BATCH = 1024
# Weight of a word in the fit of the head, where a text has 1: WORDS_PER_CLASS words weigh as much as 16 texts.
_WORD_WEIGHT = 16 / WORDS_PER_CLASS
# How far the logit of a class without rows is below the lowest that any other class has for a vector of length 1.
_UNSEEN_CLASS_MARGIN = 20.0


def fit_head(
    backbone: Path,
    train: Split,
    validation: Split,
    labels: Sequence[str],
    recipe: Recipe,
    out: Path,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    multi_label: bool = False,
) -> list[Epoch]:
    """Train a classifier by the methods `few-shot` and `frozen`; the interface is that of `fine_tune`.

    Args:
        backbone: folder with weights and tokenizer.
        train: rows to learn from.
        validation: rows the result is scored on.
        labels: names in the order of the class ids.
        recipe: its method and maximum length; the rest is for fine-tuning.
        out: folder to write: `config.json`, `model.safetensors`, tokenizer files and `training.json`.
        seed: fixes the batches and dropout; on one machine two runs give the same weights.
        on_epoch: called with the result.
        multi_label: whether a row may have any number of labels; the method is `frozen` then.

    Raises:
        InputError: the backbone cannot be loaded or takes fewer tokens than the recipe, or `out` cannot be written.
    """
    started = time.monotonic()
    torch.manual_seed(seed)
    model = load_classifier(backbone, labels, pooled=True, multi_label=multi_label)
    precision = choose_precision(model)
    model.to(precision.device)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(backbone, model, recipe.max_length)
    pad_id = int(tokenizer.pad_token_id or 0)
    encoder = Encoder(backbone, recipe.max_length)
    ids, classes = encoder(train.texts), np.asarray(targets_of(train, labels, multi_label))
    say(f"{precision.name} on {precision.device.type}, since {precision.reason}")
    word_ids: list[list[int]] = []
    word_classes = np.empty(0, dtype=np.int64)
    if recipe.method == "few-shot":
        names = encoder(labels)
        # The vectors of single words are meaningful in sentence encoders only.
        if pools_by_mean(backbone) and (vocabulary := encoder(whole_words(tokenizer))):
            of_names, of_texts, of_words = (embed(model, part, pad_id, precision) for part in (names, ids, vocabulary))
            chosen, word_classes = nearest_words(of_names, of_texts, classes, of_words)
            word_ids = [vocabulary[row] for row in chosen]
        # A label's name is used as a text of its class: one point of accuracy with eight labels a class.
        ids, classes = [*ids, *names], np.concatenate([classes, np.arange(len(labels))])
        contrast(model, ids, classes, pad_id, precision, seed, (word_ids, word_classes))
    vectors = embed(model, [*ids, *word_ids], pad_id, precision)
    row_weights = np.concatenate([np.ones(len(ids)), np.full(len(word_ids), _WORD_WEIGHT)])
    if multi_label:
        fit_one_vs_rest(model, vectors, classes)
    else:
        fit_logistic(model, vectors, np.concatenate([classes, word_classes]), row_weights)
    seconds = time.monotonic() - started
    loss = head_loss(model, vectors[: len(ids)], classes)
    truth = targets_of(validation, labels, multi_label)
    validation_loss, right, whole, answers = score(model, encoder(validation.texts), truth, pad_id, precision)
    answered = every_class_answered(answers, truth)
    mean_loss = validation_loss / len(validation)
    done = Epoch(1, loss, mean_loss, right / max(whole, 1), seconds, len(ids) / seconds, answered)
    figure = "micro F1" if multi_label else "accuracy"
    say(
        f"validation loss {done.validation_loss:.3f}, validation {figure} {done.validation_accuracy:.2%}, "
        f"{done.texts_per_second:.0f} texts/s"
    )
    on_epoch(done)
    write_model(model, tokenizer, out, recipe, precision, [done])
    return [done]


@torch.inference_mode()
def embed(
    model: PreTrainedModel, ids: Sequence[Sequence[int]], pad_id: int, precision: TrainingPrecision
) -> NDArray[np.float32]:
    """Return the input of the head for each text, float32 of shape (texts, width)."""
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
    row_weights: NDArray[np.float64] | None = None,
) -> None:
    """Set the output layer to the logistic regression of `classes` on `vectors`, with a weight for each row.

    For the fit the vectors are scaled to a mean length of 1, which sentence vectors have and for which the strength of
    the regularisation is set; the layer's weights include this scale. A class without rows keeps its place in the
    output, with a logit far below the others'.
    """
    scale = 1 / max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-12)
    # The gradient is spread over all classes: with a thousand, each part is below sklearn's usual tolerance at once.
    tolerance = 4e-4 / max(4, int(classes.max()) + 1)
    fitted = LogisticRegression(C=1.0, max_iter=1000, tol=tolerance).fit(vectors * scale, classes, row_weights)
    weight, bias = fitted.coef_ * scale, fitted.intercept_
    if len(weight) == 1:  # of two classes sklearn keeps one row, for the second against the first
        weight, bias = np.vstack([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    layer, seen = output_layer(model), torch.from_numpy(fitted.classes_)
    layer.weight.zero_()
    layer.bias.fill_(float((bias - np.linalg.norm(weight, axis=1) / scale).min()) - _UNSEEN_CLASS_MARGIN)
    layer.weight[seen] = torch.from_numpy(weight).to(layer.weight)
    layer.bias[seen] = torch.from_numpy(bias).to(layer.bias)


@torch.no_grad()
def fit_one_vs_rest(model: PreTrainedModel, vectors: NDArray[np.float32], has: NDArray[np.bool_]) -> None:
    """Set the output layer to a logistic regression of each label by itself.

    Vectors are scaled as for `fit_logistic`. A label that all rows have, or none, gets a logit that says so.

    Args:
        model: a multi-label classifier.
        vectors: from `embed`.
        has: whether each row has each label, shape (rows, labels).
    """
    scale = 1 / max(float(np.linalg.norm(vectors, axis=1).mean()), 1e-12)
    layer = output_layer(model)
    layer.weight.zero_()
    for label, mine in enumerate(has.T):
        if mine.all() or not mine.any():
            layer.bias[label] = _UNSEEN_CLASS_MARGIN if mine.all() else -_UNSEEN_CLASS_MARGIN
            continue
        fitted = LogisticRegression(C=1.0, max_iter=1000).fit(vectors * scale, mine)
        layer.weight[label] = torch.from_numpy(fitted.coef_[0] * scale).to(layer.weight)
        layer.bias[label] = float(fitted.intercept_[0])


@torch.inference_mode()
def head_loss(
    model: PreTrainedModel, vectors: NDArray[np.float32], classes: NDArray[np.int64] | NDArray[np.bool_]
) -> float:
    """Return the mean loss of the head on vectors from `embed`, without another pass through the encoder."""
    layer, total = output_layer(model), 0.0
    for start in range(0, len(vectors), _HEAD_BATCH):
        part, truth = (torch.from_numpy(rows[start : start + _HEAD_BATCH]) for rows in (vectors, classes))
        logits = layer(part.to(layer.weight))
        if classes.ndim == 2:
            wanted = truth.to(logits)
            of_labels = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
            total += float(of_labels) * len(part)
            continue
        total += float(torch.nn.functional.cross_entropy(logits, truth.to(logits.device), reduction="sum"))
    return total / len(vectors)
