"""Near-duplicates on AG News: time and memory, beside MinHash; recall against all pairs; copies between train and test.

datasketch is used as its documentation says, with its defaults: `MinHash` of 128 permutations, `MinHashLSH` at the same
threshold. Both sides read the same cleaned texts, and both sides' pairs are verified on the same runs of words.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasketch import MinHash, MinHashLSH
from scipy.sparse import csr_array

from components.data.near_duplicates import clusters, near_duplicates
from components.data.near_duplicates_index import words_of
from predictor.model.text import Cleaning, clean
from tests.benchmarks.machine import peak_megabytes
from tests.benchmarks.table import Row, row

RUN, SIMILARITY, CHUNK = 5, 0.7, 10_000
# What the description of the data says: test rows with a near-copy in train, and those with one of another label.
COPIES = {0.5: 593, 0.7: 248, 0.8: 60}
OTHER_LABEL = 7


def measure(folder: Path) -> list[Row]:
    """Measure on the files of AG News.

    Args:
        folder: with train.csv.gz and test.csv.gz, columns text and label.
    """
    texts = keys(folder)
    (ours, pairs), (peer, found) = timed(by_join, texts), timed(by_minhash, texts)
    expected, peers = as_set(by_products(texts)), as_set(found)
    wall, cpu, megabytes = in_own_process(folder)
    recalls = [100 * len(expected & each) / len(expected) for each in (as_set(pairs), peers)]
    name = "datasketch"
    rows = [
        row(f"near-duplicates, {len(texts):,} rows from file to clusters", "s", wall, goal=30, at_most=True),
        row("the same, CPU time", "s", cpu),
        row("the same, peak memory of the process", "MB", megabytes, goal=1000, at_most=True),
        row("near-duplicates, CPU time", "s", ours, peer, name, value=peer / ours, goal=8),
        row(f"recall of {len(expected):,} pairs", "%", recalls[0], recalls[1], name, goal=99),
        row("pairs that are not similar", "pairs", len(as_set(pairs) - expected), len(peers - expected), name,
            goal=0, at_most=True),
    ]  # fmt: skip
    return rows + copies(folder)


def copies(folder: Path) -> list[Row]:
    """Count the test rows that have a near-copy in train, beside what is known of the data."""
    train, test = (pd.read_csv(folder / f"{split}.csv.gz")["label"] for split in ("train", "test"))
    label = np.concatenate([train, test])
    both = keys(folder) + keys(folder, "test")
    rows = []
    for similarity, known in COPIES.items():
        pairs = near_duplicates(chunks(both), similarity, RUN, every=True)
        across = pairs[(pairs[:, 0] < len(train)) & (pairs[:, 1] >= len(train))]
        rows.append(against(f"test rows with a near-copy in train, {similarity}", len(set(across[:, 1])), known))
    other = across[label[across[:, 0]] != label[across[:, 1]]]
    return [*rows, against("of these, with another label", len(set(other[:, 1])), OTHER_LABEL)]


def against(what: str, found: int, known: int) -> Row:
    """Return a row for a number that is to be within 10% of what is known."""
    deviation = 100 * abs(found - known) / known
    return row(what, "rows, % off", found, known, "known", value=deviation, goal=10, at_most=True)


def keys(folder: Path, split: str = "train") -> list[str]:
    """Return the cleaned lower-case texts of a file."""
    return [clean(text, Cleaning(lowercase=True)) for text in pd.read_csv(folder / f"{split}.csv.gz")["text"]]


def chunks(texts: list[str]) -> Iterator[list[str]]:
    """Divide texts as the steps do."""
    return (texts[at : at + CHUNK] for at in range(0, len(texts), CHUNK))


def timed(find: Callable[[list[str]], Any], texts: list[str]) -> tuple[float, Any]:
    """Return the CPU time and what was found; other work on the machine counts little."""
    started = time.process_time()
    found = find(texts)
    return time.process_time() - started, found


def by_join(texts: list[str]) -> np.ndarray[Any, Any]:
    """Every pair, by the code of this project."""
    return near_duplicates(chunks(texts), SIMILARITY, RUN, every=True)


def by_minhash(texts: list[str]) -> list[tuple[int, int]]:
    """Pairs by MinHash and banding, verified on the runs."""
    sets = [runs(text) for text in texts]
    index = MinHashLSH(threshold=SIMILARITY, num_perm=128)
    found = []
    for number, each in enumerate(sets):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([run.encode() for run in each])
        for other in index.query(sketch):
            if len(each & sets[other]) >= SIMILARITY * len(each | sets[other]) - 1e-9:
                found.append((other, number))
        index.insert(number, sketch)
    return found


def by_products(texts: list[str]) -> np.ndarray[Any, Any]:
    """All pairs by the product of the matrix of texts and runs with itself, the runs numbered by a dictionary."""
    numbers: dict[str, int] = {}
    columns: list[int] = []
    ends = [0]
    for text in texts:
        columns.extend(numbers.setdefault(run, len(numbers)) for run in runs(text))
        ends.append(len(columns))
    matrix = csr_array((np.ones(len(columns), dtype=np.int32), columns, ends), shape=(len(texts), len(numbers)))
    sizes = np.diff(ends)
    common = (matrix @ matrix.T).tocoo()
    similar = common.data >= SIMILARITY * (sizes[common.row] + sizes[common.col] - common.data) - 1e-9
    similar &= common.row < common.col
    return np.stack([common.row[similar], common.col[similar]], axis=1)


def runs(text: str) -> set[str]:
    """Return the runs of a text as text."""
    words = words_of(text)
    return {" ".join(words[at : at + RUN]) for at in range(max(len(words) - RUN, 0) + 1)} if words else set()


def as_set(pairs: Any) -> set[tuple[int, int]]:
    """Return pairs in a form that can be compared."""
    return {(int(one), int(other)) for one, other in pairs}


def in_own_process(folder: Path) -> tuple[float, float, float]:
    """Return seconds, CPU seconds and the peak megabytes of a process that reads, cleans and clusters the rows."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_alone, (folder,))


def _alone(folder: Path) -> tuple[float, float, float]:
    started, used = time.monotonic(), time.process_time()
    texts = keys(folder)
    clusters(near_duplicates(chunks(texts), SIMILARITY, RUN), len(texts))
    return time.monotonic() - started, time.process_time() - used, peak_megabytes()
