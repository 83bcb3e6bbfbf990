"""The input tensor of V2 requests: JSON, binary or protobuf data become a list of texts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from predictor.errors import BadRequest, TooLarge
from predictor.serving.wire.values import as_integer, excerpt, json_type

RANK = 16
"""The most dimensions of a tensor."""


@dataclass(frozen=True)
class Tensor:
    """The input of a V2 request; `data` is a value of JSON or protobuf, or bytes where the tensor is binary."""

    datatype: object
    shape: object
    data: object


def tensor_texts(tensor: Tensor, most: int) -> list[str]:
    """Return the texts of a tensor.

    Raises:
        BadRequest: its datatype, shape or data is wrong.
        TooLarge: it has more than `most` texts.
    """
    if tensor.datatype != "BYTES":
        raise BadRequest(f"input 'text' has datatype {excerpt(tensor.datatype)}: send BYTES")
    shape = tensor.shape
    if isinstance(shape, list):
        check_dimensions(shape)
        shape = list(map(as_integer, shape))
    if not isinstance(shape, list) or not shape or any(type(size) is not int or size < 0 for size in shape):
        raise BadRequest(f"input 'text' has shape {excerpt(shape)}: send the number of texts, as [2]")
    values = _unpacked(tensor.data, most) if isinstance(tensor.data, bytes) else _flat(tensor.data, most)
    if len(values) != math.prod(shape):
        raise BadRequest(
            f"input 'text' has {len(values)} elements but shape {excerpt(shape)}: send the number of texts"
        )
    return [_text(value, number) for number, value in enumerate(values)]


def check_dimensions(shape: Sequence[object]) -> None:
    """Check that a shape has at most `RANK` dimensions.

    Raises:
        BadRequest: it has more.
    """
    if len(shape) > RANK:
        raise BadRequest(f"input 'text' has {len(shape)} dimensions: send the number of texts, as [2]")


def check_count(texts: int, most: int) -> None:
    """Check that a request has at most `most` texts.

    Raises:
        TooLarge: it has more.
    """
    if texts > most:
        raise TooLarge(f"the request has over {most} texts: send them in several requests")


def _unpacked(raw: bytes, most: int) -> list[bytes]:
    """Return the strings of a binary tensor, each after its length in four bytes, little-endian."""
    strings: list[bytes] = []
    at = 0
    while at < len(raw):
        end = at + 4 + int.from_bytes(raw[at : at + 4], "little")
        if at + 4 > len(raw) or end > len(raw):
            raise BadRequest(f"input 'text' breaks off in string {len(strings)}: send length-prefixed strings")
        strings.append(raw[at + 4 : end])
        check_count(len(strings), most)
        at = end
    return strings


def _flat(data: object, most: int) -> list[Any]:
    """Flatten nested JSON arrays of any shape, in a loop, so that deep nesting does not overflow the stack."""
    if not isinstance(data, list):
        raise BadRequest(f"the data of input 'text' is a JSON {json_type(data)}: send a list of strings")
    flat: list[Any] = []
    left = data[::-1]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(reversed(value))
        else:
            flat.append(value)
            check_count(len(flat), most)
    return flat


def _text(value: object, number: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRequest(f"text {number} is not UTF-8 (byte {error.start}): send UTF-8") from None
    raise BadRequest(f"element {number} of input 'text' is a JSON {json_type(value)}: send a string")
