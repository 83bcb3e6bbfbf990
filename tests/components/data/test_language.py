import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from components.data import language
from components.data.language import UNKNOWN, differing, languages, usual_languages

TEXTS = {
    "en": "The committee will meet again on Thursday to discuss the budget.",
    "de": "Der Ausschuss trifft sich am Donnerstag wieder, um den Haushalt zu besprechen.",
    "es": "El comité se reunirá de nuevo el jueves para debatir el presupuesto.",
    "fr": "Le comité se réunira de nouveau jeudi pour discuter du budget.",
    "ru": "Комитет снова соберётся в четверг, чтобы обсудить бюджет.",
    "hi": "समिति बजट पर चर्चा के लिए गुरुवार को फिर बैठेगी।",
    "zh": "委员会将于星期四再次开会讨论预算。",
    "ja": "委員会は木曜日に再び会合を開き、予算について話し合います。",
    "ar": "ستجتمع اللجنة مرة أخرى يوم الخميس لمناقشة الميزانية.",
    "ko": "위원회는 목요일에 다시 모여 예산을 논의할 것이다.",
}


def test_languages_of_sentences() -> None:
    assert languages(list(TEXTS.values())) == list(TEXTS)


def test_text_without_letters_or_too_short_is_of_unknown_language() -> None:
    assert languages(["", " ", "123 456", "!?", "😀😀😀", "a b", "no"]) == [UNKNOWN] * 7
    assert languages([]) == []


def test_text_in_capitals_and_half_a_surrogate_pair_are_read() -> None:
    assert languages([TEXTS["en"].upper(), "\ud83d " + TEXTS["fr"]]) == ["en", "fr"]


def test_many_texts_at_once_give_what_the_library_gives_for_each() -> None:
    texts = [text[:end] for text in TEXTS.values() for end in (0, 1, 7, 30, None)]
    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    names = language._model().names
    for text, row in zip(texts, language._probabilities(texts), strict=True):
        expected = dict.fromkeys(names, 0.0)
        for name, probability in library.rank(text):
            expected[language._TAKEN_FOR.get(name, name)] += probability
        assert dict(zip(names, row, strict=True)) == pytest.approx(expected, abs=1e-5)


def test_answer_does_not_depend_on_the_other_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text[:end] for text in TEXTS.values() for end in (0, 7, 20, None)]
    expected = [languages([text])[0] for text in texts]
    monkeypatch.setattr(language, "_AT_ONCE", 7)
    assert languages(texts) == expected


def test_row_of_a_rare_language_differs_from_the_rest() -> None:
    found = ["en"] * 60 + ["es"] * 35 + ["fr"] + [UNKNOWN] * 100
    usual = usual_languages({name: found.count(name) for name in set(found)})
    assert usual == {"en", "es"}
    assert [found[row] for row in differing(found, usual).nonzero()[0]] == ["fr"]
