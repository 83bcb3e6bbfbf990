"""Reads labelled texts from the embedded sample, a folder of files, or the `datasets` library."""

from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from pathlib import Path

import pandas as pd

from components.data.cells import as_texts, same_labels
from components.data.tables import SUFFIXES, class_names, read_table, to_frame
from predictor.errors import InputError, one_line

SAMPLE = "sample"
_SAMPLE_FOLDER = Path(__file__).parent / "sample"
_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
# A folder that `datasets` saved to disk has one of these: the first for several splits, the second for one.
_SAVED_TO_DISK = ("dataset_dict.json", "state.json")
_KEPT = ("id", "text", "label", "source", "collected_at")


def collect(data: str) -> dict[str, pd.DataFrame]:
    """Read labelled texts.

    Args:
        data: `sample`; or a folder with a `train` file and, if possible, `test` and `validation` files (.csv, .jsonl or
            .parquet, also gzipped; a validation file may be named `valid`, `val` or `dev`); or a folder that the
            `datasets` library saved to disk; or `hf:NAME` for `datasets.load_dataset(NAME)`. The columns `text` and
            `label` are required; `id`, `source` and `collected_at` are kept, others are dropped.

    Returns:
        A frame for each of `train`, `validation` and `test` that was found, with `text` and `label` as strings or None.
        A class has the same name in all of them.

    Raises:
        InputError: nothing is there, a file cannot be read, a column is missing, or a cell is no text or label.
    """
    if data == SAMPLE:
        frames = _from_folder(_SAMPLE_FOLDER)
    elif data.startswith("hf:"):
        frames = _from_datasets(data, "load_dataset", data.removeprefix("hf:"))
    elif any((Path(data) / name).is_file() for name in _SAVED_TO_DISK):
        frames = _from_datasets(data, "load_from_disk", data)
    else:
        frames = _from_folder(Path(data))
    if "train" not in frames:
        raise InputError(f"{data} has no train split: add a file named train.csv, train.csv.gz or train.parquet")
    labels = {label.strip() for frame in frames.values() for label in frame["label"] if label}
    names = same_labels(labels - {""})
    for frame in frames.values():
        frame["label"] = [names.get(label.strip()) if label else None for label in frame["label"]]
    return frames


def _from_folder(folder: Path) -> dict[str, pd.DataFrame]:
    if not folder.is_dir():
        raise InputError(
            f"--data {folder} is not a folder: give '{SAMPLE}', a folder with train and test files, or hf:NAME"
        )
    files = dict(_split_files(folder))
    return {split: _columns(read_table(file), str(file), class_names(file, "label")) for split, file in files.items()}


def _split_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for split, names in _NAMES.items():
        found = [folder / (name + suffix) for name in names for suffix in SUFFIXES]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            listed = ", ".join(file.name for file in found)
            raise InputError(f"{folder} has several {split} files ({listed}): keep one")
        if found:
            yield split, found[0]


def _columns(frame: pd.DataFrame, where: str, names: Sequence[str] | None) -> pd.DataFrame:
    """Return the columns to keep, as text; if labels are numbers of classes, `names` are the names of the classes."""
    for column in ("text", "label"):
        if column not in frame.columns:
            found = ", ".join(map(str, frame.columns)) or "none"
            raise InputError(f"{where} has no column '{column}' (it has: {found}): rename the column that holds it")
    if frame.empty:
        raise InputError(f"{where} has no rows: fill it, or leave it out")
    kept = pd.DataFrame(index=range(len(frame)))
    for column in (column for column in _KEPT if column in frame.columns):
        values = _named(frame[column], names, where) if names and column == "label" else frame[column]
        # collected_at is a time; no later step reads it
        kept[column] = list(values) if column == "collected_at" else as_texts(values, where, column)
    return kept


def _named(numbers: Iterable[object], names: Sequence[str], where: str) -> Iterator[object]:
    """Yield the name of each class number; -1 marks a withheld label in published sets."""
    for number in numbers:
        if not isinstance(number, Integral):
            yield number  # missing, or already a name
        elif int(number) < len(names):
            yield names[int(number)] if int(number) >= 0 else None
        else:
            raise InputError(f"{where} has the label {number}, but names for {len(names)} classes only: correct one")


def _from_datasets(name: str, function: str, argument: str) -> dict[str, pd.DataFrame]:
    import datasets

    try:
        loaded = getattr(datasets, function)(argument)
    except Exception as error:  # the library raises its own errors and those of any file system or format
        reason = one_line(error)
        raise InputError(
            f"{name} cannot be loaded ({type(error).__name__}: {reason}): check the name and the network, "
            "or give a local folder"
        ) from error
    if isinstance(loaded, datasets.Dataset):
        loaded = {"train": loaded}
    frames = {}
    for split, names in _NAMES.items():
        found = next((loaded[key] for key in names if key in loaded), None)
        if found is not None:
            frame = to_frame(found.with_format("arrow")[:])
            # The names of a ClassLabel
            classes = getattr(found.features.get("label"), "names", None)
            frames[split] = _columns(frame, f"{name} ({split})", classes)
    return frames
