"""Checks rows, removes copies, draws missing splits, and reports what was done."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd
from sklearn.model_selection import train_test_split

from components.data.dataset import SPLITS, Dataset, Split, digest_of
from components.platform.progress import say
from predictor.errors import InputError
from predictor.model.text import Cleaning, clean

# A class needs a row to learn from and a row to be checked with.
LEAST_ROWS = 2
# Above this share of texts, what cleaning removes as markup may be what distinguishes the classes.
_MUCH = 0.01
_EQUAL, _EMPTIED = "texts made equal to others", "texts made empty"


def prepare(frames: dict[str, pd.DataFrame], seed: int, held_out: float = 0.1, most_held_out: int = 3000) -> Dataset:
    """Turn collected frames into the dataset artifact.

    Rows without text or label are rejected. Of train rows with the same text (ignoring case, markup and white space)
    one is kept, and none if their labels differ. Train and validation rows whose text is also a test row are dropped,
    so that the test measures unseen texts. Test rows are never dropped as copies: the test stays the one that the user
    gave.

    A split without labels counts as missing, and so does a validation split that has only test rows. If there are
    validation rows and no test split, they become the test split, as data sets that publish only those intend. A
    missing split is drawn from train, class by class.

    Args:
        frames: what `collect` returned; `train` at least.
        seed: fixes the split.
        held_out: share of the train rows that a missing split gets.
        most_held_out: greatest number of rows of such a split.

    Raises:
        InputError: there are fewer than two classes, a class has no rows left, test has a label that train lacks, or
            every train row is also in another split.
    """
    rejects: Counter[str] = Counter()
    frames, origins = _labelled(frames)
    cleaning: Counter[str] = Counter({_EQUAL: 0, _EMPTIED: 0})
    usable = {name: _usable(frame, name, rejects, cleaning) for name, frame in frames.items()}
    _check_labels(frames, usable)
    labels = sorted(usable["train"]["label"].unique())
    usable["train"], duplicates, conflicts = _without_copies(usable["train"])
    leaks = {}
    for name, other in (("validation", "test"), ("train", "test"), ("train", "validation")):
        if name in usable and other in usable:
            kept = usable[name][~usable[name]["key"].isin(set(usable[other]["key"]))]
            leaks[f"{name} rows also in {other}"] = len(usable[name]) - len(kept)
            usable[name] = kept
    if "validation" in usable and usable["validation"].empty:
        del usable["validation"]
        origins["validation"] = "every row given as validation is a test row too"
    if not conflicts:
        _check_leaks(usable["train"], leaks)
    _check_classes(usable["train"], labels, usable)
    drawn = [name for name in ("test", "validation") if name not in usable]
    for name in drawn:
        usable["train"], usable[name] = _draw(usable["train"], seed, held_out, most_held_out)
        origins[name] = f"drawn from train: {origins[name]}"
    splits = {name: _with_ids(usable[name].drop(columns="key"), name) for name in SPLITS}
    report: dict[str, Any] = {
        "rows": {name: len(splits[name]) for name in SPLITS},
        "rows_by_label": {name: count_labels(splits[name], labels) for name in SPLITS},
        "rejected": dict(rejects),
        "cleaning": dict(cleaning),
        "duplicates": {"removed from train": duplicates, "of them with conflicting labels": conflicts},
        "leakage": leaks,
        "drawn_from_train": drawn,
        "origins": {name: origins.get(name, "given") for name in SPLITS},
        "seed": seed,
        "sha256": digest_of(splits),
    }
    say(", ".join(f"{len(splits[name]):,} {name}" for name in SPLITS) + f" rows in {len(labels)} classes")
    for name, origin in origins.items():
        say(f"{name}: {origin}")
    dropped = sum(rejects.values()) + duplicates + sum(leaks.values())
    if dropped:
        unusable, leaked = sum(rejects.values()), sum(leaks.values())
        say(f"{dropped:,} rows left out: {unusable} unusable, {duplicates} copies, {leaked} leaks")
    if cleaning.total() > _MUCH * sum(map(len, frames.values())):
        say(
            f"warning: without markup and entities {cleaning[_EQUAL]:,} texts are equal to others and "
            f"{cleaning[_EMPTIED]:,} are empty: write what should count without < and >"
        )
    return Dataset(Split(splits["train"]), Split(splits["validation"]), Split(splits["test"]), labels, report)


def _labelled(frames: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return the frames to use as splits, and for each split that is not the frame of that name, the reason."""
    splits = {name: frame for name, frame in frames.items() if name == "train" or not _withheld(frame, frames["train"])}
    origins = {
        name: f"none of the {len(frames[name]):,} rows given as {name} has a label"
        if name in frames
        else f"no {name} split was given"
        for name in ("validation", "test")
        if name not in splits
    }
    if "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        origins["test"] = f"the rows given as validation: {origins['test']}"
        origins["validation"] = "the rows given as validation are the test split"
    return splits, origins


def _withheld(frame: pd.DataFrame, train: pd.DataFrame) -> bool:
    """Return whether all labels are withheld: published sets leave them empty, or write -1."""
    labels, known = ({str(label).strip() for label in each["label"].dropna()} - {""} for each in (frame, train))
    return len(frame) > 0 and (not labels or (labels == {"-1"} and "-1" not in known))


def count_labels(frame: pd.DataFrame, labels: Sequence[str]) -> dict[str, int]:
    """Return the number of rows of each label, in one pass over the rows."""
    counts = Counter(frame["label"])
    return {label: counts[label] for label in labels}


def _usable(frame: pd.DataFrame, split: str, rejects: Counter[str], cleaning: Counter[str]) -> pd.DataFrame:
    frame = frame.copy()
    text = frame["text"].fillna("").map(str)
    # Rows that differ only in case or markup are copies of each other.
    frame["key"] = [clean(value, Cleaning(lowercase=True)) for value in text]
    cleaning.update(_merged(text, frame["key"]))
    frame["label"] = frame["label"].fillna("").map(lambda value: str(value).strip())
    blank, unlabelled = frame["key"] == "", frame["label"] == ""
    rejects[f"{split}: no text"] += int(blank.sum())
    rejects[f"{split}: no label"] += int((unlabelled & ~blank).sum())
    for reason in [reason for reason, count in rejects.items() if not count]:
        del rejects[reason]
    return frame[~blank & ~unlabelled]


def _merged(text: "pd.Series[str]", key: "pd.Series[str]") -> dict[str, int]:
    """Count the distinct texts that equal others, and the texts that are empty, only because markup was removed."""
    marked = text.str.contains(r"[<&;\\]")  # other texts have no markup
    plain = key.where(
        ~marked, text.where(marked, "").map(lambda value: clean(value, Cleaning(markup=False, lowercase=True)))
    )
    left = key != ""
    return {_EQUAL: plain[left].nunique() - key[left].nunique(), _EMPTIED: int((~left & (plain != "")).sum())}


def _without_copies(train: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Return train without copies, the number of rows removed, and how many of those had copies with other labels."""
    conflicting = train.groupby("key")["label"].transform("nunique") > 1
    kept = train[~conflicting].drop_duplicates("key")
    return kept, len(train) - len(kept), int(conflicting.sum())


def _check_labels(frames: dict[str, pd.DataFrame], usable: dict[str, pd.DataFrame]) -> None:
    declared = {str(label).strip() for label in frames["train"]["label"].dropna()} - {""}
    left = set(usable["train"]["label"])
    if empty := sorted(declared - left):
        raise InputError(f"class '{empty[0]}' in train has no row with text: add texts for it or remove the class")
    if len(left) < 2:
        found = f"only the class '{next(iter(left))}'" if left else "no labelled rows"
        raise InputError(f"train has {found}: a classifier needs rows of at least two classes")
    for name in ("test", "validation"):
        if name in usable and (unknown := sorted(set(usable[name]["label"]) - left)):
            raise InputError(
                f"{name} has the label '{unknown[0]}', which train lacks: add such rows to train or correct the label"
            )
        if name in usable and usable[name].empty:
            raise InputError(f"{name} has no row with text and label: fill it, or leave the file out")


def _check_leaks(train: pd.DataFrame, leaks: dict[str, int]) -> None:
    others = [name for name in ("test", "validation") if leaks.get(f"train rows also in {name}")]
    if train.empty and others:
        raise InputError(
            f"every row of train is also in {' or '.join(others)}: give other rows, or leave the copied file out and "
            "rows are drawn from train"
        )


def _check_classes(train: pd.DataFrame, labels: list[str], usable: dict[str, pd.DataFrame]) -> None:
    if train.empty:
        raise InputError(
            "every row of train has its text in another row with another label, or in test or validation (case, markup "
            "and white space make no difference): correct the labels, or look at what tells the classes apart"
        )
    needed = LEAST_ROWS + sum(name not in usable for name in ("validation", "test"))
    counts = train["label"].value_counts()
    for label in labels:
        if counts.get(label, 0) < needed:
            raise InputError(
                f"class '{label}' has {counts.get(label, 0)} rows in train without copies and rows of other splits, "
                f"{needed} are needed: add texts for it"
            )


def _draw(train: pd.DataFrame, seed: int, share: float, most: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    classes = train["label"].nunique()
    rows = max(classes, min(round(len(train) * share), most))
    left, drawn = train_test_split(train, test_size=rows, stratify=train["label"], random_state=seed)
    return left.sort_index(), drawn.sort_index()


def _with_ids(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    frame = frame.copy()
    numbered = [f"{split}-{row}" for row in frame.index]
    given = frame["id"].map(str) if "id" in frame and frame["id"].notna().all() else None
    frame["id"] = given if given is not None and given.is_unique else numbered
    first = ["id", "text", "label"]
    return frame[first + [column for column in frame.columns if column not in first]].reset_index(drop=True)
