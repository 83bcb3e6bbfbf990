"""Adds rows to a dataset artifact, whose test split stays as it is."""

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.data.dataset import COLUMNS, FOLD, LABELS_FILE, REPORT_FILE, SPLITS, Digest, save_notes
from components.data.preparing import checks as checking
from components.data.preparing import report as reporting
from components.data.preparing.chunks import Chunks, about, of_file, of_folder
from components.data.preparing.copies import TEST, TRAIN, VALIDATION, drop_copies, drop_leaks
from components.data.preparing.near import NearCopies
from components.data.preparing.rows import Fate, Rows, scan
from components.data.preparing.scratch import Scratch
from components.data.preparing.settings import GROUP, Checks, SplitRule
from components.data.preparing.splits import drop_close, together
from components.data.preparing.write import have_own_ids, rows_of, write_behaviour
from components.platform.progress import say
from predictor.errors import InputError
from predictor.files import whole

_NEW = "new"


class NothingToAdd(InputError):
    """No new row is left: all are unusable, or there already."""


def append(
    dataset: Path, collected: Path, out: Path, seed: int, checks: Checks, new_labels: bool = False
) -> dict[str, Any]:
    """Write a dataset artifact with the rows of another and with new ones.

    What `prepare` says of rejects, copies and leaks holds for new rows, too, also beside those that are there; of these
    none is dropped. New rows go to train, and to validation by the share that it has of both; synthetic rows and
    near-copies of train rows go to train alone. The test split keeps its file, byte for byte.

    Args:
        dataset: the artifact that is there; it does not change.
        collected: the collected artifact of the new rows, with a train split alone.
        out: the folder of the new artifact; it appears whole or not at all.
        seed: fixes which rows go to validation.
        checks: limits that the new rows must keep.
        new_labels: whether labels may be new. Their classes have no test rows.

    Returns:
        The report: its list `appended` has an entry for each time that rows were added.

    Raises:
        InputError: there is no artifact, a label is new, no row is left, or the rows are beyond a limit.
    """
    report, labels = _opened(dataset)
    rule = _rule(report)
    found = of_folder(collected)
    if others := [name for name in found if name != "train"]:
        raise InputError(f"the rows to add have a {others[0]} split, which would be lost: give one file of rows")
    sources = {name: of_file(dataset / f"{name}.parquet") for name in SPLITS} | {_NEW: found["train"]}
    with tempfile.TemporaryDirectory(prefix="pigeonhole-append-") as folder:
        scratch = Scratch(Path(folder) / "texts.parquet")
        with scratch:
            rows = scan(sources, checks, rule, scratch, bool(report.get("multi_label")))
        _join(rows, labels, new_labels and not report.get("ordinal"))
        leaks = {what: count for what, count in drop_leaks(rows).items() if count}
        near = NearCopies.find(rows, scratch, Path(folder))
        leaks |= drop_close(rows, near, rule)
        source = about(collected)
        entry = {**_checked(rows, labels, scratch, checks, source), "leakage": leaks}
        share = _draw_validation(rows, near, rule, seed)
    new = rows.given == len(SPLITS)
    added = {SPLITS[split]: int(new[rows.kept(split)].sum()) for split in (TRAIN, VALIDATION)}
    entry = {
        "parent": report["sha256"],
        "source": source.get("source", ""),
        "added": added,
        "validation_share": share,
        **entry,
    }
    report = {**report, "appended": [*report.get("appended", []), entry]}
    counts = reporting.counts(rows)
    report |= {name: counts[name] for name in ("rows", "rows_by_label", "untested")}
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as aside:
        aside.mkdir()
        report["sha256"] = _write(sources, rows, dataset, aside, f"append{len(report['appended'])}")
        write_behaviour([dataset, collected], rows.classes, aside)
        save_notes(aside, rows.classes, report)
    say(f"{added['train']:,} rows added to train and {added['validation']:,} to validation, of {entry['given']:,}")
    return report


def is_multi_label(dataset: Path) -> bool:
    """Return whether a row of a dataset artifact may have any number of labels.

    Raises:
        InputError: there is no artifact.
    """
    return bool(_opened(dataset)[0].get("multi_label"))


def _opened(dataset: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        return json.loads((dataset / REPORT_FILE).read_text()), json.loads((dataset / LABELS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{dataset} is no dataset artifact ({error}): give the folder data of a run") from error


def _rule(report: dict[str, Any]) -> SplitRule:
    """Return how rows of the dataset may be divided; when they were made makes no difference to new ones."""
    split = report.get("split", {})
    return SplitRule(GROUP, split["column"]) if split.get("by") == GROUP else SplitRule()


def _join(rows: Rows, labels: list[str], new_labels: bool) -> None:
    """Put new rows into train, but for copies; rows that were there are fixed."""
    new = rows.given == len(SPLITS)
    rows.fixed = ~new
    rows.fate[rows.fixed] = Fate.KEPT
    rows.split = np.array([*range(len(SPLITS)), TRAIN], dtype=np.int8)[rows.given]
    kept = rows.fate == Fate.KEPT
    found = np.flatnonzero(rows.class_counts(np.flatnonzero(kept & new)))
    unknown = sorted({rows.classes[label] for label in found} - set(labels))
    if unknown and not new_labels:
        raise InputError(
            f"the rows to add have the label '{unknown[0]}', which the dataset lacks: correct it, or allow new labels "
            "with --new-labels where the classes have no order"
        )
    _drop_known(rows)
    drop_copies(rows)


def _checked(rows: Rows, labels: list[str], scratch: Scratch, checks: Checks, source: dict[str, Any]) -> dict[str, Any]:
    """Check what is left of the new rows, and return what the report says of them."""
    new = rows.given == len(SPLITS)
    if not new[rows.kept(TRAIN)].any():
        raise NothingToAdd(
            "no row to add is left: all are unusable, or the dataset has them or something close to them"
        )
    kept = [rows.classes[label] for label in np.flatnonzero(rows.class_counts(rows.kept(TRAIN)))]
    order = [label for label in labels if label in kept] + [label for label in kept if label not in labels]
    rows.keep_labels(np.array([rows.classes.index(label) for label in order], dtype=np.int32))
    checking.check_classes(rows, checks)
    only = _only(rows, new)
    unread = source.get("rejected", {})
    checking.check_shares(checking.shares(only, len(SPLITS), sum(unread.values())), checks)
    counts = reporting.counts(only)
    rejected = Counter(unread) + Counter(counts["rejected"])
    return {
        "given": len(only) + sum(unread.values()),
        "new_labels": sorted(set(rows.classes) - set(labels)),
        "rejected": {what.removeprefix("train: "): count for what, count in rejected.items()},
        "duplicates": counts["duplicates"],
        "examples": reporting.examples(rows, scratch),
    }


def _drop_known(rows: Rows) -> None:
    """Leave out new rows whose text a train row has, under the same label or another."""
    kept = rows.kept(TRAIN)
    old, new = kept[rows.fixed[kept]], kept[~rows.fixed[kept]]
    known = np.full(rows.text.max(initial=0) + 1, -1, dtype=np.int32)
    known[rows.text[old]] = rows.label[old]
    label = known[rows.text[new]]
    rows.drop(new[label == rows.label[new]], Fate.COPY)
    rows.drop(new[(label >= 0) & (label != rows.label[new])], Fate.CONFLICT)


def _only(rows: Rows, mine: NDArray[np.bool_]) -> Rows:
    part = copy(rows)
    for name, column in vars(rows).items():
        if isinstance(column, np.ndarray):
            setattr(part, name, column[mine])
    return part


def _draw_validation(rows: Rows, near: NearCopies, rule: SplitRule, seed: int) -> float:
    """Move new rows to validation, class by class, and return the share that was wanted.

    Of multi-label data, the rows with the same labels count as a class here.
    """
    train = rows.kept(TRAIN)
    held = len(rows.kept(VALIDATION))
    share = held / (held + int(rows.fixed[train].sum()))
    _, first, unit = np.unique(together(rows, train, near, rule), return_index=True, return_inverse=True)
    label = rows.label[train][first]
    stays = rows.fixed[train] | rows.synthetic[train] | (rows.label[train] != label[unit])
    free = np.flatnonzero(np.bincount(unit, weights=stays) == 0)
    # A class that is new needs its rows to learn from, and a row in train before any in validation.
    known = rows.class_counts(train[rows.fixed[train]]) > 0
    free = free[rows.of_classes(train[first[free]], known)]
    random = np.random.default_rng(seed)
    order = free[np.lexsort((random.random(len(free)), label[free]))]
    counts = np.bincount(label[order], minlength=len(rows.labels))
    place = np.arange(len(order)) - (np.cumsum(counts) - counts)[label[order]]
    drawn = np.zeros(len(first), dtype=bool)
    drawn[order[place + random.random(len(counts))[label[order]] < share * counts[label[order]]]] = True
    rows.split[train[drawn[unit]]] = VALIDATION
    return share


def _write(sources: dict[str, Chunks], rows: Rows, dataset: Path, folder: Path, prefix: str) -> str:
    """Write the splits and return the digest of all."""
    digest = Digest()
    new = np.flatnonzero(rows.given == len(SPLITS))
    added, there = rows.id[new[rows.fate[new] == Fate.KEPT]], rows.id[rows.fixed]
    prefix = "" if have_own_ids(added) and not np.isin(added, there).any() else prefix
    for split, name in enumerate(SPLITS):
        digest.begin(name, len(rows.kept(split)))
        if split == TEST:
            shutil.copyfile(dataset / f"{name}.parquet", folder / f"{name}.parquet")
            for chunk in sources[name].read():
                digest.add(chunk)
            continue
        schema = _schema(sources, name)
        with pq.ParquetWriter(folder / f"{name}.parquet", schema) as writer:
            for chunk in _chunks(sources, rows, split, prefix):
                digest.add(chunk)
                if "synthetic" in schema.names:
                    synthetic = chunk["synthetic"] if "synthetic" in chunk else pd.Series(False, chunk.index)
                    chunk = chunk.assign(synthetic=synthetic)
                chunk = chunk.reindex(columns=schema.names)
                writer.write_table(pa.Table.from_pandas(chunk, schema, preserve_index=False))
    return digest.hexdigest()


def _chunks(sources: dict[str, Chunks], rows: Rows, split: int, prefix: str) -> Iterator[pd.DataFrame]:
    """Yield the rows of a split: those that were there, then the new ones, with a prefix in ids that we make."""
    yield from sources[SPLITS[split]].read()
    yield from (chunk for _, chunk in rows_of(sources, _NEW, rows, split, prefix) if len(chunk))


def _schema(sources: dict[str, Chunks], name: str) -> pa.Schema:
    """Return the columns of a split and those that only the new rows have, with their types."""
    there, new = sources[name].schema, sources[_NEW].schema
    assert there is not None and new is not None
    others = [field for field in new if field.name not in {*there.names, *COLUMNS}]
    # New rows have no fold, and may be close to rows of any.
    return pa.schema([field for field in (*there.remove_metadata(), *others) if field.name != FOLD])
