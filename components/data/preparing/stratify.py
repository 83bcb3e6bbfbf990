"""Which rows of multi-label data are held out, so that each label has its share on both sides.

Iterative stratification (K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data", ECML
PKDD 2011): the label that is rarest among the rows that are left is dealt first, each of its rows to the side that
lacks more of it, since of common labels there are enough to make up for that later. Two things are added: whole units,
which are near-copies of each other, are dealt in place of rows; and at the end each label that has none held out gets a
unit there, if no label loses its last unit in train by that.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

_HELD, _STAYS = 0, 1


def held_out(
    has: csr_array, size: NDArray[np.float64], free: NDArray[np.bool_], wanted: int, seed: int
) -> NDArray[np.bool_]:
    """Return whether each unit is held out.

    Args:
        has: rows of each unit that have a label, of shape (units, labels).
        size: rows of each unit, shape (units,).
        free: whether a unit may be held out.
        wanted: rows to hold out.
        seed: decides between units that are alike.
    """
    random = np.random.default_rng(seed)
    units_of_label = _units_with(has)
    # A label in one unit would have no row left in train.
    free = free & _all_have(has, units_of_label > 1)
    sides = _Sides(has, size, free, wanted)
    order = random.permutation(len(size))
    units = _Units(has, order)
    for label in sides.rarest_first():
        for unit in units.of(label):
            if sides.waits(unit):
                sides.deal(unit, sides.which(label))
    for unit in order.tolist():
        if sides.waits(unit):
            sides.deal(unit, sides.which(None))
    return _repaired(has, size, free, sides.held, units)


class _Units:
    """The units that have a label, in an order that is drawn once."""

    def __init__(self, has: csr_array, order: NDArray[np.int64]) -> None:
        self._by_label = has.tocsc()
        self._place = np.empty_like(order)
        self._place[order] = np.arange(len(order))

    def of(self, label: int) -> list[int]:
        """Return the units that have a label."""
        start, end = self._by_label.indptr[label], self._by_label.indptr[label + 1]
        units = self._by_label.indices[start:end]
        found: list[int] = units[np.argsort(self._place[units])].tolist()
        return found


class _Sides:
    """How much both sides still lack of each label, and of rows."""

    def __init__(self, has: csr_array, size: NDArray[np.float64], free: NDArray[np.bool_], wanted: int) -> None:
        self._has, self._size = has, size
        total = np.asarray(has.sum(axis=0), dtype=np.float64)
        share = min(1.0, wanted / max(float(size.sum()), 1.0))
        # At least a row: the share of a rare label may be less.
        held = np.minimum(np.maximum(share * total, 1.0), total / 2)
        self._lacks = np.stack([held, total - held])
        self._rows = np.array([float(wanted), float(size.sum()) - wanted])
        self.held = np.zeros(len(size), dtype=bool)
        self._dealt = np.zeros(len(size), dtype=bool)
        for unit in np.flatnonzero(~free).tolist():
            self.deal(unit, _STAYS)

    def waits(self, unit: int) -> bool:
        """Whether a unit is not dealt yet."""
        return not self._dealt[unit]

    def which(self, label: int | None) -> int:
        """Return the side that lacks more of a label; of two alike, and with no label, the one that lacks more rows."""
        lacks = self._lacks[:, label] if label is not None else self._rows
        if label is not None and lacks[_HELD] == lacks[_STAYS]:
            lacks = self._rows
        return _HELD if lacks[_HELD] >= lacks[_STAYS] else _STAYS

    def deal(self, unit: int, side: int) -> None:
        """Give a unit to a side."""
        self._dealt[unit] = True
        self.held[unit] = side == _HELD
        start, end = self._has.indptr[unit], self._has.indptr[unit + 1]
        self._lacks[side, self._has.indices[start:end]] -= self._has.data[start:end]
        self._rows[side] -= self._size[unit]

    def rarest_first(self) -> Iterator[int]:
        """Yield each label that a unit which waits has, always the one that is rarest among these units."""
        while True:
            counts = np.asarray(self._has[~self._dealt].sum(axis=0))
            if not counts.any():
                return
            yield int(np.where(counts > 0, counts, np.inf).argmin())


def _repaired(
    has: csr_array, size: NDArray[np.float64], free: NDArray[np.bool_], held: NDArray[np.bool_], units: _Units
) -> NDArray[np.bool_]:
    """Leave each label a unit in train, and hold one out of each that has none there, where that is possible."""
    held = held.copy()
    for label in np.flatnonzero(_units_with(has[~held]) == 0).tolist():
        if mine := [unit for unit in units.of(label) if held[unit]]:
            held[min(mine, key=size.__getitem__)] = False
    for label in np.flatnonzero(_units_with(has[held]) == 0).tolist():
        for unit in sorted((unit for unit in units.of(label) if free[unit]), key=size.__getitem__):
            stays = ~held
            stays[unit] = False
            others = has.indices[has.indptr[unit] : has.indptr[unit + 1]]
            if (_units_with(has[stays])[others] > 0).all():
                held[unit] = True
                break
    return held


def _units_with(has: csr_array) -> NDArray[np.int64]:
    """Return how many units have each label."""
    return np.bincount(has.indices, minlength=has.shape[1])


def _all_have(has: csr_array, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether all labels of each unit are good ones."""
    return np.asarray((has > 0).astype(np.int64) @ (~good).astype(np.int64) == 0)
