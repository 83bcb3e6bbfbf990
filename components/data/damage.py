"""Texts whose characters were lost or mistaken when they were decoded."""

import re
from collections.abc import Sequence

import numpy as np
from ftfy.badness import badness
from numpy.typing import NDArray

# A longer text may have more damaged places: one accent that is lost in an article harms nobody.
_CHARS_PER_PLACE = 500
# Characters of a text that are read.
_MOST_CHARS = 65_536
# A program that writes ASCII puts a question mark for every other character, or for every byte of one: "M??nchen",
# "caf?s". Between lower-case letters one may also be a forgotten space, and in an address it starts a query.
_TWO_LOST = re.compile(r"[^\W\d_]\?{2,}[a-z]")
_ONE_LOST = re.compile(r"(?<![^\s\"'(])[^\W\d_]+\?[a-z]+(?:\?[a-z]+)*\??(?![^\s\"').,;:!])")
# Words of question marks alone, at least two.
_LOST_WORD = re.compile(r"(?<!\S)\?{2,}[.,;:!]?(?!\S)")


def damaged(texts: Sequence[str]) -> NDArray[np.bool_]:
    """Return which texts are damaged by a wrong decoding, beyond what cleaning can repair; shape (texts,).

    Counted are replacement characters (U+FFFD), mojibake such as "Ã©" for "é" (the heuristic of ftfy, R. Speer 2019),
    and question marks in place of letters. A text is damaged if it has one such place in 500 characters.
    """
    return np.fromiter(map(_is_damaged, texts), dtype=np.bool_, count=len(texts))


def _is_damaged(text: str) -> bool:
    text = text[:_MOST_CHARS]
    places = 0
    if not text.isascii():
        places = text.count("\ufffd") + badness(text.replace("\ufffd", " "))
    if "?" in text:
        places += _lost(text)
    return places * _CHARS_PER_PLACE >= len(text) > 0 and places > 0


def _lost(text: str) -> int:
    """Count the places where question marks stand for letters."""
    inside, single, words = (len(each.findall(text)) for each in (_TWO_LOST, _ONE_LOST, _LOST_WORD))
    # Each of these is a habit of some writers; a text where it happens once is no damaged text.
    return inside + (single if single > 1 else 0) + (words if 2 * words > len(text.split()) > 2 else 0)
