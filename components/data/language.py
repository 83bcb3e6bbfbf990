"""The language of each text, and which texts are in another language than the rest."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from scipy.sparse import csr_array

UNKNOWN = "und"
"""The code of ISO 639-2 for a language that is not determined."""
SURE = 0.7
"""The least probability of a language; docs/data-quality.md has what it costs and spares."""
USUAL_SHARE = 0.05
"""A language of fewer rows than this is not one that the data is in."""

# Characters that are read: more do not change the answer.
_MOST_CHARS = 300
_ENOUGH_LETTERS = re.compile(r"(?:[^\W\d_].*){3}|[\u0900-\U0003ffff].*[\u0900-\U0003ffff]", re.DOTALL)
_AT_ONCE = 1024
# Languages that the model tells from another too badly: they belong to that language in ISO 639-3 (its macrolanguages),
# or are Nigerian Pidgin, which it sees in English sport news. `zxx` stands for what is no language.
_TAKEN_FOR = {
    "arz": "ar", "ary": "ar", "wuu": "zh", "yue": "zh", "nn": "no", "uzs": "uz", "sdh": "ku", "pcm": "en",
    "zxx": UNKNOWN,
}  # fmt: skip


def languages(texts: Sequence[str]) -> list[str]:
    """Return the language of each text as an ISO 639 code, or `UNKNOWN`.

    That is the answer of py3langid (naive Bayes over byte n-grams; M. Lui and T. Baldwin, langid.py, ACL 2012) where
    its probability is at least `SURE`. A text with fewer than three letters has no language.
    """
    found = []
    for start in range(0, len(texts), _AT_ONCE):
        part = [text[:_MOST_CHARS] for text in texts[start : start + _AT_ONCE]]
        probabilities = _probabilities(part)
        best, sure = probabilities.argmax(axis=1), probabilities.max(axis=1) >= SURE
        found += [
            _model().names[place] if known and _ENOUGH_LETTERS.search(text) else UNKNOWN
            for text, place, known in zip(part, best, sure, strict=True)
        ]
    return found


def usual_languages(counts: Mapping[str, int]) -> set[str]:
    """Return the languages that data is in, given the rows of each language: those of `USUAL_SHARE` of the rows.

    Rows of unknown language do not count.
    """
    known = {language: rows for language, rows in counts.items() if language != UNKNOWN}
    return {language for language, rows in known.items() if rows >= USUAL_SHARE * sum(known.values())}


def differing(found: Sequence[str], usual: set[str]) -> NDArray[np.bool_]:
    """Return which rows are in another language than the rest, given what `languages` found; shape (rows,)."""
    return np.array([language not in usual and language != UNKNOWN for language in found], dtype=np.bool_)


@dataclass(frozen=True)
class _Model:
    """py3langid's automaton, which reads bytes and finds n-grams, and the weights of n-grams for each language."""

    next_states: NDArray[np.uint32]
    rows: NDArray[np.int64]
    n_grams: NDArray[np.int32]
    weights: NDArray[np.float32]
    prior: NDArray[np.float32]
    names: list[str]
    name_of: NDArray[np.int64]


@cache
def _model() -> _Model:
    loaded = LanguageIdentifier.from_model_file(MODEL_FILE)
    taken = [_TAKEN_FOR.get(name, name) for name in loaded.nb_classes]
    names = sorted(set(taken))
    return _Model(
        next_states=np.frombuffer(loaded.tk_nextmove, dtype=loaded.tk_nextmove.typecode),
        rows=np.asarray(loaded.tk_row, dtype=np.int64) << 8,
        n_grams=np.asarray(loaded.tk_output, dtype=np.int32),
        weights=loaded.nb_ptc.astype(np.float32),
        prior=loaded.nb_pc.astype(np.float32),
        names=names,
        name_of=np.array([names.index(name) for name in taken]),
    )


def _probabilities(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return what `LanguageIdentifier.rank` returns, for many texts at a time; shape (texts, languages).

    The automaton reads the bytes at one place of all texts in one step of NumPy: six times as fast as text by text.
    """
    model = _model()
    data = [_encoded(text) for text in texts]
    sizes = np.array(list(map(len, data)))
    order = np.argsort(-sizes, kind="stable")  # longest first: those that still have bytes are always the first ones
    width = int(sizes.max(initial=0))
    table = np.frombuffer(b"".join(data[row].ljust(width, b"\0") for row in order), dtype=np.uint8)
    table = table.reshape(len(data), width)
    n_grams = np.full((width, len(data)), -1, dtype=np.int32)
    states = np.zeros(len(data), dtype=np.int64)
    for place, still in enumerate(np.searchsorted(-sizes[order], -np.arange(width))):
        states = model.next_states[model.rows[states[:still]] + table[:still, place]]
        n_grams[place, :still] = model.n_grams[states]
    places, rows = np.nonzero(n_grams >= 0)
    shape = len(data), len(model.weights)
    counts = csr_array((np.ones(len(places), dtype=np.float32), (order[rows], n_grams[places, rows])), shape=shape)
    counts.sum_duplicates()
    counts.data = np.log1p(counts.data)
    scores = counts @ model.weights
    scores[np.diff(counts.indptr) > 0] += model.prior
    scores /= np.sqrt(np.maximum(sizes, 1))[:, None]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    probabilities = np.zeros((len(data), len(model.names)), dtype=np.float32)
    np.add.at(probabilities.T, model.name_of, scores.T)
    return probabilities


def _encoded(text: str) -> bytes:
    text = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")
