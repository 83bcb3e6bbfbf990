"""What a task says of its classes: their order, which there are, and whether they are ordinal."""

import json
from pathlib import Path

import pandas as pd
import pytest

from components.data.append import append
from components.data.collect import collect
from components.data.dataset import Dataset
from components.data.prepare import prepare, prepare_folder
from components.data.preparing.settings import Checks, Classes
from predictor.errors import InputError

STARS = Classes(("poor", "fair", "good"), ordinal=True)
NEUTRAL = '{"name": "n", "kind": "minimum", "text": "Open at nine.", "label": "fair"}'
PRAISE = '{"name": "p", "kind": "minimum", "text": "Lovely!", "label": "good"}'


def _frame(labels: list[str], start: int = 0) -> pd.DataFrame:
    words = ["alpha", "bravo", "kilo", "lima", "oscar", "papa", "tango", "zulu"]
    texts = [f"{words[n % 8]} {words[n // 8 % 8]} number {n * 7919} {label}" for n, label in enumerate(labels, start)]
    return pd.DataFrame({"text": texts, "label": labels})


def test_labels_keep_the_order_of_the_task() -> None:
    frames = {"train": _frame(["good", "fair", "poor"] * 20)}
    assert prepare(frames, 1).labels == ["fair", "good", "poor"]
    dataset = prepare(frames, 1, classes=STARS)
    assert dataset.labels == ["poor", "fair", "good"] and dataset.ordinal
    truth = dataset.train.label_ids(dataset.labels)
    assert [dataset.labels[number] for number in truth] == dataset.train.labels


def test_data_may_lack_a_class_but_have_no_other() -> None:
    assert prepare({"train": _frame(["good", "poor"] * 20)}, 1, classes=STARS).labels == ["poor", "good"]
    with pytest.raises(InputError, match="the label 'great', which the task lacks"):
        prepare({"train": _frame(["good", "great"] * 20)}, 1, classes=STARS)


@pytest.mark.parametrize(
    ("names", "ordinal", "message"),
    [((), True, "not named"), (("a",), False, "two or more"), (("a", "a"), True, "two or more")],
)
def test_classes_that_contradict_themselves_are_refused(names: tuple[str, ...], ordinal: bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Classes(names, ordinal)


def _collected(folder: Path, labels: list[str], behaviour: str, start: int = 0) -> Path:
    folder.mkdir()
    _frame(labels, start).to_csv(folder / "train.csv", index=False)
    collect(str(folder / "train.csv"), folder / "collected", behaviour=behaviour)
    return folder / "collected"


def test_tests_for_a_class_that_the_data_lacks_are_left_out(tmp_path: Path) -> None:
    collected = _collected(tmp_path / "given", ["good", "poor"] * 20, f"{NEUTRAL}\n{PRAISE}\n")
    prepare_folder(collected, tmp_path / "out", 1, classes=STARS)
    kept = (tmp_path / "out/behaviour.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == [json.loads(PRAISE)]


def test_tests_beside_the_data_come_before_those_of_the_task(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    _frame(["good", "poor"] * 20).to_csv(folder / "train.csv", index=False)
    (folder / "behaviour.jsonl").write_text(PRAISE + "\n")
    collect(str(folder), tmp_path / "collected", behaviour=NEUTRAL)
    assert (tmp_path / "collected/behaviour.jsonl").read_text() == PRAISE + "\n"


def test_appending_keeps_the_order_and_takes_no_new_step(tmp_path: Path) -> None:
    collected = _collected(tmp_path / "given", ["good", "fair", "poor"] * 20, "")
    prepare_folder(collected, tmp_path / "old", 1, classes=STARS)
    more = _collected(tmp_path / "more", ["good", "poor"] * 10, "", start=300)
    append(tmp_path / "old", more, tmp_path / "new", 1, Checks())
    found = Dataset.load(tmp_path / "new")
    assert found.labels == ["poor", "fair", "good"] and found.ordinal
    other = _collected(tmp_path / "other", ["great", "poor"] * 10, "", start=600)
    with pytest.raises(InputError, match="the label 'great'"):
        append(tmp_path / "old", other, tmp_path / "no", 1, Checks(), new_labels=True)
