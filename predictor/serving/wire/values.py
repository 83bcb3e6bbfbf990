"""Values of a request: how they are read, and how refusals show them."""

from typing import Any

import orjson

from predictor.errors import BadRequest
from predictor.serving.wire.bounds import check_json

# The most characters of a request that a refusal shows.
_SHOWN = 40


def as_integer(value: Any) -> Any:
    """Turn a float that JSON Schema counts as an integer, such as 3.0, into an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**64 else value


def json_object(body: bytes, most: int, wanted: str) -> dict[str, Any]:
    """Parse a body that is a JSON object with at most `most` texts; `wanted` is what a refusal says to send.

    Raises:
        BadRequest: it is not a JSON object.
        TooLarge: it has more values than its texts may need.
    """
    check_json(body, most)
    try:
        payload = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON ({error}): send {wanted}") from None
    if not isinstance(payload, dict):
        raise BadRequest(f"the body is a JSON {json_type(payload)}: send {wanted}")
    return payload


def object_or_empty(value: object, name: str) -> dict[str, Any]:
    """Return an object that may be left out, and is empty then.

    Raises:
        BadRequest: it is not an object.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' is a JSON {json_type(value)}: send an object, or leave it out")
    return value


def flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    """Return a parameter that is true or false.

    Raises:
        BadRequest: it is neither.
    """
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"parameter {name} is {excerpt(value)}: send true or false")
    return value


def json_type(value: object) -> str:
    """Return the JSON name of a value's type."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def excerpt(value: object) -> str:
    """Return the start of a value as Python writes it; the rest is not read."""
    if isinstance(value, dict):
        return "a JSON object"
    text = repr([_start(item) for item in value[:_SHOWN]] if isinstance(value, list) else _start(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _start(value: object) -> object:
    if isinstance(value, str | bytes):
        return value[: _SHOWN + 1]
    return "..." if isinstance(value, list | dict) else value
