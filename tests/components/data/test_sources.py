import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data.collect import collect_frames
from predictor.errors import InputError

FRAME = pd.DataFrame(
    {"text": ['He said "no, never"', "NA", "two\nlines"], "label": ["a", "b", "007"], "extra": [1, 2, 3]}
)


def _write(frame: pd.DataFrame, file: Path) -> None:
    if file.name.endswith(".parquet.gz"):
        file.write_bytes(gzip.compress(frame.to_parquet(index=False)))
    elif file.name.endswith(".parquet"):
        frame.to_parquet(file, index=False)
    else:
        frame.to_csv(file, index=False)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet", ".parquet.gz"])
def test_reads_each_format_to_the_letter(tmp_path: Path, suffix: str) -> None:
    _write(FRAME, tmp_path / f"train{suffix}")
    _write(FRAME, tmp_path / f"test{suffix}")
    frames = collect_frames(str(tmp_path))
    assert sorted(frames) == ["test", "train"]
    assert frames["train"][["text", "label"]].to_dict("list") == FRAME[["text", "label"]].to_dict("list")
    assert list(frames["train"].columns) == ["text", "label", "source", "collected_at", "synthetic", "extra"]
    assert frames["train"]["extra"].tolist() == ["1", "2", "3"]
    assert set(frames["train"]["source"]) == {str(tmp_path / f"train{suffix}")}
    assert not frames["train"]["synthetic"].any()


def test_the_sample_is_there() -> None:
    frames = collect_frames("sample")
    assert {name: len(frame) for name, frame in frames.items()} == {"train": 1080, "validation": 160, "test": 280}


def test_a_dev_file_beside_a_test_file_is_the_validation_split(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "dev", "test"), start=1):
        _write(FRAME.head(number), tmp_path / f"{name}.csv")
    lengths = {name: len(frame) for name, frame in collect_frames(str(tmp_path)).items()}
    assert lengths == {"train": 1, "validation": 2, "test": 3}


def test_numbers_as_labels_become_names_and_empty_cells_stay_missing(tmp_path: Path) -> None:
    _write(pd.DataFrame({"text": ["a", None], "label": [3, 4]}), tmp_path / "train.parquet")
    frame = collect_frames(str(tmp_path))["train"]
    assert frame["label"].tolist() == ["3", "4"]
    assert frame["text"].tolist() == ["a", None]


def test_reads_the_datasets_library_with_label_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    rows = {"text": ["one", "two", "three"], "label": [0, 1, -1]}
    for split in ("train", "test"):
        Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{split}.parquet")
    assert [frame["label"].tolist() for frame in collect_frames(f"hf:{tmp_path}").values()] == [
        ["bad", "good", None]
    ] * 2
    # The same files as a folder: the names are in them
    assert [frame["label"].tolist() for frame in collect_frames(str(tmp_path)).values()] == [["bad", "good", None]] * 2


def test_class_names_fit_only_the_numbers_they_were_given_for(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    Dataset.from_dict({"text": ["one"], "label": [0]}, features=features).to_parquet(tmp_path / "train.parquet")
    schema = pq.read_schema(tmp_path / "train.parquet")
    table = pa.table({"text": ["one", "two"], "label": pa.array([0, 2], pa.int64())})
    pq.write_table(table.replace_schema_metadata(schema.metadata), tmp_path / "train.parquet")
    with pytest.raises(InputError, match="has the label 2, but names for 2 classes only"):
        collect_frames(str(tmp_path))
    named = table.set_column(1, "label", pa.array(["bad", "fair"])).replace_schema_metadata(schema.metadata)
    pq.write_table(named, tmp_path / "train.parquet")
    assert collect_frames(str(tmp_path))["train"]["label"].tolist() == ["bad", "fair"]


@pytest.mark.parametrize("whole", [True, False])
def test_reads_a_folder_that_the_datasets_library_saved(tmp_path: Path, whole: bool) -> None:
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    made = Dataset.from_dict({"text": ["one", "two"], "label": [1, 0]}, features=features)
    (DatasetDict(train=made, test=made) if whole else made).save_to_disk(tmp_path / "saved")
    frames = collect_frames(str(tmp_path / "saved"))
    assert sorted(frames) == (["test", "train"] if whole else ["train"])
    assert frames["train"]["label"].tolist() == ["good", "bad"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no train split"),
        ({"train.csv": "body,label\nx,y\n"}, "train.csv has no column 'text' .it has: body, label."),
        ({"train.csv": "text\nx\n"}, "train.csv has no column 'label'"),
        ({"train.csv": ""}, "train.csv cannot be read"),
        ({"train.csv": b"text,label\n\xc3\xa9t\xc3\xa9,a\n\xe9t\xe9,a\n"}, "train.csv .* .line 3 is not UTF-8"),
        ({"train.csv": 'text,label\n"open,a\n'}, "train.csv, line 2 cannot be read"),
        ({"train.csv.gz": b"not gzip"}, r"train.csv.gz cannot be read"),
        ({"train.parquet": b"not parquet"}, "train.parquet cannot be read"),
        ({"train.csv": "text,label\na,b\n", "train.parquet": b""}, "several train files"),
        ({"test.csv": "text,label\na,b\n"}, "no train split"),
    ],
)
def test_bad_folders_are_named_with_what_to_do(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=message) as caught:
        collect_frames(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_an_unreachable_hub_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        collect_frames(str(tmp_path / "none"))
    with pytest.raises(InputError, match="hf:no/such-set cannot be loaded"):
        collect_frames("hf:no/such-set")
