"""Texts and answers come back from their chunks as they went in, and nothing else does."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.serving.call import Row
from predictor.serving.jobs.chunks import (
    MOST_CHARACTERS,
    MOST_TEXTS,
    MOST_VALUES,
    Damaged,
    cut,
    pack_results,
    pack_starts,
    unpack_results,
    unpack_starts,
    unpack_texts,
)
from predictor.serving.jobs.estimate import Lane, seconds_left

TEXTS = st.lists(st.one_of(st.text(max_size=20), st.integers(0, 2).map(lambda n: "long " * n * 20_000)), min_size=1)


@given(TEXTS, st.sampled_from([2, 3, 5000, 70_000]), st.integers(1, 40))
def test_a_job_comes_back_whole_in_chunks_within_their_bounds(texts: list[str], labels: int, times: int) -> None:
    texts = texts * times
    pieces = cut(texts, labels)
    assert unpack_starts(pack_starts(pieces.starts)) == list(pieces.starts)
    back = [unpack_texts(blob, size) for blob, size in zip(pieces.blobs, pieces.sizes, strict=True)]
    assert [text for chunk in back for text in chunk] == texts
    for chunk in back:
        assert len(chunk) == 1 or (
            len(chunk) <= MOST_TEXTS and sum(map(len, chunk)) <= MOST_CHARACTERS and len(chunk) * labels <= MOST_VALUES
        )


@given(st.lists(st.one_of(st.text(min_size=1), st.floats(0, 1, width=32)), min_size=1), st.binary(max_size=40))
def test_answers_come_back_bit_for_bit_and_bytes_of_others_do_not(given: list[str | float], odd: bytes) -> None:
    answers: list[Row | str] = [
        one if isinstance(one, str) else np.array([one, 1 - one], dtype=np.float32) for one in given
    ]
    blob = pack_results(answers, 2, "v1")
    for answer, result in zip(answers, unpack_results(blob, len(answers), 2), strict=True):
        assert result.version == "v1"
        if isinstance(answer, str):
            assert (result.error, result.probabilities) == (answer, None)
        else:
            assert not result.error and result.probabilities is not None
            assert result.probabilities.tobytes() == answer.tobytes()
    for broken in (odd, blob + odd + b"x", blob[:-1], odd + b"\n" + blob):
        with pytest.raises(Damaged):
            unpack_results(broken, len(answers), 2)
    with pytest.raises(Damaged):
        unpack_results(blob, len(answers) + 1, 2)


@given(st.one_of(st.none(), st.binary(max_size=60)))
def test_other_bytes_are_neither_texts_nor_a_list_of_chunks(odd: bytes | None) -> None:
    with pytest.raises(Damaged):
        unpack_texts(odd, 1)
    try:
        starts = unpack_starts(odd)
    except Damaged:
        return
    assert starts[0] == 0 and all(end > start for start, end in pairwise(starts))


def test_a_packed_text_that_would_not_fit_into_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.serving.jobs.chunks._MOST_BYTES", 1000)
    (blob,) = cut(["x" * 2000], 2).blobs
    with pytest.raises(Damaged):
        unpack_texts(blob, 1)


NUMBERS = st.integers(0, 10_000)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.integers(0, 50), st.integers(0, 50))
def test_an_estimate_counts_the_jobs_own_texts_and_no_more_than_there_are(
    left: int, position: int, own: int, other: int, chunks: int, other_chunks: int
) -> None:
    lanes = Lane(chunks, own, 0), Lane(other_chunks, other, 0)
    seconds = seconds_left(left, position, *lanes, [1.0, 1.0])
    assert seconds is not None and left / 2 <= seconds <= (max(left, own) + other) / 2
    assert seconds_left(left, position, *lanes, []) is None
