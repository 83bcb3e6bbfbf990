"""Bounds on a request that are checked before it is parsed, since parsing costs time and memory for each value.

The parsers of JSON and protobuf hold the interpreter's lock until they are done, so a request with millions of empty
values would stop all others. Counting its values takes a fraction of that time, and stops at the bound.
"""

from collections.abc import Iterator
from typing import Any

from predictor.errors import BadRequest, TooLarge

SMALL = 32_768
"""Bytes of a request that is parsed on the event loop: whatever it holds, that takes a few milliseconds at most."""
# Values, and bytes of a gRPC message, that a request may have in addition to those of its texts.
_SPARE_VALUES = 4096
_SPARE_BYTES = 65_536

# The fields of a ModelInferRequest that hold texts, by number: inputs, their contents, and strings there; raw contents.
_TEXTS: dict[int, Any] = {5: {5: {8: None}}, 7: None}


def check_json(body: bytes, texts: int) -> None:
    """Check that a body has no more values than `texts` texts need.

    Raises:
        TooLarge: it has more.
    """
    if len(body) <= SMALL or _few_values(body, texts):
        return
    # The counted signs may be inside texts: count again without strings.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if bare.count(b'"') > 4 * (texts + _SPARE_VALUES) or not _few_values(b"".join(bare.split(b'"')[::2]), texts):
        raise TooLarge(f"the body has more values than {texts} texts need: send its texts in several requests")


def _few_values(body: bytes, texts: int) -> bool:
    """Whether there are no more colons, commas and brackets than `texts` times {"text": "a text"} has."""
    names = body.count(b":")
    signs = names + sum(map(body.count, (b",", b"[", b"{")))
    return names <= texts + _SPARE_VALUES and signs <= 3 * texts + _SPARE_VALUES


def check_message(message: bytes, texts: int) -> None:
    """Check that a ModelInferRequest has at most `texts` texts, and few bytes in addition to them.

    Raises:
        TooLarge: it has more.
        BadRequest: it is not a ModelInferRequest.
    """
    if len(message) <= SMALL:
        return
    left = [texts, _SPARE_BYTES]
    _spend(message, 0, len(message), _TEXTS, left)


def _spend(message: bytes, at: int, end: int, fields: dict[int, Any], left: list[int]) -> None:
    """Subtract the fields between two offsets from the texts and the other bytes that are left."""
    for number, start, stop in _fields(message, at, end):
        if fields.get(number, fields) is None:
            left[0] -= 1
        elif number in fields:
            left[1] -= 2
            _spend(message, start, stop, fields[number], left)
        else:
            left[1] -= stop - start + 2
        if left[0] < 0:
            raise TooLarge("the message has too many texts: send them in several requests")
        if left[1] < 0:
            raise TooLarge(
                f"the message has over {_SPARE_BYTES} bytes beside its texts: send no more than is asked for"
            )


def _fields(message: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field, and the offsets of its value's start and end."""
    while at < end:
        key, at = _varint(message, at, end)
        match key & 7:
            case 0:
                stop = _varint(message, at, end)[1]
            case 1:
                stop = at + 8
            case 2:
                size, at = _varint(message, at, end)
                stop = at + size
            case 5:
                stop = at + 4
            case _:
                raise _no_message()
        if stop > end:
            raise _no_message()
        yield key >> 3, at, stop
        at = stop


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number that starts at an offset, and the offset of its end."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = message[at]
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return number, at
    raise _no_message()


def _no_message() -> BadRequest:
    return BadRequest("the message is no ModelInferRequest: make it from grpc_predict_v2.proto")
