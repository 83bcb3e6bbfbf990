import pytest

from components.data.damage import damaged


@pytest.mark.parametrize(
    "text",
    [
        "The cafÃ© in MÃ¼nchen", "donâ€™t do this", "it cost â‚¬5", "РџСЂРёРІРµС‚ РјРёСЂ", "ä½ å¥½ï¼Œä¸–ç•Œ",
        "don\x92t do it", "caf\ufffd au lait", "M??nchen liegt in Bayern", "a r?sum? of the caf?s",
        "???? ?????? ?? ??????",
    ],
)  # fmt: skip
def test_text_whose_letters_were_lost_or_mistaken_is_damaged(text: str) -> None:
    assert damaged([text]).tolist() == [True]


@pytest.mark.parametrize(
    "text",
    [
        "", "???", "what?? why??", "Why?because", "What??? no way", "http://a.b/c?d=e http://a.b/c?d=f",
        "5€ ©2004 “quoted” — dash…", "Größe: 5 °C ±2", "« Ñandú » ¿qué? ¡hola!", "怎么办?看 为什么?不知道", "नमस्ते",
        "Привет, как дела?", "Καλημέρα", "naïve façade, Ærø, œuvre",
    ],
)  # fmt: skip
def test_question_marks_accents_and_other_scripts_are_no_damage(text: str) -> None:
    assert damaged([text]).tolist() == [False]


def test_one_damaged_place_counts_in_a_short_text_but_not_in_a_long_one() -> None:
    short = "The caf\ufffd was open. " + "All was well. " * 10
    assert damaged([short, short + "All was well. " * 100]).tolist() == [True, False]
