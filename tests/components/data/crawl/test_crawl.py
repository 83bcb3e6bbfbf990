"""A crawl as a user starts it, of a real site on loopback: what is kept, what is not, and what a kill leaves."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from components.data.crawl.crawl import crawl, read
from components.data.crawl.output import read_rows
from components.data.crawl.settings import LabelRule
from predictor.errors import InputError, Unavailable
from tests.components.data.crawl.site import Answer, Site, article, bomb, endless, hanging, served

pytest.importorskip("scrapy", reason="the extra crawl is not installed")
pytest.importorskip("lxml_html_clean", reason="the extra crawl is not installed")


def write_settings(folder: Path, site: Site, **more: Any) -> Path:
    file = folder / "settings.json"
    settings = {"start": [site.at("/")], "contact": "data@example.org", "delay": 0, "page_bytes": 100_000, **more}
    file.write_text(json.dumps(settings))
    return file


@dataclass(frozen=True)
class Crawled:
    site: Site
    folder: Path
    settings: Path
    report: dict[str, Any]

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Rows by the path of their page."""
        rows = [row for name in ("train", "unlabelled") for row in read_rows(self.folder / f"{name}.jsonl")]
        return {row["source"].removeprefix(self.site.at("")): row for row in rows}


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    with served() as site:
        fill(site)
        folder = tmp_path_factory.mktemp("crawl")
        labels = [
            {"meta": "article:section", "names": {"Futbol": "Sports"}},
            {"css": ".section::text"},
            {"url": "/(?P<label>science)/"},
        ]
        settings = write_settings(folder, site, labels=labels, timeout=1.0, follow={"deny": ["/denied"], "depth": 3})
        report = crawl(settings, folder / "out", sys.stderr)
        yield Crawled(site, folder / "out", settings, report)


def fill(site: Site) -> None:
    away, host = site.at("/away", "localhost"), "127.0.0.1"
    rules = b"\xef\xbb\xbfUser-agent: *\nDisallow: /forbidden\n#"  # with a mark, and longer than a page may be
    site["/robots.txt"] = Answer(rules + b" more" * 30_000, headers={"Content-Type": "text/plain"})
    site["/"] = article(
        "the index", "/sport/1", "/sport/2", "/world/1", "/science/1", "/forbidden/1", "/denied/1", away, "/to-away",
        "/loop/1", "/bomb", "/endless", "/hanging", "/picture", "/latin", "/utf8", "/noindex", "/nofollow", "/broken",
        "/draft",
        f"http://me:hunter2@{host}:{site.port}/open?page=2&token=hunter2", "/shop;jsessionid=1?sid=1", "/missing",
        "/empty", "/deep/1", "mailto:me@example.org", "javascript:void(0)", "http://[broken", "/sport/1#comments",
    )  # fmt: skip
    site["/sport/1"] = article("football", head='<meta property="article:section" content=" Futbol ">')
    site["/sport/2"] = article("tennis", head='<meta property="article:section" content="Unknown">')
    site["/world/1"] = article("the treaty").replace(b"<h1>", b'<span class="section">World  news</span><h1>')
    site["/science/1"] = article("galaxies")
    site["/forbidden/1"] = article("secrets")
    site.redirect("/to-away", away)
    site.redirect("/loop/1", "/loop/2")
    site.redirect("/loop/2", "/loop/1")
    site["/bomb"], site["/endless"], site["/hanging"] = bomb(20), endless(), hanging()
    site["/picture"] = Answer(b"\x89PNG", headers={"Content-Type": "image/png"})
    site["/latin"] = Answer(
        article("the caf\xe9").decode().encode("cp1252"), headers={"Content-Type": "text/html; charset=utf-8"}
    )
    site["/utf8"] = Answer(article("the na\xefve"), headers={"Content-Type": "text/html; charset=iso-8859-1"})
    site["/noindex"] = article("a draft", "/from-noindex", head='<meta name="Robots" content="NOINDEX">')
    tags = {"X-Robots-Tag": "noindex", "x-robots-tag": "noarchive"}  # a header may come more than once
    site["/draft"] = Answer(article("a second draft"), headers={"Content-Type": "text/html", **tags})
    site["/nofollow"] = article("a guest book", "/from-nofollow", head='<meta name="robots" content="nofollow">')
    site["/from-noindex"] = article("the archive")
    site["/broken"] = Answer(b"no gzip", headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})
    site["/open?page=2&token=hunter2"] = article("the second page")
    for visit in range(1, 4):
        site[f"/shop;jsessionid={visit}?sid={visit}"] = article(
            "shoes", f"/shop;jsessionid={visit + 1}?sid={visit + 1}"
        )
    site["/empty"] = b""
    for depth in range(1, 6):
        site[f"/deep/{depth}"] = article(f"level {depth}", f"/deep/{depth + 1}")


def test_a_label_is_that_of_the_first_rule_that_finds_one(crawled: Crawled) -> None:
    labelled = {path: row["label"] for path, row in crawled.rows.items() if "label" in row}
    assert labelled == {"/sport/1": "Sports", "/world/1": "World news", "/science/1": "science"}
    assert "/sport/2" in crawled.rows, "a section that is not among the names gives no label"
    assert sorted(file.name for file in crawled.folder.iterdir() if file.name[0] != ".") == [
        "crawl.json", "train.jsonl", "unlabelled.jsonl",
    ]  # fmt: skip


def test_a_row_is_the_article_and_where_it_came_from(crawled: Crawled) -> None:
    row = crawled.rows["/sport/1"]
    assert row["text"].startswith("About football") and "voted" in row["text"]
    assert "All rights reserved" not in row["text"]
    assert set(row) == {"id", "text", "label", "source", "collected_at"} and row["collected_at"].endswith("+00:00")
    assert len({each["id"] for each in crawled.rows.values()}) == len(crawled.rows)


def test_no_secret_is_written_down(crawled: Crawled) -> None:
    assert "/open?page=2&token=hunter2" in crawled.site.asked and "/open?page=2" in crawled.rows
    for file in crawled.folder.iterdir():
        assert b"hunter2" not in file.read_bytes(), file.name


def test_robots_and_rules_are_obeyed(crawled: Crawled) -> None:
    asked = crawled.site.times
    assert crawled.site.asked[0] == "/robots.txt" and asked["/robots.txt"] == 1
    never = {"/forbidden/1", "/denied/1", "/away", "/from-nofollow", "/deep/4"}
    assert not never & set(asked)
    assert crawled.report["pages"]["forbidden by robots.txt"] == 1
    assert (
        not {"/noindex", "/draft"} & set(crawled.rows)
        and "/from-noindex" in crawled.rows
        and "/nofollow" in crawled.rows
    )
    (agent,) = crawled.site.agents
    assert agent.startswith("pigeonhole/") and agent.endswith("; data@example.org)")


def test_what_is_no_page_is_counted_by_its_reason(crawled: Crawled) -> None:
    pages = crawled.report["pages"]
    expected = {
        "larger than page_bytes": 2, "no answer in time": 1, "no HTML": 1, "cannot be read": 1, "HTTP 404": 1,
        "redirected to another domain": 1, "redirected": 1, "redirected to a known page": 1, "noindex": 2,
        "no article on it": 1, "forbidden by robots.txt": 1, "kept": len(crawled.rows),
    }  # fmt: skip
    assert pages == expected
    assert crawled.report["links"] == {"other domain": 1, "in follow.deny": 1, "deeper than follow.depth": 1}
    assert crawled.report["waiting"] == 0
    assert json.loads((crawled.folder / "crawl.json").read_text()) == crawled.report
    # A stream without an end, and one of few bytes that are many, cost no more than a page may have.
    assert crawled.report["bytes"] < 400_000


def test_loops_end_and_no_page_is_asked_for_twice(crawled: Crawled) -> None:
    shops = [path for path in crawled.site.asked if path.startswith("/shop")]
    assert len(shops) == 1 and "/shop" in crawled.rows
    twice = {path for path, times in crawled.site.times.items() if times > 1}
    assert twice == {"/hanging"}, "what gives no answer is asked again"


def test_characters_are_right_whatever_the_header_says(crawled: Crawled) -> None:
    assert "the caf\xe9" in crawled.rows["/latin"]["text"]
    assert "the na\xefve" in crawled.rows["/utf8"]["text"]


def test_a_crawl_that_is_done_only_asks_again_for_what_had_no_answer(crawled: Crawled) -> None:
    before = crawled.site.times
    (chunk,) = read(crawled.settings, crawled.folder)
    assert set(crawled.site.times - before) <= {"/robots.txt", "/hanging"}
    assert set(chunk["source"]) == {row["source"] for row in crawled.rows.values()}
    assert {*chunk.columns} == {"id", "text", "label", "source", "collected_at", "synthetic"}
    assert not chunk["synthetic"].any() and chunk["label"].isna().sum() == len(crawled.rows) - 3


def command(settings: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", "data", "crawl", str(settings), "--out", str(out), "-o", "json"]


def stopping(site: Site, running: list[Any], page: bytes, number: int) -> Answer:
    """A page that ends the command, and all it started, in the middle of the answer to its first caller."""

    def write(handler: BaseHTTPRequestHandler) -> None:
        if running:
            handler.wfile.write(page[: len(page) // 2])
            process = running.pop()
            os.killpg(process.pid, number) if number == signal.SIGKILL else process.send_signal(number)
            process.wait(60)
        handler.wfile.write(page)

    return Answer(write=write)


_SLOW = pytest.mark.slow(reason="starts more processes, each of which imports Scrapy")


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=_SLOW)])
def test_a_crawl_that_is_stopped_goes_on_where_it_was(number: int, tmp_path: Path) -> None:
    with served() as site:
        running: list[Any] = []
        for page in range(12):
            links = (f"/{target % 12}" for target in (page, page * 2, page * 5, page + 1))
            site[f"/{page}"] = article(f"number {page}", *links)
        site["/"] = article("the index", "/0")
        site["/7"] = stopping(site, running, article("number 7", "/8"), number)
        labels = [{"url": "/[0-9]+$", "label": "numbers"}]
        settings = write_settings(tmp_path, site, labels=labels, follow={"depth": 20})

        first = subprocess.Popen(command(settings, tmp_path / "out"), start_new_session=True, stderr=subprocess.DEVNULL)
        running.append(first)
        assert first.wait(120) == (-number if number == signal.SIGKILL else 143)
        assert not running
        before = set(site.asked)

        again = subprocess.run(command(settings, tmp_path / "out"), capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
        report = json.loads(again.stdout)
        assert report["pages"] == {"kept": 13} and report["rows"] == {"train.jsonl": 12, "unlabelled.jsonl": 1}
        rows = Counter(row["source"] for row in read_rows(tmp_path / "out/train.jsonl"))
        assert rows == Counter(site.at(f"/{page}") for page in range(12))
        twice = {path for path, times in site.times.items() if times > 1}
        # Besides the page that was being sent, the one before it may not have been read to its end.
        fatal = site.asked.index("/7")
        assert before > {"/", "/0", "/1"} and twice <= {"/robots.txt", *site.asked[fatal - 1 : fatal + 1]}


@_SLOW
def test_a_site_without_a_readable_robots_file_is_left_alone(tmp_path: Path) -> None:
    with served() as site:
        site["/"] = article("the index")
        site["/robots.txt"] = Answer(status=503)
        with pytest.raises(Unavailable, match=r"robots.txt cannot be read: 1"):
            crawl(write_settings(tmp_path, site), tmp_path / "out", sys.stderr)
        assert set(site.asked) == {"/robots.txt"}


def test_a_rule_that_is_no_expression_is_refused() -> None:
    from components.data.crawl.article import check_rules

    check_rules([LabelRule(xpath="//a[1]"), LabelRule(css="a.b::text"), LabelRule(meta="article:section")])
    for rule in (LabelRule(xpath="//a["), LabelRule(css="a[")):
        with pytest.raises(InputError, match=r"'(//)?a\[' is no expression of CSS or XPath"):
            check_rules([rule])
