"""Feedback joined with logged texts: rows with true labels, and the dataset with them."""

import json
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from components.data.append import NothingToAdd, append
from components.data.collect import collect
from components.data.dataset import LABELS_FILE, REPORT_FILE
from components.data.preparing.settings import Checks
from predictor.errors import InputError
from predictor.files import whole
from predictor.label_sets import labels_in
from predictor.records import Feedback, Prediction

COLUMNS = ["id", "text", "label", "source", "collected_at"]
_SOURCE = "feedback"


@dataclass(frozen=True)
class Labelled:
    """Rows with true labels, and what was counted on the way."""

    frame: pd.DataFrame
    """Columns `id`, `text`, `label`, `source` (who said the label) and `collected_at`, a row for each text."""
    counts: Mapping[str, int]
    """`feedback` (all of it), `repeated` and `contradicted` (other feedback on the same prediction, with the label that
    counts and with another), `unknown` (on no prediction of the log), `ambiguous` (on an id that several texts have),
    `without_text` (redacted), `copies` and `conflicts` (predictions of the same text, with the same label and with
    another), `rows`."""

    def save(self, file: Path) -> None:
        """Write as Parquet, which `pigeonhole data append` takes as it is."""
        self.frame.to_parquet(file, index=False)


def join(predictions: Iterable[Prediction], feedback: Iterable[Feedback]) -> Labelled:
    """Give each text that has feedback the label that was said last.

    Feedback is held in memory, predictions pass by. Feedback of one time is ordered by label and source, so that the
    rows do not depend on the order of the log's parts.

    Args:
        predictions: the answers in the log.
        feedback: the true labels in the log.
    """
    counts: Counter[str] = Counter()
    notes: defaultdict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for note in feedback:
        notes[note.id].append((note.time, note.label, note.source or _SOURCE))
    said = {name: max(found) for name, found in notes.items()}
    for name, found in notes.items():
        same = sum(label == said[name][1] for _, label, _ in found)
        counts.update(feedback=len(found), repeated=same - 1, contradicted=len(found) - same)
    texts: dict[str, tuple[str, str | None]] = {}
    ambiguous: set[str] = set()
    for record in predictions:
        if record.id in said:
            found_before = texts.setdefault(record.id, (record.text_hash, record.text))
            if found_before[0] != record.text_hash:
                ambiguous.add(record.id)
    rows: dict[str, tuple[tuple[str, str, str], str]] = {}
    for name, (_, text) in texts.items():
        if name in ambiguous:
            continue
        if not text:
            counts["without_text"] += 1
            continue
        held = rows.get(text)
        if held:
            counts["copies" if held[0][1] == said[name][1] else "conflicts"] += 1
        rows[text] = max(held, (said[name], name)) if held else (said[name], name)
    counts["unknown"] = len(said.keys() - texts.keys())
    counts["ambiguous"] = len(ambiguous)
    counts["rows"] = len(rows)
    made = [(name, text, label, source, at) for text, ((at, label, source), name) in rows.items()]
    return Labelled(pd.DataFrame(sorted(made), columns=COLUMNS, dtype="str"), dict(counts))


@dataclass(frozen=True)
class Enlarged:
    """A dataset artifact with labelled rows added."""

    digest: str
    """SHA-256 of its rows; that of the dataset before, where nothing was added."""
    added: int
    left_out: dict[str, int] = field(default_factory=dict)
    """Labelled rows that were not added, by reason."""


def enlarge(dataset: Path, labelled: Labelled, out: Path, seed: int = 42, new_labels: bool = False) -> Enlarged:
    """Write a dataset artifact with the labelled rows added; where none is new, one with the same rows.

    The test split stays as it is. Rows that the dataset has, or has something close to, are left out, and so are labels
    that it lacks, unless they may be new.

    Args:
        dataset: the artifact that is there.
        labelled: the rows.
        out: the folder of the new artifact; it appears whole or not at all.
        seed: fixes which rows go to validation.
        new_labels: whether labels may be new.

    Raises:
        InputError: there is no artifact.
    """
    try:
        known = set(json.loads((dataset / LABELS_FILE).read_text()))
        report = json.loads((dataset / REPORT_FILE).read_text())
        digest, multi_label = str(report["sha256"]), bool(report.get("multi_label"))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{dataset} is no dataset artifact ({error}): give the folder data of a run") from error
    fits = labelled.frame["label"].map(lambda text: known.issuperset(labels_in(text, multi_label))).astype(bool)
    usable = labelled.frame if new_labels else labelled.frame[fits]
    left_out = {"a label that the dataset lacks": len(labelled.frame) - len(usable)}
    if len(usable):
        with tempfile.TemporaryDirectory(prefix="pigeonhole-labelled-") as folder:
            rows, collected = Path(folder) / "labelled.parquet", Path(folder) / "collected"
            usable.to_parquet(rows, index=False)
            collect(str(rows), collected, multi_label=multi_label)
            try:
                # What people say of single answers is no data set whose shares could be asked for.
                any_share = dict.fromkeys(("max_rejected", "max_conflicts", "max_duplicates", "max_leaked"), 1.0)
                report = append(dataset, collected, out, seed, Checks(min_rows_per_class=1, **any_share), new_labels)
            except NothingToAdd:
                pass
            else:
                added = sum(report["appended"][-1]["added"].values())
                left_out["in the dataset already, or unusable"] = len(usable) - added
                return Enlarged(str(report["sha256"]), added, left_out)
        left_out["in the dataset already, or unusable"] = len(usable)
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole(out) as aside:
        shutil.copytree(dataset, aside)
    return Enlarged(digest, 0, left_out)
