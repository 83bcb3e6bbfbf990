"""Starts the process that crawls, and reads what it wrote."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from components.data.crawl.output import AWAY, REPORT_FILE, ROWS, UNLABELLED, WRONG, read_rows
from components.data.crawl.settings import load_settings
from components.platform.termination import termination_raises
from predictor.errors import InputError, StepFailed, Unavailable

if TYPE_CHECKING:
    import pandas as pd

_CHUNK_ROWS = 10_000
# A crawl that is asked to stop first waits for the answers that are on their way.
_GRACE_SECONDS = 10.0


def crawl(settings: Path, folder: Path, screen: TextIO | None = None) -> dict[str, Any]:
    """Crawl into a folder, or go on with the crawl that is in it.

    The folder gets `train.jsonl` with the rows that have a label, `unlabelled.jsonl` with the others, and `crawl.json`.
    Scrapy runs in a process of its own, since its reactor cannot be started twice in one.

    Args:
        settings: the file with the settings.
        folder: where to; it is made if it is not there.
        screen: gets the lines of progress; None for stdout.

    Returns:
        `rows` by file, `pages` by outcome, `links` that were not followed by reason, pages still `waiting`, `bytes`.

    Raises:
        InputError: the settings or the folder cannot be used, or no page has an article.
        Unavailable: no page can be read.
        StepFailed: the process ended in a way that nobody foresaw.
        ModuleNotFoundError: Scrapy or trafilatura is not installed.
    """
    load_settings(settings)
    for name in ("scrapy", "trafilatura", "lxml_html_clean"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror}): give another --out") from error
    _run([sys.executable, "-m", "components.data.crawl.process", str(settings), str(folder)], screen)
    report: dict[str, Any] = json.loads((folder / REPORT_FILE).read_text(encoding="utf-8"))
    return report


def read(settings: Path, folder: Path | None = None) -> "Iterator[pd.DataFrame]":
    """Crawl, and yield the rows in chunks of at most 10,000; those that no rule labels have the label None.

    Args:
        settings: the file with the settings.
        folder: keeps the crawl, so that it goes on where it was; None for a temporary one.

    Raises:
        InputError, Unavailable, StepFailed, ModuleNotFoundError: as for `crawl`.
    """
    import pandas as pd  # the command does without

    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        crawl(settings, place)
        rows = chain.from_iterable(read_rows(place / name) for name in (ROWS, UNLABELLED))
        while chunk := list(islice(rows, _CHUNK_ROWS)):
            frame = pd.DataFrame(chunk, dtype=object)
            yield frame.assign(label=pd.Series([row.get("label") for row in chunk], dtype=object), synthetic=False)


def _run(command: list[str], screen: TextIO | None) -> None:
    log: deque[str] = deque(maxlen=40)
    with (
        termination_raises(),
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        ) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line)
                print(line, end="", file=screen, flush=True)
            code = process.wait()
        finally:
            _end(process)
    last = log[-1].strip() if log else ""
    if code == 2 and last.startswith(WRONG):
        raise InputError(last.removeprefix(WRONG))
    if code == 3 and last.startswith(AWAY):
        raise Unavailable(last.removeprefix(AWAY))
    if code:
        raise StepFailed("".join(log))


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
