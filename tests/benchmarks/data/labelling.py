"""Labelling: gain of Dawid-Skene over a majority, labels that uncertainty sampling saves, the way through Label Studio.

The crowd is simulated: three annotators who are right three times in four, and two who answer anything. The learner is
a logistic regression on 200 dimensions of TF-IDF, found by a truncated SVD of all rows (they need no labels).
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize

from components.data.sources.tables import read_table
from components.labelling.aggregation import Consensus, dawid_skene, majority
from components.labelling.annotations import import_answers
from components.labelling.label_studio import labeling_config, prediction, task
from components.labelling.merge import merge
from components.labelling.selection import CANDIDATES, features, most, pick, uncertainty
from predictor.model.text import clean
from tests.benchmarks.table import Row, row
from tests.label_studio import VARIABLE, choice, running

DRAWS, CROWD_ROWS, SKILL = 10, 1_000, 0.75
SEEDS, POOL, FIRST, STEP, MOST, RANDOM = 5, 20_000, 100, 100, 600, 1_000
TASKS, SECONDS = 1_000, 300.0
LABELS = ["World", "Sports", "Business", "Sci/Tech"]


def measure(folder: Path) -> list[Row]:
    """Return the figures; `folder` has AG News as train.csv.gz and test.csv.gz."""
    rows = [*crowds(), *saved_labels(folder)]
    if os.environ.get(VARIABLE):
        rows += there_and_back()
    else:
        print(f"{VARIABLE} is not set: the way through Label Studio is not measured")
    return rows


def crowds() -> list[Row]:
    """Measure what Dawid-Skene gains where two of five annotators answer at random, or always the same."""
    found = []
    for name, constant in (("two who answer at random", False), ("two who always answer the same", True)):
        gains, accuracy = [], []
        for seed in range(DRAWS):
            random = np.random.default_rng(seed)
            truth = random.integers(0, len(LABELS), CROWD_ROWS)
            said = [_worker(truth, random) for _ in range(3)]
            said += [np.full(CROWD_ROWS, n) if constant else random.integers(0, 4, CROWD_ROWS) for n in range(2)]
            rows, who = np.tile(np.arange(CROWD_ROWS), 5), np.repeat(np.arange(5), CROWD_ROWS)
            votes, model = majority(rows, np.concatenate(said)), dawid_skene(rows, who, np.concatenate(said))
            accuracy.append((100 * _right(model, truth), 100 * _right(votes, truth)))
            gains.append(accuracy[-1][0] - accuracy[-1][1])
        ours, peer = (statistics.mean(each) for each in zip(*accuracy, strict=True))
        half = float(t.ppf(0.975, DRAWS - 1)) * statistics.stdev(gains) / DRAWS**0.5
        gain = statistics.mean(gains)
        what = f"labels right with three annotators at 75% and {name}"
        found.append(row(what, "%", ours, peer, "majority, ties shared", value=gain, goal=3.0))
        found.append(row("lower end of the 95% interval of that gain", "points", gain - half, goal=3.0))
    return found


def _worker(truth: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    wrong = (truth + random.integers(1, len(LABELS), len(truth))) % len(LABELS)
    return np.where(random.random(len(truth)) < SKILL, truth, wrong)


def _right(found: Consensus, truth: NDArray[np.int64]) -> float:
    """Return the share of right labels; a tie counts as what a draw would give."""
    return statistics.mean((label in best) / len(best) for label, best in zip(truth.tolist(), found.best, strict=True))


def saved_labels(folder: Path) -> list[Row]:
    """Measure accuracy by the number of labels, picked and drawn at random, from the same first 100."""
    train, test = (read_table(folder / f"{name}.csv.gz") for name in ("train", "test"))
    train = train.iloc[:POOL]
    texts = [clean(text) for text in train["text"]]
    words = TfidfVectorizer(sublinear_tf=True, min_df=3, stop_words="english")
    svd = TruncatedSVD(200, random_state=0)
    pool = normalize(svd.fit_transform(words.fit_transform(texts)))
    unseen = normalize(svd.transform(words.transform([clean(text) for text in test["text"]])))
    points = features(texts)
    truth, asked = train["label"].to_numpy(str), test["label"].to_numpy(str)

    def learn(known: NDArray[np.int64]) -> LogisticRegression:
        return LogisticRegression(max_iter=300).fit(pool[known], truth[known])

    def accuracy(known: NDArray[np.int64]) -> float:
        return 100 * float((learn(known).predict(unseen) == asked).mean())

    def curve(seed: int, choose: Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.int64]]) -> list[float]:
        known = np.random.default_rng(seed).permutation(POOL)[:FIRST]
        found = []
        while len(known) < MOST:
            left = np.setdiff1d(np.arange(POOL), known)
            doubt = uncertainty(learn(known).predict_proba(pool[left]))
            known = np.append(known, left[choose(doubt, left)])
            found.append(accuracy(known))
        return found

    def ours(doubt: NDArray[np.float32], left: NDArray[np.int64]) -> NDArray[np.int64]:
        pool_ = most(doubt, CANDIDATES * STEP)
        return pool_[pick(doubt[pool_], points[left[pool_]], STEP)]

    orders = [np.random.default_rng(seed).permutation(POOL) for seed in range(SEEDS)]
    goal = statistics.mean(accuracy(order[:RANDOM]) for order in orders)
    drawn = statistics.mean(accuracy(order[:MOST]) for order in orders)
    means = [statistics.mean(each) for each in zip(*(curve(seed, ours) for seed in range(SEEDS)), strict=True)]
    alone = statistics.mean(curve(seed, lambda doubt, left: most(doubt, STEP))[-1] for seed in range(SEEDS))
    sizes = range(FIRST + STEP, MOST + 1, STEP)
    needed = next((size for size, mean in zip(sizes, means, strict=True) if mean >= goal), None)
    what = f"test accuracy of AG News, {MOST} labels picked, mean of {SEEDS} seeds"
    return [
        row(what, "%", means[-1], goal, f"{RANDOM} labels at random", value=means[-1] - goal, goal=0.0),
        row("the same", "%", means[-1], drawn, f"{MOST} labels at random", value=means[-1] - drawn),
        row("the same", "%", means[-1], alone, "by uncertainty alone", value=means[-1] - alone),
        row(f"labels that reach {RANDOM} at random", "labels", needed or float("nan"), goal=float(MOST), at_most=True),
    ]


def there_and_back() -> list[Row]:
    """Time tasks into Label Studio with the answers of three users, and out of it to merged rows.

    The answers come with the tasks: given one by one over its API they would measure 3,000 requests of its own.
    """
    random = np.random.default_rng(0)
    truth = random.integers(0, len(LABELS), TASKS)
    answers = np.array([_worker(truth, random) for _ in range(3)])
    with tempfile.TemporaryDirectory() as place, running(Path(place)) as studio:
        people = [studio.annotator(name) for name in ("anna", "ben", "carl")]
        started = time.monotonic()
        project = studio.project(labeling_config(LABELS))
        tasks = [
            {
                **task(f"r{number}", f"text {number} 😀 <b>", "made"),
                "predictions": [prediction(LABELS[truth[number]], 0.5, "0123456789ab")],
                "annotations": [
                    {"result": choice(LABELS[label]), "completed_by": who}
                    for who, label in zip(people, answers[:, number].tolist(), strict=True)
                ],
            }
            for number in range(TASKS)
        ]
        taken = studio.send(project, tasks)
        found = [
            import_answers(studio.export(project, kind, Path(place)), LABELS) for kind in ("JSON", "JSON_MIN", "CSV")
        ]
        merged = [merge(each.rows, "majority", "ask") for each in found]
        seconds = time.monotonic() - started
    ties = int(sum(len(set(each)) == 3 for each in answers.T.tolist()))
    silent = max(abs(each.report["ties"]["left_out"] - ties) + abs(len(each.ask) - ties) for each in merged)
    lost = max(3 * TASKS - len(each.rows) for each in found) + TASKS - taken
    return [
        row(
            f"{TASKS:,} tasks with 3 answers through Label Studio, three exports",
            "s",
            seconds,
            goal=SECONDS,
            at_most=True,
        ),
        row("answers lost", "answers", float(lost), goal=0.0, at_most=True),
        row(f"of {ties} ties, decided silently", "rows", float(silent), goal=0.0, at_most=True),
    ]
