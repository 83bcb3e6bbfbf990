"""A command's result on stdout: a table for a person at a terminal, JSON for a program."""

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import zip_longest
from typing import Any

_CLEAR_SCREEN = "\x1b[H\x1b[2J"
_INDENT = "  "
_LIST = (list, tuple)
_GAP = "  "
_NARROWEST = 20
"""Columns that a table takes, however narrow the terminal is."""


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"


def show(
    result: Mapping[str, Any], chosen: Format | None, drawn: Callable[[Mapping[str, Any]], Any] | None = None
) -> None:
    """Print a result.

    Args:
        result: what JSON can hold, by name.
        chosen: how; None for what fits stdout.
        drawn: returns what rich prints in the place of a table.
    """
    if _format(chosen) is Format.JSON:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    elif drawn:
        from rich.console import Console

        Console(highlight=False).print(drawn(result))
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


def _lines(result: Mapping[str, Any], width: int) -> Iterator[str]:
    from rich.cells import cell_len, set_cell_size  # help and JSON need no rich

    names = [_text(name) for name in result]
    indent = max(map(cell_len, names), default=0)
    for name, value in zip(names, result.values(), strict=True):
        if value and isinstance(value, Mapping):
            yield name
            yield from (_INDENT + line for line in _lines(value, width - len(_INDENT)))
        elif value and isinstance(value, _LIST) and isinstance(value[0], Mapping):
            yield name
            yield from (_INDENT + line for line in _rows(value, width - len(_INDENT)))
        else:
            items = map(_text, value if value and isinstance(value, _LIST) else [value])
            for title, item in zip_longest([name], items, fillvalue=""):
                yield set_cell_size(title, indent) + _GAP + item


def _rows(rows: Sequence[Mapping[str, Any]], width: int) -> Iterator[str]:
    """Yield a heading and a line for each row; the widest columns are cut where they would not fit."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(Text(_text(name), no_wrap=True, overflow="ellipsis"))
    for row in rows:  # as Text: in a plain string rich would obey markup
        table.add_row(*(Text(_cell(row.get(name)), no_wrap=True, overflow="ellipsis") for name in rows[0]))
    for line in Console(width=max(width, _NARROWEST)).render_lines(table):
        yield "".join(segment.text for segment in line).rstrip()


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
