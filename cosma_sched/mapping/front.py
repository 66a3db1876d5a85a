"""Pareto sets of mappings, grown from chunks of scored rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FILTERS = 4
"""Points of a long front that are tried on a whole chunk before it is looked up in the front's table."""

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """A mapping and what it costs one instance of its layer; sorts as ties are broken."""

    energy_pj: int
    latency_cycles: int
    scratchpad_bytes: int
    dram_words: int
    mapping: str


class Front:
    """The mappings that no other one beats.

    Parameters
    ----------
    with_bytes
        Compare (energy, latency, scratchpad bytes) instead of (energy, latency). Equal points: fewer DRAM words, then the smallest string.
    """

    def __init__(self, *, with_bytes: bool = False) -> None:
        self.with_bytes = with_bytes
        self._points: list[Point] = []
        self._keys = np.empty((0, 3 if with_bytes else 2))

    @property
    def points(self) -> tuple[Point, ...]:
        """The points, least energy first."""
        return tuple(sorted(self._points))

    def add(self, point: Point) -> None:
        """Take in one mapping."""
        key = np.array(self._key(point), dtype=np.float64)
        no_worse = (self._keys <= key).all(axis=1)
        no_better = (self._keys >= key).all(axis=1)
        if (no_worse & ~no_better).any():
            return
        equal = np.flatnonzero(no_worse & no_better)
        if equal.size:
            held = self._points[equal[0]]
            if (held.dram_words, held.mapping) <= (point.dram_words, point.mapping):
                return
        keep = np.flatnonzero(~no_better)
        self._points = [*(self._points[row] for row in keep), point]
        self._keys = np.vstack([self._keys[keep], key])

    def absorb(self, energy: Values, latency: Values, size: Values, words: Values, name: Callable[[int], str]) -> None:
        """Take in scored rows.

        Parameters
        ----------
        energy, latency, size, words
            Whole numbers; an infinite energy marks a row that does not count.
        name
            Gives the string of a row.
        """
        columns: tuple[Values, ...] = (energy, latency, size) if self.with_bytes else (energy, latency)
        step = max(1, len(self._points) // _FILTERS)
        keep = np.isfinite(energy)
        for point in self._points[::step]:
            keep &= _survives(columns, words, self._key(point), point.dram_words)
        rows = np.flatnonzero(keep)
        columns, words = tuple(column[rows] for column in columns), words[rows]
        if self.with_bytes and self._points and rows.size:
            keep = columns[0] <= self._least_energy(columns[1], columns[2])
            rows, columns, words = rows[keep], tuple(column[keep] for column in columns), words[keep]
        while rows.size:
            best = _smallest((*columns, words))
            key = tuple(int(column[best[0]]) for column in columns)
            self.add(self._point(rows[best], energy, latency, size, int(words[best[0]]), name))
            keep = _survives(columns, words, key, int(words[best[0]]))
            keep[best] = False
            rows, columns, words = rows[keep], tuple(column[keep] for column in columns), words[keep]

    def _least_energy(self, latency: Values, size: Values) -> Values:
        """Return for each row the least energy of the points that are no slower and no larger, infinite where there are none."""
        latencies, sizes = np.unique(self._keys[:, 1]), np.unique(self._keys[:, 2])
        table = np.full((len(latencies) + 1, len(sizes) + 1), np.inf)
        places = np.searchsorted(latencies, self._keys[:, 1]) + 1, np.searchsorted(sizes, self._keys[:, 2]) + 1
        np.minimum.at(table, places, self._keys[:, 0])
        table = np.minimum.accumulate(np.minimum.accumulate(table, axis=0), axis=1)
        found: Values = table[np.searchsorted(latencies, latency, "right"), np.searchsorted(sizes, size, "right")]
        return found

    def _point(self, ties: NDArray[Any], energy: Values, latency: Values, size: Values, words: int, name: Callable[[int], str]) -> Point:
        named = [(int(size[row]), name(int(row))) for row in ties]
        bytes_used, mapping = min(named, key=lambda pair: pair[1])
        row = ties[0]
        return Point(int(energy[row]), int(latency[row]), bytes_used, words, mapping)

    def _key(self, point: Point) -> tuple[int, ...]:
        plain = (point.energy_pj, point.latency_cycles)
        return (*plain, point.scratchpad_bytes) if self.with_bytes else plain


def _survives(columns: tuple[Values, ...], words: Values, key: tuple[int, ...], key_words: int) -> Mask:
    """Return which rows a point does not beat; equal rows survive while they move no more DRAM words."""
    better: Mask = columns[0] < key[0]
    for column, value in zip(columns[1:], key[1:], strict=True):
        better |= column < value
    equal: Mask = words <= key_words
    for column, value in zip(columns, key, strict=True):
        equal &= column == value
    better |= equal
    return better


def _smallest(columns: tuple[Values, ...]) -> NDArray[np.intp]:
    """Return the rows that are smallest, the first column counting most."""
    rows = np.arange(len(columns[0]))
    for column in columns:
        values = column[rows]
        rows = rows[values == values.min()]
    return rows
