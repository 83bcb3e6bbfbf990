"""What was done with the rows, as numbers and a few examples."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from components.data.dataset import SPLITS
from components.data.language import differing, languages, usual_languages
from components.data.preparing.copies import TEST, TRAIN
from components.data.preparing.near import NearCopies
from components.data.preparing.rows import EMPTY, REJECTED, Fate, Rows
from components.data.preparing.scratch import Scratch

EQUAL, EMPTIED = "texts made equal to others", "texts made empty"
_EXAMPLES = 5
"""The most rows of a reason that are shown."""
_MOST_LANGUAGES = 2000
"""Rows whose language is looked at; of more, as many are drawn."""


def counts(rows: Rows) -> dict[str, Any]:
    """Count rows by split, label and reason."""
    by_label = {name: rows.class_counts(rows.kept(split)).tolist() for split, name in enumerate(SPLITS)}
    rejected = {
        f"{name}: {fate.words}": rows.count(fate, split)
        for fate in map(Fate, REJECTED)
        for split, name in enumerate(SPLITS)
    }
    copies, conflicts = (rows.count(fate, TRAIN) for fate in (Fate.COPY, Fate.CONFLICT))
    given = np.bincount(rows.given, minlength=len(rows.names)).tolist()
    return {
        "given": dict(zip(rows.names, given, strict=True)),
        "rows": {name: len(rows.kept(split)) for split, name in enumerate(SPLITS)},
        "rows_by_label": {name: dict(zip(rows.classes, by_label[name], strict=True)) for name in SPLITS},
        "rejected": {reason: count for reason, count in rejected.items() if count},
        "cleaning": _merged(rows),
        "duplicates": {"removed from train": copies + conflicts, "of them with conflicting labels": conflicts},
        "untested": [label for label, count in zip(rows.classes, by_label[SPLITS[TEST]], strict=True) if not count],
    }


def _merged(rows: Rows) -> dict[str, int]:
    """Count the distinct texts that equal others, and the texts that are empty, only because markup was removed."""
    made = {EQUAL: 0, EMPTIED: 0}
    for split in range(len(SPLITS)):
        mine = (rows.split == split) & (rows.fate != Fate.WITHHELD)
        left = mine & (rows.fate != Fate.NO_TEXT)
        made[EQUAL] += len(np.unique(rows.plain[left])) - len(np.unique(rows.text[left]))
        made[EMPTIED] += int((mine & ~left & (rows.plain != EMPTY)).sum())
    return made


def examples(rows: Rows, scratch: Scratch) -> dict[str, list[dict[str, str]]]:
    """Return the first rows of each reason to leave a row out."""
    fates = sorted(set(np.unique(rows.fate).tolist()) - {Fate.KEPT})
    return {Fate(fate).words: scratch.shown(np.flatnonzero(rows.fate == fate)[:_EXAMPLES]) for fate in fates}


def near_copies(rows: Rows, near: NearCopies, scratch: Scratch) -> dict[str, Any]:
    """Count pairs of near-copies, and show some with different labels: one of the two labels may be wrong."""
    torn = near.differing(rows)
    shown = [scratch.shown(np.sort(pair)) for pair in torn[:_EXAMPLES]]
    return {"pairs": len(near.pairs), "with different labels": len(torn), "examples": shown}


def language(rows: Rows, scratch: Scratch, seed: int) -> dict[str, Any]:
    """Look at the language of the kept rows, or of some of them.

    Returns:
        `looked_at`, a number of rows; `rows` by language; `foreign`, the share of rows in another language than the
        rest; and examples of these.
    """
    kept = np.flatnonzero(rows.fate == Fate.KEPT)
    if len(kept) > _MOST_LANGUAGES:
        kept = np.sort(np.random.default_rng(seed).choice(kept, _MOST_LANGUAGES, replace=False))
    found = languages([text for texts in scratch.keys(kept) for text in texts])
    names, numbers = np.unique(found, return_counts=True)
    by_language = dict(zip(names.tolist(), numbers.tolist(), strict=True))
    foreign = np.flatnonzero(differing(found, usual_languages(by_language)))
    shown = [
        {**row, "language": found[place]}
        for place, row in zip(foreign[:_EXAMPLES], scratch.shown(kept[foreign[:_EXAMPLES]]), strict=True)
    ]
    return {
        "looked_at": len(kept), "rows": by_language, "foreign": len(foreign) / max(len(kept), 1), "examples": shown
    }  # fmt: skip


def sentences(report: dict[str, Any], given: int, labels: Sequence[str]) -> list[str]:
    """Return what a person who watches should know of a report."""
    said = [", ".join(f"{report['rows'][name]:,} {name}" for name in SPLITS) + f" rows in {len(labels)} classes"]
    said += [f"{name}: {origin}" for name, origin in report["origins"].items() if origin != "given"]
    unusable, leaked = sum(report["rejected"].values()), sum(report["leakage"].values())
    copies = report["duplicates"]["removed from train"]
    if dropped := unusable + copies + leaked:
        said.append(f"{dropped:,} rows left out: {unusable:,} unusable, {copies:,} copies, {leaked:,} leaks")
    if torn := report["near_duplicates"]["with different labels"]:
        said.append(f"{torn:,} pairs of near-copies have different labels: look at them in report.json")
    if untested := report["untested"]:
        more = f" and {len(untested) - 10:,} more" if len(untested) > 10 else ""
        said.append(f"without test rows, so that nothing will be known of them: {', '.join(untested[:10])}{more}")
    cleaning = report["cleaning"]
    # Above this share of texts, what cleaning removes as markup may be what distinguishes the classes.
    if sum(cleaning.values()) > 0.01 * given:
        said.append(
            f"warning: without markup and entities {cleaning[EQUAL]:,} texts are equal to others and "
            f"{cleaning[EMPTIED]:,} are empty: write what should count without < and >"
        )
    return said
