"""The kernel of 8-bit products: exact wherever it runs, and the same answers whichever it is."""

import base64
import zlib
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from predictor.model.bundle import Bundle
from predictor.model.engine import OnnxEngine
from predictor.model.kernels import PROBE, choose_kernel, is_exact, kernel_here
from predictor.model.text import Encoder


def test_the_probe_is_the_product_it_says() -> None:
    weight = np.full((64, 16), 127, dtype=np.int8)
    weight[:, 1::2] = -128
    constants = {
        "weight": weight, "one": np.float32(1), "scales": np.ones(16, dtype=np.float32), "zero": np.uint8(0),
        "zeros": np.zeros(16, dtype=np.int8),
    }  # fmt: skip
    node = helper.make_node("MatMulIntegerToFloat", ["rows", *constants], ["sums"], domain="com.microsoft")
    graph = helper.make_graph(
        [node], "probe",
        [helper.make_tensor_value_info("rows", TensorProto.UINT8, ["n", 64])],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["n", 16])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    wanted = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert onnx.load_from_string(zlib.decompress(base64.b64decode(PROBE))) == wanted


def test_the_usual_kernel_is_taken_where_it_is_exact_and_the_other_elsewhere() -> None:
    usual, exact = choose_kernel(True), choose_kernel(False)
    assert not usual.settings and "exact on this CPU" in usual.about
    assert exact.settings == {"session.x64quantprecision": "1"} and "clips" in exact.about


def test_whatever_is_taken_here_is_exact() -> None:
    assert is_exact(choose_kernel(False)) and is_exact(kernel_here())
    assert kernel_here() == choose_kernel(is_exact(choose_kernel(True)))


def test_cpus_that_say_what_they_have_bear_the_probe_out() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    if "avx512_vnni" in flags or "avx_vnni" in flags:
        assert is_exact(choose_kernel(True))
    elif "avx2" in flags:
        assert not is_exact(choose_kernel(True))


def test_a_bundle_answers_alike_bit_for_bit_whichever_exact_kernel_runs(bundle: Path) -> None:
    spec = Bundle.open(bundle).spec
    ids = Encoder(bundle, spec.max_length, spec.cleaning)(
        ["goal cup striker", "profit bank " * 9, "treaty", "army vote"]
    )
    model = bundle / "onnx/model_int8.onnx"
    wanted = OnnxEngine(model, spec.pad_token_id, 1, choose_kernel(False))(ids)
    for kernel in filter(is_exact, (choose_kernel(True), kernel_here())):
        np.testing.assert_array_equal(OnnxEngine(model, spec.pad_token_id, 1, kernel)(ids), wanted)
