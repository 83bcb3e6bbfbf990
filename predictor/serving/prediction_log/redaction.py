"""What of a text goes into the log."""

import re
from enum import StrEnum

from predictor.records import TEXT_CHARACTERS

EMAIL, NUMBER = "[email]", "[number]"
"""What stands in place of what is masked; in square brackets, since cleaning takes angle brackets for markup."""
# Possessive, and only from the start of a run of such characters: a text without an end to them takes linear time.
_LOCAL = r"\w.!#$%&'*+/=?^`{|}~-"
_EMAIL = re.compile(rf"(?<![{_LOCAL}])[{_LOCAL}]++@[\w-]++(?:\.[\w-]++)*")
# A run of digits, with what people put between them: phone numbers, cards, accounts, dates, amounts.
_NUMBER = re.compile(r"[+(]?\d(?:[ .,:/()\u2009\u202f\xa0-]{0,3}+\d)*+")
_FEWEST_DIGITS = 4


class Redaction(StrEnum):
    """How much of a text the log keeps."""

    NONE = "none"
    """All of it."""
    MASK = "mask"
    """All but e-mail addresses, and numbers of four digits or more."""
    TEXT = "text"
    """Nothing but its hash and its length."""


def redacted(text: str, how: Redaction) -> str | None:
    """Return what the log keeps of a text: at most `TEXT_CHARACTERS`, None where nothing."""
    if how is Redaction.TEXT:
        return None
    kept = text[:TEXT_CHARACTERS]
    return masked(kept) if how is Redaction.MASK else kept


def masked(text: str) -> str:
    """Replace e-mail addresses and numbers of four digits or more.

    By their form alone: names, streets and words that identify a person stay.
    """
    if "@" in text:
        text = _EMAIL.sub(EMAIL, text)
    return _NUMBER.sub(_mask_number, text)


def _mask_number(found: re.Match[str]) -> str:
    digits = sum(map(str.isdigit, found[0]))
    return NUMBER if digits >= _FEWEST_DIGITS else found[0]
