"""Reads the true labels that callers send."""

from collections.abc import Sequence
from typing import Any

from predictor.errors import BadRequest, TooLarge
from predictor.label_sets import joined
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
_SETS_SHAPE = '{"feedback": [{"id": "the answer\'s", "labels": ["each true one", ...]}]}'
# Names of labels that are read where each text may have several.
_MOST_NAMES = 100 * MOST_FEEDBACK


def read_feedback(body: bytes, labels: Sequence[str], multi_label: bool = False) -> list[Feedback]:
    """Read a body of true labels; their time is not known yet.

    Args:
        body: JSON.
        labels: those that the model knows, in their order.
        multi_label: whether a text has a list of labels, which may be empty; they are kept joined by `|`, in order.

    Raises:
        BadRequest: its shape is wrong, or a label is none of the model's; nothing of it is taken then.
        TooLarge: it has more than `MOST_FEEDBACK` labels.
    """
    shape = _SETS_SHAPE if multi_label else _SHAPE
    payload = json_object(body, _VALUES + (_MOST_NAMES if multi_label else 0), shape)
    given = payload.get("feedback")
    if not isinstance(given, list):
        raise BadRequest(f"the body has no list 'feedback': send {shape}")
    if not given:
        raise BadRequest(f"the list 'feedback' is empty: send {shape}")
    if len(given) > MOST_FEEDBACK:
        raise TooLarge(f"the body has over {MOST_FEEDBACK} labels: send them in several requests")
    known = frozenset(labels)
    return [_read(item, place, labels, known, shape, multi_label) for place, item in enumerate(given)]


def _read(
    item: Any, place: int, labels: Sequence[str], known: frozenset[str], shape: str, multi_label: bool
) -> Feedback:
    field = "labels" if multi_label else "label"
    if not isinstance(item, dict):
        raise BadRequest(f"feedback {place} is a JSON {json_type(item)}: send {shape}")
    if more := sorted(set(item) - {"id", field, "source"}):
        raise BadRequest(f"feedback {place} has a field {excerpt(more[0])}: send id, {field} and, if you like, source")
    of = _string(item, "id", place, TEXT_ID_CHARACTERS, shape)
    said = item.get(field) if multi_label else [_string(item, field, place, None, shape)]
    if not isinstance(said, list) or not all(isinstance(label, str) for label in said):
        raise BadRequest(f"feedback {place} has no list '{field}' of texts: send {shape}")
    for label in said:
        if label not in known:
            raise BadRequest(f"feedback {place} has the label {excerpt(label)}: send one that the model answers")
    source = None if item.get("source") is None else _string(item, "source", place, SOURCE_CHARACTERS, shape)
    mine = set(said)
    return Feedback(of, "", joined(label for label in labels if label in mine) if multi_label else said[0], source)


def _string(item: dict[str, Any], name: str, place: int, most: int | None, shape: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"feedback {place} has no text '{name}': send {shape}")
    if most is not None and len(value) > most:
        raise BadRequest(f"'{name}' of feedback {place} has {len(value)} characters: send {most} at most")
    return value
