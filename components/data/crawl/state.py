"""What a crawl knows, in an SQLite file: killed at any point, it goes on where it was.

A page's outcome, its row and the links found on it are one transaction, so that each is there with the others or not at
all. A page that was asked for without an outcome is asked for again.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from components.data.crawl.addresses import page_id, without_secrets
from components.data.crawl.settings import CrawlSettings
from predictor.errors import InputError

KEPT, FORBIDDEN = "kept", "forbidden by robots.txt"
# May be otherwise another time: these pages are asked for again when the crawl is started again.
TIMEOUT, UNREACHABLE, NO_ROBOTS = "no answer in time", "connection failed", "robots.txt cannot be read"
_TEMPORARY = (TIMEOUT, UNREACHABLE, NO_ROBOTS, "HTTP 429", "HTTP 500", "HTTP 502", "HTTP 503", "HTTP 504")
GIVEN_UP = "asked for three times without an outcome"
_MOST_ATTEMPTS = 3
_TABLES = """
CREATE TABLE IF NOT EXISTS settings (value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pages (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, url TEXT NOT NULL, depth INTEGER NOT NULL, hops INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, outcome TEXT, bytes INTEGER NOT NULL DEFAULT 0, text TEXT, label TEXT,
  collected_at TEXT
);
CREATE INDEX IF NOT EXISTS waiting ON pages (depth, number) WHERE outcome IS NULL;
CREATE TABLE IF NOT EXISTS refused (reason TEXT PRIMARY KEY, links INTEGER NOT NULL);
"""


@dataclass(frozen=True)
class Page:
    """A page to ask for: links from a start page, redirects in a row that led to it."""

    number: int
    url: str
    depth: int
    hops: int


@dataclass(frozen=True)
class Article:
    """What becomes a row."""

    text: str
    label: str | None
    collected_at: str


class State:
    """The pages of a crawl, open in one process at a time.

    Args:
        file: the database, there or not.
        settings: of this start.

    Raises:
        InputError: another process crawls into it, it is of a crawl with other settings, or it is no database.
    """

    def __init__(self, file: Path, settings: CrawlSettings) -> None:
        self._settings = settings
        self._database = sqlite3.connect(file, timeout=1.0, isolation_level=None)
        try:
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.execute("PRAGMA secure_delete=ON")  # no secret of an address stays in unused pages
            self._database.executescript(_TABLES)
            self._start()
        except sqlite3.DatabaseError as error:
            self._database.close()
            if "locked" in str(error):
                raise InputError(
                    f"another process crawls into {file.parent}: wait for it, or give another --out"
                ) from error
            raise InputError(f"{file} cannot be used ({error}): remove it to crawl anew") from error
        except BaseException:
            self._database.close()
            raise
        (self.asked, self.bytes), = self._rows(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM pages WHERE outcome IS NOT NULL AND outcome != ?", FORBIDDEN
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def _start(self) -> None:
        before = self._rows("SELECT value FROM settings")
        start = tuple(map(without_secrets, self._settings.start))
        kept = self._settings.model_copy(update={"start": start})
        if before and (changed := kept.changed(before[0][0])):
            raise InputError(
                f"the folder holds a crawl with other settings ({', '.join(changed)}): give another --out, or remove it"
            )
        with self._transaction():
            if not before:
                self._database.execute("INSERT INTO settings VALUES (?)", [kept.model_dump_json()])
            self._add(self._settings.start, depth=0, hops=0)
            marks = ",".join("?" * len(_TEMPORARY))
            self._database.execute(
                f"UPDATE pages SET outcome = NULL, attempts = 0, bytes = 0 WHERE outcome IN ({marks})", _TEMPORARY
            )

    def claim(self, busy: set[int]) -> Page | None:
        """Return the next page to ask for, of those nearest to a start page, or None if none is left or may be.

        Args:
            busy: numbers of the pages that are being asked for.
        """
        if self.bytes >= self._settings.total_bytes or self.asked + len(busy) >= self._settings.pages:
            return None
        marks = ",".join("?" * len(busy))
        while True:
            found = self._rows(
                "SELECT number, url, depth, hops, attempts FROM pages "
                f"WHERE outcome IS NULL AND number NOT IN ({marks}) ORDER BY depth, number LIMIT 1", *busy
            )  # fmt: skip
            if not found:
                return None
            *page, attempts = found[0]
            if attempts < _MOST_ATTEMPTS:
                self._database.execute("UPDATE pages SET attempts = attempts + 1 WHERE number = ?", [page[0]])
                return Page(*page)
            self.record(Page(*page), GIVEN_UP)  # whatever ended the process may be this page

    def record(
        self,
        page: Page,
        outcome: str,
        size: int = 0,
        article: Article | None = None,
        links: Iterable[str] = (),
        refused: dict[str, int] | None = None,
    ) -> None:
        """Write down what became of a page, all of it or nothing.

        Args:
            page: the page.
            outcome: a few words.
            size: bytes of it, after decompression.
            article: its row, if it has one.
            links: addresses found on it that are to be followed.
            refused: links that are not, by reason.
        """
        row = (article.text, article.label, article.collected_at) if article else (None, None, None)
        # What is done needs its secrets no more.
        url = page.url if outcome in _TEMPORARY else without_secrets(page.url)
        with self._transaction():
            self._database.execute(
                "UPDATE pages SET outcome = ?, bytes = ?, url = ?, text = ?, label = ?, collected_at = ? "
                "WHERE number = ?",
                [outcome, size, url, *row, page.number],
            )
            self._add(links, page.depth + 1, hops=0)
            for reason, count in (refused or {}).items():
                self._database.execute(
                    "INSERT INTO refused VALUES (?, ?) "
                    "ON CONFLICT (reason) DO UPDATE SET links = links + excluded.links",
                    [reason, count],
                )
        self.asked += outcome != FORBIDDEN
        self.bytes += size

    def redirect(self, page: Page, target: str, outcome: str, known: str) -> None:
        """Write down that a page redirects to another, which is then a page of its own unless it is known already.

        Args:
            page: the page.
            target: where to.
            outcome: of the page, if the target is new.
            known: of the page, if the target is known, as in a loop.
        """
        with self._transaction():
            new = self._add([target], page.depth, page.hops + 1)
            self._database.execute(
                "UPDATE pages SET outcome = ?, url = ? WHERE number = ?",
                [outcome if new else known, without_secrets(page.url), page.number],
            )
        self.asked += 1

    def _add(self, urls: Iterable[str], depth: int, hops: int) -> int:
        rows = [(page_id(without_secrets(url)), url, depth, hops) for url in urls]
        return self._database.executemany(
            "INSERT OR IGNORE INTO pages (id, url, depth, hops) VALUES (?, ?, ?, ?)", rows
        ).rowcount if rows else 0  # fmt: skip

    def articles(self, labelled: bool) -> Iterator[dict[str, Any]]:
        """Yield the rows with or without a label, in the order in which their pages were found."""
        condition = "NOT NULL" if labelled else "NULL"
        for identity, url, text, label, collected_at in self._database.execute(
            "SELECT id, url, text, label, collected_at FROM pages "
            f"WHERE outcome = ? AND label IS {condition} ORDER BY number", [KEPT]
        ):  # fmt: skip
            named = {"label": label} if labelled else {}
            yield {"id": identity, "text": text, **named, "source": url, "collected_at": collected_at}

    def counts(self) -> dict[str, Any]:
        """Return `pages` by outcome, `links` refused by reason, `waiting` pages and `bytes`."""
        pages = dict(
            self._rows("SELECT outcome, count(*) FROM pages WHERE outcome IS NOT NULL GROUP BY 1 ORDER BY 2 DESC")
        )
        waiting = self._rows("SELECT count(*) FROM pages WHERE outcome IS NULL")[0][0]
        return {
            "pages": pages, "links": dict(self._rows("SELECT reason, links FROM refused ORDER BY 2 DESC")),
            "waiting": waiting, "bytes": self.bytes,
        }  # fmt: skip

    @property
    def only_temporary(self) -> bool:
        """Whether pages were asked for, and none had more than an outcome that may be otherwise another time."""
        outcomes = set(self.counts()["pages"])
        return bool(outcomes) and outcomes <= set(_TEMPORARY)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._database.execute(query, values).fetchall()

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._database)


class _Transaction:
    """Statements that take effect together: at the end of a `with`, or not at all."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")
