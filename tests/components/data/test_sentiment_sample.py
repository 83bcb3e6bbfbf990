"""The embedded sample of reviews keeps what its data card says."""

from collections import Counter

from nltk.tokenize import WordPunctTokenizer
from nltk.util import ngrams

from components.data.collect import collect_frames
from components.data.prepare import prepare
from components.data.sources.registry import SAMPLE_FOLDER

ADDRESS = str(SAMPLE_FOLDER / "sentiment")


def test_it_has_as_many_rows_and_words_as_its_card_says() -> None:
    frames = collect_frames(ADDRESS)
    for rows, frame in ((235, frames["train"]), (40, frames["validation"]), (70, frames["test"])):
        assert Counter(frame["label"]) == dict.fromkeys(("negative", "neutral", "positive"), rows)
    texts = [text for frame in frames.values() for text in frame["text"]]
    words = [len(text.split()) for text in texts]
    assert len(set(texts)) == len(texts) == 1035
    assert max(words) <= 64 and 14 <= sum(words) / len(words) <= 16
    assert sum(count < 8 for count in words) > 120 and sum(count > 30 for count in words) > 70


def test_preparing_leaves_out_no_row_as_a_copy_of_another() -> None:
    dataset = prepare(collect_frames(ADDRESS), seed=42)
    assert [len(split) for split in (dataset.train, dataset.validation, dataset.test)] == [705, 120, 210]
    assert dataset.report["near_duplicates"]["pairs"] == 0


def test_it_has_no_templates() -> None:
    tokens = WordPunctTokenizer()
    seen: Counter[tuple[str, ...]] = Counter()
    openings: Counter[tuple[str, ...]] = Counter()
    for frame in collect_frames(ADDRESS).values():
        for text in frame["text"]:
            words = [word for word in tokens.tokenize(text.lower()) if word.isalnum()]
            seen.update(set(ngrams(words, 6)))
            openings[tuple(words[:2])] += 1
    assert sum(count > 1 for count in seen.values()) < 5
    assert max(openings.values()) <= 12
