import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.data.dataset import Dataset
from components.data.inspection.inspect import Inspection, Lengths, inspect
from components.data.inspection.page import render_inspection
from components.data.prepare import prepare
from tests.browser import needs_chromium, shown

MARKUP = (
    "<script>fetch('/planted')</script><img src=/planted onerror=fetch('/planted')><style>@import '/planted'</style>"
)


def page(rows: list[dict[str, Any]], by_label: dict[str, dict[str, int]], **report: Any) -> str:
    frame = pd.DataFrame(rows, columns=["id", "split", "label", "text", "language", "suggested", "score"])
    inspection = Inspection(
        looked_at=100, languages={"en": 90, "de": 1, "und": 9}, foreign=frame, judged=100, errors=frame,
        lengths=Lengths(80, 200, 900, [("50 to 99", 60), ("100 to 199", 40)]), words={"a": ["goal", MARKUP]},
    )  # fmt: skip
    rows_of = {split: sum(counts.values()) for split, counts in by_label.items()}
    return render_inspection(inspection, {"rows": rows_of, "rows_by_label": by_label, "sha256": "ab" * 32, **report})


def hostile() -> str:
    row = {"id": MARKUP, "split": "train", "label": MARKUP, "text": MARKUP * 3, "language": "de", "suggested": MARKUP}
    return page(
        [{**row, "score": 0.1}],
        {"train": {MARKUP: 50, "a" * 400: 30}, "validation": {MARKUP: 10, "a" * 400: 0}, "test": {MARKUP: 10}},
        rejected={f"train: {MARKUP}": 3},
        examples={MARKUP: [{"id": MARKUP, "text": MARKUP}]},
        near_duplicates={"pairs": 1, "with different labels": 1, "examples": [[row, row]]},
        origins={"test": MARKUP}, checks={"max_rejected": 0.0, "min_rows_per_class": 2, "of_later": 3},
    )  # fmt: skip


def test_text_is_escaped_and_nothing_is_loaded_or_run() -> None:
    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag not in ("script", "img", "link", "iframe", "object")
            assert not {"src", "onerror", "onclick", "background"} & dict(attributes).keys()
            assert (dict(attributes).get("href") or "#").startswith("#")

    text = hostile()
    Tags().feed(text)
    assert text.count("<style>") == 1 and "@import '/planted'" not in text
    assert "&lt;script&gt;fetch" in text
    assert "url(" not in text


def test_every_table_has_a_caption_and_headings_follow_each_other() -> None:
    text = hostile()
    assert text.count("<table") == text.count("<caption>") > 5
    levels = [int(level) for level in re.findall(r"<h([1-6])", text)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(re.findall(r'id="([^"]+)"', text))


def test_old_report_without_newer_keys_is_shown() -> None:
    text = page([], {"train": {"a": 5, "b": 5}, "validation": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}})
    assert "No row was left out" in text and "None was found" in text
    assert 'id="checks"' not in text and 'id="near"' not in text


def test_page_stays_small_with_thousands_of_classes() -> None:
    labels = {f"class {number} {'x' * 200}": number + 1 for number in range(5000)}
    rows = [
        {"id": "i" * 900, "split": "train", "label": "l" * 900, "text": "t" * 90_000, "language": "de",
         "suggested": "s" * 900, "score": 0.1}
    ] * 2000  # fmt: skip
    text = page(rows, {"train": labels, "validation": labels, "test": dict.fromkeys(labels, 0)})
    assert len(text.encode()) < 200_000
    assert "5,000 classes have no test row" in text and "the 20 smallest" in text


def test_checks_are_shown_with_threshold_figure_and_result() -> None:
    text = page(
        [], {"train": {"a": 50, "b": 5}, "validation": {}, "test": {}},
        checks={"max_rejected": 0.2, "max_imbalance": 20, "min_rows_per_class": 6, "max_characters": 9},
        figures={"max_rejected": 0.45, "max_imbalance": 10, "min_rows_per_class": 5},
    )  # fmt: skip
    shown = re.findall(
        r'<th scope="row">(m[^<]*)</th><td class="n">([^<]*)</td><td class="n">([^<]*)</td>.*?">(.*?)<', text
    )
    assert shown == [
        ("max rejected", "20.0%", "45.0%", "does not hold"), ("max imbalance", "20", "10", "holds"),
        ("min rows per class", "6", "5", "does not hold"), ("max characters", "9", "not known", "–"),
    ]  # fmt: skip


def test_inspection_finds_what_was_planted(tmp_path: Path) -> None:
    sports = [f"the team won match {n} of the season and the coach praised the players" for n in range(60)]
    money = [f"the bank raised rates {n} and shares of the company fell on the market" for n in range(60)]
    wrong = "the coach praised the team and the players after the match of the season"
    foreign = "Der Ausschuss trifft sich am Donnerstag wieder, um den Haushalt zu besprechen."
    texts, labels = [*sports, *money, wrong, foreign], ["sport"] * 60 + ["money"] * 62
    frame = pd.DataFrame({"text": texts, "label": labels})
    prepare({"train": frame}, seed=1).save(tmp_path)
    dataset = Dataset.load(tmp_path)
    found = inspect(dataset, seed=1)
    assert found.errors["text"].tolist() == [wrong]
    assert found.errors[["label", "suggested"]].to_numpy().tolist() == [["money", "sport"]]
    assert [*zip(found.foreign["text"], found.foreign["language"], strict=True)] == [(foreign, "de")]
    assert {"coach", "team"} <= set(found.words["sport"]) and {"bank", "shares"} <= set(found.words["money"])
    assert sum(count for _, count in found.lengths.bars) == 122
    found.save_errors(tmp_path / "errors.csv")
    assert pd.read_csv(tmp_path / "errors.csv")["text"].tolist() == [wrong]
    assert wrong in render_inspection(found, dataset.report)


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_a_browser_shows_the_page_to_everybody_and_asks_for_nothing(width: int, dark: bool) -> None:
    seen = shown(hostile(), width, dark)
    assert seen.width <= width and not seen.loads and not seen.asked
    assert "<script>fetch" in seen.text
    assert seen.violations == []
