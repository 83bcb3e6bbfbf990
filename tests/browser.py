"""A page as a browser shows it: Debian's Chromium, driven by Playwright, and what axe finds wrong with it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")
_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
_ADDRESS = "http://page.test/"
_LOADS = "script, img, link, iframe, object"
PATIENCE = 300_000
"""Milliseconds that a page is waited for: the machine may be busy, and a first explanation loads PyTorch."""


@dataclass(frozen=True)
class Shown:
    """What the browser made of a page."""

    width: int
    """Pixels that it needs; more than it was given means scrolling sideways."""
    loads: int
    """Elements that may run or fetch something."""
    text: str
    """As a reader sees it."""
    asked: list[str]
    """What was asked for, besides the page."""
    violations: list[str]
    """What axe finds that keeps people from reading it, each rule with the first element that breaks it."""


@dataclass
class Visit:
    """A page of a running server, open in a window."""

    page: Any
    """Playwright's."""
    foreign: list[str] = field(default_factory=list)
    """Addresses of other servers that were asked for."""
    complaints: list[str] = field(default_factory=list)
    """What the browser says of scripts that fail, and of what the page's policy forbids."""

    def violations(self) -> list[str]:
        """Return what axe finds, as `Shown.violations`."""
        from axe_playwright_python.sync_playwright import Axe

        return _named(Axe().run(self.page).response["violations"])


@contextmanager
def visiting(url: str, width: int = 1200, locale: str = "en-GB", dark: bool = False) -> Iterator[Visit]:
    """Open a page of a server, as a reader of a language sees it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        context = browser.new_context(
            viewport={"width": width, "height": 800}, locale=locale, color_scheme="dark" if dark else "light"
        )
        visit = Visit(context.new_page())
        visit.page.set_default_timeout(PATIENCE)
        own = urlsplit(url).netloc
        visit.page.on(
            "request",
            lambda asked: None if urlsplit(asked.url).netloc in (own, "") else visit.foreign.append(asked.url),
        )
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on(
            "console",
            lambda said: visit.complaints.append(said.text) if "Content Security Policy" in said.text else None,
        )
        visit.page.goto(url)
        yield visit
        browser.close()


def _named(found: list[dict[str, Any]]) -> list[str]:
    return [f"{rule['id']}: {rule['nodes'][0]['html']} ({rule['nodes'][0]['failureSummary']})" for rule in found]


def shown(page: str, width: int, dark: bool = False) -> Shown:
    """Return what the browser makes of a page in a window of a width."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import Route, sync_playwright

    asked: list[str] = []

    def answer(route: Route) -> None:
        if route.request.url == _ADDRESS:
            route.fulfill(body=page, content_type="text/html; charset=utf-8")
        else:
            asked.append(route.request.url)
            route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        window = browser.new_page(
            viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light"
        )  # fmt: skip
        window.route("**", answer)
        window.goto(_ADDRESS)
        needed = int(window.evaluate("document.documentElement.scrollWidth"))
        loads, text = window.locator(_LOADS).count(), window.inner_text("body")
        found = Axe().run(window).response["violations"]
        browser.close()
    return Shown(needed, loads, text, asked, _named(found))
