"""What is masked, what stays, and that no text takes long."""

import re
import subprocess
import sys

import pytest

from predictor.model.text import clean
from predictor.records import TEXT_CHARACTERS
from predictor.serving.prediction_log.redaction import EMAIL, NUMBER, Redaction, masked, redacted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("write to anna.maria+x@mail.example.org.", f"write to {EMAIL}."),
        ("(jörg@bücher.example)", f"({EMAIL})"),
        ("<me@home>", f"<{EMAIL}>"),
        ("call +49 (0)30 1234-567 now", f"call {NUMBER} now"),
        ("card 4111 1111 1111 1111", f"card {NUMBER}"),
        ("IBAN DE89 3704 0044 0532 0130 00", f"IBAN DE{NUMBER}"),
        ("born 01.02.1990", f"born {NUMBER}"),
        ("up 7 percent to 1,234.50 in 3 days", f"up 7 percent to {NUMBER} in 3 days"),
        ("٠١٢٣٤٥", NUMBER),
        ("ab12cd345", "ab12cd345"),
        ("at 10 or 20", "at 10 or 20"),
        ("no address @ all, nor @handle", "no address @ all, nor @handle"),
        ("", ""),
    ],
)
def test_addresses_and_long_numbers_are_masked_and_the_rest_stays(text: str, wanted: str) -> None:
    assert masked(text) == wanted


def test_masks_survive_cleaning() -> None:
    text = masked("a@b.example 12345 goal")
    assert clean(text).split() == [EMAIL, NUMBER, "goal"]


def test_texts_are_kept_masked_or_left_out_as_asked() -> None:
    text = "call 123456 " + "x" * TEXT_CHARACTERS
    kept = redacted(text, Redaction.NONE)
    assert kept == text[:TEXT_CHARACTERS]
    assert (redacted(text, Redaction.MASK) or "").startswith(f"call {NUMBER} x")
    assert redacted(text, Redaction.TEXT) is None


def test_hostile_texts_take_linear_time() -> None:
    """With a pattern that tries again from each place, each of these would take hours."""
    code = """
from predictor.serving.prediction_log.redaction import masked
for text in ("a" * 2_000_000 + "@", "a." * 1_000_000 + "@", "1 " * 1_000_000, "1" * 2_000_000, "@" * 2_000_000,
             "a@b" * 700_000, "(+" * 1_000_000, "a@" + "b." * 1_000_000, "a@b.c " * 300_000):
    masked(text)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_digit_of_a_long_number_is_left() -> None:
    for number in ("12345", "12-34-56", "1 2 3 4", "12.34.56.78", "1/2/3/4", "(1)(2)(3)(4)", "1234\u00a05678"):
        assert not re.search(r"\d", masked(f"so {number} it is")), number
