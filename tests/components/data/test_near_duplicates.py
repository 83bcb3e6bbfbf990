"""Near-duplicates: the join finds what a comparison of all pairs finds, whole or in shards."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data import near_duplicates as near_duplicates_module
from components.data import near_duplicates_index
from components.data.near_duplicates import FAMILY, Pairs, clusters, merged, near_duplicates, shard_pairs
from components.data.near_duplicates_index import PARTS, Index, build, words_of
from predictor.errors import InputError

# Few different words: texts have much in common by chance.
TEXTS = st.lists(st.lists(st.sampled_from("abcde"), max_size=14).map(" ".join), max_size=24)
SIMILARITIES = st.sampled_from([0.3, 0.5, 0.7, 0.8, 1.0])


def jaccard(one: str, other: str, run: int) -> float:
    """Of the sets of runs, by the definition."""
    sets = []
    for text in (one, other):
        words = words_of(text)
        sets.append({tuple(words[at : at + run]) for at in range(max(len(words) - run, 0) + 1)} if words else set())
    both, either = sets[0] & sets[1], sets[0] | sets[1]
    return len(both) / len(either) if either else 0.0


def brute_force(texts: list[str], similarity: float, run: int) -> list[list[int]]:
    rows = combinations(range(len(texts)), 2)
    return [[i, j] for i, j in rows if jaccard(texts[i], texts[j], run) >= similarity]


def smallest_in_reach(pairs: list[list[int]], rows: int) -> list[int]:
    """The clusters, by spreading the smaller number until nothing changes."""
    found = list(range(rows))
    for _ in range(rows):
        for i, j in pairs:
            found[i] = found[j] = min(found[i], found[j])
    return found


def in_shards(index: Index, shards: int, every: bool = False) -> Pairs:
    return merged(shard_pairs(index, shard, shards, every) for shard in reversed(range(shards)))


@settings(max_examples=60, deadline=None)
@given(TEXTS, SIMILARITIES, st.integers(1, 4), st.integers(1, 24))
def test_finds_what_comparing_all_pairs_finds(texts: list[str], similarity: float, run: int, chunk: int) -> None:
    chunks = [texts[at : at + chunk] for at in range(0, len(texts), chunk)]
    pairs = near_duplicates(chunks, similarity, run)
    expected = brute_force(texts, similarity, run)
    assert pairs.tolist() == expected
    assert clusters(pairs, len(texts)).tolist() == smallest_in_reach(expected, len(texts))


@settings(max_examples=15, deadline=None)
@given(TEXTS, SIMILARITIES, st.integers(1, PARTS))
def test_any_number_of_shards_finds_the_same(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], similarity: float, shards: int
) -> None:
    index = build([texts], tmp_path_factory.mktemp("index"), similarity, 2)
    assert in_shards(Index.open(index.folder), shards).tolist() == brute_force(texts, similarity, 2)


def test_shards_join_large_families_to_the_same_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    families = [" ".join(f"{family}w{word}" for word in range(20)) for family in range(3)]
    texts = [f"{families[row % 3]} number {row}" for row in range(3 * FAMILY + 30)]
    texts = [texts[row] for row in rng.permutation(len(texts))]
    index = build([texts], tmp_path, 0.7, 5)
    pairs = shard_pairs(index)
    assert np.array_equal(in_shards(index, 7), pairs)
    assert len(pairs) < 2 * len(texts)  # not every pair of a family
    every = shard_pairs(index, every=True)
    assert np.array_equal(in_shards(index, 2, every=True), every)
    assert every.tolist() == brute_force(texts, 0.7, 5)
    assert np.array_equal(clusters(pairs, len(texts)), clusters(every, len(texts)))
    assert len(np.unique(clusters(pairs, len(texts)))) == 3


@settings(max_examples=15, deadline=None)
@given(TEXTS, SIMILARITIES)
def test_what_is_listed_of_large_families_is_similar_and_the_same_in_shards(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], similarity: float
) -> None:
    index = build([texts], tmp_path_factory.mktemp("index"), similarity, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near_duplicates_module, "FAMILY", 2)
        pairs = shard_pairs(index).tolist()
        assert in_shards(index, 5).tolist() == pairs
    expected = brute_force(texts, similarity, 2)
    assert [pair for pair in pairs if pair not in expected] == []
    assert {row for pair in pairs for row in pair} == {row for pair in expected for row in pair}


def test_every_pair_of_a_family_is_listed_up_to_the_bound() -> None:
    texts = [f"the quick brown fox jumps over the lazy dog at night in the rain of {row}" for row in range(FAMILY)]
    assert len(near_duplicates([texts])) == FAMILY * (FAMILY - 1) // 2


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        ("Storm hits the coast", "storm hits the coast", False),  # texts are given in lower case
        ("storm hits the coast", "storm hits the coast", True),
        ("storm hits the coast", "storm hits the coast again", False),
        ('"storm" hits the coast!', "storm hits, the coast", True),
        ("storm", "storm storm", False),
        ("", "", False),
        ("?!", "?!", False),
        ("北京今天下了一场很大的雪很多人没有上班", "北京今天下了一场很大的雪,很多人没有上班", True),
        ("北京今天下了一场很大的雪很多人没有上班", "上海今天下了一场小雨很多人照常去上班了", False),
        ("вчера в городе прошёл сильный дождь", "вчера в городе прошёл сильный дождь.", True),
        ("कल शहर में बहुत तेज़ बारिश हुई।", "कल शहर में बहुत तेज़ बारिश हुई", True),
    ],
)
def test_what_counts_as_a_near_copy(one: str, other: str, near: bool) -> None:
    assert near_duplicates([[one], [other]]).tolist() == ([[0, 1]] if near else [])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("u.s. oil-prices rise to $50.5 (reuters)", ["u", "s", "oil", "prices", "rise", "to", "50", "5", "reuters"]),
        ("it's the fed's_x `move`", ["it's", "the", "fed's_x", "move"]),
        ("café «été», naïve—l’an", ["café", "été", "naïve", "l’an"]),
        ("iphone 15发布,《三体》", ["iphone", "15", "发", "布", "三", "体"]),
        ("カタカナ・ひらがな", list("カタカナひらがな")),
        ("बारिश हुई।", ["बारिश", "हुई"]),
        ("서울에서 비가", ["서울에서", "비가"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_ascii_texts_have_the_same_words_in_both_patterns() -> None:
    text = "".join(f"a{character}b " for character in map(chr, range(128)))
    assert words_of(text) == words_of(text + " é")[:-1]


def test_a_share_that_is_just_reached_counts() -> None:
    words = [f"w{word}" for word in range(11)]  # 10 runs of two words
    for common in range(1, 10):
        one, other = words, words[: common + 1]
        assert len(near_duplicates([[" ".join(one), " ".join(other)]], common / 10, 2)) == 1
        assert len(near_duplicates([[" ".join(one), " ".join(other)]], common / 10 + 1e-6, 2)) == 0


def test_long_texts_are_handled_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{word * step}" for word in range(300)) for step in (1, 2, 1, 3)] + ["a b c d e f g"] * 2
    whole = near_duplicates([texts], folder=tmp_path / "whole")
    for name, most in {"_CHARS": 100, "_AT_ONCE": 64}.items():
        monkeypatch.setattr(near_duplicates_index, name, most)
    assert near_duplicates([texts], folder=tmp_path / "pieces").tolist() == whole.tolist() == [[0, 2], [4, 5]]
    files = [sorted(folder.iterdir()) for folder in (tmp_path / "whole", tmp_path / "pieces")]
    assert [file.read_bytes() for file in files[0]] == [file.read_bytes() for file in files[1]]


def test_no_rows_have_no_pairs() -> None:
    inputs: list[list[list[str]]] = [[], [[]], [["one text alone is like no other"]]]
    for keys in inputs:
        pairs = near_duplicates(keys)
        assert pairs.shape == (0, 2)
        assert clusters(pairs, sum(map(len, keys))).tolist() == list(range(sum(map(len, keys))))


def test_clusters_are_chains_named_by_their_first_row() -> None:
    assert clusters(np.array([[1, 4], [2, 3], [3, 5]]), 7).tolist() == [0, 1, 2, 2, 1, 2, 6]


@pytest.mark.parametrize(
    ("similarity", "run", "words"),
    [(0, 5, "similarity"), (1.1, 5, "similarity"), (float("nan"), 5, "similarity"), (0.7, 0, "runs")],
)
def test_thresholds_out_of_range_are_refused(similarity: float, run: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        near_duplicates([["a"]], similarity, run)


def test_an_index_that_was_not_finished_is_refused(tmp_path: Path) -> None:
    def stops() -> Iterator[list[str]]:
        yield ["a b"]
        raise KeyboardInterrupt

    build([["a b"]], tmp_path, 0.7, 5)
    with pytest.raises(KeyboardInterrupt):
        build(stops(), tmp_path, 0.7, 5)
    with pytest.raises(InputError, match="no whole index"):
        Index.open(tmp_path)
    index = build([["a b"]], tmp_path, 0.7, 5)
    for shard, shards in ((1, 1), (-1, 2), (0, PARTS + 1)):
        with pytest.raises(InputError, match="no shard"):
            shard_pairs(index, shard, shards)
