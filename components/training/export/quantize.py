"""Static quantisation: an int8 copy of an ONNX graph, whose activation scales are fixed at export.

A scale that is computed per call, as by onnxruntime's `quantize_dynamic`, depends on the whole batch, padding included:
the same text gets another answer in another batch. Here the input of each linear layer has one fixed scale, from its
range on training rows. Everything but linear layers (attention scores, softmax, normalisation, activation functions)
stays fp32; none of it mixes rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from components.training.export.smooth import Factors, channel_factors, smooth, smooth_name
from predictor.model.engine import Engine, OnnxEngine

# Where onnxruntime keeps MatMulIntegerToFloat, which multiplies integers, rescales and adds the bias in one pass.
_DOMAIN = "com.microsoft"
# How far loud channels may be smoothed, in multiples of the median channel; not at all is among them.
_LIMITS = (math.inf, 4.0, 2.0)
# The least and the greatest value of each channel of a tensor, both of shape (channels,).
Channels = tuple[NDArray[np.float32], NDArray[np.float32]]
# x86 without VNNI adds two products in 16 bits: 2 * 255 * 64 fits, so the fast kernel is exact on every CPU. With 127
# such a CPU needs a kernel that takes a quarter longer, and news topics were answered no better.
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
    the values cost half a point of accuracy on news topics. They are smoothed instead, as far as makes the error least.
    Gelu between two layers is computed by its tanh form where the steps of its 8 bits are much wider than the
    difference.

    Args:
        model: an fp32 graph with inputs `input_ids` and `attention_mask` and output `logits`.
        calibration: token ids of some hundred rows such as the model was trained on.
        file: the graph to write; the same model and rows give the same bytes.

    Raises:
        ValueError: the graph has no linear layer, or there are no rows.
    """
    proto = onnx.load(model)
    layers = _linear_layers(proto.graph)
    if not layers or not calibration:
        raise ValueError(f"{model}: {len(layers)} linear layers and {len(calibration)} rows to calibrate on")
    ranges, logits = channel_ranges(proto, {layer.source: len(layer.weight) for layer in layers.values()}, calibration)
    file.parent.mkdir(parents=True, exist_ok=True)
    best, least = proto, math.inf
    for limit in _LIMITS:
        factors = {tensor: channel_factors(*low_and_high, limit) for tensor, low_and_high in ranges.items()}
        loud = {tensor: factor for tensor, factor in factors.items() if factor.max() > 1}
        if not loud and best is not proto:
            continue  # the graph that was already measured
        candidate = _quantized(smooth(proto, loud), _smoothed_ranges(ranges, loud))
        onnx.save(candidate, file)
        error = _error(OnnxEngine(file, 0, 1), calibration[::2], logits[::2])
        if error < least:
            best, least = candidate, error
    onnx.save(best, file)


def _error(engine: Engine, rows: Sequence[Sequence[int]], logits: NDArray[np.float32]) -> float:
    """Return the mean squared error of the rows' logits."""
    found = np.concatenate([engine([row]) for row in rows])  # one at a time, so that nothing is padded
    return float(np.square(found - logits).mean())


def _smoothed_ranges(ranges: Mapping[str, Channels], factors: Mapping[str, Factors]) -> dict[str, tuple[float, float]]:
    """Return the range of each whole tensor, and of each smoothed one."""
    whole = {tensor: (float(low.min()), float(high.max())) for tensor, (low, high) in ranges.items()}
    for tensor, factor in factors.items():
        low, high = ranges[tensor]
        whole[smooth_name(tensor)] = (float((low / factor).min()), float((high / factor).max()))
    return whole


def _quantized(model: onnx.ModelProto, ranges: dict[str, tuple[float, float]]) -> onnx.ModelProto:
    """Return the graph with its linear layers in int8, changed in place; `ranges` holds each layer's source."""
    layers = _linear_layers(model.graph)
    additions = {layer.output for layer in layers.values()} - layers.keys()
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[np.generic]] = {}
    for node in model.graph.node:
        layer = layers.get(node.output[0])
        if layer:
            if f"{layer.source}.scale" not in constants:  # query, key and value read the same tensor
                nodes.append(_quantize(layer.source, *ranges[layer.source], constants))
            nodes.append(_multiply(layer, constants))
        elif node.output[0] not in additions:
            read = smooth_name(node.output[0]) if smooth_name(node.output[0]) in ranges else node.output[0]
            if node.op_type == "Gelu" and _step(*ranges.get(read, (0.0, 0.0))) >= _COARSE:
                del node.attribute[:]
                node.attribute.append(helper.make_attribute("approximate", "tanh"))
            nodes.append(node)
    _rebuild(model, nodes, constants)
    return model


def channel_ranges(
    model: onnx.ModelProto, channels: Mapping[str, int], rows: Sequence[Sequence[int]]
) -> tuple[dict[str, Channels], NDArray[np.float32]]:
    """Return the least and the greatest value of each channel of some tensors, and the logits of the rows.

    Rows run one at a time: values at padding positions must not widen a range.

    Args:
        model: the graph.
        channels: the tensors, with the size of their last axis.
        rows: token ids.

    Returns:
        By tensor the least and the greatest values, each of shape (channels,); and logits of shape (rows, labels).
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    graph.initializer.append(numpy_helper.from_array(np.array([0]), "first.axis"))
    names = ["logits"]
    for tensor, size in channels.items():
        graph.initializer.append(numpy_helper.from_array(np.array([-1, size]), f"{tensor}.shape"))
        graph.node.append(helper.make_node("Reshape", [tensor, f"{tensor}.shape"], [f"{tensor}.flat"]))
        for kind in ("Min", "Max"):  # reduced inside the graph, so that a row costs two numbers a channel
            name = f"{tensor}.{kind}"
            names.append(name)
            graph.node.append(helper.make_node(f"Reduce{kind}", [f"{tensor}.flat", "first.axis"], [name], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [size]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the same bytes on any number of CPUs
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    seen = []
    for row in rows:
        tokens = np.array([row], dtype=np.int64)
        seen.append(session.run(names, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}))
    logits, *ends = zip(*seen, strict=True)
    lows, highs = [np.min(part, axis=0) for part in ends[::2]], [np.max(part, axis=0) for part in ends[1::2]]
    return dict(zip(channels, zip(lows, highs, strict=True), strict=True)), np.concatenate(logits)


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
