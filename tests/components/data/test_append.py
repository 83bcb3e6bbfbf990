from pathlib import Path

import pandas as pd
import pytest

from components.data.append import append
from components.data.dataset import Dataset, Split, digest_of
from components.data.prepare import prepare_folder
from components.data.preparing.settings import Checks
from predictor.errors import InputError

LABELS = ("a", "b")
TEXT = "this row of class {} number {} has quite a few words of its own to tell"
CLOSE = "the long text about {} that everybody quotes has more than a dozen words and ends with {}"


def _frame(start: int, count: int, labels: tuple[str, ...] = LABELS, **columns: str | bool) -> pd.DataFrame:
    rows = [
        (TEXT.format(f"{label}{n}", f"{n} {n + 1}"), label) for label in labels for n in range(start, start + count)
    ]
    return pd.DataFrame(rows, columns=["text", "label"]).assign(**columns)


def _collected(folder: Path, **frames: pd.DataFrame) -> Path:
    folder.mkdir()
    for name, frame in frames.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    return folder


@pytest.fixture
def there(tmp_path: Path) -> Path:
    test = pd.concat([_frame(500, 10), pd.DataFrame([(CLOSE.format("tests", "one"), "a")], columns=["text", "label"])])
    train = pd.concat([_frame(0, 40), pd.DataFrame([(CLOSE.format("train", "one"), "a")], columns=["text", "label"])])
    prepare_folder(_collected(tmp_path / "collected", train=train, test=test), tmp_path / "data", seed=1)
    return tmp_path / "data"


def _rows(*rows: tuple[str | None, str | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["text", "label"])


def test_rows_are_added_and_the_test_split_is_the_same_file(there: Path, tmp_path: Path) -> None:
    before = Dataset.load(there)
    new = pd.concat(
        [
            _frame(100, 50, source="feed"),
            _rows(
                (before.train.texts[0].upper(), before.train.labels[0]),  # a copy
                (before.train.texts[0], "b" if before.train.labels[0] == "a" else "a"),  # of another opinion
                (before.test.texts[0], before.test.labels[0]),
                (before.validation.texts[0], before.validation.labels[0]),
                (CLOSE.format("tests", "two"), "a"),
                ("", "a"),
                ("torn", "a"), ("torn", "b"),
            ),
        ]
    )  # fmt: skip
    report = append(there, _collected(tmp_path / "new", train=new), tmp_path / "out", 1, Checks())
    after = Dataset.load(tmp_path / "out")
    assert (tmp_path / "out/test.parquet").read_bytes() == (there / "test.parquet").read_bytes()
    (entry,) = report["appended"]
    assert entry["parent"] == before.digest and entry["rejected"] == {"no text": 1}
    assert entry["duplicates"] == {"removed from train": 4, "of them with conflicting labels": 3}
    assert entry["leakage"] == {
        "train rows also in test": 1, "train rows also in validation": 1, "train rows near test": 1
    }  # fmt: skip
    assert entry["given"] == 108 and sum(entry["added"].values()) == 100
    assert 0 < entry["added"]["validation"] <= 15 and entry["validation_share"] == pytest.approx(8 / 81)
    for split in ("train", "validation"):
        old, both = getattr(before, split).frame, getattr(after, split).frame
        pd.testing.assert_frame_equal(both.iloc[: len(old)][old.columns.tolist()], old)
        assert set(both["source"].iloc[len(old) :]) == {"feed"} and both["id"].is_unique
    splits = {name: getattr(after, name).frame for name in ("train", "validation", "test")}
    assert after.digest == digest_of(splits) == report["sha256"] and report["rows"]["train"] == len(after.train)
    again = append(tmp_path / "out", _collected(tmp_path / "more", train=_frame(200, 5)), tmp_path / "3", 1, Checks())
    assert [each["given"] for each in again["appended"]] == [108, 10] and Dataset.load(tmp_path / "3").digest
    assert Dataset.load(tmp_path / "3").train.frame["id"].is_unique


def test_synthetic_rows_and_near_copies_of_train_rows_stay_in_train(there: Path, tmp_path: Path) -> None:
    close = [(CLOSE.format("train", word), "a") for word in ("two", "three", "four")]
    new = pd.concat([_frame(100, 60, synthetic=True), _rows(*close).assign(synthetic=False)])
    report = append(there, _collected(tmp_path / "new", train=new), tmp_path / "out", 1, Checks())
    assert report["appended"][0]["added"] == {"train": 123, "validation": 0}
    assert Dataset.load(tmp_path / "out").train.frame["synthetic"].sum() == 120


def test_rows_that_are_there_stay_although_a_rule_of_today_would_drop_them(there: Path, tmp_path: Path) -> None:
    old = Dataset.load(there)
    close = old.train.frame.tail(1).assign(id="close", text=CLOSE.format("tests", "nine"), label="a")
    train = Split(pd.concat([old.train.frame, close], ignore_index=True))
    Dataset(train, old.validation, old.test, old.labels, old.report).save(there)
    report = append(there, _collected(tmp_path / "new", train=_frame(100, 5)), tmp_path / "out", 1, Checks())
    after = Dataset.load(tmp_path / "out").train
    assert after.texts[: len(train)] == train.texts and report["rows"]["train"] == len(after)
    assert report["appended"][0]["leakage"] == {}


def test_a_new_label_is_refused_unless_it_is_allowed(there: Path, tmp_path: Path) -> None:
    new = _collected(tmp_path / "new", train=_frame(100, 30, labels=("c",)))
    with pytest.raises(InputError, match=r"have the label 'c', which the dataset lacks: .* --new-labels"):
        append(there, new, tmp_path / "out", 1, Checks())
    assert not (tmp_path / "out").exists()
    report = append(there, new, tmp_path / "out", 1, Checks(), new_labels=True)
    after = Dataset.load(tmp_path / "out")
    assert after.labels == ["a", "b", "c"] and report["untested"] == ["c"]
    assert report["appended"][0]["new_labels"] == ["c"] and after.train.labels.count("c") == 30


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({"train": _frame(0, 40)}, "no row to add is left"),
        ({"train": _frame(100, 5), "test": _frame(200, 5)}, "have a test split, which would be lost"),
        ({"train": pd.concat([_frame(100, 5), _rows(*[("", "a")] * 5)])}, "33.3% of the rows cannot be used"),
    ],
)
def test_rows_that_cannot_be_added_are_refused(
    there: Path, tmp_path: Path, frames: dict[str, pd.DataFrame], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        append(there, _collected(tmp_path / "new", **frames), tmp_path / "out", 1, Checks())
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="is no dataset artifact"):
        append(tmp_path / "away", tmp_path / "new", tmp_path / "out", 1, Checks())
