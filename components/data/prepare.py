"""Checks rows, removes copies, draws missing splits, and reports what was done."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.data.dataset import SPLITS, Dataset, Split, digest_of, save_notes
from components.data.preparing import checks as checking
from components.data.preparing import report as reporting
from components.data.preparing.chunks import Chunks, about, of_folder, of_frame
from components.data.preparing.copies import TEST, VALIDATION, drop_copies, drop_leaks
from components.data.preparing.near import NearCopies
from components.data.preparing.rows import Rows, scan
from components.data.preparing.scratch import Scratch
from components.data.preparing.settings import Checks, Classes, SplitRule
from components.data.preparing.splits import assign, deal, draw, drop_close
from components.data.preparing.write import kept_rows, write, write_behaviour
from components.platform.progress import say
from predictor.files import whole

_DEFAULT_CHECKS, _DEFAULT_RULE, _ANY = Checks(), SplitRule(), Classes()


def prepare(
    frames: Mapping[str, pd.DataFrame], seed: int, checks: Checks = _DEFAULT_CHECKS, rule: SplitRule = _DEFAULT_RULE,
    classes: Classes = _ANY,
) -> Dataset:  # fmt: skip
    """Do what `prepare_folder` does with rows in memory.

    Args:
        frames: a frame for each split that was collected; `train` at least.
        seed: fixes the splits.
        checks: limits that the data must keep.
        rule: how missing splits are drawn.
        classes: what the task says of its classes.

    Raises:
        InputError: as for `prepare_folder`.
    """
    sources = {name: of_frame(frames[name]) for name in SPLITS if name in frames}
    with _decided(sources, seed, checks, rule, classes, {}) as (rows, report):
        splits = {
            name: pd.concat(list(kept_rows(sources, rows, split)), ignore_index=True)
            for split, name in enumerate(SPLITS)
        }
    report["sha256"] = digest_of(splits)
    train, validation, test = (Split(splits[name]) for name in SPLITS)
    return Dataset(train, validation, test, rows.classes, report)


def prepare_folder(
    collected: Path, out: Path, seed: int, checks: Checks = _DEFAULT_CHECKS, rule: SplitRule = _DEFAULT_RULE,
    classes: Classes = _ANY,
) -> dict[str, Any]:  # fmt: skip
    """Turn the collected artifact into the dataset artifact, without ever having all texts in memory.

    Rows that cannot be used are rejected. Of train rows with the same text (ignoring case, markup and white space) one
    is kept, and none if their labels differ. Train and validation rows whose text is a test row's, or close to it, are
    dropped, so that the test measures unseen texts. Test rows are never dropped as copies: the test stays the one that
    the user gave.

    A split without labels counts as missing, and so does a validation split that has only test rows. If there are
    validation rows and no test split, they become the test split, as data sets that publish only those intend. A
    missing split is drawn from train.

    Args:
        collected: the folder with a Parquet file for each split; `train` at least.
        out: the folder of the artifact; it appears whole or not at all.
        seed: fixes the splits.
        checks: limits that the data must keep.
        rule: how missing splits are drawn.
        classes: what the task says of its classes; the report says whether they are ordinal, or a text has any number.

    Returns:
        The report.

    Raises:
        InputError: the data is beyond a limit, there are fewer than two classes or others than the task's, or the
            splits cannot be drawn.
    """
    sources = of_folder(collected)
    out.parent.mkdir(parents=True, exist_ok=True)
    decided = _decided(sources, seed, checks, rule, classes, about(collected))
    with decided as (rows, report), whole(out) as aside:
        aside.mkdir()
        report["sha256"] = write(sources, rows, aside)
        write_behaviour([collected], rows.classes, aside, classes.names)
        save_notes(aside, rows.classes, report)
    return report


@contextmanager
def _decided(
    sources: dict[str, Chunks], seed: int, checks: Checks, rule: SplitRule, classes: Classes, collected: dict[str, Any]
) -> Iterator[tuple[Rows, dict[str, Any]]]:
    """Yield the rows, each with its split or the reason why it is left out, and the report but for the digest."""
    with tempfile.TemporaryDirectory(prefix="pigeonhole-prepare-") as folder:
        scratch = Scratch(Path(folder) / "texts.parquet")
        with scratch:
            rows = scan(sources, checks, rule, scratch, classes.multi_label)
        origins = assign(rows)
        unknown = checking.check_labels(rows, checks)
        rows.keep_labels(np.array(classes.places(rows.classes), dtype=np.int32))
        drop_copies(rows)
        leaks = drop_leaks(rows)
        checking.check_copied(rows)
        near = NearCopies.find(rows, scratch, Path(folder))
        leaks |= drop_close(rows, near, rule)
        if "validation" not in origins and not len(rows.kept(VALIDATION)):
            origins["validation"] = "every row given as validation is a test row too"
        figures = checking.check_classes(rows, checks)
        missing = [split for split in (TEST, VALIDATION) if not len(rows.kept(split))]
        for split in missing:
            draw(rows, split, near, rule, seed)
            origins[SPLITS[split]] = f"drawn from train: {origins[SPLITS[split]]}"
        for what, count in drop_close(rows, near, rule).items():
            leaks[what] = leaks.get(what, 0) + count
        figures["max_unknown_labels"] = max(unknown, checking.check_drawn(rows, checks))
        if rule.folds:
            deal(rows, near, rule, seed)
        language = reporting.language(rows, scratch, seed)
        unread = sum(collected.get("rejected", {}).values())
        figures |= checking.shares(rows, rows.names.index("train"), unread)
        figures["max_foreign_language"] = language["foreign"]
        report: dict[str, Any] = {
            **reporting.counts(rows),
            "leakage": leaks,
            "near_duplicates": reporting.near_copies(rows, near, scratch),
            "language": language,
            "drawn_from_train": [SPLITS[split] for split in missing],
            "origins": {name: origins.get(name, "given") for name in SPLITS},
            "collected": collected,
            "checks": asdict(checks),
            "figures": figures,
            "split": asdict(rule),
            "seed": seed,
            "ordinal": classes.ordinal,
            **({"multi_label": True} if classes.multi_label else {}),
            "examples": reporting.examples(rows, scratch),
        }
        for sentence in reporting.sentences(report, len(rows), rows.classes):
            say(sentence)
        checking.check_shares(figures, checks)
        yield rows, report
