"""The cache of answers: what it keeps, and how much of it."""

import numpy as np
import pytest

from predictor.serving.cache.memory import AnswerCache


def test_the_cache_is_bounded_in_bytes_whatever_a_row_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictor.serving.cache.memory.MOST_BYTES", 100_000)
    kept = {}
    for labels in (4, 2000):
        cache = AnswerCache("00" * 32, 10)
        keys = [cache.key(str(number)) or b"" for number in range(20)]
        for key in keys * 2:
            cache.put(key, np.zeros(labels, dtype=np.float32))
        rows = [row for key in keys if (row := cache.get(key)) is not None]
        assert sum(row.nbytes for row in rows) <= 100_000
        kept[labels] = len(rows)
    assert kept[4] == 10 and 10 < kept[2000] + 2 <= 13


def test_the_cache_keeps_the_latest_and_no_more_than_it_may() -> None:
    cache = AnswerCache("00" * 32, 2)
    rows = {text: np.array([n], dtype=np.float32) for n, text in enumerate("abc")}
    keys = {text: cache.key(text) for text in rows}
    for text in "ab":
        cache.put(keys[text] or b"", rows[text])
    assert cache.get(keys["a"]) is not None
    cache.put(keys["c"] or b"", rows["c"])
    assert [text for text in "abc" if cache.get(keys[text]) is not None] == ["a", "c"]
    assert len(cache) == 2
    cache.put(keys["a"] or b"", rows["a"])  # answered anew is as good as asked for
    cache.put(keys["b"] or b"", rows["b"])
    assert [text for text in "abc" if cache.get(keys[text]) is not None] == ["a", "b"]
    batch = np.zeros((8, 3), dtype=np.float32)
    cache.put(keys["c"] or b"", batch[0])
    kept = cache.get(keys["c"])
    assert kept is not None and kept.base is None  # a view would keep the batch
    assert AnswerCache("11" * 32, 2).key("a") != keys["a"]
    assert AnswerCache("00" * 32, 0).key("a") is None
