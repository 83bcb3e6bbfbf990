"""Text to token ids, the same way in training, evaluation and serving."""

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from tokenizers import Tokenizer

from predictor.errors import InputError
from predictor.model.markup import without_markup

# A clean text may be cut before it is tokenised: no language puts fewer than max_length tokens into this many
# characters a token.
CHARS_PER_TOKEN = 64
# Characters of a text that are looked at: more than a large web page has, and no step over so many keeps other threads
# waiting for much over a millisecond.
MOST_CHARS = 262_144

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]+")
_AMPERSAND = re.compile(r"&(?:amp;)+")
# News feeds lose the ampersand of an entity: "#39;" is an apostrophe even after a letter, and of numbers only those of
# punctuation are taken for one ("#7;" is a rank). "lt;" after a letter is the end of a word.
_ENTITY = re.compile(
    r"&(#[0-9]{1,7}|#x[0-9a-fA-F]{1,6}|quot|apos|lt|gt|amp|nbsp);"
    r"|(#(?:3[3-9]|4[0-7]|9[1-6]|1[45][0-9]|8[0-9]{3})|quot|apos|nbsp|(?<![^\W_])(?:lt|gt|amp));"
)
_ESCAPED = re.compile(r"\\([$#&%_'\"])")
# No letter, digit or ASCII: every mark that Unicode sorts behind its letter is among these.
_MARKS = re.compile(r"[^\w\x00-\x7f]{32}")
# Whatever is no white space and not of those characters that Unicode says to show as nothing.
_VISIBLE = re.compile(
    "[^\\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


class Cleaning(BaseModel):
    """What is repaired in a text before it is tokenised; part of the bundle, so serving repeats it exactly."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    markup: bool = True
    """Repair broken HTML entities and backslash escapes, and drop tags."""
    lowercase: bool = False
    """Lower the case. Uncased backbones do that in their tokenizer; only the linear baseline needs it here."""


DEFAULT_CLEANING = Cleaning()


def clean(text: str, options: Cleaning = DEFAULT_CLEANING, most: int = MOST_CHARS) -> str:
    """Return the text in Unicode NFC with markup repaired, control characters dropped and white space collapsed.

    Linear in the length of the text. Words, case, digits and punctuation are kept: a pretrained tokenizer was
    trained on them. Empty if nothing is left that can be seen.

    Args:
        text: as it was sent; its first `MOST_CHARS` characters are looked at.
        options: what to repair.
        most: characters to keep of the result.
    """
    text = _without_control(text[:MOST_CHARS])
    if options.markup:
        # Most texts have nothing to repair, and asking for a character is a tenth of searching for a pattern.
        if "&" in text:
            text = _AMPERSAND.sub("&", text)
        if ";" in text:
            text = _ENTITY.sub(lambda match: html.unescape(f"&{match[1] or match[2]};"), text)
        if "<" in text:
            text = without_markup(text)
        if "\\" in text:
            text = _ESCAPED.sub(r"\1", text).replace("\\", " ")
        text = _without_control(text)
    text = _composed(" ".join(text.split(None, most)[:most])[:most])
    if options.lowercase:
        text = text.lower()
    text = " ".join(text.split())[:most].rstrip()
    return text if _VISIBLE.search(text) else ""


def _without_control(text: str) -> str:
    return text if text.isprintable() else _CONTROL.sub("", text)


def _composed(text: str) -> str:
    """Return the text in NFC.

    Composing sorts the marks behind a letter in the square of their number, so a run of them is broken up as Unicode's
    stream-safe format does it (UAX #15, section 13), with U+034F.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _MARKS.sub(_broken_up, text))


def _broken_up(run: re.Match[str]) -> str:
    return f"{run[0]}\u034f" if all(map(unicodedata.combining, run[0])) else run[0]


class Encoder:
    """Cleans and tokenises texts with a `tokenizer.json`.

    Args:
        folder: where `tokenizer.json` lies.
        max_length: the most token ids a text may have, special tokens included; longer texts are cut at the end.
        cleaning: what to repair first.

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
        """Clean each text, and cut what is too long to be read to its end."""
        return [clean(text, self.cleaning, self._max_chars) for text in texts]

    def encode(self, cleaned: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text that was cleaned, unpadded, at most `max_length` each."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(cleaned)]

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, unpadded, at most `max_length` each."""
        return self.encode(self.clean(texts))
