"""One part in, one part out: every row, in order, as it would be served."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.scoring.part import BYTES, EMPTY, MISSING, score_part
from components.scoring.plan import Settings
from predictor.errors import InputError
from predictor.model.classifier import Classifier
from tests.conftest import BUSINESS, SPORTS, WORLD


def score(table: pa.Table, folder: Path, classifier: Classifier, **settings: object) -> pa.Table:
    pq.write_table(table, folder / "in.parquet", row_group_size=70)
    score_part(folder / "in.parquet", folder / "out.parquet", classifier, Settings(**settings))  # type: ignore[arg-type]
    return pq.read_table(folder / "out.parquet")


def test_each_row_comes_out_once_in_order_with_the_served_answer(
    rows: Path, classifier: Classifier, tmp_path: Path
) -> None:
    given = pq.read_table(rows)
    out = score(given, tmp_path, classifier, probabilities=True)
    assert out.select(given.schema.names).equals(given)
    assert out.schema.names == ["text", "id", "predicted_label", "confidence", "reason", "probabilities"]
    left = {3: EMPTY, 70: MISSING, 71: EMPTY}
    for number, row in enumerate(out.to_pylist()):
        if number in left:
            assert row["reason"] == left[number]
            assert row["predicted_label"] is row["confidence"] is row["probabilities"] is None
        elif number % 10 in (0, 9):
            answer = classifier.classify([row["text"]])[0]
            assert (row["predicted_label"], row["reason"]) == (answer.label, None)
            assert (row["confidence"], tuple(row["probabilities"])) == (answer.confidence, answer.probabilities)


def test_the_bytes_are_the_same_on_one_core_and_on_several(rows: Path, bundle: Path, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from predictor.model.engine import OnnxEngine

    outs = []
    for lanes in (1, 3):
        other = Classifier(bundle)
        spec = other.bundle.spec
        other._engine = OnnxEngine(bundle / "onnx/model_int8.onnx", spec.pad_token_id, lanes)
        other._pool = ThreadPoolExecutor(lanes)
        score_part(rows, tmp_path / "out.parquet", other, Settings(probabilities=True))
        outs.append((tmp_path / "out.parquet").read_bytes())
    assert outs[0] == outs[1]


def test_what_came_of_the_rows_is_counted(classifier: Classifier, tmp_path: Path) -> None:
    texts = [SPORTS, BUSINESS, None, WORLD, "<p>", f"{SPORTS} 1"]
    table = pa.table({
        "text": texts,
        "label": ["Sports", "Sports", "Sports", "elsewhere", None, None],
        "_canary": [None, None, None, None, None, "Sports"],
        "_unreadable": [None, None, "a broken line (line 4 has 1)", None, None, None],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "in.parquet")
    counts = score_part(tmp_path / "in.parquet", tmp_path / "out.parquet", classifier, Settings())
    assert counts.rows == 5 and counts.labels == {"Business": 1, "Sports": 1, "World": 1}
    assert counts.unlabelled == {"a broken line": 1, EMPTY: 1}
    assert (counts.canaries.rows, counts.canaries.right, counts.foreign) == (3, 2, 2)
    out = pq.read_table(tmp_path / "out.parquet")
    assert out.schema.names == ["text", "label", "predicted_label", "confidence", "reason"]
    assert out["text"].to_pylist() == texts[:5]
    assert out["reason"].to_pylist() == [None, None, "a broken line (line 4 has 1)", None, EMPTY]


def test_texts_of_every_type_and_bytes_that_are_none(classifier: Classifier, tmp_path: Path) -> None:
    words = pa.array([SPORTS, BUSINESS, SPORTS])
    same = [words, words.cast(pa.large_string()), words.dictionary_encode(), words.cast(pa.binary())]
    answers = [score(pa.table({"text": each}), tmp_path, classifier)["predicted_label"].to_pylist() for each in same]
    assert answers == [["Sports", "Business", "Sports"]] * 4
    assert score(pa.table({"text": [12, None]}), tmp_path, classifier)["reason"].to_pylist() == [None, MISSING]
    lists = score(pa.table({"text": [["goal"], None]}), tmp_path, classifier)
    assert lists["predicted_label"].null_count == 2 and "list" in lists["reason"][0].as_py()
    data = SPORTS.encode() + b"\xff\xfe\xfa"
    ends = np.array([0, len(SPORTS), len(data)], np.int32)
    raw = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(ends), pa.py_buffer(data)])
    broken = score(pa.table({"text": raw}), tmp_path, classifier)
    assert broken["reason"].to_pylist() == [None, BYTES] and broken["predicted_label"][0].as_py() == "Sports"


def test_other_columns_keep_their_types(classifier: Classifier, tmp_path: Path) -> None:
    table = pa.table({
        "text": ["goal", "oil"], "n": pa.array([1, None], pa.int16()),
        "when": pa.array([0, 1], pa.timestamp("us", "UTC")), "tags": [["a"], None],
        "kind": pa.array(["x", "y"]).dictionary_encode(),
    })  # fmt: skip
    out = score(table, tmp_path, classifier)
    assert out.select(table.schema.names).equals(pq.read_table(tmp_path / "in.parquet"))


def test_a_part_without_rows_and_one_without_texts(classifier: Classifier, tmp_path: Path) -> None:
    assert len(score(pa.table({"text": pa.array([], pa.string())}), tmp_path, classifier)) == 0
    empty = score(pa.table({"text": [None, ""]}), tmp_path, classifier, probabilities=True)
    assert empty["reason"].to_pylist() == [MISSING, EMPTY] and empty["probabilities"].null_count == 2


@pytest.mark.parametrize(("names", "said"), [(["body"], "no column 'text'"), (["text", "confidence"], "'confidence'")])
def test_a_part_of_other_columns_is_refused(
    names: list[str], said: str, classifier: Classifier, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        score(pa.table({name: ["goal"] for name in names}), tmp_path, classifier)


def test_a_file_that_is_no_parquet_is_refused(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "in.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(InputError, match="cannot be read"):
        score_part(tmp_path / "in.parquet", tmp_path / "out.parquet", classifier, Settings())
