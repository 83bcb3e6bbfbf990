"""The process that crawls: `python -m components.data.crawl.process SETTINGS FOLDER`."""

import json
import logging
import sys
from pathlib import Path

from scrapy.crawler import AsyncCrawlerProcess

from components.data.crawl.article import check_rules
from components.data.crawl.output import AWAY, REPORT_FILE, ROWS, STATE_FILE, UNLABELLED, WRONG, write_rows
from components.data.crawl.settings import load_settings
from components.data.crawl.spider import SiteSpider, scrapy_settings
from components.data.crawl.state import State
from components.platform.termination import end_with_parent
from predictor.errors import InputError, PigeonholeError, Unavailable, one_line
from predictor.files import whole


def crawl_into(folder: Path, settings_file: Path) -> None:
    """Crawl until nothing is left to ask for, a cap is reached or a signal comes; then write what there is.

    Raises:
        InputError: the settings or the folder cannot be used, or no page has an article.
        Unavailable: no page could be asked for.
    """
    settings = load_settings(settings_file)
    check_rules(settings.labels)
    with State(folder / STATE_FILE, settings) as state:
        process = AsyncCrawlerProcess(scrapy_settings(settings))
        bugs: list[BaseException] = []
        process.crawl(SiteSpider, state=state, settings=settings, bugs=bugs)
        process.start()
        if bugs:
            raise bugs[0]
        counts = state.counts()
        rows = {}
        for name, labelled in ((ROWS, True), (UNLABELLED, False)):
            rows[name] = write_rows(folder / name, state.articles(labelled))
        with whole(folder / REPORT_FILE) as file:
            file.write_text(json.dumps({**counts, "rows": rows}, indent=2, ensure_ascii=False), encoding="utf-8")
        if state.only_temporary:
            raise Unavailable(
                f"no page of {one_line(settings.start[0])} can be read ({_listed(counts['pages'])}): try later"
            )
    if not any(rows.values()):
        raise InputError(
            f"no page has an article ({_listed(counts['pages'])}): look at the settings and at {REPORT_FILE}"
        )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{outcome}: {count:,}" for outcome, count in counts.items()) or "none was asked for"


def main() -> None:
    """Crawl; end with the exit code of the error, whose sentence is the last line."""
    end_with_parent()
    logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # a page without an article is no error
    try:
        crawl_into(Path(sys.argv[2]), Path(sys.argv[1]))
    except PigeonholeError as error:
        wrong = isinstance(error, InputError)
        print(f"{WRONG if wrong else AWAY}{error}", flush=True)
        sys.exit(2 if wrong else 3)


if __name__ == "__main__":
    main()
