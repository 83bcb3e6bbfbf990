"""Cells of a table as text and as JSON: the value that the file means, not the way Python would write it."""

import json
import math
import re
from collections.abc import Iterable
from datetime import date, time
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from predictor.errors import InputError

# Numbers as people and programs write them. "007" and "1e3" are names that look like numbers.
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_NO_FRACTION = re.compile(r"\.0+$")
_TRUTH = {"true", "false"}


def as_texts(values: Iterable[object], where: str, column: str) -> list[str | None]:
    """Return the cells of a column as texts, None where one is missing.

    Raises:
        InputError: a cell is neither text nor a number (a list, a date), or holds bytes that are not UTF-8.
    """
    texts = []
    for row, value in enumerate(values, start=1):
        try:
            texts.append(as_text(value))
        except UnicodeDecodeError as error:
            raise InputError(
                f"{where}, row {row} has bytes in '{column}' that are not UTF-8: save it as UTF-8"
            ) from error
        except TypeError as error:
            raise InputError(
                f"{where}, row {row} has a value of type {type(value).__name__} in '{column}': give text or a number"
            ) from error
    return texts


def as_text(value: object) -> str | None:
    """Return a cell as text, None if it is missing.

    Raises:
        TypeError: it is neither text nor a number.
        UnicodeDecodeError: it holds bytes that are not UTF-8.
    """
    match value:
        case str():
            return value
        case bytes():  # some programs write text as plain bytes
            return value.decode()
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float() | Decimal():
            if value != value:  # NaN, which stands for a missing number, differs from itself
                return None
            # A column of integers with a missing value may be stored as floats
            return str(int(value)) if math.isfinite(value) and int(value) == value else str(value)
        case np.generic():
            return as_text(value.item())
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    raise TypeError(type(value).__name__)


def same_labels(labels: set[str]) -> dict[str, str]:
    """Return the name to use for each label, given all labels in all files of a data set.

    If all labels are numbers, 1.0 becomes 1: a column of integers may be written as floats when a value is missing. If
    all are truth values, True becomes true.
    """
    if all(_NUMBER.fullmatch(label) for label in labels):
        return {label: _NO_FRACTION.sub("", label) for label in labels}
    if len(labels) > len(_TRUTH) and {label.lower() for label in labels} <= _TRUTH:
        return {label: label.lower() for label in labels}
    return {label: label for label in labels}


def as_json(value: Any) -> Any:
    """Return a cell of any kind as `json.dumps` takes it; numbers and texts stay what they are.

    Raises:
        UnicodeDecodeError: it holds bytes that are not UTF-8.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    match value:
        case None | str() | bool() | int():
            return value
        case bytes():
            return value.decode()
        case list() | tuple():
            return [as_json(each) for each in value]
        case dict():
            return {str(name): as_json(each) for name, each in value.items()}
        case float():
            return None if value != value else value
    return None if value is pd.NA or value is pd.NaT else str(value)


def as_note(value: object) -> str | None:
    """Return a cell of a column that no step reads as text, whatever it holds: times in ISO 8601, lists as JSON."""
    try:
        return as_text(value)
    except UnicodeDecodeError:
        return repr(value)
    except TypeError:
        pass
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        plain = as_json(value)
        return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)
    except UnicodeDecodeError:
        return repr(value)
