"""Reads JSON lines: one object a line."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd

from components.data.sources.formats.text import UNDECODABLE, Text
from components.data.sources.table import BYTES, CHUNK_CHARS, CHUNK_ROWS, OBJECTS, Table
from predictor.errors import InputError, one_line

_MOST_COLUMNS = 1_000


def read_json_lines(text: Text, table: Table) -> Iterator[pd.DataFrame]:
    """Yield the objects of a file as rows; a line that is none is left out and counted.

    Args:
        text: the file.
        table: where rejects are counted, and what was found is noted.

    Raises:
        InputError: too many lines are no objects, or the objects have over 1,000 different names.
    """
    rows: list[dict[str, Any]] = []
    numbers: list[int] = []
    names: set[str] = set()
    read = size = 0
    for number, line in enumerate(text.lines("\n"), start=1):  # only \n ends a line: a text may contain U+2028
        if not line.strip():
            continue
        row = _object(line, number, text, table)
        if row is not None:
            rows.append(row)
            numbers.append(number)
            size += len(line)
            names.update(row)
            if len(names) > _MOST_COLUMNS:
                raise InputError(f"{table.where} has over {_MOST_COLUMNS:,} columns: give each object the same names")
        if len(rows) >= CHUNK_ROWS or size >= CHUNK_CHARS:
            read += len(rows)
            yield pd.DataFrame(rows, index=numbers, dtype=object)
            table.rejects.check(read)
            rows, numbers, size = [], [], 0
    table.found["encoding"] = text.encoding
    yield pd.DataFrame(rows, index=numbers, dtype=object)


def _object(line: str, number: int, text: Text, table: Table) -> dict[str, Any] | None:
    if text.damaged and UNDECODABLE.search(line):
        table.rejects.add(BYTES, f"line {number} is not {text.encoding.upper()}")
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        table.rejects.add(OBJECTS, f"line {number} is no JSON: {one_line(error, 80)}")
        return None
    if not isinstance(row, dict):
        table.rejects.add(OBJECTS, f"line {number} is a {type(row).__name__}")
        return None
    if "\\ud" in line.lower():
        # Drop half of a surrogate pair, which is left when a text is cut: UTF-8 has no such character
        row = dict(json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "ignore")))
    return row
