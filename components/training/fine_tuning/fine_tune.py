"""Full fine-tuning of a pretrained encoder for sequence classification."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from components.data.dataset import Split
from components.platform.progress import Progress, say
from components.training.fine_tuning.batches import token_batches
from components.training.fine_tuning.checkpoint import Checkpoint
from components.training.fine_tuning.loss import LossFunction
from components.training.fine_tuning.model import load_classifier, load_tokenizer, score, write_model
from components.training.fine_tuning.optimiser import build_optimiser
from components.training.fine_tuning.precision import TrainingPrecision, choose_precision, precision_of
from components.training.fine_tuning.process_group import ProcessGroup
from components.training.fine_tuning.targets import Targets, every_class_answered, targets_of, tensor_of
from components.training.recipe import Epoch, Recipe
from predictor.errors import InputError
from predictor.model.engine import pad
from predictor.model.text import Encoder

# A killed run loses at most this much work.
CHECKPOINT_SECONDS = 300.0


def fine_tune(
    backbone: Path,
    train: Split,
    validation: Split,
    labels: Sequence[str],
    recipe: Recipe,
    out: Path,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    checkpoints: str = "",
    multi_label: bool = False,
) -> list[Epoch]:
    """Fine-tune and keep the weights of the best epoch by validation accuracy; of multi-label data, by micro F1.

    A run that was killed goes on from its last checkpoint and ends with the same weights as one that was not. Under
    torchrun all processes train one model: a batch holds `batch_tokens` for each of them, and what comes out is what
    one process with so large a batch makes.

    Args:
        backbone: folder with weights and tokenizer.
        train: rows to learn from.
        validation: rows that choose the epoch.
        labels: names in the order of the class ids.
        recipe: hyper-parameters.
        out: folder to write: `config.json`, `model.safetensors`, tokenizer files and `training.json`.
        seed: fixes initial head, dropout and order; on one machine two runs give the same weights.
        on_epoch: called with each finished epoch, after a resumption with the earlier ones again; in the main process
            only.
        checkpoints: folder or fsspec URI for the state between epochs; empty for none.
        multi_label: whether a row may have any number of labels.

    Raises:
        InputError: the backbone cannot be loaded or takes fewer tokens than the recipe, the loss is no longer a
            number, or a checkpoint or `out` cannot be written. The last good checkpoint stays. Every process raises it.
    """
    with ProcessGroup.join() as group:
        with group.shared_errors():
            group.use_own_gpu()
            torch.manual_seed(seed)
            model = load_classifier(backbone, labels, multi_label=multi_label)
            if not group.is_main:
                torch.manual_seed(seed + group.rank)  # the same weights, but not the same dropout on other rows
            tokenizer = load_tokenizer(backbone, model, recipe.max_length)
            rows = "\0".join([*train.texts, *train.labels, *validation.texts])
            job = {
                "backbone": str(backbone),
                "recipe": asdict(recipe),
                "seed": seed,
                "labels": list(labels),
                "rows": hashlib.sha256(rows.encode()).hexdigest(),
                "processes": group.size,
                **({"multi_label": True} if multi_label else {}),
            }
        group.check_same(job)
        precision = choose_precision(model, group.run_on_main)
        with group.shared_errors():
            training = _Training(
                model,
                Encoder(backbone, recipe.max_length),
                int(tokenizer.pad_token_id or 0),
                (train.texts, targets_of(train, labels, multi_label)),
                (validation.texts, targets_of(validation, labels, multi_label)),
                recipe,
                seed,
                Checkpoint(checkpoints, job),
                group,
                precision,
            )
            training.run(on_epoch)
        group.run_on_main(partial(_write_result, training, model, tokenizer, out))
        return training.history


def _write_result(training: "_Training", model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    model.load_state_dict(training.best)
    write_model(model, tokenizer, out, training.recipe, training.precision, training.history, training.group.size)
    training.checkpoint.remove()


class _Training:
    """The training loop and its state, all of which a checkpoint holds.

    Args:
        model: on the CPU, with the head for the task.
        encoder: of the backbone.
        pad_id: what a batch is padded with.
        train: (texts, class ids), in place of the ids a matrix of labels where a row may have several.
        validation: likewise.
        recipe: hyper-parameters.
        seed: fixes the order of rows.
        checkpoint: where the state goes.
        group: the processes that train together.
        precision: how to compute; a resumed run keeps the one it began with.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        encoder: Encoder,
        pad_id: int,
        train: tuple[list[str], Targets],
        validation: tuple[list[str], Targets],
        recipe: Recipe,
        seed: int,
        checkpoint: Checkpoint,
        group: ProcessGroup,
        precision: TrainingPrecision,
    ) -> None:
        self.precision = precision
        self.recipe, self.checkpoint, self.group, self._pad_id = recipe, checkpoint, group, pad_id
        self._device = self.precision.device
        self._model = model.to(self._device)  # type: ignore[arg-type]
        self._ids = encoder(train[0])
        self._validation = encoder(validation[0]), validation[1]
        lengths = [len(ids) for ids in self._ids]
        budget = recipe.batch_tokens * group.size
        self._batches = [list(token_batches(lengths, budget, seed, epoch)) for epoch in range(recipe.epochs)]
        steps = sum(map(len, self._batches))
        say(f"{self.precision.name} on {self._device.type}, since {self.precision.reason}")
        if group.size > 1:
            say(f"{group.size} processes train together, {budget:,} tokens a batch")
        say(f"{len(lengths):,} texts, {sum(lengths):,} tokens, {recipe.epochs} epochs, {steps:,} steps")
        self._optimiser, self._schedule = build_optimiser(model, recipe, steps)
        classes = len(model.config.id2label or ())
        self._loss_function = LossFunction(tensor_of(train[1]), classes, recipe, self._device)
        self._figure = "accuracy" if np.ndim(train[1]) == 1 else "micro F1"
        self.history: list[Epoch] = []
        self.best: dict[str, torch.Tensor] = {}
        self._next_batch = 0
        """Index of the next batch of the current epoch."""
        self._loss_sum, self._texts_seen, self._seconds, self._saved_at = 0.0, 0, 0.0, 0.0

    def run(self, on_epoch: Callable[[Epoch], None]) -> None:
        """Train from where the checkpoint says, or from the start, to the end."""
        self._resume()
        self._parallel = self.group.data_parallel(self._model)
        try:
            self._run(on_epoch)
        finally:
            self._parallel = self._model

    def _run(self, on_epoch: Callable[[Epoch], None]) -> None:
        for row in self.history:
            self.group.run_on_main(partial(on_epoch, row))
        progress = Progress("fine-tune", self.recipe.epochs * len(self._ids), done=self._texts_done())
        while len(self.history) < self.recipe.epochs and not self._out_of_patience():
            done = self._epoch(progress)
            self.history.append(done)
            if done.rank >= max(row.rank for row in self.history):
                self.best = {name: value.detach().cpu().clone() for name, value in self._model.state_dict().items()}
            self._next_batch, self._loss_sum, self._texts_seen, self._seconds = 0, 0.0, 0, 0.0
            self._save()
            say(
                f"epoch {done.epoch}: train loss {done.train_loss:.3f}, validation loss {done.validation_loss:.3f}, "
                f"validation {self._figure} {done.validation_accuracy:.2%}, {done.texts_per_second:.0f} texts/s"
            )
            self.group.run_on_main(partial(on_epoch, done))

    def _epoch(self, progress: Progress) -> Epoch:
        self._model.train()
        started = self._saved_at = time.monotonic()
        before = self._seconds
        batches = self._batches[len(self.history)]
        while self._next_batch < len(batches):
            batch = batches[self._next_batch]
            self._loss_sum += self._step(batch) * len(batch)
            self._texts_seen += len(batch)
            self._next_batch += 1
            now = time.monotonic()
            self._seconds = before + now - started
            progress(self._texts_done(), f"loss {self._loss_sum / self._texts_seen:.3f}")
            if self._next_batch < len(batches) and self.group.run_on_main(self._checkpoint_due):
                self._save()
        loss, accuracy, complete = self._validate()
        rate = self._texts_seen / max(self._seconds, 1e-9)
        train_loss = self._loss_sum / self._texts_seen
        return Epoch(len(self.history) + 1, train_loss, loss, accuracy, self._seconds, rate, complete)

    def _step(self, batch: list[int]) -> float:
        """Learn from one batch, each process from its share, and return the mean loss of all of it."""
        rows, weight = self.group.shard(batch)
        tokens, mask = (torch.from_numpy(part) for part in pad([self._ids[row] for row in rows], self._pad_id))
        with self.precision.autocast():
            logits = self._parallel(input_ids=tokens.to(self._device), attention_mask=mask.to(self._device)).logits
        loss = self._loss_function(logits, rows, batch) * weight
        (value,) = self.group.sum(float(loss.detach()))
        if not np.isfinite(value):
            raise InputError(
                f"the loss became {value} in epoch {len(self.history) + 1}: lower the learning rate "
                f"(now {self.recipe.learning_rate:g}) or look for broken rows in the training data"
            )
        (loss * self.group.size).backward()  # the losses add up, but gradients are averaged over the processes
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), self.recipe.gradient_norm)
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad(set_to_none=True)
        return value

    def _validate(self) -> tuple[float, float, bool]:
        """Return (mean loss, accuracy or micro F1, whether each class was predicted at all) on the validation rows.

        Of a multi-label model the last is taken for granted: its thresholds are not known yet.
        """
        share = (self.group.rank, self.group.size)
        ids, classes = self._validation
        loss, right, whole, answers = score(self._model, ids, classes, self._pad_id, self.precision, share)
        loss, accurate, all_, *answered = self.group.sum(loss, right, whole, *answers)
        return loss / len(ids), accurate / max(all_, 1), every_class_answered(answered, classes)

    def _texts_done(self) -> int:
        return len(self.history) * len(self._ids) + self._texts_seen

    def _out_of_patience(self) -> bool:
        """Whether `patience` epochs have passed since the best one."""
        if not self.recipe.patience or not self.history:
            return False
        ranks = [row.rank for row in self.history]
        waited = len(ranks) - 1 - ranks.index(max(ranks))
        if waited >= self.recipe.patience:
            say(f"stopping early: no better validation accuracy for {waited} epochs")
        return waited >= self.recipe.patience

    def _checkpoint_due(self) -> bool:
        return time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS

    def _save(self) -> None:
        self.group.run_on_main(partial(self.checkpoint.save, self._state()))
        self._saved_at = time.monotonic()

    def _state(self) -> dict[str, Any]:
        cuda = [torch.cuda.get_rng_state()] if self._device.type == "cuda" else []
        return {
            "model": self._model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "best": self.best,
            "history": [asdict(row) for row in self.history],
            "precision": self.precision.name,
            "random": self.group.all_gather([torch.get_rng_state(), *cuda]),
            "epoch": {
                "next": self._next_batch,
                "total": self._loss_sum,
                "seen": self._texts_seen,
                "seconds": self._seconds,
            },
        }

    def _resume(self) -> None:
        state = self.group.run_on_main(self.checkpoint.load)
        if state is None:
            return
        name = state.get("precision", self.precision.name)
        if name != self.precision.name:
            self.precision = precision_of(name, self._device, "the run began with it")
            say(f"{self.precision.name}, since {self.precision.reason}")
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.best = state["best"]
        self.history = [Epoch(**row) for row in state["history"]]
        cpu, *cuda = state["random"][self.group.rank]
        torch.set_rng_state(cpu)
        for states in cuda:
            torch.cuda.set_rng_state(states)
        epoch = state["epoch"]
        self._next_batch, self._loss_sum, self._texts_seen, self._seconds = (
            epoch[name] for name in ("next", "total", "seen", "seconds")
        )
        say(f"going on from the checkpoint in epoch {len(self.history) + 1}, batch {self._next_batch + 1}")
