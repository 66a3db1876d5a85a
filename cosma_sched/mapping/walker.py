"""Recount what a mapping moves by walking its loop nest, tile after tile, with nothing of the cost model but the loops.

At every step a tensor's tile is a box of elements; what is fetched is what was not in the tile before. A tile that comes back after another
one is fetched again. Input tiles are windows, padding and skipped rows included.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.space import Loop, LoopNest

Interval = tuple[int, int]
"""Half-open range of indices."""


@dataclass(frozen=True, slots=True)
class Walked:
    """Elements of one repetition, in the model's terms; None where the walk would have been too long.

    Parameters
    ----------
    w, i
        Fetched from DRAM.
    o, psum
        Drained from the accumulator, and read back into it.
    register_fills
        Weights that reach a register.
    """

    w: int | None = None
    i: int | None = None
    o: int | None = None
    psum: int | None = None
    register_fills: int | None = None


def walk(layer: Layer, nest: LoopNest, limit: int = 100_000) -> Walked:
    """Walk a mapping.

    Parameters
    ----------
    layer
        For strides, dilations and the sizes of windows.
    nest
        The mapping; its factors must multiply to the dims.
    limit
        Longest walk, in tile steps, for each kind of tile.
    """
    outer, middle, all_levels = (3,), (3, 2), (3, 2, 1)
    w = i = o = psum = fills = None
    if _steps(nest, outer) <= limit:
        w = _fetched(_weight_boxes(nest, outer))
        i = _fetched(_input_boxes(layer, nest, outer))
    if _steps(nest, middle) <= limit:
        o, psum = _drained(_output_boxes(nest, middle))
    if _steps(nest, all_levels) <= limit:
        fills = _register_fills(nest, all_levels)
    return Walked(w, i, o, psum, fills)


def _steps(nest: LoopNest, levels: Sequence[int]) -> int:
    return math.prod(loop.factor for level in levels for loop in nest.at(level) if not loop.spatial)


@dataclass(frozen=True, slots=True)
class _Walker:
    """The temporal loops of some levels, outermost first, each with the distance that one iteration moves its dim."""

    loops: tuple[Loop, ...]
    distances: tuple[int, ...]
    extents: tuple[int, ...]
    """Extent of a tile in each dim: what the loops further inside cover."""

    @classmethod
    def of(cls, nest: LoopNest, levels: Sequence[int]) -> _Walker:
        """Return the walker over the temporal loops of the outermost levels."""
        covered = [1] * 7
        placed: list[tuple[Loop, int]] = []
        for level in (0, 1, 2, 3):
            inside_out = [loop for loop in nest.at(level) if loop.spatial] + [loop for loop in reversed(nest.at(level)) if not loop.spatial]
            for loop in inside_out:
                if level in levels and not loop.spatial:
                    placed.append((loop, covered[loop.dim]))
                covered[loop.dim] *= loop.factor
        extents = [product // math.prod(loop.factor for loop, _ in placed if loop.dim == d) for d, product in enumerate(nest.products())]
        placed.reverse()
        return cls(tuple(loop for loop, _ in placed), tuple(distance for _, distance in placed), tuple(extents))

    def starts(self) -> Iterator[list[int]]:
        """Yield where the tile begins in each dim, step by step."""
        for indices in itertools.product(*(range(loop.factor) for loop in self.loops)):
            start = [0] * 7
            for loop, distance, index in zip(self.loops, self.distances, indices, strict=True):
                start[loop.dim] += distance * index
            yield start


Box = tuple[Interval, ...]


def _weight_boxes(nest: LoopNest, levels: Sequence[int]) -> Iterator[Box]:
    return _boxes(nest, levels, (K, C, R, S))


def _output_boxes(nest: LoopNest, levels: Sequence[int]) -> Iterator[Box]:
    return _boxes(nest, levels, (N, K, P, Q))


def _boxes(nest: LoopNest, levels: Sequence[int], dims: Sequence[int]) -> Iterator[Box]:
    walker = _Walker.of(nest, levels)
    for start in walker.starts():
        yield tuple((start[d], start[d] + walker.extents[d]) for d in dims)


def _input_boxes(layer: Layer, nest: LoopNest, levels: Sequence[int]) -> Iterator[Box]:
    walker = _Walker.of(nest, levels)
    x = walker.extents
    rows = (x[P] - 1) * layer.stride_p + (x[R] - 1) * layer.dilation_p + 1
    cols = (x[Q] - 1) * layer.stride_q + (x[S] - 1) * layer.dilation_q + 1
    for start in walker.starts():
        top = start[P] * layer.stride_p + start[R] * layer.dilation_p
        left = start[Q] * layer.stride_q + start[S] * layer.dilation_q
        yield (start[N], start[N] + x[N]), (start[C], start[C] + x[C]), (top, top + rows), (left, left + cols)


def _volume(box: Box) -> int:
    return math.prod(max(0, end - start) for start, end in box)


def _common(box: Box, other: Box) -> Box:
    return tuple((max(a[0], b[0]), min(a[1], b[1])) for a, b in zip(box, other, strict=True))


def _fetched(boxes: Iterator[Box]) -> int:
    total = 0
    before: Box | None = None
    for box in boxes:
        if box != before:
            total += _volume(box) - (0 if before is None else _volume(_common(box, before)))
        before = box
    return total


def _drained(boxes: Iterator[Box]) -> tuple[int, int]:
    """Return elements drained and elements read back: a tile drains when another one takes its place, and at the end."""
    drained = read_back = 0
    before: Box | None = None
    seen: set[Box] = set()
    for box in boxes:
        if box == before:
            continue
        drained += _volume(box)
        read_back += _volume(box) if box in seen else 0
        seen.add(box)
        before = box
    return drained, read_back


def _register_fills(nest: LoopNest, levels: Sequence[int]) -> int:
    """Return how many weights reach the registers of all PEs: each takes the one it needs next, unless it has it already."""
    walker = _Walker.of(nest, levels)
    kept = math.prod(nest.temporal(0)[d] for d in (K, C, R, S))
    pes = nest.spatial(1) * nest.spatial(2)
    fills = 0
    before: tuple[int, ...] | None = None
    for start in walker.starts():
        # Every PE is a fixed distance away from the first one, so all of them change together.
        place = (start[K], start[C], start[R], start[S])
        if place != before:
            fills += kept * pes
        before = place
    return fills
