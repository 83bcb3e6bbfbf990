"""From token ids to logits: ONNX Runtime on CPUs, PyTorch on GPUs, one interface."""

import queue
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from predictor.errors import InputError
from predictor.model.bundle import MODEL_FILES, Bundle, Precision
from predictor.model.cpus import available_cpus, configure_openmp

Logits = NDArray[np.float32]


class Engine(Protocol):
    """Runs the model. Safe to call from as many threads at once as it has `lanes`; further callers wait."""

    lanes: int
    about: str
    """What computes, in words."""

    def __call__(self, ids: Sequence[Sequence[int]]) -> Logits:
        """Return logits of shape (texts, labels), float32, for token ids of any lengths, in the order given."""


def pad(ids: Sequence[Sequence[int]], pad_token_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (input_ids, attention_mask), both int64 of shape (texts, longest text)."""
    width = max(map(len, ids))
    tokens = np.full((len(ids), width), pad_token_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for row, text in enumerate(ids):
        tokens[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return tokens, mask


# Addition and normalisation in one kernel are slower than in two: without it int8 was 1.4 times as fast, fp32 1.2
# times.
_HARMFUL = ["SkipLayerNormFusion"]


class OnnxEngine:
    """Several ONNX Runtime sessions of one thread each, which beat one session of several threads on short texts.

    Args:
        model: an ONNX file.
        pad_token_id: what a batch is padded with.
        lanes: sessions.
    """

    about = "ONNX Runtime"

    def __init__(self, model: Path, pad_token_id: int, lanes: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # it keeps a plan for each shape, and shapes are countless
        # Without VNNI, ONNX Runtime's fast kernel for 8-bit integers clips sums, so this has it take another one for
        # weights of 8 bits. Those of our models have 7, and keep the fast one on every CPU.
        options.add_session_config_entry("session.x64quantprecision", "1")
        self.lanes = lanes
        self._pad_token_id = pad_token_id
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()  # the last one has its weights in the CPU's cache
        for _ in range(lanes):
            self._idle.put(
                onnxruntime.InferenceSession(
                    str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=_HARMFUL
                )
            )

    def __call__(self, ids: Sequence[Sequence[int]]) -> Logits:
        """Run one batch on an idle session."""
        tokens, mask = pad(ids, self._pad_token_id)
        session = self._idle.get()
        try:
            (logits,) = session.run(["logits"], {"input_ids": tokens, "attention_mask": mask})
        finally:
            self._idle.put(session)
        return np.asarray(logits, dtype=np.float32)


class TorchEngine:
    """The bundle's PyTorch weights, on a GPU where there is one."""

    lanes = 1

    def __init__(self, folder: Path, pad_token_id: int) -> None:
        configure_openmp()
        try:
            import torch
            from transformers import AutoModelForSequenceClassification
        except ImportError as error:
            raise InputError(f"precision torch needs {error.name}: install it, or serve int8 or fp32") from error
        self._torch = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self.about = f"PyTorch on {self._device}"
        model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        self._model = model.eval().to(self._device)
        self._pad_token_id = pad_token_id

    def __call__(self, ids: Sequence[Sequence[int]]) -> Logits:
        """Run one batch."""
        torch = self._torch
        tokens, mask = (torch.from_numpy(part).to(self._device) for part in pad(ids, self._pad_token_id))
        with torch.inference_mode():
            logits: Logits = self._model(input_ids=tokens, attention_mask=mask).logits.float().cpu().numpy()
        return logits


def load_engine(bundle: Bundle, precision: Precision) -> Engine:
    """Start the engine for a bundle.

    Raises:
        InputError: the bundle has no such precision, or a package that it needs is not installed.
    """
    if MODEL_FILES[precision] not in bundle.spec.files:
        raise InputError(f"{bundle.path} has no {MODEL_FILES[precision]}: choose a precision that it has")
    if precision == "torch":
        return TorchEngine(bundle.path, bundle.spec.pad_token_id)
    return OnnxEngine(bundle.path / MODEL_FILES[precision], bundle.spec.pad_token_id, available_cpus())
