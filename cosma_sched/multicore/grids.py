"""The tiles of one tensor: a grid of boxes, found again by any box that meets them."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from cosma_sched.multicore.boxes import Box, Range


class Grid:
    """Tiles of a tensor, numbered in row-major order.

    Parameters
    ----------
    first
        Position of the first tile.
    bounds
        Along each axis, where the tiles begin, and the extent.
    """

    def __init__(self, first: int, bounds: tuple[tuple[int, ...], ...]) -> None:
        self.first, self.bounds = first, bounds
        self._strides = [math.prod(len(axis) - 1 for axis in bounds[index + 1 :]) for index in range(len(bounds))]
        self._found: dict[tuple[Range, ...], tuple[int, ...]] = {}

    def boxes(self) -> Iterator[Box]:
        """Yield the box of each tile."""
        yield from itertools.product(*(tuple(itertools.pairwise(axis)) for axis in self.bounds))

    def positions(self, box: Box) -> tuple[int, ...]:
        """Return the positions of the tiles that share elements with a box."""
        ranges = tuple(
            (bisect_right(axis, start) - 1, bisect_left(axis, stop)) for axis, (start, stop) in zip(self.bounds, box, strict=True)
        )
        if ranges not in self._found:
            offsets = [[index * stride for index in range(*limits)] for limits, stride in zip(ranges, self._strides, strict=True)]
            self._found[ranges] = tuple(self.first + sum(place) for place in itertools.product(*offsets))
        return self._found[ranges]


def refined(shape: Sequence[int], boxes: Iterable[Box], axes: Iterable[int]) -> tuple[tuple[int, ...], ...]:
    """Return the coarsest grid, cut along some axes, of which every box is made up along them."""
    cuts = [{0, size} for size in shape]
    chosen = tuple(axes)
    for box in boxes:
        for axis in chosen:
            cuts[axis].update(box[axis])
    return tuple(tuple(sorted(places)) for places in cuts)


def box_name(tensor: str, box: Box, shape: Sequence[int]) -> str:
    """Return the name of a tile: the tensor's and, where it is only a part, its box."""
    words = [":" if limits == (0, size) else f"{limits[0]}:{limits[1]}" for limits, size in zip(box, shape, strict=True)]
    return tensor if all(word == ":" for word in words) else f"{tensor}[{','.join(words)}]"
