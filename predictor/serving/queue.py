"""The texts that wait for a lane, and which of them run together."""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence

from predictor.serving.call import QueuedText

# For fewer texts than these, inserting or looking up each one is cheaper than sorting or scanning the whole queue.
_FEW = 64


class Queue:
    """The waiting texts, sorted by turn, which says which leads a batch, and by length, which says which join it."""

    def __init__(self) -> None:
        # (turn or length, number, text): numbers differ, so texts are never compared.
        self._by_turn: list[tuple[int, int, QueuedText]] = []
        self._by_length: list[tuple[int, int, QueuedText]] = []
        self.tokens = 0
        self.background_tokens = 0
        """Those of the tokens that are of background texts."""

    def __len__(self) -> int:
        return len(self._by_turn)

    def add(self, texts: Sequence[QueuedText]) -> None:
        """Put texts into the queue."""
        for text in texts:
            text.waits = True
            self.tokens += len(text.ids)
            self.background_tokens += len(text.ids) * text.background
        turns = [(text.turn, text.number, text) for text in texts]
        lengths = [(len(text.ids), text.number, text) for text in texts]
        for queue, entries in ((self._by_turn, turns), (self._by_length, lengths)):
            if len(entries) < _FEW:
                for entry in entries:
                    insort(queue, entry)
            else:
                queue.extend(entries)
                queue.sort()

    def remove(self, texts: Sequence[QueuedText]) -> None:
        """Take texts out of the queue."""
        for text in texts:
            text.waits = False
            self.tokens -= len(text.ids)
            self.background_tokens -= len(text.ids) * text.background
            if len(texts) < _FEW:
                del self._by_turn[bisect_left(self._by_turn, (text.turn, text.number))]
                del self._by_length[bisect_left(self._by_length, (len(text.ids), text.number))]
        if len(texts) >= _FEW:
            self._by_turn = [entry for entry in self._by_turn if entry[2].waits]
            self._by_length = [entry for entry in self._by_length if entry[2].waits]

    def next_batch(self, most: int, tokens: int, padding: int) -> list[QueuedText]:
        """Take the text whose turn it is and up to `most - 1` neighbours in length.

        Args:
            most: the most texts of the batch.
            tokens: the most tokens of the batch, padding included; a longer text runs alone.
            padding: the most tokens of padding that one more text may add.
        """
        queue, leader = self._by_length, self._by_turn[0][2]
        low = bisect_left(queue, (len(leader.ids), leader.number))
        high, longest = low + 1, len(leader.ids)
        while (count := high - low) < most:
            shorter = longest - queue[low - 1][0] if low else math.inf
            longer = (queue[high][0] - longest) * count if high < len(queue) else math.inf
            if min(shorter, longer) > padding:
                break
            if longer <= shorter:
                if queue[high][0] * (count + 1) > tokens:
                    break
                longest = queue[high][0]
                high += 1
            else:
                if longest * (count + 1) > tokens:
                    break
                low -= 1
        texts = [entry[2] for entry in queue[low:high]]
        self.remove(texts)
        return texts
