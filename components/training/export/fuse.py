"""Attention as one operator: the same numbers from fewer passes over memory.

PyTorch exports the attention of a layer as twelve nodes, four of them transpositions. ONNX's operator `Attention` reads
queries, keys and values as the products write them, and its result is what the next product reads. ONNX Runtime
computes it in the same order: MiniLM's logits were the same bit for bit, in 0.96 of the CPU time of int8 and 0.97 of
that of fp32 (8 texts a call, no VNNI; attention itself in 0.63 to 0.86).
"""

from collections import Counter
from typing import Any

import onnx
from onnx import helper, numpy_helper

# The first operator set with `Attention`.
OPSET = 23
# From (texts, tokens, heads, size) to (texts, heads, tokens, size) and back; and keys as the right side of a product.
_SWAP, _KEYS = [0, 2, 1, 3], [0, 2, 3, 1]


class _OtherError(Exception):
    """The graph computes something else here."""


def merge_attention(model: onnx.ModelProto) -> None:
    """Replace attention by the operator wherever the graph holds it, found by what it computes; leave all else alone.

    That is `softmax(query @ key.T * scale + mask) @ value` for each head, from tensors (texts, tokens, heads * size) to
    one of that shape, where nothing else reads what is between. Attention with more in it, such as rotated positions,
    stays as it is.

    Args:
        model: as PyTorch's exporter writes it, with the shape of each tensor; operator set `OPSET` or later.
    """
    graph = model.graph
    pattern = _Pattern(graph)
    merged: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        if node.op_type == "Softmax":
            try:
                operator = pattern.attention(node)
            except _OtherError:
                continue
            merged[operator.output[0]] = operator
    if merged:
        _keep_what_is_read(graph, [merged.get(node.output[0], node) for node in graph.node])


class _Pattern:
    """What makes and reads each tensor of a graph; a method raises _OtherError where that is not what it seeks."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._reader = {name: node for node in graph.node for name in node.input}
        self._reads = Counter(name for node in graph.node for name in node.input)
        self._reads.update(output.name for output in graph.output)
        self._constants = {constant.name: constant for constant in graph.initializer}
        self._shapes = {
            value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
            for value in graph.value_info
        }

    def attention(self, softmax: onnx.NodeProto) -> onnx.NodeProto:
        """Return the operator in place of the attention around a softmax."""
        if _settings(softmax).get("axis", -1) != -1:
            raise _OtherError
        masking = self._made(softmax.input[0], "Add")
        scaled, mask = masking.input
        if len(self._shapes.get(mask, [])) != 4:
            raise _OtherError
        scaling = self._made(scaled, "Mul")
        products, factor = scaling.input
        scores = self._made(products, "MatMul")
        context = self._read(softmax.output[0], "MatMul")
        if context.input[0] != softmax.output[0]:
            raise _OtherError
        query, heads = self._heads(scores.input[0], _SWAP)
        key, key_heads = self._heads(scores.input[1], _KEYS)
        value, value_heads = self._heads(context.input[1], _SWAP)
        back = self._read(context.output[0], "Transpose", _SWAP)
        (output,) = self._read(back.output[0], "Reshape").output
        texts, tokens, _ = self._shape(query, 3)
        if not heads == key_heads == value_heads or self._shape(output, 3)[:2] != [texts, tokens]:
            raise _OtherError
        return helper.make_node(
            "Attention", [query, key, value, mask], [output], f"{output}.attention",
            q_num_heads=heads, kv_num_heads=heads, scale=self._number(factor),
        )  # fmt: skip

    def _heads(self, name: str, order: list[int]) -> tuple[str, int]:
        """Return the tensor (texts, tokens, heads * size) that is split into heads here, and their number."""
        split = self._made(self._made(name, "Transpose", order).input[0], "Reshape")
        texts, tokens, heads, size = self._shape(split.output[0], 4)
        if not isinstance(heads, int) or not isinstance(size, int):
            raise _OtherError
        if self._shape(split.input[0], 3) != [texts, tokens, heads * size]:
            raise _OtherError
        return split.input[0], heads

    def _made(self, name: str, operator: str, order: list[int] | None = None) -> onnx.NodeProto:
        """Return what makes a tensor that is read once."""
        return self._only(self._makers.get(name), name, operator, order)

    def _read(self, name: str, operator: str, order: list[int] | None = None) -> onnx.NodeProto:
        """Return the one node that reads a tensor."""
        return self._only(self._reader.get(name), name, operator, order)

    def _only(self, node: onnx.NodeProto | None, name: str, operator: str, order: list[int] | None) -> onnx.NodeProto:
        if node is None or node.op_type != operator or self._reads[name] != 1:
            raise _OtherError
        if order and _settings(node)["perm"] != order:
            raise _OtherError
        return node

    def _shape(self, name: str, rank: int) -> list[int | str]:
        """Return the sizes of a tensor, those that differ from call to call by name."""
        shape = self._shapes.get(name, [])
        if len(shape) != rank or not all(shape):
            raise _OtherError
        return shape

    def _number(self, name: str) -> float:
        constant = self._constants.get(name)
        if constant is None or constant.dims:
            raise _OtherError
        return float(numpy_helper.to_array(constant))


def _settings(node: onnx.NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _keep_what_is_read(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Make these the nodes of the graph, in their order, but for those whose results nothing reads."""
    read = {output.name for output in graph.output}
    kept = []
    for node in reversed(nodes):
        if read.intersection(node.output):
            kept.append(node)
            read.update(node.input)
    constants = [constant for constant in graph.initializer if constant.name in read]
    shapes = [value for value in graph.value_info if value.name in read]
    for field, values in ((graph.node, kept[::-1]), (graph.initializer, constants), (graph.value_info, shapes)):
        del field[:]
        field.extend(values)
