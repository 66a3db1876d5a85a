"""Lower hulls of (energy, latency): what a weighted sum of the two can choose, and what can never be chosen.

A minimiser of a E + b L with a, b >= 0 is always a vertex of the lower left hull. So hulls are all that a network's sweep needs of a group,
and whatever lies on or above a hull need not be priced. All tests that decide are exact.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Point = tuple[int, int]
_CLOSE = 1e-9
"""Relative distance below which floating-point numbers do not decide."""


def lower_hull(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the vertices of the lower left hull, least energy first; the last one has the least latency."""
    kept: list[Point] = []
    for point in sorted(set(points)):
        if kept and point[1] >= kept[-1][1]:
            continue
        while len(kept) > 1 and _turns_up(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return tuple(kept)


def _turns_up(one: Point, middle: Point, other: Point) -> bool:
    """Return whether the middle point lies on or above the chord of its neighbours."""
    return (middle[1] - one[1]) * (other[0] - one[0]) >= (other[1] - one[1]) * (middle[0] - one[0])


def covers(hull: Sequence[Point], point: Point) -> bool:
    """Return whether a point lies on or above a hull: then no weighted sum prefers it."""
    energy, latency = point
    if not hull or energy < hull[0][0] or latency < hull[-1][1]:
        return False
    place = bisect_right(hull, energy, key=lambda vertex: vertex[0])
    if place == len(hull):
        return True
    (e0, l0), (e1, l1) = hull[place - 1], hull[place]
    return (latency - l0) * (e1 - e0) >= (l1 - l0) * (energy - e0)


def uncovered(hull: Sequence[Point], energy: NDArray[Any], latency: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which points may lie below a hull: all that do, and few that do not."""
    if not hull:
        return np.ones(energy.shape, dtype=bool)
    height = np.interp(energy, [vertex[0] for vertex in hull], [vertex[1] for vertex in hull])
    outside = energy < hull[0][0] * (1 + _CLOSE)
    below: NDArray[np.bool_] = outside | (latency < height * (1 + _CLOSE))
    return below


def plus(one: Sequence[Point], other: Sequence[Point]) -> tuple[Point, ...]:
    """Return the hull of all sums of a point of each (the Minkowski sum of two hulls)."""
    if not one or not other:
        return ()
    energy, latency = one[0][0] + other[0][0], one[0][1] + other[0][1]
    found = [(energy, latency)]
    left, right = 0, 0
    while left < len(one) - 1 or right < len(other) - 1:
        a, b = _edge(one, left), _edge(other, right)
        if b is None or (a is not None and a[1] * b[0] <= b[1] * a[0]):
            step, left = a, left + 1
        else:
            step, right = b, right + 1
        if step is not None:
            energy, latency = energy + step[0], latency + step[1]
            found.append((energy, latency))
    return lower_hull(found)


def _edge(hull: Sequence[Point], place: int) -> Point | None:
    if place >= len(hull) - 1:
        return None
    return hull[place + 1][0] - hull[place][0], hull[place + 1][1] - hull[place][1]


def times(hull: Sequence[Point], count: int) -> tuple[Point, ...]:
    """Return a hull with every coordinate multiplied."""
    return tuple((energy * count, latency * count) for energy, latency in hull)


def least(hull: Sequence[Point], a: int, b: int) -> Point:
    """Return the vertex with the least a E + b L; of equal ones that with the least energy, or, for a = 0, still the least energy."""
    return min(hull, key=lambda point: (a * point[0] + b * point[1], point))
