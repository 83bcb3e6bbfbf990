"""TF-IDF features of texts, for linear models."""

from collections.abc import Sequence

from nltk.tokenize import WordPunctTokenizer
from sklearn.feature_extraction.text import TfidfVectorizer

from predictor.model.text import Cleaning, clean

# With more characters between spaces on average, a language is taken to write no spaces between words.
_MAX_MEAN_WORD = 12.0


def lowered(texts: Sequence[str]) -> list[str]:
    """Return the texts clean and in lower case."""
    return [clean(text, Cleaning(lowercase=True)) for text in texts]


def writes_spaces(texts: Sequence[str]) -> bool:
    """Whether texts, at least one, are of a language that writes spaces between words."""
    return sum(map(len, texts)) / sum(text.count(" ") + 1 for text in texts) <= _MAX_MEAN_WORD


def tfidf(spaced: bool) -> TfidfVectorizer:
    """Return features of word 1-2 grams, or of character 1-3 grams where the language writes no spaces."""
    if spaced:
        return TfidfVectorizer(
            tokenizer=WordPunctTokenizer().tokenize, token_pattern=None, lowercase=False,
            ngram_range=(1, 2), min_df=1, sublinear_tf=True,
        )  # fmt: skip
    return TfidfVectorizer(analyzer="char", lowercase=False, ngram_range=(1, 3), sublinear_tf=True)
