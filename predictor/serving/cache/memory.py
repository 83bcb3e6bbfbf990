"""The rows of texts that were answered before: of the same cleaned text by the same bundle, so they are exact."""

import hashlib
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

# Bounds the cache whatever the number of entries: a row of 5,000 labels takes 20 kB.
MOST_BYTES = 64 * 2**20
# Bytes of an entry beside its numbers: the key, the array object and the dictionary's slot.
_OVERHEAD = 300


class AnswerCache:
    """A least-recently-used cache of rows, of at most `MOST_BYTES`.

    Args:
        digest: the bundle's digest; the keys depend on it.
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
        """Return the key of a cleaned text, 16 bytes; None where the cache is off."""
        if not self._entries:
            return None
        return hashlib.blake2b(cleaned.encode(), digest_size=16, key=self._salt).digest()

    def get(self, key: bytes | None) -> NDArray[np.float32] | None:
        """Return the row of a key; None where there is none."""
        if key is None or key not in self._rows:
            return None
        self._rows.move_to_end(key)
        return self._rows[key]

    def put(self, key: bytes, row: NDArray[np.float32]) -> None:
        """Add a row, and drop the least recently used ones where there are too many."""
        if (before := self._rows.pop(key, None)) is not None:
            self._bytes -= before.nbytes + _OVERHEAD
        self._rows[key] = row.copy()  # a view of a batch would keep the whole batch in memory
        self._bytes += row.nbytes + _OVERHEAD
        while len(self._rows) > self._entries or self._bytes > MOST_BYTES:
            _, oldest = self._rows.popitem(last=False)
            self._bytes -= oldest.nbytes + _OVERHEAD
