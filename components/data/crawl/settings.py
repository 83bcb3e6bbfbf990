"""The settings of a crawl: a small YAML or JSON file."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from predictor.errors import InputError, one_line

MOST_REDIRECTS = 10
"""Redirects in a row that are followed."""
MOST_LINKS = 2_000
"""Links of a page that are looked at."""
# A crawl may go on with other values of these; what else decides which rows there are must stay.
_MAY_CHANGE = {"contact", "delay", "timeout", "pages", "total_bytes"}


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"'{text}' is no regular expression ({error})") from error
    return text


def _host(text: str) -> str:
    if urlsplit(f"//{text}").hostname != text.lower() or "_" in text:
        raise ValueError(f"'{text}' is no host name: write it as in example.org, without https:// and port")
    return _in_ascii(text)


def _in_ascii(host: str) -> str:
    """Return a host name as it stands in addresses that are asked for, where other letters are encoded."""
    try:
        return host.lower().encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"'{host}' is no host name ({error}): correct it") from error


def _start(text: str) -> str:
    parts = urlsplit(text)  # raises ValueError on a broken address
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"'{text}' is no address: begin it with https:// or http://")
    if parts.username or parts.password:
        raise ValueError("a start URL holds a user or password: leave it out, pages behind a login are not crawled")
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelRule(_Model):
    """One way to tell the label of a page: by its address, or by what a part of the page says."""

    url: Pattern | None = None
    """Found in the address; the label is `label`, or what the pattern's group `label` holds."""
    css: str | None = Field(default=None, min_length=1)
    xpath: str | None = Field(default=None, min_length=1)
    meta: str | None = Field(default=None, min_length=1)
    """Name or property of a meta element, such as article:section."""
    label: str | None = Field(default=None, min_length=1)
    names: dict[str, str] = {}
    """Labels for what css, xpath or meta found; what is not among them gives no label."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [way for way in ("url", "css", "xpath", "meta") if getattr(self, way) is not None]
        if len(ways) != 1:
            raise ValueError("a label rule has exactly one of url, css, xpath and meta")
        if self.url is not None and (self.label is None) != ("label" in re.compile(self.url).groupindex):
            raise ValueError("a rule by url has either a label, or a group (?P<label>...) in its pattern")
        if self.url is None and self.label is not None:
            raise ValueError(f"a rule by {ways[0]} takes the label from the page: use names to rename what it finds")
        return self


class Follow(_Model):
    """Which links are followed, by patterns that are found in the address."""

    allow: tuple[Pattern, ...] = ()
    """Any of these, if there are any."""
    deny: tuple[Pattern, ...] = ()
    depth: int = Field(default=5, ge=0)
    """Links from a start page; 0 for the start pages alone."""


class CrawlSettings(_Model):
    """What is crawled, how politely, and what the labels are."""

    start: tuple[Annotated[str, AfterValidator(_start)], ...] = Field(min_length=1)
    domains: tuple[Annotated[str, AfterValidator(_host)], ...] = ()
    """Hosts that are crawled, each with those below it; without any, the hosts of the start pages alone."""
    contact: str = Field(min_length=3, pattern=r"^[\x21-\x7e]*[@.][\x21-\x7e]*$")
    """An address of mail or a page, for the owners of the sites; it is part of the user agent."""
    delay: float = Field(default=1.0, ge=0, le=3600, allow_inf_nan=False)
    """Least seconds between two requests to a host."""
    timeout: float = Field(default=30.0, gt=0, le=600, allow_inf_nan=False)
    """Seconds that a page may take."""
    pages: int = Field(default=1_000, ge=1)
    """Most pages that are asked for, over all starts."""
    page_bytes: int = Field(default=2_000_000, ge=1_024, le=100_000_000)
    """Most bytes of a page, after decompression."""
    total_bytes: int = Field(default=1_000_000_000, ge=1_024)
    """Most bytes of all pages, after decompression, over all starts."""
    follow: Follow = Follow()
    keep: tuple[Pattern, ...] = ()
    """Pages whose address has any of these become rows, if there are any; others are read for their links."""
    labels: tuple[LabelRule, ...] = ()
    """The first that finds a label decides."""

    def allows(self, host: str) -> bool:
        """Return whether a host is crawled."""
        return any(host == domain or (self.domains and host.endswith(f".{domain}")) for domain in self.hosts)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The domains, or else the hosts of the start pages."""
        return self.domains or tuple(_in_ascii(str(urlsplit(url).hostname)) for url in self.start)

    @model_validator(mode="after")
    def _starts_inside(self) -> Self:
        for url in self.start:
            if not self.allows(_in_ascii(str(urlsplit(url).hostname))):
                raise ValueError(f"the start URL {url} is in none of the domains")
        return self

    def changed(self, before: str) -> list[str]:
        """Return the names of the settings that make other rows than those of an earlier start, given as JSON."""
        old, new = json.loads(before), json.loads(self.model_dump_json())
        return sorted(name for name in new if name not in _MAY_CHANGE and new[name] != old.get(name))


def load_settings(file: Path) -> CrawlSettings:
    """Read the settings of a crawl from YAML, of which JSON is a part.

    Raises:
        InputError: the file cannot be read, or a setting is missing, unknown or out of range.
    """
    try:
        found: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{file} cannot be read ({one_line(error)}): give the settings as YAML or JSON") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} is no list of settings by name: give at least start and contact")
    try:
        return CrawlSettings.model_validate_json(json.dumps(found, default=str))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its settings"
        reason = one_line(first["msg"].removeprefix("Value error, "))
        raise InputError(f"{file} cannot be used, look at {place}: {reason}") from error
