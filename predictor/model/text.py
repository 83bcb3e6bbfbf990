"""Cleans and tokenises texts, the same way in training, evaluation and serving."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer

from predictor.errors import InputError
from predictor.model.markup import without_markup

# A clean text is cut to this many characters for each token before it is tokenised: no language needs more.
CHARS_PER_TOKEN = 64
# The most characters of a text that are read: more than a large web page has, and few enough that no step of the
# cleaning blocks other threads for much more than a millisecond.
MOST_CHARS = 262_144

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]+")
_AMPERSAND = re.compile(r"&(?:amp;)+")
# News feeds lose the ampersand of entities. "#39;" is an apostrophe even after a letter; other numbers are entities
# only if they are punctuation ("#7;" is a rank). "lt;" after a letter is the end of a word.
_ENTITY = re.compile(
    r"&(#[0-9]{1,7}|#x[0-9a-fA-F]{1,6}|quot|apos|lt|gt|amp|nbsp);"
    r"|(#(?:3[3-9]|4[0-7]|9[1-6]|1[45][0-9]|8[0-9]{3})|quot|apos|nbsp|(?<![^\W_])(?:lt|gt|amp));"
)
_ESCAPED = re.compile(r"\\([$#&%_'\"])")
# Runs of characters that are no letters, digits or ASCII: all combining marks are among them.
_MARKS = re.compile(r"[^\w\x00-\x7f]{32}")
# A character that is visible: neither white space nor one that Unicode says to show as nothing.
_VISIBLE = re.compile(
    "[^\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class Cleaning(BaseModel):
    """How texts are cleaned before they are tokenised; part of the bundle, so that serving does the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    markup: bool = True
    """Repair broken HTML entities and backslash escapes, and drop tags."""
    lowercase: bool = False
    """Convert to lower case. Tokenizers of uncased backbones do that; only the linear baseline needs it here."""


DEFAULT_CLEANING = Cleaning()


def clean(text: str, options: Cleaning = DEFAULT_CLEANING, most: int = MOST_CHARS) -> str:
    """Return the text in Unicode NFC with markup repaired, control characters dropped and white space collapsed.

    The time is linear in the length of the text. Words, case, digits and punctuation are kept: a pretrained tokenizer
    was trained on them. The result is empty if no visible character is left.

    Args:
        text: the text as it was sent; only its first `MOST_CHARS` characters are read.
        options: what to repair.
        most: the most characters of the result.
    """
    text = _without_control(text[:MOST_CHARS])
    if options.markup:
        text = _repaired(text)
    text = " ".join(text.split(None, most)[:most])[:most]
    plain = text.isascii()  # in another text, letters that are composed or lowered may become white space, or longer
    if not plain:
        text = _composed(text)
    if options.lowercase:
        text = text.lower()
    text = text.rstrip() if plain else " ".join(text.split())[:most].rstrip()
    return text if _VISIBLE.search(text) else ""


def _repaired(text: str) -> str:
    """Repair broken entities and escapes, and drop tags.

    Most texts have nothing to repair, and looking for a character takes a tenth of the time of a pattern.
    """
    repaired = text
    if "&" in repaired:
        repaired = _AMPERSAND.sub("&", repaired)
    if ";" in repaired:
        repaired = _ENTITY.sub(lambda match: html.unescape(f"&{match[1] or match[2]};"), repaired)
    if "<" in repaired:
        repaired = without_markup(repaired)
    if "\\" in repaired:
        repaired = _ESCAPED.sub(r"\1", repaired).replace("\\", " ")
    return text if repaired is text else _without_control(repaired)


def _without_control(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub("", text)


def _composed(text: str) -> str:
    """Return the text in NFC.

    Composing takes time quadratic in the number of combining marks after a letter, so long runs of marks are broken up
    with U+034F, as in Unicode's stream-safe format (UAX #15, section 13).
    """
    return unicodedata.normalize("NFC", _MARKS.sub(_broken_up, text))


def _broken_up(run: re.Match[str]) -> str:
    return f"{run[0]}\u034f" if all(map(unicodedata.combining, run[0])) else run[0]


@dataclass(frozen=True)
class Pieces:
    """The tokens of one text, special ones included."""

    ids: list[int]
    spans: list[tuple[int, int]]
    """The first character of each, and the one after the last."""
    words: list[int | None]
    """Tokens of one number are parts of one word; None for a special token."""
    truncated: bool
    """Whether the text has more tokens than are read."""


class Encoder:
    """Cleans and tokenises texts with a `tokenizer.json`.

    Args:
        folder: the folder with `tokenizer.json`.
        max_length: the most token ids of a text, special tokens included; longer texts are cut at the end.
        cleaning: how texts are cleaned first.

    Raises:
        InputError: the folder has no readable `tokenizer.json`.
    """

    def __init__(self, folder: Path, max_length: int, cleaning: Cleaning = DEFAULT_CLEANING) -> None:
        file = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception
            raise InputError(
                f"{folder} has no usable tokenizer.json ({error}): give a model folder saved with a fast tokenizer"
            ) from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._max_chars = max_length * CHARS_PER_TOKEN
        self.cleaning = cleaning
        self.max_length = max_length

    def clean(self, texts: Iterable[str]) -> list[str]:
        """Clean each text, and cut it to the length that can matter."""
        return [clean(text, self.cleaning, self._max_chars) for text in texts]

    def encode(self, cleaned: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text that was cleaned, unpadded, at most `max_length` each."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cleaned)]

    def pieces(self, cleaned: str) -> "Pieces":
        """Return the tokens of a text that was cleaned, and where they stand in it; the ids are those of `encode`."""
        encoding = self._tokenizer.encode(cleaned)
        words = [
            None if special else (place if word is None else word)
            for place, (special, word) in enumerate(zip(encoding.special_tokens_mask, encoding.word_ids, strict=True))
        ]
        return Pieces(encoding.ids, encoding.offsets, words, bool(encoding.overflowing))

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, unpadded, at most `max_length` each."""
        return self.encode(self.clean(texts))
