"""The first step: rows of any source to one folder of Parquet files, of which only a chunk is in memory at a time."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from components.data.behaviour.lines import BEHAVIOUR_FILE, read_behaviour
from components.data.cells import same_labels
from components.data.dataset import COLLECTED_FILE, SPLITS
from components.data.sources.registry import beside, name_of, tables
from components.data.sources.rows import arrow_rows, checked_columns, renamed, require
from components.data.sources.split_file import SplitFile
from components.data.sources.table import Request, Table
from components.platform.progress import say
from predictor.errors import InputError
from predictor.files import whole
from predictor.label_sets import joined, parted

_MOST_LABELS = 100_000
"""Different labels: more are no classes but texts or numbers of rows."""
_TOLD = 1_000_000
"""Rows after which a line says how far it is."""


@dataclass(frozen=True)
class Collected:
    """What was collected; `collected.json` has the same."""

    source: str
    """The address, without user, password, query and fragment."""
    rows: dict[str, int]
    """By split."""
    rejected: dict[str, int]
    """Broken rows that were left out, by split and reason, such as `train: NUL characters`."""
    found: dict[str, dict[str, str]]
    """By split, what was found out about a file: `encoding`, `delimiter`, `quote`, `escape`."""


def collect(
    data: str, folder: Path, columns: Mapping[str, str] | None = None, query: str = "",
    tell: Callable[[str], None] = say, behaviour: str = "", multi_label: bool = False,
) -> Collected:  # fmt: skip
    """Read labelled texts from a source and write them as Parquet.

    Rows that are broken by themselves are left out and counted; what makes a whole table doubtful is an error.

    Args:
        data: the address of a source, as docs/data.md lists them.
        folder: where `train.parquet`, `validation.parquet` and `test.parquet` are written, those that were found, with
            `collected.json`, and `behaviour.jsonl` where that stands beside the splits; it appears whole or not at all.
            Columns are `text`, `label`, `source`, `collected_at`, `synthetic`, `id` where it is given, and all others
            of the source as text. A class has the same name in all files.
        columns: names of the source's columns by ours, such as `{"text": "body"}`.
        query: the rows of an SQL database.
        tell: gets a sentence about what is found.
        behaviour: behavioural tests of the task, as lines of JSON, for data that has none beside it.
        multi_label: whether a row may have any number of labels: joined by `|`, or as a list in JSON lines and Parquet.

    Raises:
        InputError: nothing is there, a table cannot be read, a column is missing, or too many rows are broken.
        Unavailable: a published data set cannot be fetched.
    """
    columns = dict(columns or {})
    checked_columns(columns)
    if query and not data.startswith("sql:"):
        raise InputError("--query is for the rows of a database: give --data sql:URL, or leave it out")
    request = Request(data, columns, query, tell)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    labels: set[str] = set()
    files: dict[str, SplitFile] = {}
    rejected: Counter[str] = Counter()
    found: dict[str, dict[str, str]] = {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole(folder) as aside:
        aside.mkdir()
        for table in tables(request):
            if not files and table.split != "train":
                break
            files[table.split] = split = SplitFile(aside / f"{table.split}.parquet")
            _write(table, split, request, now, labels, multi_label)
            rejected.update({f"{table.split}: {reason}": rows for reason, rows in table.rejects.counts.items()})
            found[table.split] = table.found
        if not files:
            raise InputError(
                f"{name_of(data)} has no train split: add a file named train.csv, train.csv.gz or train.parquet"
            )
        names = _same_sets(labels) if multi_label else same_labels(labels)
        for split in files.values():
            split.finish(names)
        if (tests := beside(data, BEHAVIOUR_FILE)) is not None:
            (aside / BEHAVIOUR_FILE).write_bytes(tests)
            where = f"{name_of(data).rstrip('/')}/{BEHAVIOUR_FILE}"
            tell(f"{len(read_behaviour(aside / BEHAVIOUR_FILE, where)):,} lines of behavioural tests from {where}")
        elif behaviour:
            (aside / BEHAVIOUR_FILE).write_text(behaviour, encoding="utf-8")
            told = len(read_behaviour(aside / BEHAVIOUR_FILE, "the task's file of behavioural tests"))
            tell(f"{told:,} lines of behavioural tests from the task")
        collected = Collected(name_of(data), {name: split.rows for name, split in files.items()}, dict(rejected), found)
        (aside / COLLECTED_FILE).write_text(json.dumps(asdict(collected), ensure_ascii=False, indent=2) + "\n")
    return collected


def _same_sets(sets: set[str]) -> dict[str, str]:
    """Return the text to use for each text of several labels, of which each has the same name in all files."""
    names = same_labels(_parts(sets))
    return {text: joined(dict.fromkeys(names[name] for name in parted(text))) for text in sets}


def _parts(sets: set[str]) -> set[str]:
    return {name for text in sets for name in parted(text)}


def _write(table: Table, split: SplitFile, request: Request, now: str, labels: set[str], multi_label: bool) -> None:
    columns: dict[str, None] = {}
    for chunk in table.chunks:
        columns |= dict.fromkeys(map(str, chunk.columns))
        if not table.loose:
            require(columns, table, request)
        rows = arrow_rows(renamed(chunk, request.columns), table, now, multi_label)
        labels.update(filter(None, rows["label"].unique().to_pylist()))
        if len(labels) > _MOST_LABELS and len(_parts(labels) if multi_label else labels) > _MOST_LABELS:
            raise InputError(
                f"{table.where} has over {_MOST_LABELS:,} different labels: name the column that holds the class with "
                "--column label=NAME"
            )
        before = split.rows // _TOLD
        split.write(rows)
        if split.rows // _TOLD > before:
            request.tell(f"{split.rows:,} {table.split} rows so far")
    table.rejects.check(split.rows, last=True)
    if not split.rows:
        raise InputError(f"{table.where} has no rows: fill it, or leave it out")
    require(columns, table, request)
    request.tell(f"{split.rows:,} {table.split} rows from {table.where}")
    for reason, count in table.rejects.counts.items():
        request.tell(f"{count:,} {table.split} rows left out: {table.rejects.sentence(reason)}")


def load_collected(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the splits that `collect` wrote, all rows in memory."""
    files = {name: folder / f"{name}.parquet" for name in SPLITS}
    return {name: pd.read_parquet(file) for name, file in files.items() if file.is_file()}


def collect_frames(
    data: str, columns: Mapping[str, str] | None = None, query: str = "", multi_label: bool = False
) -> dict[str, pd.DataFrame]:
    """Collect the rows of a source that fits into memory, and return them by split."""
    with tempfile.TemporaryDirectory() as folder:
        collect(data, Path(folder) / "collected", columns, query, multi_label=multi_label)
        return load_collected(Path(folder) / "collected")
