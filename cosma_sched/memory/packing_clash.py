"""Which buffers make a packing impossible: an irreducible subset, by arithmetic where it suffices and by deletion elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cosma_sched.graph import Buffer

Decide = Callable[[Sequence[int]], bool | None]
"""Whether the buffers with these indices can be packed; None where that stayed open."""


@dataclass(frozen=True, slots=True)
class Clash:
    """Buffers that cannot be packed together, and whether each of them is known to be needed for that."""

    indices: tuple[int, ...]
    is_irreducible: bool


def overload(buffers: Sequence[Buffer], time: int, capacity_bytes: int) -> list[int]:
    """Return few buffers that together exceed the capacity at one time: the smallest are left out as long as the rest does."""
    live = [(held_bytes(buffer, time), index) for index, buffer in enumerate(buffers)]
    live = [(size, index) for size, index in live if size > 0]
    excess = sum(size for size, _ in live) - capacity_bytes
    kept = []
    for size, index in sorted(live):
        if size < excess:
            excess -= size
        else:
            kept.append(index)
    return sorted(kept)


def held_bytes(buffer: Buffer, time: int) -> int:
    """Return the bytes that a buffer holds at one time."""
    if not buffer.lower <= time < buffer.upper:
        return 0
    for gap in buffer.gaps:
        if gap.lower <= time < gap.upper:
            return 0 if gap.window is None else gap.window[1] - gap.window[0]
    return buffer.size_bytes


def irreducible(buffers: Sequence[Buffer], suspects: Sequence[int], decide: Decide) -> Clash:
    """Shrink buffers that cannot be packed together until each is needed.

    Parameters
    ----------
    buffers
        All buffers.
    suspects
        Indices of buffers that are known to be impossible to pack.
    decide
        Answers for a subset. Deletion is sound because a subset of buffers that can be packed can be packed too.

    Notes
    -----
    First the time window is narrowed from both ends by halving, which leaves out most buffers with few questions; then one buffer after
    the other is left out, the smallest areas first, so that the large ones, which say more to a reader, remain.
    """
    kept = _narrow(list(suspects), decide, lambda i: buffers[i].lower)
    kept = _narrow(kept, decide, lambda i: -buffers[i].upper)
    certain = True
    for index in sorted(kept, key=lambda i: (buffers[i].size_bytes * (buffers[i].upper - buffers[i].lower), i)):
        rest = [other for other in kept if other != index]
        fits = decide(rest) if rest else True
        if fits is False:
            kept = rest
        certain = certain and fits is not None
    return Clash(tuple(sorted(kept)), certain)


def _narrow(kept: list[int], decide: Decide, key: Callable[[int], int]) -> list[int]:
    """Drop buffers with a large key as long as the others still cannot be packed; the least such threshold is found by halving."""
    ends = sorted({key(index) for index in kept})
    low, high = 0, len(ends) - 1  # keeping keys <= ends[high] is known to be impossible
    while low < high:
        middle = (low + high) // 2
        if decide([index for index in kept if key(index) <= ends[middle]]) is False:
            high = middle
        else:
            low = middle + 1
    return [index for index in kept if key(index) <= ends[high]]
