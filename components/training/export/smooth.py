"""Smoothing: loud channels of an activation are made quieter before int8, and the weights that read them louder.

Method: Xiao et al. 2023, "SmoothQuant". `x @ w = (x / factor) @ (factor * w)` with a factor for each channel of `x`.
Int8 has one scale for a whole activation, so one channel with values of 30 leaves few steps to hundreds of channels
with values of 2; a weight has a scale for each output and takes the factor without loss.

Two things differ from the paper. The factor is a product between the activation and its linear layers: in the models
of this family an addition reads the normalisation's output too, and the feed-forward block has an activation function
between its layers, so neither can take the factor up. (A scale for each channel in QuantizeLinear would need no
product, but onnxruntime 1.32 takes 70 times as long for it.) And factors are powers of two, which change no bit of the
results in fp32.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Factors = NDArray[np.float32]

# An activation is smoothed if its loudest channel is over this many times the median channel: 16 of MiniLM's 27. With
# all of them the error on news topics was no smaller; these 16 products take 3% of a call's time.
LOUD = 4.0
# No factor is greater: one that makes a channel vanish helps no other.
_MOST = 2.0**16


def channel_factors(low: NDArray[np.float32], high: NDArray[np.float32], limit: float) -> Factors:
    """Return powers of two, at least 1, that bring each channel within `limit` times the peak of the median channel.

    They are all 1 where no channel is `LOUD`. `low` and `high` are the least and the greatest value of each channel,
    shape (channels,).
    """
    peaks = np.maximum(np.abs(low), np.abs(high))
    heard = peaks[peaks > 0]  # ReLU leaves channels that are never anything but zero
    if not len(heard) or peaks.max() <= LOUD * np.median(heard):
        return np.ones_like(peaks)
    excess = peaks.astype(np.float64) / (limit * np.median(heard).astype(np.float64))
    factors: Factors = np.exp2(np.ceil(np.log2(np.clip(excess, 1.0, _MOST)))).astype(np.float32)
    return factors


def smooth_name(tensor: str) -> str:
    """Return the name of a tensor when it is smoothed."""
    return f"{tensor}.smooth"


def smooth(model: onnx.ModelProto, factors: Mapping[str, Factors]) -> onnx.ModelProto:
    """Return a copy of an fp32 graph that computes the same from smoother inputs of its linear layers.

    Args:
        model: the graph; it is left as it is.
        factors: by tensor, a factor for each channel of its last axis. Products of the tensor with a constant matrix
            read the tensor divided by the factors, under its `smooth_name`; whatever else reads the tensor still does.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    matrices = {constant.name: constant for constant in graph.initializer if len(constant.dims) == 2}
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in graph.node:
        source = node.input[0] if node.input else ""
        transposed = _transposed(node)
        if source in factors and transposed is not None and node.input[1] in matrices:
            factor, smoothed = factors[source], smooth_name(source)
            if smoothed not in made:
                made.add(smoothed)
                graph.initializer.append(numpy_helper.from_array(1 / factor, f"{source}.quieter"))
                nodes.append(helper.make_node("Mul", [source, f"{source}.quieter"], [smoothed], smoothed))
            weight = f"{node.input[1]}.of.{smoothed}"  # of this tensor: another may share the matrix
            if weight not in made:
                made.add(weight)
                value = numpy_helper.to_array(matrices[node.input[1]])
                louder = value * (factor if transposed else factor[:, None])
                graph.initializer.append(numpy_helper.from_array(louder, weight))
            node.input[0], node.input[1] = smoothed, weight
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _transposed(node: onnx.NodeProto) -> bool | None:
    """Return whether a product multiplies with its matrix transposed, None for a node that is no such product."""
    settings = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if node.op_type not in ("MatMul", "Gemm") or settings.get("transA"):
        return None
    return bool(settings.get("transB"))
