"""Obeys robots.txt as RFC 9309 says, with the delay that many sites ask for in it."""

import asyncio
from typing import Any, Self
from urllib.parse import urlsplit

from protego import Protego
from scrapy import Request
from scrapy.crawler import Crawler
from scrapy.exceptions import IgnoreRequest
from scrapy.http.request import NO_CALLBACK

from components.data.crawl.state import FORBIDDEN, NO_ROBOTS

AGENT = "pigeonhole"
"""The name that robots.txt may have rules for."""
_OURS = "robots.txt"
_MOST_BYTES = 2_000_000
"""Of a robots.txt, however small the pages may be; RFC 9309 asks for 500 KiB at least."""


class ObeyRobots:
    """Downloader middleware; unlike Scrapy's own it takes a robots.txt that cannot be read for one that forbids all.

    A robots.txt that is not there (status 4xx) allows all. One that redirects is followed inside the domains.
    """

    def __init__(self, crawler: Crawler) -> None:
        self._crawler = crawler
        self._rules: dict[str, asyncio.Future[Protego | None]] = {}

    @classmethod
    def from_crawler(cls, crawler: Crawler) -> Self:
        """Return the middleware of a crawler, as Scrapy asks for it."""
        return cls(crawler)

    async def process_request(self, request: Request) -> None:
        """Let a request through that is allowed.

        Raises:
            IgnoreRequest: it is forbidden, or nobody can know.
        """
        if request.meta.get(_OURS):
            return
        parts = urlsplit(request.url)
        origin = f"{parts.scheme}://{parts.netloc}"
        if origin not in self._rules:
            self._rules[origin] = asyncio.ensure_future(self._fetched(origin))
        rules = await self._rules[origin]
        if rules is None:
            raise IgnoreRequest(NO_ROBOTS)
        if not rules.can_fetch(request.url, AGENT):
            raise IgnoreRequest(FORBIDDEN)
        self._slow_down(request, rules.crawl_delay(AGENT))

    async def _fetched(self, origin: str) -> Protego | None:
        meta = {_OURS: True, "autothrottle_dont_adjust_delay": True, "download_maxsize": _MOST_BYTES}
        request = Request(f"{origin}/robots.txt", priority=1, meta=meta, callback=NO_CALLBACK)
        engine: Any = self._crawler.engine
        try:
            response = await engine.download_async(request)
        except Exception:  # of any kind of the network, or of a middleware
            return None
        if response.status >= 500 or response.status == 429 or 300 <= response.status < 400:
            return None
        return Protego.parse(response.body.decode("utf-8-sig", "replace") if response.status < 300 else "")

    def _slow_down(self, request: Request, delay: float | None) -> None:
        """Use the delay that robots.txt asks for, if it is the longer one."""
        downloader: Any = self._crawler.engine.downloader
        slot = downloader.slots.get(downloader.get_slot_key(request))
        if delay and slot and delay > self._crawler.settings.getfloat("DOWNLOAD_DELAY"):
            slot.delay = max(slot.delay, delay)
            request.meta["autothrottle_dont_adjust_delay"] = True
