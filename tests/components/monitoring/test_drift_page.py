"""The report of a window, as a browser shows it."""

from dataclasses import replace
from functools import cache

import pytest

from components.monitoring.drift.accuracy import Baseline, Scored, estimated, from_feedback
from components.monitoring.drift.index import Limits, compared
from components.monitoring.drift.measure import Measured
from components.monitoring.drift.page import render_drift
from components.monitoring.drift.parts import findings
from components.monitoring.drift.verdict import Span, Verdict
from tests.browser import needs_chromium, shown
from tests.components.monitoring.records import known, reference, window

ROWS = reference()
BASELINE = Baseline(0.93, 1000)


@cache
def measured() -> Measured:
    """A window whose texts have been turned round, with one that tries to be markup."""
    now = window(reference(50, seed=2))
    texts = [f"<script>{str(text)[::-1]}</script> & more" for text in now.texts]
    now = replace(now, texts=texts)
    found, unlike = findings(known(ROWS), now)
    parts = compared({**found, "later": "the bundle has no rows for it"}, Limits())
    scores = [part.score for part in parts.values() if part.score is not None]
    verdict = Verdict(
        "news <i>", "b" * 64, Span("2026-11-29T12:00:00.000Z", "2026-11-29T13:00:00.000Z", 150), max(scores), parts,
        from_feedback(now.answers, ROWS.labels[: len(now)], BASELINE),
        estimated(Scored(ROWS.answers, ROWS.confidence), ROWS.labels, Scored(now.answers, now.confidence), BASELINE),
        BASELINE.accuracy, ["vocabulary: changed"], {"written twice": 2},
    )  # fmt: skip
    return Measured(verdict, known(ROWS), now, unlike)


def test_the_page_says_what_drifted_and_why() -> None:
    page = render_drift(measured())
    for words in ("has drifted", "vocabulary: changed", "news &lt;i&gt;", "left out, written twice: 2", "not computed"):
        assert words in page
    assert "<script" not in page and "&lt;script&gt;" in page


def test_a_window_without_anything_to_compare_has_a_page_too() -> None:
    nothing = measured().window.some(3)
    verdict = Verdict("news", "b" * 64, Span("", "", 3), 0.0, {}, None, None, None, ["3 texts are too few"])
    page = render_drift(Measured(verdict, known(None), nothing, None))
    assert "No drift in this window" in page and "not known" in page


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_everybody_can_read_the_page(width: int, dark: bool) -> None:
    seen = shown(render_drift(measured()), width, dark)
    assert seen.violations == []
    assert seen.width <= width and seen.loads == 0 and seen.asked == []
