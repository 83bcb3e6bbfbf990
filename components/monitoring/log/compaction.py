"""Compacts the days of a log that are over: the parts of a day become one Parquet file.

At any point one of two things is true: the parts are there, or the file that holds all of their records is. A run that
was killed leaves both, which a reader takes as one; the next run finishes what it had begun.
"""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.monitoring.log.parts import SCHEMAS, Log, Part, Record
from components.monitoring.log.reading import key_of
from predictor.records import COLUMNS, Kind

GRACE = timedelta(hours=1)
"""A day is over so long after its end: predictors may still be trying to store its last records."""
KINDS: tuple[Kind, ...] = ("predictions", "feedback")


@dataclass
class Compacted:
    """What a run did."""

    days: int = 0
    """Folders that are one file now."""
    parts: int = 0
    """Files that are in it, and were removed."""
    records: int = 0
    copies: int = 0
    """Records that stood twice."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Parts that were left as they are, each with the reason: nothing of them may be lost."""


def compact(uri: str, model: str, now: datetime | None = None) -> Compacted:
    """Compact every day that is over.

    Two runs at once do each other no harm: each removes only what it has read and stored.

    Args:
        uri: the log's folder or URI.
        model: the model's name.
        now: what time it is, with its zone; none: the clock's.

    Raises:
        InputError: the storage cannot be read or written.
    """
    log, done = Log(uri, model), Compacted()
    last = ((now or datetime.now(UTC)).astimezone(UTC) - GRACE).date() - timedelta(days=1)
    for kind in KINDS:
        for day in log.days(kind):
            if day <= last:
                _compact_day(log, kind, day, done)
    return done


def _compact_day(log: Log, kind: Kind, day: date, done: Compacted) -> None:
    parts = log.parts_of(kind, day)
    if _is_compact(parts):
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "part"
        merged = _merge(log, kind, parts, file, done)
        if _is_compact(merged.sources):
            return
        log.put(f"{log.folder(kind, day)}/{merged.name}", file)
    for part in merged.sources:
        if part.path.rpartition("/")[2] != merged.name:  # it may be there, from a run that was killed
            log.remove(part)
            done.parts += 1
    done.days += 1
    done.records += merged.records


def _is_compact(parts: Sequence[Part]) -> bool:
    """Whether there is nothing to do: no part, or one compacted part alone."""
    return not parts or (len(parts) == 1 and parts[0].compacted)


@dataclass(frozen=True)
class _Merged:
    name: str
    sources: Sequence[Part]
    """Parts whose records are all in the file."""
    records: int


def _merge(log: Log, kind: Kind, parts: Sequence[Part], file: Path, done: Compacted) -> _Merged:
    """Write the records of whole parts to a file, each once; its name follows from what is in it."""
    seen: set[bytes] = set()
    digest, sources = hashlib.sha256(), []
    with pq.ParquetWriter(file, SCHEMAS[kind], compression="zstd") as writer:
        for part in parts:
            try:
                content = log.read(part)
            except FileNotFoundError:  # another run has compacted it
                continue
            if not content.whole:
                done.damaged[part.name] = content.fault or f"{content.bad_lines.total()} lines are no records"
                continue
            sources.append(part)
            fresh = []
            for record in content.records:
                key = hashlib.blake2b(repr(key_of(record)).encode("utf-8", "surrogatepass"), digest_size=16).digest()
                if key in seen:
                    done.copies += 1
                    continue
                seen.add(key)
                digest.update(key)
                fresh.append(_row(record))
            if fresh:
                writer.write_table(pa.Table.from_pylist(fresh, SCHEMAS[kind]))
    return _Merged(f"compacted-{digest.hexdigest()[:16]}{COLUMNS}", sources, len(seen))


def _row(record: Record) -> dict[str, object]:
    row = asdict(record)
    if row.get("probabilities") is not None:
        row["probabilities"] = list(row["probabilities"].items())
    return row
