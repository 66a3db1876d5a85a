"""Tiles along one axis: which rows (or columns) of every member of a group each tile needs, computes anew, and hands on to the next.

Bands are half-open intervals, computed backwards from the sink. The first tile's band begins at 0, the last one's ends at the extent, and
where a stride leaves a gap behind the tile before, the band begins where that one ended: so every row is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.problem import Window

Ints = NDArray[np.int64]


class Reader(NamedTuple):
    """A member of the group that reads another one: its position in the group and its window, None for the whole axis."""

    position: int
    window: Window | None


class Bands(NamedTuple):
    """The bands of every member (first axis) in every tile (second axis).

    Parameters
    ----------
    low, high
        The band that a tile needs.
    fresh
        Where the part begins that no earlier tile of the sweep has computed.
    """

    low: Ints
    high: Ints
    fresh: Ints

    @property
    def hull(self) -> Ints:
        """Length of the band."""
        return self.high - self.low

    @property
    def new(self) -> Ints:
        """Length of the part that no earlier tile has computed."""
        return self.high - self.fresh

    @property
    def before(self) -> Ints:
        """Length of the part that the tile before has left: the overlap with it."""
        return self.fresh - self.low

    @property
    def after(self) -> Ints:
        """Length of the part that the next tile takes over."""
        following = np.zeros_like(self.low)
        following[:, :-1] = self.before[:, 1:]
        return following


def bands(extents: Sequence[int], readers: Sequence[Sequence[Reader]], tile: int) -> Bands:
    """Return the bands of all members for one tile length.

    Parameters
    ----------
    extents
        Of each member, in the order in which they run; the last one is the sink.
    readers
        For each member, who reads it inside the group; none for the sink.
    tile
        A divisor of the sink's extent.
    """
    count = extents[-1] // tile
    low = np.zeros((len(extents), count), dtype=np.int64)
    high, fresh = low.copy(), low.copy()
    low[-1] = np.arange(count) * tile
    high[-1] = low[-1] + tile
    fresh[-1] = low[-1]
    for member in range(len(extents) - 2, -1, -1):
        extent = extents[member]
        needs = [need(reader.window, low[reader.position], high[reader.position], extent) for reader in readers[member]]
        start = np.minimum.reduce([one for one, _ in needs])
        end = np.maximum.accumulate(np.maximum.reduce([other for _, other in needs]))
        end[-1] = extent
        left = np.concatenate([[0], end[:-1]])  # where the tile before ended
        low[member] = np.minimum(start, left)
        high[member], fresh[member] = end, left
    return Bands(low, high, fresh)


def need(window: Window | None, low: Any, high: Any, extent: int) -> tuple[Any, Any]:
    """Return the band of an operand that bands [low, high) of its reader need, clipped to the operand's extent.

    An empty band needs nothing, and begins and ends at one place.
    """
    if window is None:
        return np.zeros_like(low), np.where(high > low, extent, 0)
    start = np.clip(low * window.stride - window.pad, 0, extent)
    end = np.clip((high - 1) * window.stride - window.pad + window.reach, 0, extent)
    return start, np.maximum(np.where(high > low, end, start), start)
