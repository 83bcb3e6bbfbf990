from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from transformers import AutoModelForSequenceClassification

from components.training.export import export as exporting
from components.training.export.fuse import merge_attention
from predictor.model.engine import OnnxEngine
from tests.components.training.test_quantize import ARCHITECTURES, EACH_ARCHITECTURE, rows


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture(scope="module", params=EACH_ARCHITECTURE)
def separate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of an untrained model with attention as PyTorch exports it."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(ARCHITECTURES[request.param]).save_pretrained(folder)  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "merge_attention", lambda _: None)
        exporting.to_onnx(folder, folder / "separate.onnx")
    return folder / "separate.onnx"


def test_attention_of_every_layer_becomes_one_operator(separate: Path) -> None:
    before = onnx.load(separate)
    model = onnx.load(separate)
    merge_attention(model)
    onnx.checker.check_model(model, full_check=True)
    assert operators(before)["Softmax"] == operators(model)["Attention"] == 2
    assert not operators(model).keys() & {"Softmax", "Transpose", "Reshape"}
    assert operators(before)["MatMul"] - operators(model)["MatMul"] == 4


def test_merged_attention_gives_the_same_logits_and_reads_no_padding(separate: Path, tmp_path: Path) -> None:
    model = onnx.load(separate)
    merge_attention(model)
    onnx.save(model, tmp_path / "merged.onnx")
    before, after = OnnxEngine(separate, 1, 1), OnnxEngine(tmp_path / "merged.onnx", 1, 1)
    texts = rows(40, 7)  # of 4 to 59 tokens, thus half of a batch is padding
    np.testing.assert_allclose(after(texts), before(texts), rtol=1e-5, atol=1e-5)
    alone = np.concatenate([after([text]) for text in texts])
    np.testing.assert_allclose(after(texts), alone, rtol=1e-5, atol=1e-5)


def _first(model: onnx.ModelProto, operator: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == operator)


def scores_are_read_elsewhere(model: onnx.ModelProto) -> None:
    output = helper.make_tensor_value_info(_first(model, "Softmax").input[0], onnx.TensorProto.FLOAT, None)
    model.graph.output.append(output)


def softmax_over_another_axis(model: onnx.ModelProto) -> None:
    _first(model, "Softmax").attribute[0].i = 1


def heads_and_tokens_stay_in_place(model: onnx.ModelProto) -> None:
    _first(model, "Transpose").attribute[0].ints[:] = [0, 1, 2, 3]


def another_activation(model: onnx.ModelProto) -> None:
    _first(model, "Softmax").op_type = "LogSoftmax"


def a_scale_for_each_head(model: onnx.ModelProto) -> None:
    made = {node.output[0]: node for node in model.graph.node}
    scaling = made[made[_first(model, "Softmax").input[0]].input[0]]
    name = scaling.input[1]
    (scale,) = (constant for constant in model.graph.initializer if constant.name == name)
    scale.CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 1, 1), dtype=np.float32), name))


def shapes_are_unknown(model: onnx.ModelProto) -> None:
    del model.graph.value_info[:]


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (scores_are_read_elsewhere, 1), (softmax_over_another_axis, 1), (heads_and_tokens_stay_in_place, 1),
        (another_activation, 1), (a_scale_for_each_head, 2), (shapes_are_unknown, 2),
    ],
)  # fmt: skip
def test_what_computes_something_else_is_left_alone(
    separate: Path, change: Callable[[onnx.ModelProto], None], left: int
) -> None:
    model = onnx.load(separate)
    change(model)
    changed = model.SerializeToString(deterministic=True)
    merge_attention(model)
    assert operators(model)["Attention"] == 2 - left
    assert operators(model)["Softmax"] + operators(model)["LogSoftmax"] == left
    if left == 2:
        assert model.SerializeToString(deterministic=True) == changed
