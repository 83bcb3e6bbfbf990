import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import BertProcessing

from predictor.errors import InputError
from predictor.model.text import Cleaning, Encoder, clean


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


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("Call <PERSON> at <URL> or <user>", None),
        ("a List<String> and a Map<String, List<Object>>", None),
        ("write to <ann@example.com> or <https://example.com/a>", None),
        ("<TIME> at <ADDRESS>, <DATE>", None),
        ("if a<b and c>d", None),
        ("use <script> to load, <!-- to comment", None),
        ("<A HREF='x'>Oil</A> <BR/>up<br>a <B>lot</B>", "Oil up a lot"),
        ('<p class="lead">One</p><P>Two', "One Two"),
        ("at <time>9:30</time> <TIME datetime=9>nine</TIME>", "at 9:30 nine"),
        ("<!DOCTYPE html><html><head><title>T</title></head><body>B", "T B"),
        ("<style>p > a { color: red }</style>red<script async>if (a<b) x()</script> wine", "red wine"),
        ("<svg viewBox='0 0 1 1'><path d='M0'/></svg>drawn<!-- <b> -- x -->", "drawn"),
        ("&lt;PERSON&gt; said &lt;i&gt;no&lt;/i&gt;", "<PERSON> said no"),
    ],
)
def test_markup_is_what_html_knows_and_the_rest_is_text(raw: str, shown: str | None) -> None:
    assert clean(raw) == (raw if shown is None else shown)


def test_a_long_tag_is_a_tag() -> None:
    assert clean(f"<img src='data:{'A' * 5000}'>seen") == "seen"


def test_cells_and_rules_are_markup_with_their_flags() -> None:
    assert clean("<td nowrap>1<TD NOWRAP>2<hr noshade><b and c>") == "1 2 <b and c>"


@given(st.text(alphabet="abAB</>= \n!-\"'", max_size=40))
def test_only_what_stands_in_brackets_is_ever_dropped(text: str) -> None:
    outside = re.sub(r"<[^<>]*>|<!--.*?-->", "", text, flags=re.S)
    letters = iter(clean(text))
    assert all(letter in letters for letter in outside if letter.isalpha())


@pytest.mark.parametrize(
    "text",
    ["", " \n\u3000", "\x00\x01", "\u200b\u200d\ufeff", "<p></p><br/>", "&nbsp;", "\\", "\u2060 \u00ad", "<!---->"],
)
def test_what_shows_nothing_is_empty(text: str) -> None:
    assert clean(text) == ""


def test_zero_width_characters_inside_a_text_stay() -> None:
    assert clean("می\u200cخواهم") == "می\u200cخواهم"


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
    assert clean("&" + "amp;" * 60_000 + "lt;") == "<"


@pytest.mark.parametrize(
    "piece",
    ["<", "<a ", "<a '\"", "<!--", "<script ", "<style></style", "<x>", "</x>", "&", "&amp", "#8", "\\$", "\x00a",
     "\u0316\u0301", "a ", "😂", "<time ", "<script></script>", "&#39;"],
)  # fmt: skip
def test_time_is_linear_whatever_is_repeated(piece: str) -> None:
    text = piece * (300_000 // len(piece))
    assert len(clean(text, most=100)) <= 100


@given(st.text(max_size=30), st.integers(1, 40))
def test_cut_it_is_the_beginning_of_what_it_is_whole(text: str, most: int) -> None:
    whole = clean(text)
    cut = clean(text, most=most)
    assert len(cut) <= most
    assert len(whole) > most or cut == whole


@pytest.mark.parametrize("piece", ["<td width=1>&nbsp;</td>", " \n", "\x00", "<!-- x -->"])
def test_a_text_is_cut_after_it_is_cleaned(backbone: Path, piece: str) -> None:
    encoder = Encoder(backbone, 16)
    assert encoder([f"{piece * 10_000}goal cup"]) == encoder(["goal cup"])


def test_a_run_of_marks_is_composed_like_a_short_one() -> None:
    run = clean("e" + "\u0301\u0316" * 10)
    assert run == unicodedata.normalize("NFC", "e" + "\u0301\u0316" * 10)


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


def test_pieces_have_places_and_special_tokens_have_no_word(backbone: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(backbone / "tokenizer.json"))
    tokenizer.post_processor = BertProcessing(("[SEP]", 2), ("[CLS]", 3))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "cup, strikers"
    pieces = Encoder(tmp_path, 64).pieces(text)
    assert pieces.ids == Encoder(tmp_path, 64).encode([text])[0] and not pieces.truncated
    (first, *words, last), (_, *places, _) = pieces.words, pieces.spans
    assert first is last is None and list(dict.fromkeys(words)) == [0, 1, 2]
    assert "".join(text[start:end] for start, end in places) == "cup,strikers"
    assert Encoder(tmp_path, 8).pieces(text * 9).truncated
