"""Values of a request: what they are, and how a refusal speaks of them."""

from typing import Any

import orjson

from predictor.errors import BadRequest
from predictor.serving.wire.bounds import check_json

# Characters of what a caller sent that a refusal shows.
_SHOWN = 40


def as_integer(value: Any) -> Any:
    """Make an integer of what JSON Schema counts as one, such as 3.0; the parser makes floats of those past 64 bits."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**64 else value


def json_object(body: bytes, most: int, wanted: str) -> dict[str, Any]:
    """Parse a body that is a JSON object with no more than so many texts; `wanted` is what to send.

    Raises:
        BadRequest, TooLarge: it is not.
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
    """Return an object that may be left out.

    Raises:
        BadRequest: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadRequest(f"'{name}' is a JSON {json_type(value)}: send an object, or leave it out")
    return value


def flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    """Return a parameter that is true or false.

    Raises:
        BadRequest: it is something else.
    """
    value = parameters.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadRequest(f"parameter {name} is {excerpt(value)}: send true or false")
    return value


def json_type(value: object) -> str:
    """Return what JSON calls such a value."""
    names = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def excerpt(value: object) -> str:
    """Return the start of what a caller sent, as Python writes it; no more of it is looked at."""
    if isinstance(value, dict):
        return "a JSON object"
    text = repr([_start(item) for item in value[:_SHOWN]] if isinstance(value, list) else _start(value))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _start(value: object) -> object:
    if isinstance(value, str | bytes):
        return value[: _SHOWN + 1]
    return "..." if isinstance(value, list | dict) else value
