"""Boxes: half-open index ranges, one for each axis of a tensor, and what views do to them.

Every function that maps a box of what is seen to a box of what lies beneath returns a box that covers all elements asked for; where it may
cover more, its docstring says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Range = tuple[int, int]
Box = tuple[Range, ...]
Shape = tuple[int, ...]


def whole(shape: Sequence[int]) -> Box:
    """Return the box of a whole tensor."""
    return tuple((0, size) for size in shape)


def volume(box: Box) -> int:
    """Return how many elements a box holds."""
    return math.prod(stop - start for start, stop in box)


def intersection(one: Box, other: Box) -> Box | None:
    """Return what two boxes share, or None where they are disjoint."""
    shared = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return shared if all(start < stop for start, stop in shared) else None


def spanned(box: Box, shape: Sequence[int], axes: Sequence[int]) -> Box:
    """Return a box stretched over the whole of some axes."""
    stretched = {axis % len(shape) for axis in axes}
    return tuple((0, shape[axis]) if axis in stretched else limits for axis, limits in enumerate(box))


def broadcast(box: Box, shape: Sequence[int]) -> Box:
    """Return what an element-wise operator reads of an operand, perhaps of fewer axes or of size 1 along some, for an output box."""
    tail = box[len(box) - len(shape) :]
    return tuple((0, 1) if size == 1 else limits for size, limits in zip(shape, tail, strict=True))


def permuted(box: Box, perm: Sequence[int]) -> Box:
    """Return the box of the source of a transposition: axis i of what is seen is axis ``perm[i]`` of the source."""
    source: list[Range] = [(0, 0)] * len(box)
    for axis, limits in zip(perm, box, strict=True):
        source[axis] = limits
    return tuple(source)


def moved(box: Box, axis: int, offset: int) -> Box:
    """Return a box with the range of one axis moved."""
    return tuple((start + offset, stop + offset) if index == axis else (start, stop) for index, (start, stop) in enumerate(box))


def concatenated(box: Box, shape: Sequence[int], axis: int, start: int) -> Box | None:
    """Return what of a box of a concatenation lies in the operand that begins at `start` along its axis, or None."""
    return intersection(moved(box, axis, -start), whole(shape))


def window(limits: Range, extent: int, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Range:
    """Return the input range that outputs of a convolution or pooling see along one axis; one element where they see padding alone.

    Holes that a stride larger than the kernel or a dilation leaves are covered too.
    """
    start, stop = limits[0] * stride - pad, (limits[1] - 1) * stride - pad + (kernel - 1) * dilation + 1
    return _clipped(start, stop, extent)


def spread(limits: Range, extent: int, kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Range:
    """Return the input range that outputs of a transposed convolution see along one axis; holes are covered too."""
    start = -(((kernel - 1) * dilation - limits[0] - pad) // stride)
    stop = (limits[1] - 1 + pad) // stride + 1
    return _clipped(start, stop, extent)


def _clipped(start: int, stop: int, extent: int) -> Range:
    start, stop = max(0, start), min(extent, stop)
    if start < stop:
        return start, stop
    nearest = min(max(0, start), extent - 1)
    return nearest, nearest + 1


def reshaped(box: Box, seen: Sequence[int], source: Sequence[int]) -> Box:
    """Return the box of a tensor of shape `source` that holds a box of the same elements seen in the shape `seen`.

    Axes are matched in groups of equal size, in row-major order. Exact for axes that stay, and for a range of the first axis of a group
    with all of those after it, as when heads are split or a batch is flattened; otherwise the rows of the group that hold the box.
    """
    result: list[Range] = []
    for seen_axes, source_axes in _groups(seen, source):
        sizes = [seen[axis] for axis in seen_axes]
        flat = _flat([box[axis] for axis in seen_axes], sizes)
        result += _unflat(flat, [source[axis] for axis in source_axes])
    return tuple(result)


def _groups(seen: Sequence[int], source: Sequence[int]) -> list[tuple[range, range]]:
    """Match runs of axes whose sizes multiply to the same number; axes of size 1 join the group before or after them."""
    found: list[tuple[range, range]] = []
    i = j = 0
    while i < len(seen) or j < len(source):
        first, second = i, j
        left = right = 1
        while True:
            if left <= right and i < len(seen) and (left < right or i == first or seen[i] == 1):
                left *= seen[i]
                i += 1
            elif right <= left and j < len(source) and (right < left or j == second or source[j] == 1):
                right *= source[j]
                j += 1
            elif left < right and i < len(seen):
                left *= seen[i]
                i += 1
            elif right < left and j < len(source):
                right *= source[j]
                j += 1
            else:
                break
        found.append((range(first, i), range(second, j)))
    return found


def _flat(limits: Sequence[Range], sizes: Sequence[int]) -> Range:
    """Return the first and last element of a box in row-major order, as a range."""
    first = last = 0
    for (start, stop), size in zip(limits, sizes, strict=True):
        first, last = first * size + start, last * size + stop - 1
    return first, last + 1


def _unflat(flat: Range, sizes: Sequence[int]) -> list[Range]:
    """Return the smallest box that holds a range of row-major positions."""
    first, last = flat[0], flat[1] - 1
    limits: list[Range] = []
    below = math.prod(sizes)
    differs = False
    for size in sizes:
        below //= size
        if differs:
            limits.append((0, size))
            continue
        start, stop = first // below, last // below
        limits.append((start, stop + 1))
        first, last = first - start * below, last - stop * below
        differs = start != stop
    return limits
