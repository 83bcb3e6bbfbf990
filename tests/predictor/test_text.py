from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.errors import InputError
from predictor.text import Cleaning, Encoder, clean


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        ("Oil tops #36;46 a barrel", "Oil tops $46 a barrel"),
        ("Yahoo#39;s profit", "Yahoo's profit"),
        ("&amp;amp;quot;yes&amp;quot;", '"yes"'),
        ("a \\$5 fee\\per day", "a $5 fee per day"),
        ("&lt;b&gt;Bold&lt;/b&gt; move", "Bold move"),
        ("AT&T and Q&A stay", "AT&T and Q&A stay"),
        ("salt; and a default; too", "salt; and a default; too"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("two\n\tlines\u00a0here", "two lines here"),
        ("nul\x00 and lone \ud800 surrogate", "nul and lone surrogate"),
        ("e\u0301", "é"),
        ("沪指收涨 股民笑了", "沪指收涨 股民笑了"),
    ],
)
def test_repairs_what_feeds_break_and_nothing_else(raw: str, repaired: str) -> None:
    assert clean(raw) == repaired


def test_without_markup_repair_entities_stay() -> None:
    assert clean("a &lt; b \\ c", Cleaning(markup=False)) == "a &lt; b \\ c"


def test_lower_case_is_an_option() -> None:
    assert clean("ÉCOLE & Co", Cleaning(lowercase=True)) == "école & co"


@given(st.text())
def test_cleaned_text_has_no_controls_and_single_spaces(text: str) -> None:
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert "\x00" not in cleaned
    assert cleaned == " ".join(cleaned.split())


@given(st.text(alphabet=st.characters(exclude_characters="&;#\\<>")))
def test_cleaning_plain_text_twice_changes_nothing(text: str) -> None:
    assert clean(clean(text)) == clean(text)


def test_time_is_linear_in_nested_entities() -> None:
    assert clean("&" + "amp;" * 200_000 + "lt;") == "<"


def test_token_ids_are_those_of_transformers(backbone: Path) -> None:
    from transformers import AutoTokenizer

    texts = ["goal goal cup", "Shares of the bank fell", "x" * 500, "vote " * 300]
    theirs = AutoTokenizer.from_pretrained(backbone)(texts, truncation=True, max_length=32)["input_ids"]
    assert Encoder(backbone, 32)(texts) == theirs


def test_a_huge_text_costs_no_more_than_a_long_one(backbone: Path) -> None:
    encoder = Encoder(backbone, 16)
    assert encoder(["goal " * 2_000_000]) == encoder(["goal " * 1000])


def test_a_folder_without_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=str(tmp_path)):
        Encoder(tmp_path, 32)
