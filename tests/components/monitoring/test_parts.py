"""What each part of drift sees, and what it leaves to the others."""

from dataclasses import replace

import numpy as np
import pytest

from components.monitoring.drift.index import Limits, Part, compared
from components.monitoring.drift.parts import OTHERS, findings, psi, shares
from components.monitoring.drift.rows import ReferenceRows, Window
from tests.components.monitoring.records import known, reference, window

KNOWN = known(reference())
SAME = window(reference(50, seed=2))


def parts(now: Window, rows: ReferenceRows | None = KNOWN.rows) -> dict[str, Part]:
    found, _ = findings(known(rows), now)
    return compared(found, Limits())


def drifted(now: Window) -> set[str]:
    return {name for name, part in parts(now).items() if part.drifted}


def changed(change) -> Window:  # type: ignore[no-untyped-def]
    return replace(SAME, texts=[change(str(text)) for text in SAME.texts])


def test_a_window_like_the_reference_has_not_drifted() -> None:
    assert drifted(SAME) == set()


def test_each_shift_is_seen_by_its_part() -> None:
    mixed = ["Sports"] * 130 + ["World"] * 20
    assert drifted(replace(SAME, answers=mixed)) == {"predictions"}
    assert "confidence" in drifted(replace(SAME, confidence=SAME.confidence - 0.3))
    assert "length" in drifted(changed(lambda text: text[:30]))
    assert "vocabulary" in drifted(changed(lambda text: " ".join(word[::-1] for word in text.split())))
    assert "language" in drifted(changed(lambda text: "今天股市上涨，球队赢得比赛"))
    assert "embedding" in drifted(changed(lambda text: text.upper()))


def test_a_log_without_texts_leaves_the_answers() -> None:
    found = parts(replace(SAME, texts=[None] * len(SAME)))
    computed = {name for name, part in found.items() if part.score is not None}
    assert computed == {"predictions", "confidence"}
    assert "redaction" in found["length"].note


def test_an_old_bundle_has_the_parts_of_its_histograms() -> None:
    found = parts(SAME, None)
    assert {name for name, part in found.items() if part.score is not None} == {"predictions", "confidence"}
    assert "train it again" in found["vocabulary"].note


def test_the_most_unlike_texts_are_those_that_are_new() -> None:
    texts = [*SAME.texts[:120], *(f"recipe flour butter oven sugar {n}" for n in range(30))]
    _, unlike = findings(KNOWN, replace(SAME, texts=texts))
    assert unlike is not None
    assert np.mean(np.argsort(-unlike)[:20] >= 120) > 0.8


def test_shares_agree_with_a_calculation_by_hand() -> None:
    # PSI of 50:50 against 70:30: 0.2 ln 1.4 - 0.2 ln 0.6 = 0.169.
    table = np.array([[5000.0, 5000.0], [7000.0, 3000.0]])
    assert psi(table) == pytest.approx(0.1695, abs=1e-3)
    found = shares({"a": 5000, "b": 5000}, {"a": 7000, "b": 3000})
    assert found.size == pytest.approx(0.2) and found.p_value < 1e-6
    assert found.note.startswith("PSI 0.17: ")


def test_rare_categories_are_counted_together() -> None:
    rare = {f"rare {number}": 1 for number in range(40)}
    found = shares({"a": 500, "b": 500, **rare}, {"a": 250, "b": 250})
    assert OTHERS in found.note
    assert shares({"a": 500}, {"a": 100}).p_value == 1.0
    assert shares({"a": 1000}, {"a": 98, "b": 2}).p_value == pytest.approx(0.0082, abs=0.002)  # an exact test
