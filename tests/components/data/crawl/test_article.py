"""What is read from a page: its characters, whatever is said of them, its label, its links, and addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("scrapy", reason="the extra crawl is not installed")
pytest.importorskip("lxml_html_clean", reason="the extra crawl is not installed")

from parsel import Selector

from components.data.crawl.addresses import absolute, page_id, without_secrets
from components.data.crawl.article import (
    TooLong,
    article_of,
    decoded,
    is_html,
    label_of,
    limited,
    links_of,
    robots_rules,
)
from components.data.crawl.robots import ObeyRobots
from components.data.crawl.settings import CrawlSettings, LabelRule
from components.data.crawl.spider import scrapy_settings
from tests.components.data.crawl.site import article

PAGE = "https://news.example/a/b"
GERMAN = "Die Bürger überlegten länger, ob größere Straßen für ältere Fußgänger gefährlich wären. " * 3


def wanted(**more: object) -> CrawlSettings:
    return CrawlSettings.model_validate({"start": [PAGE], "contact": "a@b.org", **more})


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1))
def test_utf8_is_utf8_whatever_the_header_says(text: str) -> None:
    if not text.isascii():
        assert decoded(text.encode(), "text/html; charset=iso-8859-1") == text


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (GERMAN.encode("utf-8-sig"), "text/html"),
        (GERMAN.encode("utf-16"), "text/html"),
        (GERMAN.encode("utf-16-le"), "text/html; charset=utf-16-le"),
        (GERMAN.encode("cp1252"), "text/html; charset=windows-1252"),
        (GERMAN.encode("cp1252"), "text/html; charset=utf-8"),
        (GERMAN.encode("cp1252"), "text/html"),
        (f'<meta charset="iso-8859-15">{GERMAN}'.encode("iso-8859-15"), ""),
        (GERMAN.encode(), "text/html; charset=no-such-charset"),
    ],
)
def test_characters_are_right_in_other_encodings(body: bytes, header: str) -> None:
    assert decoded(body, header).endswith(GERMAN)


@given(
    body=st.binary(max_size=200), header=st.sampled_from(["", "text/html", "text/html; charset=shift_jis", "charset"])
)
def test_no_bytes_break_the_decoding(body: bytes, header: str) -> None:
    decoded(body, header).encode("utf-8", "surrogatepass")


def test_html_is_told_by_the_header_or_else_by_its_beginning() -> None:
    assert is_html("text/html; charset=x") and is_html("Application/XHTML+XML") and is_html("", b"  <!doctype html>")
    assert not is_html("application/pdf", b"<html>") and not is_html("", b"%PDF-1.7")


def test_a_rule_by_address_may_take_the_label_from_it() -> None:
    rules = [LabelRule(url="/a/c", label="C"), LabelRule(url="/(?P<label>[a-z]+)/b$")]
    assert label_of(Selector(""), PAGE, rules) == "a" and label_of(Selector(""), f"{PAGE}/1", rules) is None


def test_what_a_page_asks_of_robots_is_found_in_any_case() -> None:
    page = Selector('<meta name="ROBOTS" content="None"><meta name="description" content="noindex">')
    assert {"noindex", "nofollow"} <= robots_rules(page, "") and "noindex" in robots_rules(Selector(""), "all, NoIndex")
    assert "noindex" not in robots_rules(Selector('<meta name="author" content="noindex">'), "")


def test_links_are_absolute_once_each_and_counted_where_they_are_refused() -> None:
    page = Selector(
        '<base href="/c/"><a href="d">1</a><a href="../c/d#part">2</a><a href="//other.example/">3</a>'
        '<a rel="ugc nofollow" href="e">4</a><a href="f.pdf">5</a><a>6</a><a href="ftp://news.example/">7</a>'
    )
    links = links_of(page, PAGE, wanted(follow={"deny": [r"\.pdf$"]}), 0)
    assert links.followed == ["https://news.example/c/d"]
    assert links.refused == {"other domain": 1, "nofollow": 1, "in follow.deny": 1}
    assert links_of(page, PAGE, wanted(follow={"allow": ["/none"]}), 0).refused["not in follow.allow"] == 2
    many = Selector("".join(f'<a href="/{number}">n</a>' for number in range(2_100)))
    links = links_of(many, PAGE, wanted(), 0)
    assert len(links.followed) == 2_000 and links.refused == {"beyond 2,000 of a page": 100}


@pytest.mark.parametrize(
    ("address", "clean"),
    [
        ("https://me:pw@Host.example:8443/p?q=1", "https://host.example:8443/p?q=1"),
        ("https://h.example/p?b=2&a=1&Access_Token=x&X-Amz-Signature=y#z", "https://h.example/p?a=1&b=2"),
        ("https://h.example/p;jsessionid=12?sid=3&id=4", "https://h.example/p?id=4"),
        ("https://h.example/?page=2&keyword=token", "https://h.example/?keyword=token&page=2"),
        ("https://h.example", "https://h.example/"),
    ],
)
def test_an_address_is_written_down_without_what_lets_somebody_in(address: str, clean: str) -> None:
    assert without_secrets(address) == clean and without_secrets(clean) == clean
    assert page_id(without_secrets(address)) == page_id(clean)


def test_a_domain_with_other_letters_is_crawled() -> None:
    page = Selector('<a href="https://b\u00fccher.example/1">1</a><a href="/2">2</a>')
    for settings in ({}, {"domains": ["B\u00fccher.example"]}):
        told = wanted(start=["https://b\u00fccher.example/"], **settings)
        links = links_of(page, "https://xn--bcher-kva.example/", told, 0)
        assert links.followed == [f"https://xn--bcher-kva.example/{number}" for number in (1, 2)]


@given(link=st.text(max_size=40))
def test_no_link_breaks_the_reader_and_what_it_gives_is_stable(link: str) -> None:
    found = absolute(PAGE, link)
    if found is not None:
        assert found.startswith(("http://", "https://")) and absolute(found, found) == found
        assert "#" not in found and "@" not in found.split("/")[2]
        assert without_secrets(without_secrets(found)) == without_secrets(found)


def test_a_page_that_would_take_minutes_to_read_is_given_up() -> None:
    for paragraphs, seconds in ((19_000, 0.3), (21_000, 60)):
        page = f"<html><body><article>{'<p>some words here.</p>' * paragraphs}"
        with pytest.raises(TooLong), limited(seconds):
            article_of(page, Selector(page))
    page = article("time").decode()
    with limited(60):
        assert article_of(page, Selector(page)).startswith("About time")


def test_scrapy_is_told_to_be_polite() -> None:
    told = scrapy_settings(wanted(delay=2.5, page_bytes=5_000, timeout=7))
    assert told["DOWNLOAD_DELAY"] == told["AUTOTHROTTLE_START_DELAY"] == 2.5 and told["DOWNLOAD_DELAY_JITTER"] == 0
    assert told["AUTOTHROTTLE_ENABLED"] and told["CONCURRENT_REQUESTS_PER_DOMAIN"] == 1
    assert told["DOWNLOAD_MAXSIZE"] == 5_000 and told["DOWNLOAD_TIMEOUT"] == 7
    assert ObeyRobots in told["DOWNLOADER_MIDDLEWARES"] and told["DOWNLOAD_VERIFY_CERTIFICATES"]
    assert "a@b.org" in told["USER_AGENT"]
    for delay in (1, 300):
        assert scrapy_settings(wanted(delay=delay))["AUTOTHROTTLE_MAX_DELAY"] >= max(delay, 60)
