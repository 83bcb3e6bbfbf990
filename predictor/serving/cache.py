"""Answers given before, exact: the same cleaned text, asked of the same bundle."""

import hashlib
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

# However many entries are allowed: a row of 5,000 labels takes 20 kB.
MOST_BYTES = 64 * 2**20
# What Python keeps of an entry beside the numbers: key, array and place in the order.
_OVERHEAD = 300


class AnswerCache:
    """Keeps the rows of the texts that were asked for last, in at most `MOST_BYTES` of memory.

    Args:
        digest: the bundle's; answers of another bundle have other keys.
        entries: the most rows to keep; 0 keeps none.
    """

    def __init__(self, digest: str, entries: int) -> None:
        self._salt = bytes.fromhex(digest)
        self._entries = entries
        self._rows: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, cleaned: str) -> bytes | None:
        """Return what a text's answer is kept under: 16 bytes, however long the text; None where none is kept."""
        if not self._entries:
            return None
        return hashlib.blake2b(cleaned.encode(), digest_size=16, key=self._salt).digest()

    def get(self, key: bytes | None) -> NDArray[np.float32] | None:
        """Return the row kept under a key."""
        if key is None or key not in self._rows:
            return None
        self._rows.move_to_end(key)
        return self._rows[key]

    def put(self, key: bytes, row: NDArray[np.float32]) -> None:
        """Keep a row, in place of those that nobody asked for the longest."""
        if (before := self._rows.pop(key, None)) is not None:
            self._bytes -= before.nbytes + _OVERHEAD
        self._rows[key] = row.copy()  # a row of a batch would keep the whole batch
        self._bytes += row.nbytes + _OVERHEAD
        while len(self._rows) > self._entries or self._bytes > MOST_BYTES:
            _, oldest = self._rows.popitem(last=False)
            self._bytes -= oldest.nbytes + _OVERHEAD
