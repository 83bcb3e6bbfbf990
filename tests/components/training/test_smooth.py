from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from components.training.export import quantize
from components.training.export.quantize import to_int8
from components.training.export.smooth import LOUD, channel_factors, smooth
from predictor.model.engine import OnnxEngine

WORDS, WIDTH, INNER, LABELS = 50, 32, 64, 5


def block(loud: float, seed: int = 0) -> onnx.ModelProto:
    """A post-norm feed-forward block over embeddings; one channel of each of its activations is `loud`.

    An addition reads the normalisation's output too, and the last layer is a Gemm with its matrix transposed.
    """
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float32]:
        drawn: NDArray[np.float32] = (random.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)
        return drawn

    gain, inner_bias = np.ones(WIDTH, dtype=np.float32), np.zeros(INNER, dtype=np.float32)
    gain[3], inner_bias[5] = loud, loud
    into, back, shared, head = draw(WIDTH, INNER), draw(INNER, WIDTH), draw(WIDTH, WIDTH), draw(LABELS, WIDTH)
    into[3], back[5], shared[3] = into[3] / loud, back[5] / loud, shared[3] / loud
    into[:, 5] = 0
    constants = {
        "words": draw(WORDS, WIDTH) * 4, "gain": gain, "zeros": np.zeros(WIDTH, dtype=np.float32),
        "ones": np.ones(WIDTH, dtype=np.float32), "into": into, "inner_bias": inner_bias, "back": back,
        "shared": shared, "own": shared.T, "head": head * 4, "axis": np.array([1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["embedded"]),
        helper.make_node("LayerNormalization", ["embedded", "gain", "zeros"], ["normal"], axis=-1),
        helper.make_node("MatMul", ["normal", "into"], ["inside"]),
        helper.make_node("Add", ["inside", "inner_bias"], ["biased"]),
        helper.make_node("Gelu", ["biased"], ["active"]),
        helper.make_node("MatMul", ["active", "back"], ["outside"]),
        helper.make_node("MatMul", ["normal", "shared"], ["once"]),
        helper.make_node("MatMul", ["outside", "own"], ["twice"]),
        helper.make_node("Sum", ["outside", "normal", "once", "twice"], ["residual"]),
        helper.make_node("LayerNormalization", ["residual", "ones", "zeros"], ["last"], axis=-1),
        helper.make_node("ReduceMean", ["last", "axis"], ["pooled"], keepdims=0),
        helper.make_node("Gemm", ["pooled", "head"], ["logits"], transB=1),
    ]
    shape = ["batch", "tokens"]
    inputs = ("input_ids", "attention_mask")
    graph = helper.make_graph(
        nodes, "block",
        [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, shape) for name in inputs],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", LABELS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def texts(count: int, seed: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, WORDS, random.integers(3, 20)).tolist() for _ in range(count)]


def logits(model: onnx.ModelProto | Path, ids: list[list[int]]) -> NDArray[np.float32]:
    if isinstance(model, Path):
        engine = OnnxEngine(model, 0, 1)
        return np.concatenate([engine([row]) for row in ids])
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    rows = [np.array([row]) for row in ids]
    return np.concatenate([session.run(None, {"input_ids": row, "attention_mask": row * 0 + 1})[0] for row in rows])


def test_smoothing_changes_nothing_in_fp32() -> None:
    model = block(100.0)
    next(node for node in model.graph.node if node.output[0] == "twice").input[1] = "shared"  # by two layers now
    before = model.SerializeToString()
    random = np.random.default_rng(1)
    factors = {
        name: np.exp2(random.integers(0, 6, size)).astype(np.float32)
        for name, size in {"normal": WIDTH, "active": INNER, "pooled": WIDTH}.items()
    }
    changed = smooth(model, factors)
    onnx.checker.check_model(changed)
    assert model.SerializeToString() == before
    by_output = {node.output[0]: node for node in changed.graph.node}
    assert [by_output[name].input[0] for name in ("inside", "once", "outside", "twice", "logits")] == [
        "normal.smooth", "normal.smooth", "active.smooth", "outside", "pooled.smooth",
    ]  # fmt: skip
    assert "normal" in by_output["residual"].input  # an addition takes no factor
    np.testing.assert_array_equal(logits(changed, texts(50, 2)), logits(model, texts(50, 2)))


@given(
    arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(0, 1000, width=32) | st.just(0.125)),
    st.sampled_from([1.0, 2.0, 4.0, 8.0, float("inf")]),
)
def test_factors_are_powers_of_two_that_bring_loud_channels_down(peaks: NDArray[np.float32], limit: float) -> None:
    factors = channel_factors(-peaks, np.zeros_like(peaks), limit)
    assert factors.dtype == np.float32 and factors.shape == peaks.shape
    assert (factors >= 1).all() and (np.log2(factors) % 1 == 0).all()
    typical = np.median(peaks[peaks > 0]) if peaks.any() else 0
    if peaks.max() <= LOUD * typical:
        assert (factors == 1).all()
    elif limit <= LOUD:
        assert ((peaks / factors <= limit * typical * 1.001) | (factors == 2**16)).all()
        assert (factors[peaks <= limit * typical] == 1).all()  # nor is any made quieter without need
        assert (factors > 1).any()


@pytest.fixture(scope="module")
def loud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("loud") / "model.onnx"
    onnx.save(block(200.0), file)
    return file


def plain(model: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with monkeypatch.context() as patch:
        patch.setattr(quantize, "_LIMITS", (float("inf"),))
        to_int8(model, texts(64, 1), file)
    return file


def test_int8_is_good_where_one_channel_drowns_the_others(
    loud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_int8(loud, texts(64, 1), tmp_path / "smooth.onnx")
    ids = texts(300, 3)
    files = loud, plain(loud, tmp_path / "plain.onnx", monkeypatch), tmp_path / "smooth.onnx"
    right, bad, good = (logits(file, ids) for file in files)
    assert np.square(good - right).mean() < np.square(bad - right).mean() / 20
    agreement = [(some.argmax(axis=1) == right.argmax(axis=1)).mean() for some in (bad, good)]
    assert agreement[0] < 0.92 and agreement[1] > 0.97


def test_the_same_rows_give_the_same_smoothed_bytes(loud: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one.onnx", "two.onnx")]
    for file in files:
        to_int8(loud, texts(64, 1), file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert any(name.endswith(".smooth") for node in onnx.load(files[0]).graph.node for name in node.output)


def test_a_model_without_loud_channels_gets_no_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(block(1.0), tmp_path / "model.onnx")
    to_int8(tmp_path / "model.onnx", texts(64, 1), tmp_path / "int8.onnx")
    unsmoothed = plain(tmp_path / "model.onnx", tmp_path / "plain.onnx", monkeypatch)
    assert (tmp_path / "int8.onnx").read_bytes() == unsmoothed.read_bytes()


def test_smoothing_that_makes_int8_worse_is_not_taken(
    loud: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A row of the weights that drowns the others of each output, as a loud channel drowns the others of an input.
    def shouted(low: NDArray[np.float32], high: NDArray[np.float32], limit: float) -> NDArray[np.float32]:
        factors = np.ones_like(low)
        if limit < float("inf"):
            factors[1] = 2.0**14
        return factors

    monkeypatch.setattr(quantize, "channel_factors", shouted)
    to_int8(loud, texts(64, 1), tmp_path / "int8.onnx")
    assert (tmp_path / "int8.onnx").read_bytes() == plain(loud, tmp_path / "plain.onnx", monkeypatch).read_bytes()
