"""The rows that a bundle keeps with its answers are answered as it serves them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from components.data.dataset import Dataset, Split
from components.training.export.reference_rows import write_reference_rows
from predictor.model.bundle import REFERENCE_FILE, REFERENCE_ROWS
from predictor.model.classifier import Classifier
from tests.conftest import toy_frame


def test_a_bundle_lists_its_validation_rows_with_its_own_answers(bundle: Path, dataset: Dataset) -> None:
    classifier = Classifier(bundle)
    assert REFERENCE_FILE in classifier.bundle.spec.files
    rows = pd.read_parquet(bundle / REFERENCE_FILE)
    assert list(rows.columns) == ["text", "label", "answer", "confidence"]
    assert sorted(rows["label"]) == sorted(dataset.validation.labels)
    answers = classifier.classify(rows["text"].tolist())
    assert [answer.label for answer in answers] == rows["answer"].tolist()
    assert rows["confidence"].to_numpy() == pytest.approx([answer.confidence for answer in answers], abs=1e-5)


def test_the_linear_model_of_a_cascade_answers_too(cascade_bundle: Path, tmp_path: Path) -> None:
    pair, alone = Classifier(cascade_bundle), Classifier(cascade_bundle, cascade=False)
    validation = Split(toy_frame(40, 9))
    shutil.copytree(cascade_bundle, tmp_path / "b")
    rows = alone.probabilities(validation.texts)
    write_reference_rows(
        validation, rows, pair.encoder, pair.labels, pair.bundle.spec.cascade, tmp_path / "b"
    )  # fmt: skip
    found = pd.read_parquet(tmp_path / "b" / REFERENCE_FILE)
    expected = [answer.confidence for answer in pair.classify(found["text"].tolist())]
    assert found["confidence"].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert np.abs(found["confidence"] - rows.max(axis=1)).max() > 1e-3


def test_no_more_rows_are_kept_than_are_needed(bundle: Path, tmp_path: Path) -> None:
    classifier = Classifier(bundle)
    validation = Split(toy_frame(700, 9))
    rows = np.full((len(validation), 3), 1 / 3, dtype=np.float32)
    write_reference_rows(validation, rows, classifier.encoder, classifier.labels, None, tmp_path)
    found = pd.read_parquet(tmp_path / REFERENCE_FILE)
    assert len(found) == REFERENCE_ROWS
    assert found["label"].value_counts(normalize=True).max() < 0.4  # as they are in validation
