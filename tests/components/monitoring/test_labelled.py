"""Feedback becomes rows with true labels, and the rows become data to train on."""

from pathlib import Path

import pandas as pd
import pytest

from components.data.collect import collect
from components.data.dataset import Dataset
from components.data.prepare import prepare_folder
from components.data.preparing.settings import Checks, SplitRule
from components.monitoring.labelled import Labelled, enlarge, join
from predictor.errors import InputError
from predictor.records import Feedback, Prediction
from tests.conftest import toy_frame


def _prediction(name: str, text: str | None, label: str = "World") -> Prediction:
    hashed = f"hash of {text}"
    return Prediction(name, "2026-11-29T10:00:00.000Z", "r", "b", text, hashed, 5, 1, label, 0.5, None, "transformer")


def _said(name: str, label: str, minute: int = 0, source: str | None = None) -> Feedback:
    return Feedback(name, f"2026-11-29T11:{minute:02}:00.000Z", label, source)


def test_the_last_word_counts_and_contradictions_are_counted() -> None:
    said = [_said("a", "Sports", 2, "anna"), _said("a", "World", 1), _said("a", "Sports", 0), _said("b", "World")]
    found = join([_prediction("a", "one"), _prediction("b", "two"), _prediction("c", "three")], said)
    assert found.frame.to_dict("records") == [
        {"id": "a", "text": "one", "label": "Sports", "source": "anna", "collected_at": "2026-11-29T11:02:00.000Z"},
        {"id": "b", "text": "two", "label": "World", "source": "feedback", "collected_at": "2026-11-29T11:00:00.000Z"},
    ]
    assert found.counts == {"feedback": 4, "repeated": 1, "contradicted": 1, "unknown": 0, "ambiguous": 0, "rows": 2}


def test_the_order_of_the_log_makes_no_difference() -> None:
    said = [_said("a", "Sports"), _said("a", "World"), _said("b", "World", 3), _said("b", "World", 3)]
    answers = [_prediction("a", "one"), _prediction("b", "one"), _prediction("a", "one")]
    one, other = join(answers, said), join(answers[::-1], said[::-1])
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert one.frame["label"].tolist() == ["World"]


def test_feedback_on_nothing_and_on_redacted_texts_is_counted() -> None:
    said = [_said("a", "World"), _said("b", "World"), _said("gone", "World"), _said("c", "Sports", 1)]
    answers = [_prediction("a", "same"), _prediction("b", None), _prediction("c", "same")]
    found = join(answers, said)
    assert found.counts["unknown"] == 1 and found.counts["without_text"] == 1 and found.counts["conflicts"] == 1
    assert found.frame["label"].tolist() == ["Sports"]


def test_feedback_on_an_id_that_callers_use_again_is_no_label() -> None:
    answers = [_prediction("1", "one"), _prediction("1", "two"), _prediction("2", "one"), _prediction("2", "one")]
    found = join(answers, [_said("1", "Sports", 5), _said("2", "World")])
    assert found.frame[["text", "label"]].to_numpy().tolist() == [["one", "World"]]
    assert found.counts["ambiguous"] == 1 and found.counts["rows"] == 1


def test_no_feedback_makes_no_rows() -> None:
    assert join([_prediction("a", "one")], []).frame.empty
    assert list(join([], [_said("a", "World")]).frame.columns) == ["id", "text", "label", "source", "collected_at"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    for split, rows, seed in (("train", 40, 1), ("validation", 10, 2), ("test", 10, 3)):
        (folder / "rows").mkdir(exist_ok=True)
        toy_frame(rows, seed).to_csv(folder / "rows" / f"{split}.csv", index=False)
    collect(str(folder / "rows"), folder / "collected")
    prepare_folder(folder / "collected", folder / "data", 42, Checks(), SplitRule())
    return folder / "data"


def _labelled(texts: list[str], label: str = "Sports") -> Labelled:
    rows = [(f"id{n}", text, label, "feedback", "2026-11-29T11:00:00.000Z") for n, text in enumerate(texts)]
    return Labelled(pd.DataFrame(rows, columns=["id", "text", "label", "source", "collected_at"]), {})


def test_new_rows_are_added_once_and_the_test_split_stays(dataset: Path, tmp_path: Path) -> None:
    texts = [f"the {word} skates down an icy slope at {n}" for n, word in enumerate(["curler", "skier", "skater"])]
    before = Dataset.load(dataset)
    first = enlarge(dataset, _labelled(texts), tmp_path / "one")
    after = Dataset.load(tmp_path / "one")
    assert first.added == 3 and first.digest == after.digest != before.digest
    assert (tmp_path / "one/test.parquet").read_bytes() == (dataset / "test.parquet").read_bytes()
    assert enlarge(dataset, _labelled(texts), tmp_path / "again").digest == first.digest
    second = enlarge(tmp_path / "one", _labelled(texts), tmp_path / "two")
    assert (second.added, second.digest) == (0, first.digest)
    assert second.left_out["in the dataset already, or unusable"] == 3


def test_labels_that_the_dataset_lacks_wait_until_they_may_be_new(dataset: Path, tmp_path: Path) -> None:
    rows = _labelled(["a comet crosses the northern sky tonight", "a probe lands upon a distant moon"], "Science")
    out = enlarge(dataset, rows, tmp_path / "out")
    assert out.added == 0 and out.left_out["a label that the dataset lacks"] == 2
    assert enlarge(dataset, rows, tmp_path / "new", new_labels=True).added == 2


def test_without_rows_the_dataset_is_as_it_was(dataset: Path, tmp_path: Path) -> None:
    same = enlarge(dataset, _labelled([]), tmp_path / "out")
    assert (same.added, same.digest) == (0, Dataset.load(dataset).digest) and Dataset.load(tmp_path / "out").labels


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dataset artifact"):
        enlarge(tmp_path, _labelled(["one"]), tmp_path / "out")


def test_saved_rows_are_a_source_like_any_other(tmp_path: Path) -> None:
    _labelled(["one text", "another text"]).save(tmp_path / "labelled.parquet")
    collected = collect(str(tmp_path / "labelled.parquet"), tmp_path / "collected")
    assert collected.rows == {"train": 2}
    frame = pd.read_parquet(tmp_path / "collected/train.parquet")
    assert frame["source"].tolist() == ["feedback"] * 2 and frame["id"].tolist() == ["id0", "id1"]
