"""The embedded sample keeps what its data card says."""

from collections import Counter

from nltk.tokenize import WordPunctTokenizer
from nltk.util import ngrams

from components.data.collect import collect_frames


def test_the_sample_is_as_its_card_says() -> None:
    frames = collect_frames("sample")
    for rows, frame in ((270, frames["train"]), (40, frames["validation"]), (70, frames["test"])):
        assert Counter(frame["label"]) == dict.fromkeys(("World", "Sports", "Business", "Sci/Tech"), rows)
    texts = [text for frame in frames.values() for text in frame["text"]]
    assert len(set(texts)) == len(texts) == 1520
    words = [len(text.split()) for text in texts]
    assert min(words) >= 8 and max(words) <= 100 and 35 <= sum(words) / len(words) <= 43
    assert sum(count < 20 for count in words) > 250 and sum(count > 55 for count in words) > 250


def test_the_sample_has_no_templates() -> None:
    tokens = WordPunctTokenizer()
    seen: Counter[tuple[str, ...]] = Counter()
    openings: Counter[tuple[str, ...]] = Counter()
    for frame in collect_frames("sample").values():
        for text in frame["text"]:
            words = [word for word in tokens.tokenize(text.lower()) if word.isalnum()]
            seen.update(set(ngrams(words, 6)))
            openings[tuple(words[:2])] += 1
    assert max(seen.values()) <= 2
    assert sum(count > 1 for count in seen.values()) < 20
    assert max(openings.values()) <= 5
