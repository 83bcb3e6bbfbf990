"""Asks for one page after another and writes down what became of each."""

import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from importlib import metadata
from re import search
from typing import Any

from parsel import Selector
from scrapy import Request, Spider, signals
from scrapy.crawler import Crawler
from scrapy.exceptions import (
    CloseSpider,
    DontCloseSpider,
    DownloadCancelledError,
    DownloadTimeoutError,
    IgnoreRequest,
    StopDownload,
)
from scrapy.http import Response
from twisted.python.failure import Failure

from components.data.crawl import state as outcomes
from components.data.crawl.addresses import absolute, without_secrets
from components.data.crawl.article import (
    Links,
    TooLong,
    article_of,
    decoded,
    is_html,
    label_of,
    limited,
    links_of,
    refusal,
    robots_rules,
)
from components.data.crawl.robots import AGENT, ObeyRobots
from components.data.crawl.settings import MOST_REDIRECTS, CrawlSettings
from components.data.crawl.state import Article, Page, State
from components.platform.progress import Progress

NOT_HTML, NO_ARTICLE, TOO_LARGE = "no HTML", "no article on it", "larger than page_bytes"
ENDLESS = "takes too long to read"
NOINDEX, ONLY_LINKS, UNREADABLE = "noindex", "read for its links alone", "cannot be read"
REDIRECTED, REDIRECT_AWAY, REDIRECT_KNOWN = "redirected", "redirected to another domain", "redirected to a known page"
REDIRECT_REFUSED, REDIRECTS = "redirected where no link is followed", f"more than {MOST_REDIRECTS} redirects in a row"
_AT_ONCE = 8
_LONGEST_PAUSE = 60.0  # seconds between two requests to a slow host, if nobody asks for more
_PAGE = "page"


def scrapy_settings(settings: CrawlSettings) -> dict[str, Any]:
    """Return the settings of Scrapy."""
    version = metadata.version("pigeonhole")
    return {
        "USER_AGENT": f"{AGENT}/{version} (+https://github.com/pigeonhole/pigeonhole; {settings.contact})",
        "DOWNLOADER_MIDDLEWARES": {ObeyRobots: 100},
        "ROBOTSTXT_OBEY": False,  # ObeyRobots does
        "DOWNLOAD_DELAY": settings.delay,
        "DOWNLOAD_DELAY_JITTER": 0,  # Scrapy's own halves a delay at times
        "AUTOTHROTTLE_ENABLED": True,
        "AUTOTHROTTLE_START_DELAY": settings.delay,
        "AUTOTHROTTLE_MAX_DELAY": max(settings.delay, _LONGEST_PAUSE),
        "CONCURRENT_REQUESTS": _AT_ONCE,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 1,
        "DOWNLOAD_TIMEOUT": settings.timeout,
        "DOWNLOAD_MAXSIZE": settings.page_bytes,
        "DOWNLOAD_WARNSIZE": 0,
        "DOWNLOAD_VERIFY_CERTIFICATES": True,
        "DOWNLOAD_HANDLERS": dict.fromkeys(("data", "file", "ftp", "s3")),
        "COOKIES_ENABLED": False,
        "REFERER_ENABLED": False,
        "HTTPERROR_ALLOW_ALL": True,
        "METAREFRESH_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "LOGSTATS_INTERVAL": 0,
        "LOG_LEVEL": "CRITICAL",  # what goes wrong with a page is its outcome
    }


class SiteSpider(Spider):
    """Takes the pages from the state, which knows which were asked for before.

    Redirects are no business of Scrapy's here: where one leads is a page like one behind a link, that is checked,
    counted and remembered in the same way.
    """

    name = AGENT

    def __init__(self, state: State, settings: CrawlSettings, bugs: list[BaseException]) -> None:
        super().__init__()
        self.allowed_domains = list(settings.hosts)  # for robots.txt, which may redirect, too
        self._state, self._wanted, self._bugs = state, settings, bugs
        self._busy: set[int] = set()
        self._progress = Progress("crawl", settings.pages, "pages", done=state.asked)

    @classmethod
    def from_crawler(cls, crawler: Crawler, *args: Any, **kwargs: Any) -> "SiteSpider":
        """Return the spider of a crawler, as Scrapy asks for it."""
        spider = cls(*args, **kwargs)
        spider._set_crawler(crawler)
        crawler.signals.connect(spider._refill_idle, signals.spider_idle)
        crawler.signals.connect(spider._look_at_head, signals.headers_received)
        return spider

    async def start(self) -> AsyncIterator[Request]:
        """Yield the first requests."""
        for request in self._next():
            yield request

    def _next(self) -> list[Request]:
        requests = []
        while len(self._busy) < _AT_ONCE and (page := self._state.claim(self._busy)):
            self._busy.add(page.number)
            meta = {_PAGE: page, "dont_redirect": True}
            requests.append(
                Request(
                    page.url,
                    callback=self._answered,
                    errback=self._failed,
                    meta=meta,
                    dont_filter=True,
                    priority=-page.number,
                )
            )
        return requests

    def _refill_idle(self) -> None:
        if requests := self._next():
            for request in requests:
                self.crawler.engine.crawl(request)
            raise DontCloseSpider

    def _look_at_head(self, headers: Any, request: Request) -> None:
        """Stop a download whose head says that it is no page."""
        kind = (headers.get("Content-Type") or b"").decode("latin-1")
        if _PAGE in request.meta and kind and not is_html(kind):
            raise StopDownload(fail=False)

    def _answered(self, response: Response) -> list[Request]:
        return self._settled(response.meta[_PAGE], self._look_at, response)

    def _failed(self, failure: Failure) -> list[Request]:
        return self._settled(failure.request.meta[_PAGE], self._look_at_error, failure.value)  # type: ignore[attr-defined]

    def _settled(self, page: Page, look: Callable[[Page, Any], None], what: Any) -> list[Request]:
        """Write down what became of a page, and return the next requests."""
        try:
            look(page, what)
        except Exception as error:  # Scrapy would go on without the page
            self._bugs.append(error)
            raise CloseSpider("bug") from error
        self._busy.discard(page.number)
        self._progress(min(self._state.asked, self._wanted.pages))
        return self._next()

    def _look_at(self, page: Page, response: Response) -> None:
        if 300 <= response.status < 400 and response.headers.get("Location"):
            self._redirected(page, response)
        elif response.status != 200:
            self._state.record(page, f"HTTP {response.status}", len(response.body))
        elif not is_html(_header(response, "Content-Type"), response.body):
            self._state.record(page, NOT_HTML, len(response.body))
        else:
            self._read(page, response)

    def _look_at_error(self, page: Page, error: BaseException) -> None:
        if isinstance(error, IgnoreRequest):
            known = str(error) in (outcomes.FORBIDDEN, outcomes.NO_ROBOTS)
            outcome = str(error) if known else TOO_LARGE if "DOWNLOAD_MAXSIZE" in str(error) else UNREADABLE
        elif isinstance(error, DownloadCancelledError):
            outcome = TOO_LARGE
        elif isinstance(error, DownloadTimeoutError):
            outcome = outcomes.TIMEOUT
        elif isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            outcome = UNREADABLE  # compressed, says its head, and it is not
        else:
            outcome = outcomes.UNREACHABLE
        # What was cut had at least that many bytes.
        self._state.record(page, outcome, self._wanted.page_bytes if outcome == TOO_LARGE else 0)

    def _redirected(self, page: Page, response: Response) -> None:
        target = absolute(page.url, _header(response, "Location"))
        reason = refusal(target, self._wanted) if target else UNREADABLE
        if reason or not target:
            self._state.record(page, REDIRECT_AWAY if reason == "other domain" else REDIRECT_REFUSED)
        elif page.hops >= MOST_REDIRECTS:
            self._state.record(page, REDIRECTS)
        else:
            self._state.redirect(page, target, REDIRECTED, REDIRECT_KNOWN)

    def _read(self, page: Page, response: Response) -> None:
        html, size = decoded(response.body, _header(response, "Content-Type")), len(response.body)
        kept = not self._wanted.keep or any(search(pattern, page.url) for pattern in self._wanted.keep)
        links = Links()
        try:
            with limited():
                selector = Selector(html)
                robots = robots_rules(selector, b",".join(response.headers.getlist("X-Robots-Tag")).decode("latin-1"))
                if "nofollow" not in robots:
                    links = links_of(selector, page.url, self._wanted, page.depth)
                text = article_of(html, selector) if kept and "noindex" not in robots else ""
                label = label_of(selector, without_secrets(page.url), self._wanted.labels)
        except Exception as error:  # what libraries raise for a page that is made to break them
            outcome = ENDLESS if isinstance(error, TooLong) else UNREADABLE
            self._state.record(page, outcome, size, None, links.followed, dict(links.refused))
            return
        article = Article(text, label, datetime.now(UTC).isoformat(timespec="seconds")) if text else None
        outcome = ONLY_LINKS if not kept else NOINDEX if "noindex" in robots else outcomes.KEPT if text else NO_ARTICLE
        self._state.record(page, outcome, size, article, links.followed, dict(links.refused))


def _header(response: Response, name: str) -> str:
    return (response.headers.get(name) or b"").decode("latin-1")
