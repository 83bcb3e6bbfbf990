"""The linear baseline: TF-IDF and a linear SVM. What a transformer has to beat to be worth its cost."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from nltk.tokenize import WordPunctTokenizer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.svm import LinearSVC

from components.data.dataset import Dataset
from components.progress import say
from predictor.errors import InputError
from predictor.text import Cleaning, clean

RESULT_FILE = "baseline.json"
PREDICTIONS_FILE = "predictions.parquet"
# Above this many characters between two spaces a language writes no spaces between words.
_LONGEST_WORD = 12.0


@dataclass(frozen=True)
class Baseline:
    """How the baseline did: accuracies as shares of 1, its features in words."""

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
        max_rows: as many rows as the model it is compared with gets.
        seed: fixes the sample and the solver.
    """
    train = dataset.train.sample(max_rows, seed)
    texts = _lowered(train.texts)
    spaced = sum(map(len, texts)) / max(1, sum(text.count(" ") + 1 for text in texts)) <= _LONGEST_WORD
    model = _pipeline(spaced, seed)
    model.fit(texts, train.labels)
    validation = model.predict(_lowered(dataset.validation.texts))
    test = model.predict(_lowered(dataset.test.texts))
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


def _pipeline(spaced: bool, seed: int) -> Pipeline:
    if spaced:
        features = TfidfVectorizer(
            tokenizer=WordPunctTokenizer().tokenize, token_pattern=None, lowercase=False,
            ngram_range=(1, 2), min_df=1, sublinear_tf=True,
        )  # fmt: skip
    else:
        features = TfidfVectorizer(analyzer="char", lowercase=False, ngram_range=(1, 3), sublinear_tf=True)
    return make_pipeline(features, LinearSVC(C=0.5, random_state=seed))


def _lowered(texts: list[str]) -> list[str]:
    return [clean(text, Cleaning(lowercase=True)) for text in texts]
