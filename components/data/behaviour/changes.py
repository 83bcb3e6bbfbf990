"""Changes of a text that leave its class as it is, for behavioural tests."""

import html
import re
from collections.abc import Callable
from random import Random

_WORD = re.compile(r"[A-Za-z]{4,}")
# Common given names of many languages; another one of the list takes the place of the one that is found.
_LISTED = (
    "Anna Maria Sarah Laura Emma Fatima Aisha Priya Mei Yuki Olga Elena Ingrid Chloe Grace Michael David James John "
    "Robert William Thomas Peter Mohammed Ahmed Raj Wei Hiroshi Ivan Carlos Juan Pierre Hans Lars Kwame Daniel"
)
_NAMES = _LISTED.split()
_NAMED = re.compile(rf"\b(?:{'|'.join(_NAMES)})\b")


def _typo(text: str, random: Random) -> str:
    """Swap two neighbouring letters inside one word, neither the first of it nor the last."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    word = random.choice(words)
    at = random.randrange(word.start() + 1, word.end() - 2)
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _names(text: str, random: Random) -> str:
    return _NAMED.sub(lambda found: random.choice([name for name in _NAMES if name != found[0]]), text)


CHANGES: dict[str, Callable[[str, Random], str]] = {
    "upper_case": lambda text, _: text.upper(),
    "lower_case": lambda text, _: text.lower(),
    "entities": lambda text, _: html.escape(text),
    "white_space": lambda text, _: f"  {text.replace(' ', '  ')}\n",
    "typo": _typo,
    "names": _names,
    "full_stop": lambda text, _: text if text.rstrip().endswith((".", "!", "?")) else f"{text.rstrip()}.",
}
"""By name; each gets the text and a seeded source of chance, and returns the text itself where it does not apply."""
