"""A file scored with a multi-label bundle."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.scoring.part import score_part
from components.scoring.plan import Settings, make_plan
from components.scoring.store import Store
from predictor.errors import InputError
from predictor.model.bundle import Bundle
from predictor.model.classifier import Classifier
from tests.multi_label import toy_sets


def test_each_row_has_its_labels_and_is_counted_for_each(sets_draft: Path, tmp_path: Path) -> None:
    classifier = Classifier(sets_draft)
    rows = toy_sets(4, 5)
    texts = [*rows["text"], None, "<br>"]
    turned = ["|".join(label.split("|")[::-1]) for label in rows["label"]]  # in another order than the labels'
    table = pa.table({"text": texts, "label": [*turned, "Sports", "elsewhere|World"]})
    pq.write_table(table, tmp_path / "in.parquet")
    counts = score_part(tmp_path / "in.parquet", tmp_path / "out.parquet", classifier, Settings(probabilities=True))
    out = pq.read_table(tmp_path / "out.parquet").to_pylist()
    answers = classifier.classify(rows["text"].tolist())
    for row, answer in zip(out, answers, strict=False):
        assert (row["predicted_label"], row["confidence"], row["reason"]) == (answer.label, answer.confidence, None)
        assert tuple(row["probabilities"]) == answer.probabilities
    assert [row["predicted_label"] for row in out[-2:]] == [None, None]
    given = [label for answer in answers for label in answer.label.split("|") if label]
    assert counts.labels == {label: given.count(label) for label in classifier.labels if label in given}
    labelled = [place for place, label in enumerate(rows["label"]) if label]
    right = sum(answers[place].label == rows["label"][place] for place in labelled)
    assert (counts.canaries.rows, counts.canaries.right, counts.foreign) == (len(labelled), right, 2)


def test_canaries_may_have_several_labels_that_the_bundle_knows(sets_draft: Path, tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a", "b"]}).to_csv(tmp_path / "rows.csv", index=False)
    canaries = tmp_path / "canaries.csv"
    pd.DataFrame({"text": ["goal", "bank"], "label": ["Sports|World", "Business"]}).to_csv(canaries, index=False)
    store, bundle = Store(str(tmp_path / "out")), Bundle.open(sets_draft)
    plan = make_plan(store, str(tmp_path / "rows.csv"), bundle, Settings(canaries=str(canaries)))
    assert plan.rows == 2
    pd.DataFrame({"text": ["goal"], "label": ["Sports|War"]}).to_csv(canaries, index=False)
    with pytest.raises(InputError, match="the label 'War', which the bundle does not know"):
        make_plan(Store(str(tmp_path / "x")), str(tmp_path / "rows.csv"), bundle, Settings(canaries=str(canaries)))
