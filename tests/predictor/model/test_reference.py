"""The reference and Prometheus put the same texts into the same buckets."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from components.data.dataset import Dataset
from predictor.model.classifier import Classifier
from predictor.model.reference import CONFIDENCE_EDGES, Reference, reference_of
from predictor.serving.batcher import Batch
from predictor.serving.metrics import Metrics

LABELS = ["a", "b"]


def buckets(registry: CollectorRegistry, name: str) -> list[int]:
    """The histogram's counts, bucket by bucket; in the exposition they add up."""
    samples = [s for m in registry.collect() for s in m.samples if s.name == f"text_classifier_{name}_bucket"]
    totals = [sample.value for sample in sorted(samples, key=lambda sample: float(sample.labels["le"]))]
    return [int(count) for count in np.diff([0, *totals])]


def shares(registry: CollectorRegistry, labels: list[str]) -> dict[str, float]:
    counts = {
        label: registry.get_sample_value(
            "text_classifier_predictions_total", {"model_name": "m", "revision": "r", "category": label}
        )
        for label in labels
    }
    return {label: (count or 0) / sum(filter(None, counts.values())) for label, count in counts.items()}


def counted(reference: Reference, rows: NDArray[np.float32], lengths: list[int], labels: list[str]) -> None:
    """Send the same texts to the metrics, and hold their buckets against the reference's."""
    registry = CollectorRegistry()
    metrics = Metrics("m", "r", labels, reference.token_edges, registry)
    metrics.answered(rows)
    metrics.ran(Batch(lengths, [0.0] * len(lengths), 0.1))
    assert buckets(registry, "text_tokens") == reference.token_histogram
    assert buckets(registry, "confidence_ratio") == reference.confidence_histogram
    assert shares(registry, labels) == reference.class_shares


edge = st.sampled_from([np.float32(value) for value in CONFIDENCE_EDGES if value >= 0.5])


@given(st.lists(st.tuples(st.integers(1, 40), edge | st.floats(0.5, 1, width=32)), min_size=1, max_size=50))
def test_reference_and_metrics_count_alike(texts: list[tuple[int, float]]) -> None:
    lengths = [length for length, _ in texts]
    rows = np.array([[value, 1 - value] for _, value in texts], dtype=np.float32)
    reference = reference_of(rows, lengths, LABELS)
    assert sum(reference.token_histogram) == sum(reference.confidence_histogram) == len(texts)
    assert reference.token_histogram[-1] == 0 and reference.token_histogram[-2] > 0
    counted(reference, rows, lengths, LABELS)


@pytest.mark.parametrize("cascade", [True, False])
def test_the_reference_is_what_serving_the_validation_rows_counts(
    cascade: bool, cascade_bundle: Path, dataset: Dataset
) -> None:
    classifier = Classifier(cascade_bundle, cascade=cascade)
    texts = classifier.encoder.clean(dataset.validation.texts)
    left = texts
    if classifier.cascade:
        left = [text for text, gone in zip(texts, classifier.cascade(texts)[1], strict=True) if not gone]
        assert 0 < len(left) < len(texts)
    lengths = [len(ids) for ids in classifier.encoder.encode(left)]
    counted(classifier.reference, classifier.probabilities(dataset.validation.texts), lengths, list(classifier.labels))
