"""Which split a row goes to: which given splits count, and how missing ones are drawn from train."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.model_selection import train_test_split

from components.data.dataset import SPLITS
from components.data.near_duplicates import clusters
from components.data.preparing.copies import LEAKS, TEST, TRAIN, drop_shared
from components.data.preparing.near import NearCopies
from components.data.preparing.rows import Fate, Rows
from components.data.preparing.settings import GROUP, TIME, SplitRule
from components.data.preparing.stratify import held_out
from predictor.errors import InputError


def assign(rows: Rows) -> dict[str, str]:
    """Set the split of each row, and return for each split that is not the rows given by that name, the reason.

    A split without labels counts as missing. Validation rows without a test split are the test split, as data sets that
    publish only those intend.

    Raises:
        InputError: a split was given without rows.
    """
    known = np.unique(rows.label[rows.given == rows.names.index("train")])
    target = {"train": TRAIN}
    origins = {}
    for name in ("validation", "test"):
        if name not in rows.names:
            origins[name] = f"no {name} split was given"
            continue
        mine = rows.given == rows.names.index(name)
        if not mine.any():
            raise InputError(f"{name} has no rows: fill it, or leave the file out")
        if _withheld(rows, mine, known):
            origins[name] = f"none of the {mine.sum():,} rows given as {name} has a label"
            rows.fate[mine] = Fate.WITHHELD
        target[name] = SPLITS.index(name)
    if "test" in origins and "validation" not in origins:
        target["validation"] = TEST
        origins["test"] = f"the rows given as validation: {origins['test']}"
        origins["validation"] = "the rows given as validation are the test split"
    rows.split = np.array([target[name] for name in rows.names], dtype=np.int8)[rows.given]
    return origins


def _withheld(rows: Rows, mine: NDArray[np.bool_], known: NDArray[np.int32]) -> bool:
    """Return whether all labels are withheld: published sets leave them empty, or write -1."""
    labels = np.unique(rows.label[mine])
    labels = labels[labels >= 0]
    labels = labels[np.array(rows.labels, dtype=object)[labels] != ""]
    minus_one = len(labels) == 1 and rows.labels[labels[0]] == "-1" and labels[0] not in known
    return len(labels) == 0 or minus_one


def draw(rows: Rows, split: int, near: NearCopies, rule: SplitRule, seed: int) -> None:
    """Move train rows to a split.

    Synthetic rows stay in train. Classes keep at least one row there, unless the split is by time.

    Raises:
        InputError: the rule cannot be followed.
    """
    train = rows.kept(TRAIN)
    real = int((~rows.synthetic[train]).sum())
    if not real:
        raise InputError(
            f"no row of train can be held out for {SPLITS[split]}: all {len(train):,} rows are synthetic, which are "
            "never tested on: add rows that somebody wrote"
        )
    wanted = max(int(np.count_nonzero(rows.class_counts(train))), min(round(real * rule.held_out), rule.most_held_out))
    if rule.by == TIME:
        drawn = _newest(rows.value[train].astype(np.float64), ~rows.synthetic[train], wanted, rule)
    elif rule.by == GROUP:
        drawn = _groups(_unit_of_group(rows)[train], rows, train, wanted, seed)
    elif rows.sets is not None:
        drawn = _iteratively(near.units(rows, train), rows, train, wanted, seed)
    else:
        drawn = _stratified(near.units(rows, train), rows, train, wanted, seed, every_class=split == TEST)
    if not drawn.any():
        what = {TIME: "other times", GROUP: "more groups"}.get(rule.by, "rows")
        raise InputError(
            f"no row of train can be held out for {SPLITS[split]}, since each class needs one to learn from: add {what}"
        )
    rows.split[train[drawn]] = split


def _newest(time: NDArray[np.float64], real: NDArray[np.bool_], wanted: int, rule: SplitRule) -> NDArray[np.bool_]:
    """Return whether a row is among the newest; rows of one time stay together."""
    times, counts = np.unique(time[real], return_counts=True)
    newest = np.cumsum(counts[::-1])
    held = max(1, int(np.searchsorted(newest, min(wanted, len(time) // 2), side="right")))
    if len(times) < 2 or newest[held - 1] > len(time) / 2:
        raise InputError(
            f"{counts[-1]:,} of {len(time):,} train rows have the newest time in '{rule.column}', so that train and "
            "what is held out cannot be told apart by time: give finer times, or split by group or at random"
        )
    drawn: NDArray[np.bool_] = real & (time >= times[-held])
    return drawn


def _unit_of_group(rows: Rows) -> NDArray[np.int64]:
    """Number the groups; a row without a group is one of its own."""
    units = np.unique(rows.value, return_inverse=True)[1].astype(np.int64)
    return np.where(rows.value == 0, len(rows) + np.arange(len(rows)), units)


def drop_close(rows: Rows, near: NearCopies, rule: SplitRule) -> dict[str, int]:
    """Leave out train and validation rows that are too close to a more protected split, and return how many."""
    return near.drop_leaks(rows) | (_drop_groups(rows) if rule.by == GROUP else {})


def _drop_groups(rows: Rows) -> dict[str, int]:
    """Leave out train and validation rows of a group that is in a more protected split, and return how many."""
    unit = _unit_of_group(rows)
    counts = {
        f"{SPLITS[name]} rows of a group in {SPLITS[other]}": drop_shared(rows, name, other, unit, Fate.SAME_GROUP)
        for name, other in LEAKS
    }
    return {what: count for what, count in counts.items() if count}


def _groups(unit: NDArray[np.int64], rows: Rows, train: NDArray[np.int64], wanted: int, seed: int) -> NDArray[np.bool_]:
    """Draw whole groups at random: one with each class, if another is left for train, and more up to the number."""
    unit = np.unique(unit, return_inverse=True)[1]
    size = np.bincount(unit)
    real = np.bincount(unit, weights=~rows.synthetic[train]) > 0
    rank = np.random.default_rng(seed).permutation(len(size))
    place, label = rows.members(train)
    pairs = pd.DataFrame({"label": label, "unit": unit[place]}).drop_duplicates()
    pairs["rank"] = rank[pairs["unit"]]
    # The last group of each class stays in train; the first of those that may go is drawn.
    free = real.copy()
    free[pairs.loc[pairs.groupby("label")["rank"].idxmax(), "unit"]] = False
    may_go = pairs[free[pairs["unit"]]]
    drawn = np.zeros(len(size), dtype=bool)
    drawn[may_go.loc[may_go.groupby("label")["rank"].idxmin(), "unit"]] = True
    order = np.argsort(rank)
    more = order[(free & ~drawn & (size <= wanted))[order]]
    drawn[more[np.cumsum(size[more]) <= wanted - size[drawn].sum()]] = True
    return drawn[unit] & ~rows.synthetic[train]


def _stratified(
    unit: NDArray[np.int64], rows: Rows, train: NDArray[np.int64], wanted: int, seed: int, every_class: bool
) -> NDArray[np.bool_]:
    """Draw whole units, groups of near-copies, class by class in proportion.

    A unit with several labels stays in train, and so does one with more rows than a class's share of what is drawn. A
    class with one unit also stays; with `every_class` any other has at least one unit drawn.
    """
    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    label = rows.label[train][first]
    size = np.bincount(unit, weights=~rows.synthetic[train])
    mixed = np.bincount(unit, weights=rows.label[train] != label[unit]) > 0
    real = size > 0
    may_go = ~mixed & real
    # A class in one unit would have no row left in train.
    units_of_class = np.bincount(label, minlength=len(rows.labels))
    fits = may_go & (size <= max(1, wanted // len(np.unique(label))))
    pool = np.flatnonzero(fits & (np.bincount(label[fits], minlength=len(rows.labels))[label] > 1))
    drawn = np.zeros(len(size), dtype=bool)
    if len(pool):
        classes = len(np.unique(label[pool]))
        units = min(max(classes, round(wanted * len(pool) / size.sum())), len(pool) - classes)
        drawn[train_test_split(pool, test_size=units, stratify=label[pool], random_state=seed)[1]] = True
    if every_class:
        without = (
            may_go & (units_of_class > 1)[label] & (np.bincount(label[drawn], minlength=len(rows.labels)) == 0)[label]
        )
        candidates = np.flatnonzero(without)
        order = candidates[np.lexsort((np.random.default_rng(seed).random(len(candidates)), size[candidates]))]
        drawn[order[np.unique(label[order], return_index=True)[1]]] = True
    return drawn[unit] & ~rows.synthetic[train]


def _iteratively(
    unit: NDArray[np.int64], rows: Rows, train: NDArray[np.int64], wanted: int, seed: int
) -> NDArray[np.bool_]:
    """Draw whole units, groups of near-copies, so that each label has its share; a unit that is too large stays."""
    unit = np.unique(unit, return_inverse=True)[1]
    size = np.bincount(unit, weights=~rows.synthetic[train]).astype(np.float64)
    place, label = rows.members(train)
    has = csr_array((np.ones(len(place), dtype=np.int64), (unit[place], label)), (len(size), len(rows.classes)))
    has.sum_duplicates()
    free = (size > 0) & (size <= max(1, wanted // max(1, int(np.count_nonzero(rows.class_counts(train))))))
    return held_out(has, size, free, wanted, seed)[unit] & ~rows.synthetic[train]


def together(rows: Rows, kept: NDArray[np.int64], near: NearCopies, rule: SplitRule) -> NDArray[np.int64]:
    """Number what must not be torn apart among these rows, of which no two have the same text.

    That is near-copies; by group also the rows of a group, with the near-copies of each and their groups.
    """
    units = near.units(rows, kept)
    if rule.by != GROUP:
        return units
    group = np.unique(_unit_of_group(rows)[kept], return_inverse=True)[1]
    return clusters(np.stack([units, len(kept) + group], axis=1), 2 * len(kept))[units]


def deal(rows: Rows, near: NearCopies, rule: SplitRule, seed: int) -> None:
    """Deal the train rows into folds, class by class; near-copies, and the rows of a group, share a fold."""
    train = rows.kept(TRAIN)
    _, first, unit = np.unique(together(rows, train, near, rule), return_index=True, return_inverse=True)
    order = np.lexsort((np.random.default_rng(seed).random(len(first)), rows.label[train][first]))
    fold = np.empty(len(first), dtype=np.int8)
    fold[order] = np.arange(len(first)) % rule.folds
    rows.fold[train] = fold[unit]
