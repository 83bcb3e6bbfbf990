import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.tokenize import NLTKWordTokenizer

from components.data.inspection import classical
from components.data.inspection.classical import STOP_WORDS, content_words


def test_letters_stay_and_the_rest_goes() -> None:
    texts = ["The 3 CATS, didn't\tsit on 2nd\nmats!", "", "the of and", "no\0pe", " \x00 "]
    assert content_words(texts) == ["cats didnt sit nd mats", "", "", "nope", ""]
    assert content_words([]) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("नमस्ते दुनिया, 123!", "नमस्ते दुनिया"), ("สวัสดีครับ 5", "สวัสดีครับ"), ("港股名博:市场耐心等候", "港股名博市场耐心等候"),
        ("مرحبا بِكَ يا عالَم؟", "مرحبا بِكَ يا عالَم"), ("می‌خواهم ۳", "می‌خواهم"),
        ("Ärger CAFÉ — «Œuvre»", "ärger café œuvre"),
        ("ΟΔΥΣΣΕΥΣ, Ὀδυσσεύς", "οδυσσευς ὀδυσσεύς"),
        ("e\u0301t\u00e9 \ud83d x", "e\u0301té x"), ("コーヒー と 水", "コーヒー と 水"),
    ],
)  # fmt: skip
def test_words_of_other_scripts_stay_whole(text: str, words: str) -> None:
    assert content_words([text]) == [words]


@given(st.lists(st.text("ab Éßनि\u0301\0\n1_'ΣİͅA", max_size=12), max_size=6))
def test_texts_do_not_change_each_other(texts: list[str]) -> None:
    assert content_words(texts) == [content_words([text])[0] for text in texts]


@given(st.text(st.characters(max_codepoint=127, exclude_characters="_\0"), max_size=80))
def test_plain_text_gives_what_the_nltk_recipe_gives(text: str) -> None:
    plain = re.sub(r"\d+", "", re.sub(r"[^\w\s]", "", text.lower()))
    words = [word for word in NLTKWordTokenizer().tokenize(plain) if word not in STOP_WORDS]
    # NLTK divides these words; the halves of "cannot" are a stop word and "not".
    if not {"cannot", "gimme", "gonna", "gotta", "lemme", "wanna"} & set(plain.split()):
        assert content_words([text]) == [" ".join(words)]


def test_negations_stay_and_no_stop_word_could_be_missed() -> None:
    assert not STOP_WORDS & {"no", "not", "nor", "never", "none", "nothing", "nobody", "without", "cannot", "dont"}
    assert all(word == classical._letters([word])[0] for word in STOP_WORDS)
