"""Collecting: labelled texts from the embedded sample, a folder of files, or the `datasets` library."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from predictor.errors import InputError

SAMPLE = "sample"
_SAMPLE_FOLDER = Path(__file__).parent / "sample"
_SUFFIXES = (".csv", ".csv.gz", ".parquet", ".parquet.gz")
_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
_KEPT = ("id", "text", "label", "source", "collected_at")


def collect(data: str) -> dict[str, pd.DataFrame]:
    """Read labelled texts.

    Args:
        data: `sample`; or a folder with `train` and, better, `test` and `validation` files (.csv or .parquet, gzip
            too; `dev` or `valid` name a validation file); or `hf:NAME` for `datasets.load_dataset(NAME)`. Columns
            `text` and `label`; `id`, `source` and `collected_at` are kept where they are, others are left out.

    Returns:
        A frame for each of `train`, `validation`, `test` that was found, `text` and `label` as strings or missing.
        A validation file without a test file is taken as the test split, as data sets that publish only those mean it.

    Raises:
        InputError: nothing there, an unreadable file, or a missing column.
    """
    if data == SAMPLE:
        frames = _from_folder(_SAMPLE_FOLDER)
    elif data.startswith("hf:"):
        frames = _from_datasets(data.removeprefix("hf:"))
    else:
        frames = _from_folder(Path(data))
    if "train" not in frames:
        raise InputError(f"{data} has no train split: add a file named train.csv, train.csv.gz or train.parquet")
    if "test" not in frames and "validation" in frames:
        frames["test"] = frames.pop("validation")
    return frames


def _from_folder(folder: Path) -> dict[str, pd.DataFrame]:
    if not folder.is_dir():
        raise InputError(
            f"--data {folder} is not a folder: give '{SAMPLE}', a folder with train and test files, or hf:NAME"
        )
    return {split: _columns(read_table(file), str(file)) for split, file in _split_files(folder)}


def _split_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for split, names in _NAMES.items():
        found = [folder / (name + suffix) for name in names for suffix in _SUFFIXES]
        found = [file for file in found if file.is_file()]
        if len(found) > 1:
            listed = ", ".join(file.name for file in found)
            raise InputError(f"{folder} has several {split} files ({listed}): keep one")
        if found:
            yield split, found[0]


def read_table(file: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file, gzip too, with whatever columns it has; the cells of a CSV are strings or missing.

    Raises:
        InputError: the file cannot be read.
    """
    gzipped = file.suffix == ".gz"
    try:
        if ".csv" in file.suffixes:
            # Strings as they are: a text "NA" or "007" is a text, and only an empty cell is missing.
            frame = pd.read_csv(
                file, dtype=str, keep_default_na=False, na_values=[""], compression="gzip" if gzipped else None
            )
        elif gzipped:
            import gzip
            import io

            frame = pd.read_parquet(io.BytesIO(gzip.decompress(file.read_bytes())))
        else:
            frame = pd.read_parquet(file)
    except Exception as error:  # pandas, pyarrow, gzip and the file system each raise their own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{file} cannot be read ({reason}): give a UTF-8 CSV or a Parquet file") from error
    return frame


def _columns(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    for column in ("text", "label"):
        if column not in frame.columns:
            names = ", ".join(map(str, frame.columns)) or "none"
            raise InputError(f"{where} has no column '{column}' (it has: {names}): rename the column that holds it")
    kept = frame[[column for column in _KEPT if column in frame.columns]].copy()
    for column in ("text", "label"):
        kept[column] = [_string(value) for value in kept[column]]
    return kept.reset_index(drop=True)


def _string(value: object) -> str | None:
    # NaN is what pandas makes of a missing number, and the only thing that differs from itself
    return None if value is None or value is pd.NA or value != value else str(value)


def _from_datasets(name: str) -> dict[str, pd.DataFrame]:
    import datasets

    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:  # the library's own errors and those of every file system and format under it
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"hf:{name} cannot be loaded ({type(error).__name__}: {reason}): check the name and the network, "
            "or give a local folder"
        ) from error
    frames = {}
    for split, names in _NAMES.items():
        found = next((loaded[key] for key in names if key in loaded), None)
        if found is not None:
            frames[split] = _columns(_with_names(found.to_pandas(), _label_name(found)), f"hf:{name} ({split})")
    return frames


def _label_name(split: object) -> Callable[[int], str] | None:
    """Return the function from class number to name, where the data set declares its labels as a ClassLabel."""
    feature = getattr(split, "features", {}).get("label")
    return getattr(feature, "int2str", None)


def _with_names(frame: pd.DataFrame, name_of: Callable[[int], str] | None) -> pd.DataFrame:
    if name_of is not None:
        # -1 is how published sets mark rows whose label is withheld
        frame["label"] = [name_of(int(value)) if value >= 0 else None for value in frame["label"]]
    return frame
