"""From a checkpoint to a bundle: exports ONNX in two precisions, scores both, chooses one and calibrates it."""

import contextlib
import io
import json
import logging
import platform
import shutil
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from components.data.dataset import Dataset, Split
from components.platform.progress import Progress, say
from components.training.export.calibration import fit_temperature
from components.training.export.cascade import build_cascade
from components.training.export.choice import choose_served_precision, compare
from components.training.export.coverage import fit_levels
from components.training.export.fuse import OPSET, merge_attention
from components.training.export.multi_label import compare_sets, fit_sigmoid_temperature, fit_thresholds
from components.training.export.quantize import to_int8
from components.training.export.reference_rows import write_reference_rows
from components.training.export.reliability import calibration_error, reliability
from components.training.recipe import HISTORY_FILE
from predictor.model.bundle import (
    MODEL_FILES,
    MULTI,
    SCHEMA_VERSION,
    SINGLE,
    Bundle,
    Precision,
    ServingSpec,
    seal,
)
from predictor.model.calibration import decided, sigmoid, softmax, sureness
from predictor.model.classifier import BATCH, run_sorted
from predictor.model.cls_only_layer import use_cls_only_layer
from predictor.model.cpus import available_cpus
from predictor.model.engine import Engine, OnnxEngine, TorchEngine
from predictor.model.reference import reference_of
from predictor.model.text import Encoder
from predictor.naming import AnswerNames

# Training rows that set the range of int8 activations; sets of 64 to 512 rows came within 0.1 points of fp32.
CALIBRATION_ROWS = 256
# Rows on which int8 is compared with fp32: of training where there are fewer of validation.
_COMPARED_ROWS = 1_000
# Rows that say how fast each precision is: less than a second with a small backbone.
_TIMED_ROWS = 16
_TIMED_ROUNDS = 5
# Rows that PyTorch scores too, to check that the exported graph computes the same.
_AGREEMENT_ROWS = 256
# Logits of each precision that fit into 64 MB: with 4,000 classes those of 4,000 validation rows.
_MAX_LOGITS = 16_000_000
MIN_AGREEMENT = 0.99
_PACKAGES = ("torch", "transformers", "tokenizers", "onnx", "onnxruntime", "scikit-learn")


def export(
    checkpoint: Path,
    dataset: Dataset,
    trained_on: Split,
    baseline_accuracy: float,
    task: str,
    out: Path,
    names: AnswerNames = AnswerNames(),  # noqa: B008 - it is frozen
) -> Bundle:
    """Write a bundle and score each precision on the validation split.

    Args:
        checkpoint: what `fine_tune` wrote.
        dataset: its validation split decides between int8 and fp32 and fits the temperature; rows of its train split
            set the range of int8 activations, and stand in where there are few of validation to compare the two on. All
            of it trains the linear stage of a cascade.
        trained_on: the rows that the model was trained on.
        baseline_accuracy: the linear baseline's test accuracy, for the record.
        task: the name of the task, such as `tickets`.
        out: folder to write.
        names: what the plain REST interface calls the answers.
    """
    recipe = json.loads((checkpoint / HISTORY_FILE).read_text())["recipe"]
    shutil.copytree(checkpoint, out, ignore=shutil.ignore_patterns(HISTORY_FILE), dirs_exist_ok=True)
    pad_id = int(AutoTokenizer.from_pretrained(out, local_files_only=True).pad_token_id or 0)
    say("exporting ONNX fp32 and int8")
    to_onnx(out, out / MODEL_FILES["fp32"])
    encoder = Encoder(out, recipe["max_length"])
    texts = dataset.train.texts
    calibrated = stratified_rows(dataset.train.labels, CALIBRATION_ROWS)
    to_int8(out / MODEL_FILES["fp32"], encoder([texts[row] for row in calibrated]), out / MODEL_FILES["int8"])
    validation = dataset.validation.sample(_MAX_LOGITS // len(dataset.labels), 0)
    ids = encoder(validation.texts)
    multi = dataset.multi_label
    # Class ids, or where a row has any number of labels whether it has each.
    truth: Any = np.array((validation.label_matrix if multi else validation.label_ids)(dataset.labels))
    fit, calibrate = (fit_sigmoid_temperature, sigmoid) if multi else (fit_temperature, softmax)
    lanes = available_cpus()
    onnx_names: tuple[Precision, ...] = ("fp32", "int8")
    engines = {name: OnnxEngine(out / MODEL_FILES[name], pad_id, lanes) for name in onnx_names}
    more = encoder(_more_rows(dataset, calibrated, max(0, _COMPARED_ROWS - len(ids))))
    every = {name: _run(f"score {name}", engine, ids + more) for name, engine in engines.items()}
    scored = {name: logits[: len(ids)] for name, logits in every.items()}
    compared = stratified_rows(dataset.validation.labels, _AGREEMENT_ROWS)
    some = [ids[row] for row in compared]
    torch_logits = _run("score torch", TorchEngine(out, pad_id), some)
    same = _agreement(torch_logits, scored["fp32"][compared], multi)
    if same < MIN_AGREEMENT:
        raise RuntimeError(
            f"the ONNX graph agrees with PyTorch on {same:.1%} of {len(some)} rows only: the export is broken"
        )
    seen = (compare_sets if multi else compare)(every["fp32"], every["int8"], truth, fit(scored["fp32"], truth))
    precision, reason = choose_served_precision(seen)
    faster = int8_over_fp32(engines, ids[:_TIMED_ROWS])
    say(f"{precision}: {reason}; int8 computes {faster:.2g} times as many texts a second as fp32 on this CPU")
    chosen = scored[precision]
    temperature = fit(chosen, truth)
    before, rows = calibrate(chosen, 1.0), calibrate(chosen, temperature)
    thresholds = fit_thresholds(rows, truth, dataset.labels) if multi else None
    least = thresholds.values if thresholds else None

    def answer(texts: list[str]) -> NDArray[np.float32]:
        return softmax(_run("score held-out rows", engines[precision], encoder(texts)), temperature)

    if thresholds:
        say(thresholds.sentence)
        cascade, why = None, "no cascade: the linear stage gives a text one label, and here it may have several"
    else:
        cascade, why = build_cascade(dataset, trained_on, validation, rows, encoder, answer, out)
    say(why)
    write_reference_rows(validation, rows, encoder, dataset.labels, cascade, out, least)
    spec = ServingSpec(
        schema_version=SCHEMA_VERSION,
        task=task,
        labels=dataset.labels,
        ordinal=dataset.ordinal,
        answer=names,
        problem_type=MULTI if multi else SINGLE,
        thresholds=thresholds.named(dataset.labels) if thresholds else {},
        cleaning=encoder.cleaning,
        max_length=encoder.max_length,
        pad_token_id=pad_id,
        precision=precision,
        precision_reason=reason,
        temperature=temperature,
        confidence_threshold=0.5,
        metrics={
            **seen.metrics,
            "agreement_torch_fp32": same,
            "batch_shift_int8": batch_shift(engines["int8"], some, multi),
            "calibration_error_before": _calibration_error(before, truth, least),
            "calibration_error_after": _calibration_error(rows, truth, least),
        },
        baseline_accuracy=baseline_accuracy,
        reference=reference_of(rows, [len(row) for row in ids], dataset.labels, least),
        conformal=None if multi else fit_levels(rows, truth),
        data_digest=dataset.digest,
        cascade=cascade,
        cascade_reason=why,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        files={},
    )
    return seal(out, spec)


def int8_over_fp32(engines: Mapping[Precision, Engine], ids: list[list[int]]) -> float:
    """Return how many times as fast as fp32 int8 is on these texts: the median of paired rounds."""

    def seconds(precision: Precision) -> float:
        started = perf_counter()
        engines[precision](ids)
        return perf_counter() - started

    return median(seconds("fp32") / seconds("int8") for _ in range(_TIMED_ROUNDS))


def stratified_rows(labels: Sequence[str], rows: int) -> list[int]:
    """Return the positions of at most `rows` rows that keep the classes' shares, whatever the order of the rows."""
    by_class = np.argsort(np.array(labels), kind="stable")
    count = min(rows, len(labels))
    return sorted(by_class[np.arange(count) * len(labels) // count].tolist())


def _calibration_error(
    rows: NDArray[np.float32], truth: NDArray[np.int64] | NDArray[np.bool_], thresholds: NDArray[np.float32] | None
) -> float:
    """Return the expected calibration error of the answers; of a multi-label model, of all decisions about labels."""
    if thresholds is None:
        return calibration_error(reliability(rows.max(axis=1), rows.argmax(axis=1) == truth))
    right = decided(rows, thresholds) == truth
    return calibration_error(reliability(sureness(rows, thresholds).ravel(), right.ravel()))


def batch_shift(engine: Engine, ids: list[list[int]], multi_label: bool = False) -> float:
    """Return the largest change of any probability of a text between alone and in a padded batch with others."""
    alone = [engine([row]) for row in ids]
    together = [engine(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]
    calibrate = sigmoid if multi_label else softmax
    return float(np.abs(calibrate(np.concatenate(alone), 1.0) - calibrate(np.concatenate(together), 1.0)).max())


def to_onnx(checkpoint: Path, file: Path) -> None:
    """Export a checkpoint to ONNX: inputs `input_ids`, `attention_mask` (batch, tokens), output `logits`."""
    # Eager attention: its parts are known, and `merge_attention` makes one operator of them without the transpositions
    # that PyTorch's fused operator keeps.
    model = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, local_files_only=True, attn_implementation="eager"
    ).eval()
    use_cls_only_layer(model)
    # Two tensors: the exporter would merge inputs that are the same one.
    tokens_example, mask_example = (torch.ones((2, 16), dtype=torch.int64) for _ in range(2))
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens", max=model.config.max_position_embeddings)
    file.parent.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # Deprecations inside torch's exporter, and its own progress lines.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Logits(model), (tokens_example, mask_example), str(file), dynamo=True, external_data=False, verbose=False,
            opset_version=OPSET, input_names=["input_ids", "attention_mask"], output_names=["logits"],
            dynamic_shapes=({0: batch, 1: tokens}, {0: batch, 1: tokens}),
        )  # fmt: skip
    exported = onnx.load(file)
    _drop_traces(exported)
    merge_attention(exported)
    onnx.save(exported, file)
    onnx.checker.check_model(str(file))


def _drop_traces(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes on its own code: with paths of this machine, each would change the bundle's digest."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]


class _Logits(torch.nn.Module):
    """The model with a tensor as its output: the exporter takes no output classes."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits


def _run(name: str, engine: Engine, ids: list[list[int]]) -> NDArray[np.float32]:
    progress = Progress(name, len(ids))
    with ThreadPoolExecutor(engine.lanes) as pool:
        return run_sorted(engine, ids, pool, progress)


def _more_rows(dataset: Dataset, calibrated: list[int], rows: int) -> list[str]:
    """Return texts of the train split, none that int8 was calibrated on unless it was calibrated on all of them."""
    other = sorted(set(range(len(dataset.train))) - set(calibrated)) or calibrated
    labels, texts = dataset.train.labels, dataset.train.texts
    return [texts[other[place]] for place in stratified_rows([labels[row] for row in other], rows)]


def _agreement(one: NDArray[np.float32], other: NDArray[np.float32], multi_label: bool) -> float:
    if multi_label:  # of all decisions, with a label from a probability of a half on
        return float(((one > 0) == (other > 0)).mean())
    return float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
