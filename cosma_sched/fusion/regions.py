"""Which rows and columns of every tensor a tile of a fused group holds, computes and keeps; for the checker, apart from the planner.

Along one axis a tile j of a tensor is a half-open interval [a_j, b_j): all that the windows of its readers in the group touch, clipped to
the tensor, and begun no later than the tile before ended (b_{j-1}, or 0), so that what a stride skips is made too; the last one ends with
the tensor. Rows and columns are independent. An array has one entry for each tile along its axis; entries of a pair are [row, column].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MODES = ("recompute", "h-cached", "cached")
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """What one position of a result reads along an axis.

    Parameters
    ----------
    stride, pad
        Position p begins to read at p * stride - pad.
    reach
        Elements from the first to the last that it reads: (kernel - 1) * dilation + 1.
    whole
        True where every position reads the whole axis.
    """

    stride: int = 1
    pad: int = 0
    reach: int = 1
    whole: bool = False

    def touched(self, starts: Integers, ends: Integers, extent: int) -> tuple[Integers, Integers]:
        """Return the intervals that intervals of the result read, clipped; an empty one for an empty one."""
        if self.whole:
            return np.zeros_like(starts), np.where(ends > starts, extent, 0)
        first = np.clip(starts * self.stride - self.pad, 0, extent)
        last = np.clip((ends - 1) * self.stride - self.pad + self.reach, 0, extent)
        return first, np.where(ends > starts, np.maximum(first, last), first)


@dataclass(frozen=True, slots=True)
class Along:
    """A tensor's intervals along one axis.

    Parameters
    ----------
    starts, ends
        Of each tile.
    extent
        Of the tensor.
    """

    starts: Integers
    ends: Integers
    extent: int

    @property
    def reached(self) -> Integers:
        """How far the tiles before each one have come."""
        return np.concatenate(([0], self.ends[:-1]))

    @property
    def sizes(self) -> Integers:
        """Elements of each tile."""
        return self.ends - self.starts

    @property
    def fresh(self) -> Integers:
        """Elements of each tile that no tile before holds."""
        return self.ends - self.reached

    @property
    def shared(self) -> Integers:
        """Elements of each tile that the tile before holds too."""
        return self.reached - self.starts

    @property
    def left(self) -> Integers:
        """Elements of each tile that the next one holds too."""
        return np.concatenate((self.shared[1:], [0]))


@dataclass(frozen=True, slots=True)
class Reading:
    """That a member of a group reads the result of another: who, and through which windows along rows and columns."""

    reader: str
    source: str
    rows: Window
    cols: Window


def intervals(
    members: Sequence[str], readings: Sequence[Reading], extents: Mapping[str, int], tile: int, *, rows: bool
) -> dict[str, Along]:
    """Return the intervals of every member's result along one axis.

    Parameters
    ----------
    members
        In a topological order; the last one is the sink.
    readings
        Between members.
    extents
        Of each member's result.
    tile
        Extent of the sink's tile; it divides the sink's extent.
    rows
        Along rows, else along columns.
    """
    sink = members[-1]
    starts = np.arange(0, extents[sink], tile, dtype=np.int64)
    found = {sink: Along(starts, starts + tile, extents[sink])}
    for name in reversed(members[:-1]):
        touched = []
        for reading in readings:
            if reading.source == name:
                reader, window = found[reading.reader], reading.rows if rows else reading.cols
                touched.append(window.touched(reader.starts, reader.ends, extents[name]))
        found[name] = _whole_result(touched, extents[name])
    return found


def _whole_result(touched: Sequence[tuple[Integers, Integers]], extent: int) -> Along:
    """Return the hull of what readers touch, widened so that nothing is left out."""
    far = np.iinfo(np.int64).max
    starts = np.min([np.where(last > first, first, far) for first, last in touched], axis=0)
    ends = np.max([np.where(last > first, last, 0) for first, last in touched], axis=0)
    ends = np.maximum.accumulate(ends)
    ends[-1] = extent
    before = np.concatenate(([0], ends[:-1]))
    return Along(np.minimum(starts, before), ends, extent)


# What is computed, and what stays


def computed(rows: Along, cols: Along, mode: str) -> tuple[Integers, Integers]:
    """Return how many rows and columns of a result each tile computes."""
    return (rows.fresh if mode == "cached" else rows.sizes), (cols.sizes if mode == "recompute" else cols.fresh)


@dataclass(frozen=True, slots=True)
class Kept:
    """Positions of a tensor that are in the scratchpad at the steps of every tile [row, column].

    Parameters
    ----------
    before, live, after
        Before its producer's step, from there to its last reader's, and after that.
    """

    before: Integers
    live: Integers
    after: Integers


def kept(rows: Along, cols: Along, mode: str) -> Kept:
    """Return the positions of a tensor that each tile keeps; what a later tile will not read is dropped at once.

    In mode ``cached`` the columns to the right of a tile still hold the rows shared with the band above, those to the left already the rows
    that the band below will read.
    """
    height = rows.sizes[:, None]
    live = height * cols.sizes
    if mode == "recompute":
        return Kept(np.zeros_like(live), live, np.zeros_like(live))
    before, after = height * cols.shared, height * cols.left
    if mode == "cached":
        above, below = rows.shared[:, None], rows.left[:, None]
        next_starts = np.concatenate((cols.starts[1:], [cols.extent]))
        before = before + above * (cols.extent - cols.reached) + below * cols.starts
        live = live + above * (cols.extent - cols.ends) + below * cols.starts
        after = after + above * (cols.extent - cols.ends) + below * next_starts
    return Kept(before, live, after)
