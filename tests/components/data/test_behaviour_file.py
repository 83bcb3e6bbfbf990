"""Behavioural tests stand beside the data, and reach the step that runs them, or fail before anything is trained."""

import json
from pathlib import Path

import fsspec
import pandas as pd
import pytest

from components.data.behaviour.lines import BEHAVIOUR_FILE, read_behaviour
from components.data.collect import collect
from components.data.prepare import prepare_folder
from predictor.errors import InputError

LINE = {"name": "plain", "kind": "minimum", "text": "a\u2028goal", "label": "a"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [(f"text number {row} about {label}", label) for row in range(30) for label in "ab"]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(folder / "train.csv", index=False)
    return folder


def write(folder: Path, *lines: object) -> None:
    (folder / BEHAVIOUR_FILE).write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))


def prepared(data: str, folder: Path) -> Path:
    collect(data, folder / "collected")
    prepare_folder(folder / "collected", folder / "dataset", seed=1)
    return folder / "dataset" / BEHAVIOUR_FILE


def test_tests_beside_the_train_file_come_with_the_dataset(data: Path, tmp_path: Path) -> None:
    write(data, LINE)
    (line,) = read_behaviour(prepared(str(data), tmp_path))
    assert (line.text, line.label, line.floor) == ("a\u2028goal", "a", 0.9)


def test_tests_come_from_object_storage_too(data: Path, tmp_path: Path) -> None:
    write(data, LINE)
    files = fsspec.filesystem("memory")
    files.put(str(data), "/behaviour-data", recursive=True)
    assert read_behaviour(prepared("memory://behaviour-data", tmp_path))


@pytest.mark.parametrize("file", ["", "/train.csv"])
def test_without_tests_there_are_none(data: Path, tmp_path: Path, file: str) -> None:
    if file:
        write(data, LINE)  # beside a file that was given alone
    assert not prepared(f"{data}{file}", tmp_path).exists()


def test_a_broken_line_is_named_by_the_users_file_and_nothing_is_left(data: Path, tmp_path: Path) -> None:
    write(data, LINE, {"name": "plain", "kind": "minimum", "text": "a"})
    with pytest.raises(InputError, match=r"data/behaviour.jsonl, line 2 is no behavioural test \(.*needs label\)"):
        prepared(str(data), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_label_that_the_data_lacks_fails_before_training(data: Path, tmp_path: Path) -> None:
    write(data, {**LINE, "label": "c"})
    with pytest.raises(InputError, match=r"the label 'c', which the data lacks \(it has: a, b\)"):
        prepared(str(data), tmp_path)
    assert not (tmp_path / "dataset").exists()
