"""Suggests which unlabelled rows people should label next, and has the model answer them first."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from components.data.sources.tables import SUFFIXES, read_table
from components.labelling import label_studio
from components.labelling.rows import read_rows
from components.labelling.selection import CANDIDATES, features, most, pick, uncertainty
from components.platform.progress import Progress, say
from predictor.errors import InputError
from predictor.model.bundle import MULTI, Bundle
from predictor.model.classifier import Classifier
from predictor.model.text import Cleaning, clean

_CHUNK = 2_000
"""Texts whose probabilities are held at a time: 40 MB with 5,000 classes."""
UNCERTAIN, RANDOM = "uncertain", "random"
"""Why a row was picked, as tasks say it in `picked`."""


class NothingToAsk(InputError):
    """No row is left that people could label."""


@dataclass(frozen=True)
class Suggestions:
    """Tasks for Label Studio, the labels to choose from, and a report on how the rows were picked."""

    tasks: list[dict[str, Any]]
    labels: list[str]
    report: dict[str, Any]


@dataclass(frozen=True)
class _Answers:
    """What the model says of each row: uncertainty, confidence (0 to 1) and the label's number, each (rows,)."""

    uncertainty: NDArray[np.float32]
    confidence: NDArray[np.float32]
    label: NDArray[np.int64]


def key_of(text: str) -> str:
    """Return what two texts share if one is an exact copy: case, markup and white space make no difference."""
    return clean(text, Cleaning(lowercase=True))


def known_texts(places: Iterable[Path]) -> set[str]:
    """Return the keys of the texts in files, or in all tables of folders, such as a prepared dataset.

    Raises:
        InputError: there is no such file, or no table in a folder, or it has no column `text`.
    """
    keys: set[str] = set()
    for place in places:
        files = sorted(file for file in place.iterdir() if file.name.endswith(SUFFIXES)) if place.is_dir() else [place]
        if not files:
            raise InputError(f"{place} has no table: give a dataset, or a file that ends in {', '.join(SUFFIXES)}")
        for file in files:
            if not file.is_file():
                raise InputError(f"{file} is no file: give a dataset, or a file with a column 'text'")
            frame = read_table(file)
            if "text" not in frame.columns:
                raise InputError(f"{file} has no column 'text': rename the column that holds it")
            keys |= {key_of(text) for text in frame["text"] if isinstance(text, str)}
    return keys


def suggest(
    bundle: Path, rows: Path, budget: int, random_share: float = 0.0, labelled: Sequence[Path] = (), seed: int = 42
) -> Suggestions:
    """Pick the rows that teach the model most, and write them as tasks with the model's answer as a pre-annotation.

    Exact copies are asked once. The model answers every row with the engine that serves it. Rows are picked by
    uncertainty and distance from each other (`components.labelling.selection`). A share of the budget may be drawn at
    random first, from all rows: only on those is the share of right answers an unbiased estimate of accuracy, since
    the others were picked for being hard. They get no pre-annotation, which people tend to agree with.

    Args:
        bundle: the model.
        rows: a table with a column `text`, and `id` and `source` where known. A row without an id gets the SHA-256 of
            its text, cut to 16 digits, so that the same text has the same id in the next round.
        budget: how many rows to pick.
        random_share: the share of the budget that is drawn at random, 0 to 1.
        labelled: files, or folders of files, whose texts are not asked again.
        seed: fixes the random rows.

    Raises:
        InputError: a file cannot be read, no row is left to ask, one id stands for two texts, or the bundle is none.
    """
    if budget < 1 or not 0 <= random_share <= 1:
        raise InputError("the budget or the random share makes no sense: give 1 or more rows, and a share of 0 to 1")
    if Bundle.open(bundle).spec.problem_type == MULTI:
        raise InputError(
            f"{bundle} gives a text any number of labels, and people are asked for one: label rows by hand"
        )
    known = known_texts(labelled)
    frame, left_out = _candidates(read_rows(rows, ["text"]), known, rows)
    classifier = Classifier(bundle)
    try:
        answers = _scored(classifier, frame["text"].tolist())
    finally:
        classifier.close()
    drawn, uncertain = _picked(answers.uncertainty, frame["text"].tolist(), budget, random_share, seed)
    version = classifier.bundle.digest[:12]
    tasks: list[dict[str, Any]] = []
    for number in [*uncertain, *drawn]:
        row = frame.iloc[number]
        label, confidence = classifier.labels[answers.label[number]], float(answers.confidence[number])
        at_random = len(tasks) >= len(uncertain)
        made = label_studio.task(
            row["id"], row["text"], row["source"], picked=RANDOM if at_random else UNCERTAIN, predicted=label
        )
        answer = label_studio.prediction(label, confidence, version)
        tasks.append({**made, "predictions": [] if at_random else [answer]})
    # Where people stop early, what they answered is still a fair draw of both kinds.
    order = np.random.default_rng(seed).permutation(len(tasks))
    report = {
        "rows": len(frame) + sum(left_out.values()),
        "left_out": left_out,
        "asked": len(tasks),
        "uncertain": len(uncertain),
        "random": len(drawn),
        "predicted": dict(Counter(task["data"]["predicted"] for task in tasks).most_common()),
        "mean_uncertainty": {
            "all rows": _mean(answers.uncertainty),
            "rows picked": _mean(answers.uncertainty[uncertain]),
        },
        "model_version": version,
        "seed": seed,
    }
    return Suggestions([tasks[place] for place in order], list(classifier.labels), report)


def _candidates(frame: pd.DataFrame, known: set[str], where: Path) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows that can be asked, with `id`, `text` and `source`, and how many others there are by reason."""
    keys = [key_of(text or "") for text in frame["text"]]
    given = frame["id"] if "id" in frame else [None] * len(frame)
    source = frame["source"] if "source" in frame else [None] * len(frame)
    left_out = Counter({"without words": 0, "copies of other rows": 0, "labelled already": 0})
    kept: dict[str, tuple[str, str, str]] = {}
    owner: dict[str, str] = {}
    for key, row_id, text, origin in zip(keys, given, frame["text"], source, strict=True):
        if not key:
            left_out["without words"] += 1
        elif key in known:
            left_out["labelled already"] += 1
        elif key in kept:
            left_out["copies of other rows"] += 1
        else:
            name = row_id or hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            if name in owner:
                raise InputError(f"{where} has two texts with the id '{name}': give each its own id, or give none")
            owner[name] = key
            kept[key] = (name, text, origin or where.name)
    if not kept:
        raise NothingToAsk(f"{where} has no row left to ask: each has no words, is a copy, or is labelled already")
    return pd.DataFrame(list(kept.values()), columns=["id", "text", "source"]), dict(left_out)


def _scored(classifier: Classifier, texts: Sequence[str]) -> _Answers:
    """Let the model answer all texts, a chunk at a time."""
    doubt, confidence = np.empty((2, len(texts)), dtype=np.float32)
    label = np.empty(len(texts), dtype=np.int64)
    say(f"{len(texts):,} rows to score with {classifier.about}")
    progress = Progress("score", len(texts), "rows")
    for start in range(0, len(texts), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        found = classifier.probabilities(texts[chunk], lambda count, start=start: progress(start + count))  # type: ignore[misc]
        doubt[chunk], confidence[chunk], label[chunk] = uncertainty(found), found.max(axis=1), found.argmax(axis=1)
    return _Answers(doubt, confidence, label)


def _mean(values: NDArray[np.float32]) -> float | None:
    return float(f"{values.mean():.4g}") if len(values) else None


def _picked(
    doubt: NDArray[np.float32], texts: Sequence[str], budget: int, random_share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows drawn at random, and those picked among the others, the most urgent first."""
    budget = min(budget, len(doubt))
    drawn = np.random.default_rng(seed).choice(len(doubt), round(budget * random_share), replace=False)
    left = np.setdiff1d(np.arange(len(doubt)), drawn)
    wanted = budget - len(drawn)
    pool = left[most(doubt[left], CANDIDATES * wanted)]
    if not wanted:
        return drawn, pool
    progress = Progress("pick", wanted, "rows")
    return drawn, pool[pick(doubt[pool], features([clean(texts[row]) for row in pool]), wanted, progress)]
