"""Pareto sets of mappings, grown from chunks of scored rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FILTERS = 8
"""Points of a long front that are tried on a whole chunk; the rest meet only what survives the chunk's own best."""

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

    @property
    def points(self) -> tuple[Point, ...]:
        """The points, least energy first."""
        return tuple(sorted(self._points))

    def add(self, point: Point) -> None:
        """Take in one mapping."""
        for other in self._points:
            if self._beats(other, point):
                return
        self._points = [other for other in self._points if not self._beats(point, other)]
        self._points.append(point)

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
        while rows.size:
            best = _smallest((*columns, words))
            key = tuple(int(column[best[0]]) for column in columns)
            self.add(self._point(rows[best], energy, latency, size, int(words[best[0]]), name))
            keep = _survives(columns, words, key, int(words[best[0]]))
            keep[best] = False
            rows, columns, words = rows[keep], tuple(column[keep] for column in columns), words[keep]

    def _point(self, ties: NDArray[Any], energy: Values, latency: Values, size: Values, words: int, name: Callable[[int], str]) -> Point:
        named = [(int(size[row]), name(int(row))) for row in ties]
        bytes_used, mapping = min(named, key=lambda pair: pair[1])
        row = ties[0]
        return Point(int(energy[row]), int(latency[row]), bytes_used, words, mapping)

    def _key(self, point: Point) -> tuple[int, ...]:
        plain = (point.energy_pj, point.latency_cycles)
        return (*plain, point.scratchpad_bytes) if self.with_bytes else plain

    def _beats(self, one: Point, other: Point) -> bool:
        mine, theirs = self._key(one), self._key(other)
        if mine == theirs:
            return (one.dram_words, one.mapping) <= (other.dram_words, other.mapping)
        return all(a <= b for a, b in zip(mine, theirs, strict=True))


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
