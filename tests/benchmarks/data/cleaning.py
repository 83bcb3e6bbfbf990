"""How fast texts are cleaned, beside a function that cleans row by row with NLTK."""

import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from nltk.tokenize import NLTKWordTokenizer

from components.data.inspection.classical import STOP_WORDS, content_words
from components.data.inspection.processes import Processes
from predictor.model.text import clean
from tests.benchmarks.table import Row, row

_ROUNDS, _BY_ROW, _GOAL = 5, 3000, 20.0
_LIST = sorted(STOP_WORDS)
_TOKENIZE = NLTKWordTokenizer().tokenize


def row_by_row(texts: Sequence[str]) -> list[str]:
    """Clean each text as tutorials do: `re.sub`, `word_tokenize`, and a set of stop words that each row builds anew.

    `word_tokenize` first divides a text into sentences with Punkt, whose data NLTK downloads; that is left out here,
    and so is reading the file of stop words for each row. Both would make this slower.
    """
    return [_one(text) for text in texts]


def _one(text: str) -> str:
    text = re.sub(r"\d+", "", re.sub(r"[^\w\s]", "", text.lower()))
    stop = set(_LIST)
    return " ".join([word for word in _TOKENIZE(text) if word not in stop])


def clean_all(texts: Sequence[str]) -> list[str]:
    return [clean(text) for text in texts]


def measure(folder: Path) -> list[Row]:
    """Time each in turn, in several rounds, and compare the best times."""
    texts = pd.read_csv(folder / "train.csv.gz")["text"].tolist()
    content_words(["é"])  # builds its tables
    peer = row_by_row(texts[:_BY_ROW])
    equal = sum(a == b for a, b in zip(peer, content_words(texts[:_BY_ROW]), strict=True)) / len(peer)
    many = texts * 4
    with Processes(1) as one, Processes(2) as two:
        works: dict[str, tuple[Callable[[], object], int]] = {
            "row by row": (partial(row_by_row, texts[:_BY_ROW]), _BY_ROW),
            "classical": (partial(content_words, texts), len(texts)),
            "clean": (partial(clean_all, texts), len(texts)),
            "classical 1": (partial(one.map, content_words, many), len(many)),
            "classical 2": (partial(two.map, content_words, many), len(many)),
            "clean 1": (partial(one.map, clean_all, many), len(many)),
            "clean 2": (partial(two.map, clean_all, many), len(many)),
        }
        two.map(content_words, texts)  # starts them and loads modules
        rates = dict.fromkeys(works, 0.0)
        for _ in range(_ROUNDS):
            for name, (work, rows) in works.items():
                start = time.perf_counter()
                work()
                rates[name] = max(rates[name], rows / (time.perf_counter() - start))
    slow = rates["row by row"]
    return [
        row("classical cleaning, one process", "rows/s", rates["classical"], slow, "NLTK row by row",
            value=rates["classical"] / slow, goal=_GOAL),
        row("cleaning for the transformer, one process", "rows/s", rates["clean"], slow, "NLTK row by row",
            value=rates["clean"] / slow, goal=_GOAL),
        row("classical cleaning, two processes", "rows/s", rates["classical 2"], rates["classical 1"], "one process",
            value=rates["classical 2"] / rates["classical 1"]),
        row("cleaning for the transformer, two processes", "rows/s", rates["clean 2"], rates["clean 1"], "one process",
            value=rates["clean 2"] / rates["clean 1"]),
        row("rows that both clean to the same words", "%", 100 * equal),
    ]  # fmt: skip
