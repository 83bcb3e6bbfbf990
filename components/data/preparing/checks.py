"""What must hold of the rows; each thing that does not is one sentence with the figure, the limit and what to do."""

from collections.abc import Mapping

import numpy as np

from components.data.dataset import SPLITS
from components.data.preparing.copies import TEST, TRAIN, VALIDATION
from components.data.preparing.rows import REJECTED, Fate, Rows
from components.data.preparing.settings import Checks
from predictor.errors import InputError

_LEAKED = (Fate.SAME_TEXT, Fate.NEAR, Fate.SAME_GROUP)
_TOO_MUCH = {
    "max_rejected": ("of the rows cannot be used", "correct what the report and the log list"),
    "max_conflicts": ("of the train rows have their text under another label, too", "correct the labels"),
    "max_duplicates": ("of the train rows are copies of others", "look at how they were collected"),
    "max_leaked": (
        "of the train rows are in validation or test, too, or close to it", "give a test of other texts",
    ),
    "max_foreign_language": (
        "of the rows that were looked at are in another language than the rest", "remove them",
    ),
}  # fmt: skip
"""For each share that has a limit, what it is a share of, and what to do."""


def check_labels(rows: Rows, checks: Checks) -> float:
    """Reject validation and test rows with a label that train lacks, and return their largest share of a split.

    Raises:
        InputError: a class has no rows that can be used, there are fewer than two classes, validation or test has none,
            or too many rows with other labels.
    """
    train = np.flatnonzero((rows.split == TRAIN) & (rows.label >= 0))
    declared, left = (np.flatnonzero(rows.class_counts(mine)) for mine in (train, train[rows.fate[train] == Fate.KEPT]))
    if len(empty := np.setdiff1d(declared, left)):
        name = rows.classes[empty[0]]
        raise InputError(f"class '{name}' in train has no row with text: add texts for it or remove the class")
    if len(left) < 2:
        found = f"only the class '{rows.classes[left[0]]}'" if len(left) else "no labelled rows"
        raise InputError(f"train has {found}: a classifier needs rows of at least two classes")
    unknown = 0.0
    for split in (TEST, VALIDATION):
        unknown = max(unknown, _reject_unknown(rows, split, checks))
        given = (rows.split == split) & (rows.fate != Fate.WITHHELD)
        if given.any() and not len(rows.kept(split)):
            raise InputError(f"{SPLITS[split]} has no row with text and label: fill it, or leave the file out")
    rows.keep_labels(left.astype(np.int32))
    return unknown


def _reject_unknown(rows: Rows, split: int, checks: Checks) -> float:
    """Reject the rows of a split whose label no train row has, and return their share.

    Raises:
        InputError: they are too many.
    """
    kept = rows.kept(split)
    known = rows.class_counts(rows.kept(TRAIN)) > 0
    unknown = kept[~rows.of_classes(kept, known)]
    share = len(unknown) / max(len(kept), 1)
    if share > checks.max_unknown_labels:
        label = rows.classes[np.flatnonzero((rows.class_counts(unknown) > 0) & ~known)[0]]
        raise InputError(
            f"{SPLITS[split]} has the label '{label}', which train lacks: add such rows to train or correct the label "
            f"(that is {share:.1%} of its rows; the check max_unknown_labels allows {checks.max_unknown_labels:.1%})"
        )
    rows.fate[unknown] = Fate.UNKNOWN_LABEL
    return share


def check_copied(rows: Rows) -> None:
    """Refuse a train split of which every row is also in another file.

    Raises:
        InputError: it says in which.
    """
    if len(rows.kept(TRAIN)) or rows.count(Fate.CONFLICT, TRAIN):
        return
    gone = rows.text[(rows.split == TRAIN) & (rows.fate == Fate.SAME_TEXT)]
    others = [SPLITS[split] for split in (TEST, VALIDATION) if np.isin(gone, rows.text[rows.kept(split)]).any()]
    raise InputError(
        f"every row of train is also in {' or '.join(others)}: give other rows, or leave the copied file out and "
        "rows are drawn from train"
    )


def check_classes(rows: Rows, checks: Checks) -> dict[str, float]:
    """Refuse a class with too few rows to learn from, or classes of too different sizes; return both figures.

    Raises:
        InputError: it names the class.
    """
    kept = rows.kept(TRAIN)
    if not len(kept):
        raise InputError(
            "every row of train has its text in another row with another label, or in test or validation (case, markup "
            "and white space make no difference, nor a few words): correct the labels, or look at what tells the "
            "classes apart"
        )
    counts = rows.class_counts(kept)
    fewest, most = counts.argmin(), counts.argmax()
    if counts[fewest] < checks.min_rows_per_class:
        raise InputError(
            f"class '{rows.classes[fewest]}' has {counts[fewest]} rows in train without copies and rows of other "
            f"splits, {checks.min_rows_per_class:g} are needed (min_rows_per_class): add texts for it"
        )
    if counts[most] > checks.max_imbalance * counts[fewest]:
        raise InputError(
            f"class '{rows.classes[most]}' has {counts[most]:,} rows in train and class '{rows.classes[fewest]}' has "
            f"{counts[fewest]:,}, but max_imbalance is {checks.max_imbalance:g}: add texts for the small class, leave "
            "it out, or raise that check"
        )
    return {"min_rows_per_class": int(counts[fewest]), "max_imbalance": float(counts[most] / counts[fewest])}


def check_drawn(rows: Rows, checks: Checks) -> float:
    """Reject validation and test rows whose class has no row left in train, as happens in splits by time.

    Returns:
        Their largest share of a split.

    Raises:
        InputError: they are too many, or a class has no row left at all.
    """
    left = rows.class_counts(np.flatnonzero(rows.fate == Fate.KEPT))
    if len(empty := np.flatnonzero(left == 0)):
        raise InputError(
            f"class '{rows.classes[empty[0]]}' has no row left, since all are close to rows of other splits: add texts "
            "for it, or split in another way"
        )
    unknown = max(_reject_unknown(rows, split, checks) for split in (TEST, VALIDATION))
    for split, name in enumerate(SPLITS):
        if not len(rows.kept(split)):
            raise InputError(
                f"no row is left for {name}, since all are close to rows of other splits: add texts, or split in "
                "another way"
            )
    rows.keep_labels(np.flatnonzero(rows.class_counts(rows.kept(TRAIN))).astype(np.int32))
    return unknown


def shares(rows: Rows, train: int, unread: int) -> dict[str, float]:
    """Return how much is unusable, copied, contradictory or leaked, by the names of the checks.

    Args:
        rows: after all decisions.
        train: the split that was given for training, as a position in the names of given splits.
        unread: rows that were rejected before, where the data was read.
    """
    by_fate = np.bincount(rows.fate[rows.given == train], minlength=len(Fate))
    usable = max(int(by_fate.sum() - by_fate[REJECTED].sum()), 1)
    unusable = [fate for fate in REJECTED if fate not in (Fate.UNKNOWN_LABEL, Fate.WITHHELD)]
    given = max(int((rows.fate != Fate.WITHHELD).sum()) + unread, 1)
    return {
        "max_rejected": (int(np.isin(rows.fate, unusable).sum()) + unread) / given,
        "max_conflicts": float(by_fate[Fate.CONFLICT] / usable),
        "max_duplicates": float(by_fate[Fate.COPY] / usable),
        "max_leaked": float(by_fate[list(_LEAKED)].sum() / usable),
    }


def check_shares(figures: Mapping[str, float], checks: Checks) -> None:
    """Refuse data of which too much is unusable, copied, contradictory, leaked or in another language.

    Raises:
        InputError: it has the first figure that is beyond its limit.
    """
    for name, (what, remedy) in _TOO_MUCH.items():
        share, limit = figures.get(name, 0.0), getattr(checks, name)
        if share > limit:
            raise InputError(f"{share:.1%} {what}, and {name} is {limit:.1%}: {remedy}, or raise that check")
