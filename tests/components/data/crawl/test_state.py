"""What a crawl remembers: no page twice, none lost, whatever ends the process and whenever."""

import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.data.crawl.settings import CrawlSettings
from components.data.crawl.state import FORBIDDEN, GIVEN_UP, KEPT, TIMEOUT, Article, Page, State
from predictor.errors import InputError

ROOT_PAGE = "https://news.example/0"
ARTICLE = Article("a text", "A", "2026-01-01T00:00:00+00:00")


def wanted(**more: object) -> CrawlSettings:
    return CrawlSettings.model_validate({"start": [ROOT_PAGE], "contact": "a@b.org", **more})


def address(page: int) -> str:
    return f"https://news.example/{page}"


@settings(max_examples=40)
@given(
    graph=st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=10, max_size=10),
    # After so many steps the process is killed; a step asks for a page or writes down what became of one.
    lives=st.lists(st.integers(1, 6), max_size=6),
    at_once=st.integers(1, 4),
)
@example(graph=[[]] * 10, lives=[1, 1, 1], at_once=1)  # no page is answered at all
def test_every_page_that_can_be_reached_has_one_row_after_any_kills(
    graph: list[list[int]], lives: list[int], at_once: int
) -> None:
    answered: Counter[int] = Counter()
    attempts: Counter[int] = Counter()

    def live(file: Path, steps: int) -> None:
        with State(file, wanted()) as state:
            busy: dict[int, Page] = {}
            while steps:
                steps -= 1
                if len(busy) < at_once and (page := state.claim(set(busy))):
                    busy[page.number] = page
                    attempts[int(page.url.rpartition("/")[2])] += 1
                elif busy:
                    _, page = busy.popitem()
                    number = int(page.url.rpartition("/")[2])
                    answered[number] += 1
                    state.record(page, KEPT, 10, ARTICLE, map(address, graph[number]))
                else:
                    return

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "state"
        for steps in lives:
            live(file, steps)
        live(file, 1_000)
        reachable, waiting = {0}, [0]
        while waiting:
            waiting += [page for page in set(graph[waiting.pop()]) if page not in reachable and not reachable.add(page)]  # type: ignore[func-returns-value]
        with State(file, wanted()) as state:
            counts = state.counts()
            rows = [row["source"] for row in state.articles(labelled=True)]
        assert counts["waiting"] == 0 and set(answered.values()) <= {1}
        given_up = counts["pages"].get(GIVEN_UP, 0)
        if not given_up:
            assert sorted(rows) == sorted(map(address, reachable))
        else:  # three kills while one page was asked for: that page may be what kills
            assert len(rows) + given_up <= len(reachable) and len(set(rows)) == len(rows)
            assert given_up <= sum(times == 3 for times in attempts.values())


def test_caps_end_a_crawl_and_higher_ones_let_it_go_on(tmp_path: Path) -> None:
    with State(tmp_path / "state", wanted(pages=2)) as state:
        first = state.claim(set())
        assert first is not None and state.claim({first.number}) is None
        state.record(first, KEPT, 600, ARTICLE, [address(page) for page in range(1, 5)])
        second = state.claim(set())
        assert second is not None and state.claim({second.number}) is None, "what is on its way counts, too"
        state.record(second, FORBIDDEN)
        third = state.claim(set())
        assert third is not None, "what robots.txt forbids was not asked for"
        state.record(third, "HTTP 404", 500)
        assert state.claim(set()) is None
    with State(tmp_path / "state", wanted(pages=9, total_bytes=1_100)) as state:
        assert (state.asked, state.bytes) == (2, 1_100) and state.claim(set()) is None
    with State(tmp_path / "state", wanted(pages=9)) as state:
        assert state.claim(set()) is not None


def test_what_may_be_otherwise_another_time_is_asked_for_again(tmp_path: Path) -> None:
    for _ in range(2):
        with State(tmp_path / "state", wanted()) as state:
            page = state.claim(set())
            assert page is not None
            state.record(page, TIMEOUT)
            assert state.claim(set()) is None and state.only_temporary
    with State(tmp_path / "state", wanted()) as state:
        page = state.claim(set())
        assert page is not None
        state.record(page, "HTTP 404")
        assert not state.only_temporary
    with State(tmp_path / "state", wanted()) as state:
        assert state.claim(set()) is None


def test_a_page_that_ends_the_process_three_times_is_left(tmp_path: Path) -> None:
    for _ in range(3):
        with State(tmp_path / "state", wanted()) as state:
            assert state.claim(set()) is not None
    with State(tmp_path / "state", wanted()) as state:
        assert state.claim(set()) is None and state.counts()["pages"] == {GIVEN_UP: 1}


def test_one_process_at_a_time_and_one_kind_of_settings(tmp_path: Path) -> None:
    with State(tmp_path / "state", wanted()), pytest.raises(InputError, match=r"another process crawls into"):
        State(tmp_path / "state", wanted())
    with pytest.raises(InputError, match=r"a crawl with other settings \(labels\): give another --out"):
        State(tmp_path / "state", wanted(labels=[{"meta": "a"}]))
    (tmp_path / "broken").write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match=r"broken cannot be used .* remove it to crawl anew"):
        State(tmp_path / "broken", wanted())


def test_what_is_done_keeps_no_secret(tmp_path: Path) -> None:
    start = "https://news.example/0?token=hunter2&page=1"
    with State(tmp_path / "state", wanted(start=[start])) as state:
        page = state.claim(set())
        assert page is not None and page.url == start
        state.record(page, KEPT, 1, ARTICLE)
    with sqlite3.connect(tmp_path / "state") as database:
        assert database.execute("SELECT url FROM pages").fetchall() == [("https://news.example/0?page=1",)]
    database.close()
    assert not [file for file in tmp_path.iterdir() if b"hunter2" in file.read_bytes()]
    with State(tmp_path / "state", wanted(start=[start.replace("hunter2", "hunter3")])) as state:
        assert state.claim(set()) is None, "another token is no other page"
