"""Static quantisation: an int8 copy of an ONNX graph, whose activation scales are fixed at export.

A scale that is computed per call, as by onnxruntime's `quantize_dynamic`, depends on the whole batch, padding included:
the same text gets another answer in another batch. Here the input of each linear layer has one fixed scale, from its
range on training rows. Everything but linear layers (attention scores, softmax, normalisation, activation functions)
stays fp32; none of it mixes rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# Where onnxruntime keeps MatMulIntegerToFloat, which multiplies integers, rescales and adds the bias in one pass.
_DOMAIN = "com.microsoft"
# x86 without VNNI adds two products in 16 bits: 2 * 255 * 64 fits, so the fast kernel is exact on every CPU. With 127
# such a CPU needs a kernel that takes 1.3 times as long, for an accuracy that is no better: activations, which have one
# scale a tensor, lose more than weights, which have one an output.
_MAX_WEIGHT = 64
# Gelu by tanh is at most 0.0005 off, and takes 0.7 of the time. From this step on that is an eighth of a step or less.
_COARSE = 0.004
# A Gemm with other attributes than these stays as it is.
_GEMM = {"alpha": 1.0, "beta": 1.0, "transA": 0}


@dataclass(frozen=True)
class Linear:
    """A layer `output = source @ weight + bias`."""

    source: str
    name: str
    """Of the weight; layers that share one keep sharing it."""
    weight: NDArray[np.float32]
    """(inputs, outputs)."""
    bias: str
    """The name of the constant, empty for none."""
    output: str


def to_int8(model: Path, calibration: Sequence[Sequence[int]], file: Path) -> None:
    """Write a copy of a graph whose linear layers multiply uint8 activations with int8 weights.

    Weights have a scale per output and 7 bits, so that sums are exact in every kernel; activations have 8 bits and a
    scale per tensor, its range the least and the greatest value seen.
    The range is not clipped: the few channels with values ten times the others' matter most, and clipping even 0.01% of
    the values cost half a point of accuracy on news topics. Gelu between two layers is computed by its tanh form where
    the steps of its 8 bits are much wider than the difference.

    Args:
        model: an fp32 graph with inputs `input_ids` and `attention_mask`.
        calibration: token ids of some hundred rows such as the model was trained on.
        file: the graph to write; the same model and rows give the same bytes.

    Raises:
        ValueError: the graph has no linear layer, or there are no rows.
    """
    proto = onnx.load(model)
    layers = _linear_layers(proto.graph)
    if not layers or not calibration:
        raise ValueError(f"{model}: {len(layers)} linear layers and {len(calibration)} rows to calibrate on")
    ranges = activation_ranges(proto, {layer.source for layer in layers.values()}, calibration)
    additions = {layer.output for layer in layers.values()} - layers.keys()
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[np.generic]] = {}
    for node in proto.graph.node:
        layer = layers.get(node.output[0])
        if layer:
            if f"{layer.source}.scale" not in constants:  # query, key and value read the same tensor
                nodes.append(_quantize(layer.source, *ranges[layer.source], constants))
            nodes.append(_multiply(layer, constants))
        elif node.output[0] not in additions:
            if node.op_type == "Gelu" and _step(*ranges.get(node.output[0], (0.0, 0.0))) >= _COARSE:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("approximate", "tanh"))
            nodes.append(node)
    _rebuild(proto, nodes, constants)
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, file)


def activation_ranges(
    model: onnx.ModelProto, tensors: set[str], rows: Sequence[Sequence[int]]
) -> dict[str, tuple[float, float]]:
    """Return the least and the greatest value each tensor takes over the rows.

    Rows run one at a time: values at padding positions must not widen a range.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    for tensor in sorted(tensors):
        for kind in ("Min", "Max"):  # reduced inside the graph, so that a row costs two numbers a tensor
            name = f"{tensor}.{kind}"
            watched.graph.node.append(helper.make_node(f"Reduce{kind}", [tensor], [name], keepdims=0))
            watched.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same bytes on any number of CPUs
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen = []
    for row in rows:
        tokens = np.array([row], dtype=np.int64)
        seen.append(session.run(None, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}))
    values = np.array(seen, dtype=np.float64).reshape(len(rows), len(tensors), 2)
    lows, highs = values[:, :, 0].min(axis=0), values[:, :, 1].max(axis=0)
    return {tensor: (float(lows[i]), float(highs[i])) for i, tensor in enumerate(sorted(tensors))}


def _linear_layers(graph: onnx.GraphProto) -> dict[str, Linear]:
    """Return the layers by the output of their multiplication.

    They are found by what they compute, not by name, so that any architecture works: a product with a constant matrix,
    and the addition of a constant vector where nothing else reads the product.
    """
    constants = {constant.name: constant for constant in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    layers: dict[str, Linear] = {}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm") or node.input[0] in constants or node.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[node.input[1]])
        settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        transposed = settings.pop("transB", 0)
        if weight.ndim != 2 or any(value != _GEMM[name] for name, value in settings.items()):
            continue
        if transposed:
            weight = weight.T
        vectors = {name for name, constant in constants.items() if list(constant.dims) == [weight.shape[1]]}
        output, bias = node.output[0], node.input[2] if len(node.input) > 2 else ""
        if bias and bias not in vectors:
            continue
        match readers.get(output):
            case [addition] if not bias and addition.op_type == "Add" and vectors.intersection(addition.input):
                (bias,) = vectors.intersection(addition.input)
                output = addition.output[0]
        name = f"{node.input[1]}.transposed" if transposed else node.input[1]
        layers[node.output[0]] = Linear(node.input[0], name, weight, bias, output)
    return layers


def _quantize(tensor: str, low: float, high: float, constants: dict[str, NDArray[np.generic]]) -> onnx.NodeProto:
    """Return the node that maps a range, widened to include zero, to 0..255; zero is represented exactly."""
    scale = _step(low, high)
    constants[f"{tensor}.scale"] = np.array(scale, dtype=np.float32)
    constants[f"{tensor}.zero"] = np.array(round(-min(low, 0.0) / scale), dtype=np.uint8)
    return helper.make_node(
        "QuantizeLinear", [tensor, f"{tensor}.scale", f"{tensor}.zero"], [f"{tensor}.uint8"], f"{tensor}.quantize"
    )


def _step(low: float, high: float) -> float:
    """Return the width of one of the 255 steps between the ends of a range that is widened to include zero."""
    return max(max(high, 0.0) - min(low, 0.0), 1e-6) / 255


def _multiply(layer: Linear, constants: dict[str, NDArray[np.generic]]) -> onnx.NodeProto:
    """Return the node that multiplies integers; each output of the layer has its own scale."""
    scales = np.maximum(np.abs(layer.weight).max(axis=0) / _MAX_WEIGHT, np.float32(1e-8)).astype(np.float32)
    name = f"{layer.name}.int8"
    constants[name] = np.round(layer.weight / scales).astype(np.int8)
    constants[f"{name}.scale"] = scales
    constants[f"{name}.zero"] = np.zeros(len(scales), dtype=np.int8)
    source = layer.source
    inputs = [f"{source}.uint8", name, f"{source}.scale", f"{name}.scale", f"{source}.zero", f"{name}.zero"]
    if layer.bias:
        inputs.append(layer.bias)
    return helper.make_node("MatMulIntegerToFloat", inputs, [layer.output], f"{layer.output}.int8", domain=_DOMAIN)


def _rebuild(model: onnx.ModelProto, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]]) -> None:
    """Replace the nodes of the graph, and drop the constants that no node reads any more."""
    read = {name for node in nodes for name in node.input}
    kept = [constant for constant in model.graph.initializer if constant.name in read]
    kept += [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    for field, values in ((model.graph.node, nodes), (model.graph.initializer, kept)):
        del field[:]
        field.extend(values)
    model.opset_import.append(helper.make_opsetid(_DOMAIN, 1))
