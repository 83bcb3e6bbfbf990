"""Reads the true labels that callers send."""

from collections.abc import Collection
from typing import Any

from predictor.errors import BadRequest, TooLarge
from predictor.records import ID_CHARACTERS, Feedback
from predictor.serving.wire.values import excerpt, json_object, json_type

MOST_FEEDBACK = 1000
"""Labels of one request."""
SOURCE_CHARACTERS = 200
# An id is a request's with the number of a text behind it.
TEXT_ID_CHARACTERS = ID_CHARACTERS + 8
# json_object counts three signs for each; a label with its names has seven.
_VALUES = 3 * MOST_FEEDBACK
_SHAPE = '{"feedback": [{"id": "the answer\'s", "label": "the true one"}]}'
_FIELDS = {"id", "label", "source"}


def read_feedback(body: bytes, labels: Collection[str]) -> list[Feedback]:
    """Read a body of true labels; their time is not known yet.

    Args:
        body: JSON.
        labels: those that the model knows.

    Raises:
        BadRequest: its shape is wrong, or a label is none of the model's; nothing of it is taken then.
        TooLarge: it has more than `MOST_FEEDBACK` labels.
    """
    payload = json_object(body, _VALUES, _SHAPE)
    given = payload.get("feedback")
    if not isinstance(given, list):
        raise BadRequest(f"the body has no list 'feedback': send {_SHAPE}")
    if not given:
        raise BadRequest(f"the list 'feedback' is empty: send {_SHAPE}")
    if len(given) > MOST_FEEDBACK:
        raise TooLarge(f"the body has over {MOST_FEEDBACK} labels: send them in several requests")
    return [_read(item, place, labels) for place, item in enumerate(given)]


def _read(item: Any, place: int, labels: Collection[str]) -> Feedback:
    if not isinstance(item, dict):
        raise BadRequest(f"feedback {place} is a JSON {json_type(item)}: send {_SHAPE}")
    if more := sorted(set(item) - _FIELDS):
        raise BadRequest(f"feedback {place} has a field {excerpt(more[0])}: send id, label and, if you like, source")
    of = _string(item, "id", place, TEXT_ID_CHARACTERS)
    label = _string(item, "label", place, None)
    if label not in labels:
        raise BadRequest(f"feedback {place} has the label {excerpt(label)}: send one that the model answers")
    source = None if item.get("source") is None else _string(item, "source", place, SOURCE_CHARACTERS)
    return Feedback(of, "", label, source)


def _string(item: dict[str, Any], name: str, place: int, most: int | None) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"feedback {place} has no text '{name}': send {_SHAPE}")
    if most is not None and len(value) > most:
        raise BadRequest(f"'{name}' of feedback {place} has {len(value)} characters: send {most} at most")
    return value
