"""The engine without a server, and the matrix unit without a model: what serving can reach at most.

Both are called in a process of their own.
"""

import functools
import os
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.model.bundle import Bundle, Precision
from predictor.model.classifier import BATCH
from predictor.model.cpus import available_cpus
from predictor.model.engine import Engine, load_engine
from predictor.model.text import Encoder


@dataclass(frozen=True)
class Bare:
    """What the engine does by itself, all lanes at work."""

    ids_ready: float
    """Texts a second in batches of like length."""
    tokenising: float
    """The same with cleaning and tokenising each batch."""
    fp32: float
    """Texts a second of the engine in fp32, ids ready."""


@functools.cache
def _loaded(bundle_folder: Path, precision: Precision | None = None) -> tuple[Engine, Encoder]:
    """Return what a server would start, warm."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    bundle = Bundle.open(bundle_folder)
    engine = load_engine(bundle, precision or bundle.spec.precision)
    encoder = Encoder(bundle_folder, bundle.spec.max_length, bundle.spec.cleaning)
    engine(encoder(["a text to warm up with " * 8] * BATCH))
    return engine, encoder


def one_by_one(bundle_folder: Path, texts: list[str]) -> NDArray[np.float64]:
    """Return the seconds that each text takes, one after the other, ids ready."""
    engine, encoder = _loaded(bundle_folder)
    return np.array([_timed(engine, row) for row in encoder(texts)])


def run_bare(bundle_folder: Path, texts: list[str], seconds: float) -> Bare:
    """Measure the engine a server would start, and fp32 beside it."""
    engine, encoder = _loaded(bundle_folder)
    fp32, _ = _loaded(bundle_folder, "fp32")
    ids = encoder(texts)
    order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    random.Random(0).shuffle(batches)  # else the seconds would end among the short ones

    def ready(batch: list[int]) -> None:
        engine([ids[place] for place in batch])

    def ready_fp32(batch: list[int]) -> None:
        fp32([ids[place] for place in batch])

    def tokenising(batch: list[int]) -> None:
        engine(encoder([texts[place] for place in batch]))

    with ThreadPoolExecutor(engine.lanes) as pool:
        rates = [_rate(pool, engine.lanes, work, batches, seconds) for work in (ready, tokenising, ready_fp32)]
    return Bare(*rates)


def _timed(engine: Callable[[Sequence[Sequence[int]]], object], row: list[int]) -> float:
    started = time.perf_counter()
    engine([row])
    return time.perf_counter() - started


def _rate(
    pool: ThreadPoolExecutor, lanes: int, work: Callable[[list[int]], None], batches: list[list[int]], seconds: float
) -> float:
    """Return texts a second over all lanes."""
    started = time.perf_counter()

    def lane(number: int) -> int:
        done, turn = 0, number
        while time.perf_counter() - started < seconds:
            batch = batches[turn % len(batches)]
            work(batch)
            done += len(batch)
            turn += lanes
        return done

    texts = sum(pool.map(lane, range(lanes)))
    return texts / (time.perf_counter() - started)


def int8_peak(size: int = 2048, seconds: float = 2.0) -> float:
    """Return the best int8 rate of all cores in operations a second, over ONNX Runtime's products of size cubed."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    random_bytes = np.random.default_rng(0).integers(0, 255, (size, size), dtype=np.uint8)
    best = 0.0
    for operator in ("MatMulInteger", "QLinearMatMul"):
        session = onnxruntime.InferenceSession(_product(operator, size), options, providers=["CPUExecutionProvider"])
        until = time.perf_counter() + seconds
        while (started := time.perf_counter()) < until:
            session.run(None, {"left": random_bytes})
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _product(operator: str, size: int) -> bytes:
    """Return a model of one product: uint8 from outside by int8 weights, as in the quantised layers."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).integers(-127, 127, (size, size), dtype=np.int8)
    constants = {"right": weights, "scale": np.float32(0.01), "zero": np.uint8(128), "right_zero": np.int8(0)}
    wiring = {
        "MatMulInteger": ["left", "right", "zero", "right_zero"],
        "QLinearMatMul": ["left", "scale", "zero", "right", "scale", "right_zero", "scale", "zero"],
    }[operator]
    kind = TensorProto.INT32 if operator == "MatMulInteger" else TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node(operator, wiring, ["out"])],
        operator,
        [helper.make_tensor_value_info("left", TensorProto.UINT8, [size, size])],
        [helper.make_tensor_value_info("out", kind, [size, size])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items() if name in wiring],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
