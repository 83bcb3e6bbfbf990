import re
from collections import Counter
from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from components.evaluation.gate import gate
from components.evaluation.reporting.report import Report, render_report
from components.evaluation.scores import Evaluation
from components.evaluation.thresholds import Thresholds
from components.training.recipe import Epoch
from tests.browser import needs_chromium, shown
from tests.components.evaluation.evaluations import CHAMPION, GOOD, UNTESTED, many

TRAINING = {
    "history": [asdict(Epoch(number, 0.5, 0.5, 0.9, 1.0, 1.0)) for number in (1, 2)],
    "precision": "fp32",
    "precision_reason": "the CPU has no bf16",
    "device": "cpu",
}


class Page(HTMLParser):
    """Tags that are open, ids, and what each element refers to."""

    VOID = frozenset({"meta", "br", "link", "img", "line", "circle", "polyline", "path", "use", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.refers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids[str(value)] += 1
            if name in ("href", "src", "xlink:href", "action", "aria-labelledby"):
                self.refers.append(str(value))
            assert not name.startswith("on")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def rows(evaluation: Evaluation, count: int = 9) -> dict[str, Any]:
    by_label = {split: dict.fromkeys(evaluation.labels, count) for split in ("train", "validation", "test")}
    return {
        "rows": {split: sum(counts.values()) for split, counts in by_label.items()}, "rows_by_label": by_label,
        "rejected": {"train: no text": 2}, "cleaning": {}, "duplicates": {"removed from train": 1}, "leakage": {},
        "drawn_from_train": ["validation"], "sha256": "d" * 64,
    }  # fmt: skip


def render(evaluation: Evaluation) -> Report:
    return render_report(evaluation, gate(evaluation, Thresholds()), TRAINING, rows(evaluation))


def test_the_report_shows_what_was_decided_and_why() -> None:
    page = render(replace(GOOD, champion=CHAMPION)).html
    assert "The gate passed" in page and "95.00%" in page and "94.00%" in page and "d" * 64 in page
    for words in (
        "champion, version 3", "30 rows only the candidate has right", "typos", "source = &lt;i&gt;",
        "2 rows left out: train: no text", "Reliability", "the validation split was drawn from train",
    ):  # fmt: skip
        assert words in page
    assert "The gate stayed closed" in render(replace(GOOD, leaked=1)).html


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere() -> None:
    page = Page(render(replace(GOOD, champion=CHAMPION)).html)
    assert not page.open
    assert max(page.ids.values()) == 1
    assert all(value.removeprefix("#") in page.ids for value in page.refers)


def test_what_users_wrote_is_shown_and_not_run() -> None:
    report = render(replace(GOOD, champion=replace(CHAMPION, version="<v>")))
    assert "<script" not in report.html and "&lt;script&gt;" in report.html
    assert "<i>" not in report.html and "<u>" not in report.html and "<v>" not in report.html
    assert "<script" not in report.markdown and "&#60;script&#62;" in report.markdown
    (line,) = (line for line in report.markdown.splitlines() if "alert(1)" in line)
    assert line.count(" | ") == 3  # the text's own bar makes no cell


def test_classes_without_test_rows_are_said_to_be_unknown() -> None:
    data = rows(UNTESTED)
    data["rows_by_label"]["validation"]["c"] = 0
    report = render_report(UNTESTED, gate(UNTESTED, Thresholds()), TRAINING, data)
    assert "no test rows: nothing is known" in report.html and "macro F1 of 2 classes" in report.html
    assert "no validation rows of c: nothing is known" in report.html
    assert "| c | unknown | unknown | unknown | 0 |" in report.markdown


@pytest.mark.parametrize("classes", [300, 5000])
def test_the_report_of_many_classes_is_short_and_shows_the_worst(classes: int) -> None:
    result = many(classes)
    data = rows(result, 10)
    data["rows_by_label"]["train"][result.labels[9]] = 11
    report = render_report(result, gate(result, Thresholds()), TRAINING, data)
    page = report.html
    assert not Page(page).open and len(page.encode()) < 1_000_000 and len(report.markdown) < 100_000
    first_pair = page[page.index("<caption>Most confused") :]
    assert first_pair.index(result.labels[3]) < first_pair.index(result.labels[4])
    lowest = re.findall(r'<th scope="row">([^<]*)', page[page.index("<caption>Lowest F1") :])
    assert lowest[0] == result.labels[3]  # class 5 has no rows in the test, so nothing is known of it
    assert '<td class="n">10</td><td class="n">10</td><td class="n">11</td>' in page


def test_labels_that_look_like_formulas_or_lack_a_glyph_are_drawn() -> None:
    names = {"a": "# $\\frac{1}{0}$", "<b>": "体育"}
    scores = [replace(row, label=names[row.label]) for row in GOOD.score.classes]
    page = render(replace(GOOD, labels=list(names.values()), score=replace(GOOD.score, classes=scores))).html
    assert page.count("# $\\frac{1}{0}$") > 4 and "体育" in page


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(390, False), (1280, True)])
def test_a_browser_shows_the_page_to_everybody_and_asks_for_nothing(width: int, dark: bool) -> None:
    whole = many(60)
    beside = replace(whole, champion=replace(CHAMPION, score=whole.score))
    page = shown(render(beside).html, width, dark)
    assert page.width <= width and page.loads == 0 and page.asked == []
    assert "<script>alert(1)</script>" in page.text
    assert page.violations == []
