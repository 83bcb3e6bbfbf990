"""Small changes to a text that leave what it is about: typing errors, words left out or moved, case, punctuation.

Leaving out and swapping words is from EDA (Wei and Zou 2019, "EDA: Easy Data Augmentation Techniques"), inserting
punctuation from AEDA (Karimi et al. 2021). EDA's synonyms are left out, since they need a WordNet.
"""

import random
import re
import unicodedata
from collections.abc import Callable, Sequence

from predictor.errors import InputError

RATE = 0.1
"""Share of the words that a rule changes, at least one of them."""
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_INSERTED = ".,;:!?"
# Where words are longer than this on average, spaces do not separate words.
_LONGEST_WORD = 20
_JOINED = "\u200d\ufe0e\ufe0f"


def _neighbours() -> dict[str, str]:
    """Return the keys beside and diagonally below or above each, on a QWERTY keyboard."""
    places = {key: (row, column + row / 2) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)}
    return {
        key: "".join(
            other for other, (r, c) in places.items() if other != key and abs(r - row) <= 1 and abs(c - column) <= 1
        )
        for key, (row, column) in places.items()
    }


_NEAR = _neighbours()


def units(text: str) -> tuple[list[str], str]:
    """Return what a text consists of, and what joins it: words and a space, or characters where no spaces are used.

    A character comes with the combining marks after it, so that no letter of Hindi or Thai is torn apart.
    """
    words = text.split()
    if len(words) > 1 and sum(map(len, words)) <= _LONGEST_WORD * len(words):
        return words, " "
    characters: list[str] = []
    for character in text.strip():
        joined = unicodedata.category(character).startswith("M") or character in _JOINED
        if characters and (joined or characters[-1].endswith("\u200d")):
            characters[-1] += character
        else:
            characters.append(character)
    return characters, ""


def delete(text: str, chance: random.Random) -> str:
    """Leave out words, or characters of a text without spaces; one stays at least."""
    parts, space = units(text)
    gone = set(chance.sample(range(len(parts)), min(_share(parts), len(parts) - 1))) if len(parts) > 1 else set()
    return space.join(part for place, part in enumerate(parts) if place not in gone)


def swap(text: str, chance: random.Random) -> str:
    """Let words change places, or neighbouring characters of a text without spaces."""
    parts, space = units(text)
    for _ in range(_share(parts) if len(parts) > 1 else 0):
        first = chance.randrange(len(parts) - 1)
        second = chance.randrange(len(parts)) if space else first + 1
        parts[first], parts[second] = parts[second], parts[first]
    return space.join(parts)


def typo(text: str, chance: random.Random) -> str:
    """Hit the key beside the right one; letters a to z alone, whose keys are known."""
    return _in_words(text, chance, "[A-Za-z]", lambda letter: _like(letter, chance.choice(_NEAR[letter.lower()])))


def drop(text: str, chance: random.Random) -> str:
    """Leave out a letter of a word of four and more; scripts with capital and small letters alone."""
    return _in_words(
        text, chance, r"(?<=[^\W\d_]{2})[^\W\d_](?=[^\W\d_])", lambda letter: "" if _cased(letter) else letter
    )


def transpose(text: str, chance: random.Random) -> str:
    """Type two letters of a word in the wrong order; scripts with capital and small letters alone."""
    return _in_words(
        text, chance, r"[^\W\d_]{2}(?=[^\W\d_])", lambda pair: pair[::-1] if all(map(_cased, pair)) else pair
    )


def case(text: str, chance: random.Random) -> str:
    """Write all small, or some words large; scripts with capital and small letters alone."""
    if chance.random() < 0.5:
        return text.lower()
    parts, space = units(text)
    for place in chance.sample(range(len(parts)), _share(parts)) if space else ():
        parts[place] = parts[place].upper()
    return space.join(parts)


def punctuation(text: str, chance: random.Random) -> str:
    """Leave out a mark, or set one after a word; the latter only where spaces separate words."""
    parts, space = units(text)
    marks = [place for place, letter in enumerate(text) if unicodedata.category(letter).startswith("P")]
    if marks and (not space or chance.random() < 0.5):
        place = chance.choice(marks)
        return text[:place] + text[place + 1 :]
    for place in chance.sample(range(len(parts)), _share(parts)) if space else ():
        parts[place] += chance.choice(_INSERTED)
    return space.join(parts)


RULES: dict[str, Callable[[str, random.Random], str]] = {
    rule.__name__: rule for rule in (delete, swap, typo, drop, transpose, case, punctuation)
}
"""Rules by name; each takes a text and a source of chance, and returns the text as it was where it cannot apply."""


def chosen(names: Sequence[str]) -> list[Callable[[str, random.Random], str]]:
    """Return the rules of these names.

    Raises:
        InputError: there are none, or none of that name.
    """
    if unknown := [name for name in names if name not in RULES]:
        raise InputError(f"there is no rule '{unknown[0]}': choose from {', '.join(RULES)}")
    if not names:
        raise InputError(f"no rule is chosen: give some of {', '.join(RULES)}")
    return [RULES[name] for name in dict.fromkeys(names)]


def changed(text: str, rules: Sequence[Callable[[str, random.Random], str]], chance: random.Random) -> str:
    """Return the text after two rules, or the one there is; the same chance gives the same text."""
    for rule in chance.sample(list(rules), min(2, len(rules))):
        text = rule(text, chance)
    return " ".join(text.split())


def _share(parts: Sequence[str]) -> int:
    return max(1, round(RATE * len(parts)))


def _in_words(text: str, chance: random.Random, pattern: str, change: Callable[[str], str]) -> str:
    """Change as many places as one word in ten has, of those that a pattern finds."""
    found = list(re.finditer(pattern, text))
    for match in sorted(chance.sample(found, min(len(found), _share(text.split()))), key=lambda match: -match.start()):
        text = text[: match.start()] + change(match[0]) + text[match.end() :]
    return text


def _cased(letter: str) -> bool:
    return letter.lower() != letter.upper()


def _like(letter: str, other: str) -> str:
    return other.upper() if letter.isupper() else other
