"""The linear model's attributions are its own weights: they add up, and stand where their characters do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.model.attribution import Attribution, Part, contrast, joined, linear_attribution
from predictor.model.bundle import CascadeSpec
from predictor.model.cascade import Cascade, LinearStage
from predictor.model.ngrams import Unit, hashes, spans
from predictor.model.reference import Reference
from predictor.model.text import clean

TEXTS = st.text("goal profit, İstanbul ΣΑΣ treaty球赛.é ", min_size=1, max_size=60).map(clean).filter(bool)
UNITS = st.sampled_from(["words", "characters"])
RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(2**10, 3))
BIAS = np.array([0.5, -0.5, 0.25])
REFERENCE = Reference(class_shares={}, confidence_histogram=[], token_edges=[], token_histogram=[])


def cascade(unit: Unit, bias: np.ndarray = BIAS) -> Cascade:
    spec = CascadeSpec(
        unit=unit, temperature=0.5, threshold=0.5, rows=1, share=1, accuracy=1, accuracy_transformer=1,
        accuracy_linear=1, most_loss=0, calibration_error=0, reference=REFERENCE,
    )  # fmt: skip
    return Cascade(LinearStage.rounded(WEIGHTS, bias, unit), spec)


def total(found: Attribution) -> float:
    return found.baseline + found.rest + sum(token.attribution for token in found.tokens)


@given(TEXTS, UNITS)
def test_a_unit_stands_where_its_hash_says(text: str, unit: Unit) -> None:
    places = spans(text, unit)
    found, _ = hashes([text], unit)
    assert len(places) == len(found) - 1
    alone = {text[start:end]: hashes([text[start:end]], unit)[0][0, 0] for start, end in places}
    if "İ" not in text and "ς" not in text.lower():  # of which one capital is two characters, or a last one another
        assert [alone[text[start:end]] for start, end in places] == found[:-1, 0].tolist()
    assert all(0 <= start < end <= len(text) for start, end in places)
    if unit == "words" and "İ" not in text:
        assert "".join(text[start:end] for start, end in places) == text.replace(" ", "")


@given(TEXTS, UNITS, st.integers(0, 2))
def test_the_linear_models_parts_add_up_to_its_score(text: str, unit: Unit, label: int) -> None:
    model = cascade(unit)
    found = linear_attribution(model, text, label)
    logits = model.stage([text])[0] / 0.5
    others = np.delete(logits, label)
    assert found.score == pytest.approx(logits[label] - others.mean(), abs=1e-4)
    assert total(found) == pytest.approx(found.score, abs=1e-4)
    assert found.gap < 1e-3 or abs(found.score - found.baseline) < 1e-3


def test_a_words_part_is_its_own_weight_and_half_of_each_pair() -> None:
    model, label = cascade("words"), 1
    rows = model.stage.contributions("profit bank shares", contrast(3, label) / 0.5)
    found = linear_attribution(model, "profit bank shares", label)
    ones, pairs = rows.T
    wanted = [ones[0] + pairs[0] / 2, ones[1] + pairs[0] / 2 + pairs[1] / 2, ones[2] + pairs[1] / 2 + pairs[2]]
    assert [part.attribution for part in found.words] == pytest.approx(wanted)
    assert found.rest == pytest.approx(ones[3] + pairs[3])
    assert [(part.start, part.end) for part in found.words] == [(0, 6), (7, 11), (12, 18)]


def test_a_character_has_a_third_of_each_triple() -> None:
    model = cascade("characters")
    rows = model.stage.contributions("abcd", contrast(3, 0) / 0.5)
    (first, *_) = linear_attribution(model, "abcd", 0).tokens
    assert first.attribution == pytest.approx(rows[0, 0] + rows[0, 1] / 2 + rows[0, 2] / 3)


def test_a_label_without_rows_counts_for_nothing() -> None:
    found = linear_attribution(cascade("words", np.array([0.5, -0.5, -np.inf])), "profit bank", 0)
    assert np.isfinite([found.score, found.baseline, found.rest, *(part.attribution for part in found.words)]).all()
    assert total(found) == pytest.approx(found.score, abs=1e-4)


def test_the_score_of_two_labels_is_the_log_odds() -> None:
    logits = np.array([1.5, -0.5])
    odds = np.exp(logits[0]) / np.exp(logits[1])
    assert logits @ contrast(2, 0) == pytest.approx(np.log(odds))


def test_pieces_of_one_word_are_joined_and_others_are_not() -> None:
    pieces = [Part(0, 4, 1.0), Part(4, 7, -0.25), Part(8, 11, 0.5), Part(11, 12, 2.0)]
    assert joined(pieces, [0, 0, 1, 2]) == [Part(0, 7, 0.75), Part(8, 11, 0.5), Part(11, 12, 2.0)]
    assert joined(pieces, [None, None, 3, 3])[:2] == pieces[:2]
