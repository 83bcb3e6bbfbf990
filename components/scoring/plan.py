"""Splits an input into parts, each with its digest, so that any number of workers can score them in any order."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from components.data.sources.table import CHUNK_ROWS
from components.data.sources.tables import read_table
from components.platform.progress import say
from components.scoring.canary import baseline_of
from components.scoring.rows import TRUTH, Input, chunks, open_input, writer
from components.scoring.store import Store, at_hand
from predictor.errors import InputError
from predictor.label_sets import labels_in
from predictor.model.bundle import MULTI, Bundle, sha256_of

MOST_SHARDS = 64
"""Into which a pipeline divides the parts: as many tasks as its loop runs."""
PART_ROWS = 20_000
PLAN, MANIFEST = "plan.json", "manifest.json"
_SCHEMA = 1
_TOLD = 50
"""Parts between two lines of progress."""


@dataclass(frozen=True)
class Settings:
    """How a batch is scored."""

    text: str = "text"
    """The column with the texts."""
    label: str = "label"
    """The column with labels, where some rows have one."""
    canaries: str = ""
    """A file with the columns `text` and `label`, whose rows are mixed in; empty for none."""
    probabilities: bool = False
    """Whether all classes' probabilities come out."""
    part_rows: int = PART_ROWS

    def __post_init__(self) -> None:
        if self.part_rows < 1:
            raise InputError("a part has to have rows: give 1 or more")


@dataclass(frozen=True)
class Part:
    """A file `input/NAME.parquet` that becomes `output/NAME.parquet`."""

    name: str
    rows: int
    """Of the input, without the canaries that are mixed in."""
    sha256: str
    """Of the file in `input`."""


@dataclass(frozen=True)
class Plan:
    """What a batch is; the file `plan.json` holds it, and is written when all parts are there."""

    input: dict[str, str]
    """Its `name`, and the `sha256` of its files."""
    bundle: str
    """The bundle's digest."""
    model: str
    labels: list[str]
    baseline: float
    """The accuracy under which canaries may not be."""
    settings: dict[str, Any]
    parts: list[Part]

    @property
    def rows(self) -> int:
        """The rows of the input."""
        return sum(part.rows for part in self.parts)

    @cached_property
    def digest(self) -> str:
        """What tells the batch from others: an entry of another one in the same folder counts for nothing."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def of_shard(self, shard: int, shards: int) -> list[Part]:
        """Return every `shards`-th part, from the number `shard` on."""
        return self.parts[shard::shards]

    @classmethod
    def read(cls, store: Store) -> "Plan | None":
        """Return the plan of a folder; None where none was finished.

        Raises:
            InputError: it is of another release.
        """
        content = store.read(PLAN)
        if content is None:
            return None
        if content.pop("schema_version", None) != _SCHEMA:
            raise InputError(f"{store.where(PLAN)} is of another release: score into another folder")
        parts = [Part(**part) for part in content.pop("parts")]
        return cls(**content, parts=parts)


def make_plan(store: Store, place: str, bundle: Bundle, settings: Settings) -> Plan:
    """Split an input into parts in the folder of the batch, or go on with those that are there.

    Args:
        store: the folder.
        place: a CSV, JSON lines or Parquet file, a folder of such files, or the fsspec URI of one.
        bundle: the bundle that will score them.
        settings: how.

    Raises:
        InputError: the input or the canaries cannot be read, or the folder holds another batch.
    """
    with at_hand(place) as here:
        given = open_input(here, settings.text, settings.label)
        name = place.rstrip("/").rpartition("/")[2]
        identity = {
            "input": {"name": name, "sha256": _digest(given.files)},
            "bundle": bundle.digest,
            "model": bundle.spec.task,
            "labels": list(bundle.spec.labels),
            "baseline": baseline_of(bundle.spec),
            "settings": _identity(settings),
        }
        if there := Plan.read(store):
            _check_same(store, there, identity)
            return there
        canaries = _canaries(settings.canaries, bundle)
        parts = [*_split(store, given, settings, canaries)]
    if not parts:
        raise InputError(f"{place} has no rows: give at least one")
    _clear(store, {f"{part.name}.parquet" for part in parts})
    store.write(PLAN, {"schema_version": _SCHEMA, **identity, "parts": [asdict(part) for part in parts]})
    say(f"{sum(part.rows for part in parts):,} rows in {len(parts):,} parts")
    return Plan(**identity, parts=parts)  # type: ignore[arg-type]


def _clear(store: Store, kept: set[str]) -> None:
    """Remove what a split that was killed, or another batch whose plan is gone, has left."""
    for folder in ("input", "output"):
        for stale in sorted(store.names(folder) - kept):
            store.remove(f"{folder}/{stale}")
    if store.read(MANIFEST):
        store.remove(MANIFEST)


def input_name(part: Part) -> str:
    """Return the name of a part's file before it is scored."""
    return f"input/{part.name}.parquet"


def _identity(settings: Settings) -> dict[str, Any]:
    """Return the settings with the digest of the canaries in the place of where they are."""
    found = asdict(settings)
    if settings.canaries:
        with at_hand(settings.canaries) as file:
            if not file.is_file():
                raise InputError(f"--canaries {settings.canaries} is no file: give one with the columns text and label")
            found["canaries"] = sha256_of(file)
    return found


def _check_same(store: Store, there: Plan, identity: dict[str, Any]) -> None:
    names = {"input": "other rows", "bundle": "another bundle", "settings": "other settings"}
    for field, what in names.items():
        known, given = (dict(one) if field == "input" else one for one in (getattr(there, field), identity[field]))
        if field == "input":
            known, given = known["sha256"], given["sha256"]  # a file may have been moved
        if known != given:
            raise InputError(
                f"{store.place} holds a batch of {what}: choose another folder, or remove it to score anew"
            )


def _digest(files: tuple[Path, ...]) -> str:
    digests = [sha256_of(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _canaries(place: str, bundle: Bundle) -> pa.Table | None:
    """Return the rows that are mixed in: `text` and `label`, each of a class of the bundle."""
    if not place:
        return None
    with at_hand(place) as file:
        frame = read_table(file)
    if lacking := [name for name in ("text", "label") if name not in frame.columns]:
        raise InputError(f"--canaries {place} has no column '{lacking[0]}': give the columns text and label")
    frame = frame[["text", "label"]].astype("string").dropna()
    several = bundle.spec.problem_type == MULTI
    given = {label for text in set(frame["label"]) for label in labels_in(text, several)}
    if foreign := given - set(bundle.spec.labels):
        raise InputError(
            f"--canaries {place} has the label '{min(foreign)}', which the bundle does not know: it knows "
            f"{', '.join(bundle.spec.labels)}"
        )
    if not len(frame):
        raise InputError(f"--canaries {place} has no row with a text and a label: give some")
    return pa.table({name: pa.array(frame[name].tolist(), pa.string()) for name in ("text", "label")})


def _split(store: Store, given: Input, settings: Settings, canaries: pa.Table | None) -> Iterator[Part]:
    """Write the parts, and yield each when it is there."""
    source = chunks(given)
    if canaries is not None:
        total = sum(map(len, chunks(given)))  # to spread them, how many rows there are has to be known
        source = _mixed(source, given, canaries, total)
    left: list[pa.Table] = []
    number = waiting = done = 0
    for chunk in source:
        while len(chunk):
            taken = _fill(chunk, settings.part_rows - waiting)
            left.append(chunk[: len(taken)])
            waiting += _rows_of(taken)
            chunk = chunk[len(taken) :]
            if waiting == settings.part_rows:
                yield _written(store, number, left, given.text)
                number, done, left, waiting = number + 1, done + waiting, [], 0
                if number % _TOLD == 0:
                    say(f"{done:,} rows are split")
    if waiting:
        yield _written(store, number, left, given.text)


def _fill(chunk: pa.Table, most: int) -> pa.Table:
    """Return the beginning of a chunk with at most so many rows of the input."""
    if TRUTH not in chunk.schema.names:
        return chunk[:most]
    rows = np.flatnonzero(chunk[TRUTH].is_null().to_numpy())  # a canary stays with the row that it stands before
    return chunk[: int(rows[most - 1]) + 1] if len(rows) >= most else chunk


def _rows_of(table: pa.Table) -> int:
    return int(table[TRUTH].null_count) if TRUTH in table.schema.names else len(table)


def _mixed(source: Iterator[pa.Table], given: Input, canaries: pa.Table, total: int) -> Iterator[pa.Table]:
    """Yield the chunks with the canaries spread evenly among their rows."""
    kind = given.schema.field(given.text).type
    columns = [
        canaries["text"].cast(kind) if name == given.text else pa.nulls(len(canaries), given.schema.field(name).type)
        for name in given.schema.names
    ]
    rows = pa.table(columns, schema=given.schema).append_column(TRUTH, canaries["label"])
    places = [number * total // len(canaries) for number in range(len(canaries))]
    start = used = 0
    for chunk in source:
        end = start + len(chunk)
        last = used
        while last < len(places) and places[last] < end:
            last += 1
        order = sorted(
            [*((place, 0, len(chunk) + nth) for nth, place in enumerate(places[used:last])),
             *((start + row, 1, row) for row in range(len(chunk)))]
        )  # fmt: skip
        whole = chunk.append_column(TRUTH, pa.nulls(len(chunk), pa.string()))
        yield pa.concat_tables([whole, rows[used:last]]).take(pa.array([row for _, _, row in order], pa.int64()))
        start, used = end, last


def _written(store: Store, number: int, tables: list[pa.Table], text: str) -> Part:
    part = Part(f"part-{number:05d}", sum(map(_rows_of, tables)), "")
    with store.writing(input_name(part)) as file:
        with writer(file, tables[0].schema, text) as parquet:
            for table in tables:
                parquet.write_table(table, row_group_size=CHUNK_ROWS)
        digest = sha256_of(file)
    return Part(part.name, part.rows, digest)
