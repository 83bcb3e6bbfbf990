"""The linear baseline, TF-IDF and a linear SVM, which a transformer has to beat to be worth its cost."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from nltk.tokenize import WordPunctTokenizer
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from components.data.dataset import Dataset
from components.platform.progress import say
from predictor.errors import InputError
from predictor.model.text import Cleaning, clean

RESULT_FILE = "baseline.json"
PREDICTIONS_FILE = "predictions.parquet"
# With more characters between spaces on average, a language is taken to write no spaces between words.
_MAX_MEAN_WORD = 12.0
# Weights, or scores, that are in memory at once, 256 MB: four classes of three million features take less.
_MAX_WEIGHTS = 32_000_000
# The class that stands for all classes outside the current block.
_OTHERS = -1


@dataclass(frozen=True)
class Baseline:
    """The baseline's result: accuracies as shares of 1, its features in words."""

    features: str
    train_rows: int
    validation_accuracy: float
    test_accuracy: float


def train_baseline(dataset: Dataset, out: Path, max_rows: int, seed: int) -> Baseline:
    """Train on `max_rows` rows (0: all), score validation and test, and keep the result and the test predictions.

    Word 1-2 grams, or character 1-3 grams where the language writes no spaces between words.

    Args:
        dataset: the prepared data.
        out: folder to write `baseline.json` and `predictions.parquet` (columns `id`, `label`) into.
        max_rows: the number of rows that the model it is compared with gets.
        seed: fixes the sample and the solver.
    """
    train = dataset.train.sample(max_rows, seed)
    texts = _lowered(train.texts)
    spaced = writes_spaces(texts)
    features = _features(spaced)
    matrix = features.fit_transform(texts)
    splits = [features.transform(_lowered(split.texts)) for split in (dataset.validation, dataset.test)]
    validation, test = _predictions(matrix, np.array(train.labels, dtype=object), splits, seed)
    result = Baseline(
        features="word 1-2 grams" if spaced else "character 1-3 grams",
        train_rows=len(train),
        validation_accuracy=float((validation == dataset.validation.labels).mean()),
        test_accuracy=float((test == dataset.test.labels).mean()),
    )
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"id": dataset.test.frame["id"], "label": test}).to_parquet(out / PREDICTIONS_FILE, index=False)
    (out / RESULT_FILE).write_text(json.dumps(asdict(result), indent=2))
    say(f"linear baseline on {len(train):,} rows, {result.features}: test accuracy {result.test_accuracy:.2%}")
    return result


def load_baseline(folder: Path) -> tuple[Baseline, dict[str, str]]:
    """Return the result and the test predictions by row id.

    Raises:
        InputError: the folder holds none.
    """
    try:
        result = Baseline(**json.loads((folder / RESULT_FILE).read_text()))
        predictions = pd.read_parquet(folder / PREDICTIONS_FILE)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder} holds no baseline ({error}): run the baseline step again") from error
    return result, dict(zip(predictions["id"], predictions["label"], strict=True))


def writes_spaces(texts: Sequence[str]) -> bool:
    """Whether texts, at least one, are of a language that writes spaces between words."""
    return sum(map(len, texts)) / sum(text.count(" ") + 1 for text in texts) <= _MAX_MEAN_WORD


def _features(spaced: bool) -> TfidfVectorizer:
    if spaced:
        return TfidfVectorizer(
            tokenizer=WordPunctTokenizer().tokenize, token_pattern=None, lowercase=False,
            ngram_range=(1, 2), min_df=1, sublinear_tf=True,
        )  # fmt: skip
    return TfidfVectorizer(analyzer="char", lowercase=False, ngram_range=(1, 3), sublinear_tf=True)


def _predictions(train: Any, labels: NDArray[Any], splits: list[Any], seed: int) -> list[NDArray[Any]]:
    """Fit a one-against-all linear SVM and return its predictions.

    Classes are fitted in blocks, with all other classes merged into one: the weights of all classes, a dense matrix of
    features and classes, may not fit into memory.

    Args:
        train: the training rows, a sparse matrix of shape (rows, features).
        labels: of the training rows.
        splits: sparse matrices of rows to predict.
        seed: fixes the solver.

    Returns:
        The predicted labels of each matrix's rows.
    """
    names, numbers = np.unique(labels, return_inverse=True)
    best = [np.full(rows.shape[0], -np.inf) for rows in splits]
    answers = [np.zeros(rows.shape[0], dtype=np.int64) for rows in splits]
    at_once = max(1, _MAX_WEIGHTS // max(train.shape[1], *(rows.shape[0] for rows in splits)))
    for block in np.array_split(np.arange(len(names)), math.ceil(len(names) / at_once)):
        model = LinearSVC(C=0.5, random_state=seed).fit(train, np.where(np.isin(numbers, block), numbers, _OTHERS))
        for rows, so_far, answer in zip(splits, best, answers, strict=True):
            scores = model.decision_function(rows)
            if scores.ndim == 1:  # of two classes sklearn scores the second against the first
                scores = np.stack([-scores, scores], axis=1)
            scores = scores[:, model.classes_ != _OTHERS]
            better = scores.max(axis=1) > so_far
            so_far[better] = scores[better].max(axis=1)
            answer[better] = block[scores[better].argmax(axis=1)]
    return [names[answer] for answer in answers]


def _lowered(texts: list[str]) -> list[str]:
    return [clean(text, Cleaning(lowercase=True)) for text in texts]
