"""A command's result on stdout: a table for a person at a terminal, JSON for a program."""

import json
import shutil
import sys
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import accumulate
from typing import Any

_CLEAR_SCREEN = "\x1b[H\x1b[2J"
_INDENT = "  "
_LIST = (list, tuple)
_GAP = "  "
_NARROWEST = 20
"""Columns that a table leaves of its widest one, however narrow the terminal is."""


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


def show(result: Mapping[str, Any], chosen: Format | None) -> None:
    """Print a result.

    Args:
        result: what JSON can hold, by name.
        chosen: how; None for what fits stdout.
    """
    if _format(chosen) is Format.JSON:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print(as_table(result, shutil.get_terminal_size().columns))


def show_changes(results: Iterable[Mapping[str, Any]], chosen: Format | None) -> None:
    """Print each result that differs from the one before it: JSON a line each; at a terminal a table on a clear screen.

    Args:
        results: what was seen, one look after another.
        chosen: how; None for what fits stdout.
    """
    before: Mapping[str, Any] | None = None
    for result in results:
        if result == before:
            continue
        before = result
        if _format(chosen) is Format.JSON:
            print(json.dumps(result, ensure_ascii=False), flush=True)
        else:
            clear = _CLEAR_SCREEN if sys.stdout.isatty() else ""
            print(f"{clear}{as_table(result, shutil.get_terminal_size().columns)}", flush=True)


def as_table(result: Mapping[str, Any], width: int) -> str:
    """Return a result as text: a line for each value, what is nested indented, a list of objects as a table.

    Args:
        result: what JSON can hold, by name.
        width: columns of the terminal; tables are cut to it, lines are not.
    """
    return "\n".join(_lines(result, width))


def _format(chosen: Format | None) -> Format:
    return chosen or (Format.TABLE if sys.stdout.isatty() else Format.JSON)


def _lines(result: Mapping[str, Any], width: int) -> list[str]:
    names = [_text(name) for name in result]
    indent = max(map(_columns, names), default=0)
    lines: list[str] = []
    for name, value in zip(names, result.values(), strict=True):
        if value and isinstance(value, Mapping):
            lines += [name, *(_INDENT + line for line in _lines(value, width - len(_INDENT)))]
        elif value and isinstance(value, _LIST) and isinstance(value[0], Mapping):
            lines += [name, *(_INDENT + line for line in _rows(value, width - len(_INDENT)))]
        else:
            first, *more = map(_text, value if value and isinstance(value, _LIST) else [value])
            lines.append(_padded(name, indent) + _GAP + first)
            lines += [" " * indent + _GAP + item for item in more]
    return lines


def _rows(rows: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """Return a heading and a line for each row; the widest column is cut where they would not fit."""
    heading = list(rows[0])
    cells = [heading, *([_cell(row.get(name)) for name in heading] for row in rows)]
    widths = [max(_columns(row[place]) for row in cells) for place in range(len(heading))]
    widest = widths.index(max(widths))
    too_much = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    if too_much > 0:
        widths[widest] = min(widths[widest], max(_NARROWEST, widths[widest] - too_much))
    return [
        _GAP.join(_padded(_cut(cell, most), most) for cell, most in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _cell(value: Any) -> str:
    return "; ".join(map(_text, value)) if value and isinstance(value, _LIST) else _text(value)


def _text(value: Any) -> str:
    """Return a value on one line, without characters that a terminal would obey."""
    if value is None or (not value and isinstance(value, (str, *_LIST, Mapping))):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())


def _cut(text: str, columns: int) -> str:
    if _columns(text) <= columns:
        return text
    taken = list(accumulate(map(_columns, text)))
    return f"{text[: bisect_right(taken, columns - 1)]}…"


def _padded(text: str, columns: int) -> str:
    return text + " " * (columns - _columns(text))


def _columns(text: str) -> int:
    """Count the columns that a terminal gives a text: two for a Chinese character, none for an accent over another."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
