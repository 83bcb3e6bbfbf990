"""What a page says: its characters, its article, its label, and where its links lead."""

import re
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import urlsplit

import charset_normalizer
import trafilatura
from parsel import Selector
from w3lib.encoding import html_to_unicode

from components.data.crawl.addresses import LONGEST, absolute
from components.data.crawl.settings import MOST_LINKS, CrawlSettings, LabelRule
from predictor.errors import InputError, one_line

_HTML = ("text/html", "application/xhtml+xml")
_LONGEST_LABEL = 200
# Of a CPU, for one page: a usual one takes some hundredths, one of 90,000 paragraphs many minutes. A single call of
# lxml is not cut short, and takes time quadratic in the elements, so those have a bound, too.
_MOST_SECONDS = 10.0
_MOST_ELEMENTS = 20_000
_LINKS = "//a[@href] | //area[@href]"


@dataclass(frozen=True)
class Links:
    """Addresses to follow, and how many others there were, by reason."""

    followed: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def is_html(content_type: str, start: bytes = b"") -> bool:
    """Return whether an answer is a web page, by its header, or without one by how it begins."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind in _HTML if kind else start.lstrip()[:1] == b"<"


def decoded(body: bytes, content_type: str) -> str:
    """Return a page as text, whatever its header says of its encoding.

    Bytes beyond ASCII that are valid UTF-8 are UTF-8, since texts in other encodings hardly ever are. Others are
    decoded as the header or the page says if that fits, and else as charset-normalizer finds.
    """
    if not body.isascii() and b"\0" not in body:
        try:
            return body.decode("utf-8-sig")
        except UnicodeDecodeError:
            pass
    text = str(html_to_unicode(content_type, body, default_encoding="cp1252")[1])
    if "\ufffd" not in text:
        return text
    found = charset_normalizer.from_bytes(body).best()
    return text if found is None else str(found)


def robots_rules(selector: Selector, header: str) -> set[str]:
    """Return what the page asks of robots: any of `noindex` and `nofollow`, in its head or its X-Robots-Tag header."""
    said = [header, *selector.xpath("//meta[translate(@name, 'ROBTS', 'robts')='robots']/@content").getall()]
    words = {word.strip().lower() for text in said for word in text.split(",")}
    return words | ({"noindex", "nofollow"} if "none" in words else set())


def article_of(html: str, selector: Selector) -> str:
    """Return the text of a page's article, without menus, advertisements and comments; empty if it has none.

    Raises:
        TooLong: the page has more elements than any article, so that looking for one takes minutes.
    """
    if float(selector.xpath("count(//*)").get() or 0) > _MOST_ELEMENTS:
        raise TooLong
    text = trafilatura.extract(html, include_comments=False, include_tables=False)
    return (text or "").encode("utf-8", "ignore").decode().strip()


class TooLong(Exception):
    """A page takes too much time to be read."""


class _OutOfTime(BaseException):
    """Not an Exception: libraries catch those."""


@contextmanager
def limited(seconds: float = _MOST_SECONDS) -> Iterator[None]:
    """End what runs inside, in the main thread, after so many seconds of the CPU.

    Raises:
        TooLong: it had not ended by itself.
    """

    def give_up(number: int, frame: object) -> NoReturn:
        raise _OutOfTime

    before = signal.signal(signal.SIGVTALRM, give_up)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        yield
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except _OutOfTime:
        raise TooLong from None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def check_rules(rules: Sequence[LabelRule]) -> None:
    """Raise InputError if an expression of a rule is none of CSS or XPath."""
    for rule in rules:
        try:
            _found(Selector("<html></html>"), "", rule)
        except Exception as error:  # cssselect, lxml and parsel raise different errors
            written = rule.css or rule.xpath
            raise InputError(f"'{written}' is no expression of CSS or XPath ({one_line(error)}): correct it") from error


def label_of(selector: Selector, url: str, rules: Sequence[LabelRule]) -> str | None:
    """Return the label that the first rule finds, None if none does."""
    for rule in rules:
        if (label := _found(selector, url, rule)) is not None:
            return label
    return None


def _found(selector: Selector, url: str, rule: LabelRule) -> str | None:
    if rule.url is not None:
        match = re.search(rule.url, url)
        return None if match is None else rule.label or match["label"] or None
    if rule.css is not None:
        parts = selector.css(rule.css)
    elif rule.xpath is not None:
        parts = selector.xpath(rule.xpath)
    else:
        parts = selector.xpath("//meta[@name=$name or @property=$name]/@content", name=rule.meta)
    for part in parts:
        found = _words(part)
        if found and len(found) <= _LONGEST_LABEL and (label := rule.names.get(found) if rule.names else found):
            return label
    return None


def _words(part: Selector) -> str:
    """Return what is found as words: the text in an element, or the value itself."""
    text = part.xpath("string()").get() if hasattr(part.root, "tag") else part.get()
    return " ".join(str(text or "").split())


def links_of(selector: Selector, url: str, settings: CrawlSettings, depth: int) -> Links:
    """Return where the links of a page lead.

    Args:
        selector: the page.
        url: its address.
        settings: which links are followed.
        depth: links from a start page to this one.
    """
    base = absolute(url, selector.xpath("//base/@href").get() or "") or url
    links = Links()
    seen: set[str] = set()
    elements = selector.xpath(_LINKS)
    if len(elements) > MOST_LINKS:
        links.refused[f"beyond {MOST_LINKS:,} of a page"] += len(elements) - MOST_LINKS
    for element in elements[:MOST_LINKS]:
        attributes: dict[str, Any] = element.attrib
        address = absolute(base, attributes["href"])
        if address is None or address in seen:
            continue
        seen.add(address)
        reason = "nofollow" if "nofollow" in attributes.get("rel", "").lower().split() else refusal(address, settings)
        if not reason and depth >= settings.follow.depth:
            reason = "deeper than follow.depth"
        if reason:
            links.refused[reason] += 1
        else:
            links.followed.append(address)
    return links


def refusal(address: str, settings: CrawlSettings) -> str:
    """Return why an address is not followed, empty if it is."""
    if not settings.allows(str(urlsplit(address).hostname)):
        return "other domain"
    if len(address) > LONGEST:
        return f"address over {LONGEST:,} characters"
    follow = settings.follow
    if follow.allow and not any(re.search(pattern, address) for pattern in follow.allow):
        return "not in follow.allow"
    if any(re.search(pattern, address) for pattern in follow.deny):
        return "in follow.deny"
    return ""
