"""The classical cleaning of texts: words in lower case, without punctuation, digits and English stop words."""

import unicodedata
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

# Words of English grammar: articles, pronouns, prepositions, conjunctions, auxiliaries, without apostrophes as they are
# after cleaning. Written for this project: scikit-learn's list has words that tell topics apart ("bill", "fire",
# "system"), NLTK's has to be downloaded. Negations are kept, since opinions turn on them.
_WORDS = """
a an the this that these those such same own other another each every either both all any some few many much more
most several enough
i me my mine myself you your yours yourself yourselves he him his himself she her hers herself it its itself we us
our ours ourselves they them their theirs themselves one ones who whom whose which what whoever whatever whichever
somebody someone something anybody anyone anything everybody everyone everything
about above across after against along among around as at before behind below beneath beside besides between beyond
by despite down during except for from in inside into like near of off on onto out outside over past per since than
through throughout till to toward towards under until up upon via with within
and but or so yet if because although though unless whereas whether while when whenever where wherever why how
am is are was were be been being do does did doing done have has had having will would shall should can could may
might must ought
im ive youre youve youll hes shes theyre theyve theyll thats theres whats whos heres itll id hed theyd youd
also again ever here there then once just only very too quite rather now
"""
STOP_WORDS = frozenset(_WORDS.split())

_DROPPED, _KEPT, _SPACE = range(3)
_AT_ONCE = 10_000
_JOINERS = "\u200c\u200d"  # they shape words of Persian and of Indian languages


def content_words(texts: Sequence[str]) -> list[str]:
    r"""Return each text as its words in lower case, separated by single spaces, without stop words.

    What is no letter is dropped, as in the usual recipe with NLTK ("don't" becomes "dont", "3D" becomes "d"). Combining
    marks are parts of words, which `\w` of Python's `re` leaves out: words of Hindi or Thai stay whole.
    """
    found: list[str] = []
    stop = STOP_WORDS
    for start in range(0, len(texts), _AT_ONCE):
        lines = _letters(texts[start : start + _AT_ONCE])
        found += [" ".join([word for word in line.split() if word not in stop]) for line in lines]
    return found


def _letters(texts: Sequence[str]) -> list[str]:
    """Return the texts in lower case with letters and spaces alone; all are joined, so that few calls do the work."""
    joined = "\0".join(texts)
    if joined.count("\0") != len(texts) - 1:
        joined = "\0".join([text.replace("\0", "") for text in texts])
    if joined.isascii():
        table, dropped = _ascii()
        return joined.encode().translate(table, dropped).decode().split("\0")
    points = np.frombuffer(joined.lower().encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    kinds = _kinds()[points]
    kept = np.where(kinds == _SPACE, np.uint32(32), points)[kinds != _DROPPED]
    text: str = kept.tobytes().decode("utf-32-le")
    return text.split("\0")


@cache
def _kinds() -> NDArray[np.uint8]:
    """Return for each code point whether it is dropped, kept, or white space; U+0000 is kept, to divide texts."""
    kinds = np.zeros(0x110000, dtype=np.uint8)
    for point in range(len(kinds)):
        character = chr(point)
        if character.isspace():
            kinds[point] = _SPACE
        elif unicodedata.category(character)[0] in "LM" or character in _JOINERS or not point:
            kinds[point] = _KEPT
    return kinds


@cache
def _ascii() -> tuple[bytes, bytes]:
    """Return what `bytes.translate` takes: the new byte for each, and the bytes to drop."""
    kinds = _kinds()[:128]
    table = bytes(32 if kind == _SPACE else ord(chr(point).lower()) for point, kind in enumerate(kinds))
    return table + bytes(128), bytes(np.flatnonzero(kinds == _DROPPED).tolist())
