"""Texts as a column of a CSV file, and results of a job as lines of JSON or as a CSV file."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import orjson

from predictor.errors import BadRequest
from predictor.label_sets import joined
from predictor.serving.jobs.status import MOST_TEXTS, RowResult
from predictor.serving.wire.rest import Batch, Writer
from predictor.serving.wire.tensors import check_count
from predictor.serving.wire.values import excerpt

Format = Literal["jsonl", "csv"]
MOST_ROWS = 10_000
"""Of a page of results."""
DEFAULT_ROWS = 1000
MOST_OFFSET = 10**9
_MOST_NAMED = 5
# A field is bounded by its body. The module's own bound is lower, and for the whole process.
csv.field_size_limit(2**31 - 1)


def read_csv(body: bytes, column: str, asynchronous: bool, most: int) -> Batch:
    """Read the texts of a CSV file with a header. Blank lines are none of its rows.

    Args:
        body: UTF-8.
        column: the name of the column with the texts.
        asynchronous: whether the caller asks for the answers later.
        most: the most texts that are answered at once.

    Raises:
        BadRequest: it is no CSV file, or lacks the column.
        TooLarge: it has more texts than are ever read.
    """
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        header = next(lines, None)
        if not header:
            raise BadRequest("the CSV file has no header: write the names of its columns in the first line")
        if column not in header:
            found = ", ".join(map(excerpt, header[:_MOST_NAMED]))
            more = f" and {len(header) - _MOST_NAMED} more" if len(header) > _MOST_NAMED else ""
            raise BadRequest(f"the CSV file has no column {excerpt(column)}, but {found}{more}: name one with ?column=")
        place = header.index(column)
        texts = []
        for row in lines:
            if not row:
                continue
            if len(row) <= place:
                raise BadRequest(
                    f"line {lines.line_num} of the CSV file has {len(row)} fields and the header {len(header)}: "
                    "quote texts that have commas or line breaks"
                )
            texts.append(row[place])
            check_count(len(texts), max(most, MOST_TEXTS))
    except UnicodeDecodeError as error:
        raise BadRequest(f"the CSV file is not UTF-8 (byte {error.start}): send UTF-8") from None
    except csv.Error as error:
        raise BadRequest(
            f"line {lines.line_num} of the CSV file cannot be read ({error}): correct its quotes"
        ) from None
    if not texts:
        raise BadRequest("the CSV file has a header and no rows: send at least one")
    return Batch(texts, asynchronous=asynchronous)


def read_flag(name: str, value: str) -> bool:
    """Read a parameter of the URL that is true or false.

    Raises:
        BadRequest: it is neither.
    """
    if value not in ("true", "false"):
        raise BadRequest(f"parameter {name} is {excerpt(value)}: send true or false")
    return value == "true"


def read_format(value: str) -> Format:
    """Read which form results are to have.

    Raises:
        BadRequest: there is no such form.
    """
    for form in get_args(Format):
        if value == form:
            found: Format = form
            return found
    raise BadRequest(f"parameter format is {excerpt(value)}: send {' or '.join(get_args(Format))}")


def read_number(name: str, value: str, least: int, most: int) -> int:
    """Read a parameter of the URL that is a whole number.

    Raises:
        BadRequest: it is none, or out of range.
    """
    if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
        raise BadRequest(f"parameter {name} is {excerpt(value)}: send a whole number from {least} to {most}")
    return int(value)


def page(writer: Writer, start: int, results: Sequence[RowResult], form: Format) -> bytes:
    """Return a page of a job's results, each row with the number of its text, from 0 on.

    Args:
        writer: knows the task's names.
        start: the number of the first text.
        results: of each text.
        form: how they are written.
    """
    rows = _rows(writer, start, results)
    if form == "jsonl":
        return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
    stream = io.StringIO(newline="")
    score = [writer.names.score] if writer.model.ordinal else []
    columns = ["number", writer.names.field, "confidence", *score, "model_version", "error"]
    table = csv.DictWriter(stream, columns, restval="", lineterminator="\r\n")
    table.writeheader()
    table.writerows(map(_flat, rows) if writer.model.multi_label else rows)
    return stream.getvalue().encode()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose labels are one text, joined by `|`, and whose confidences are JSON."""
    lists = {name: joined(value) for name, value in row.items() if isinstance(value, list)}
    maps = {name: orjson.dumps(value).decode() for name, value in row.items() if isinstance(value, dict)}
    return {**row, **lists, **maps}


def _rows(writer: Writer, start: int, results: Sequence[RowResult]) -> list[dict[str, Any]]:
    found = [result.probabilities for result in results if result.probabilities is not None]
    answers = iter(writer.answers(np.stack(found), every=False) if found else ())
    return [
        {"number": number, "error": result.error}
        if result.probabilities is None
        else {"number": number, **next(answers), "model_version": result.version}
        for number, result in enumerate(results, start)
    ]
