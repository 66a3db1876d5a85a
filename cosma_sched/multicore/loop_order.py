"""Which tile stays on chip over which loops: every order of a few tile loops, every level of every tensor.

Holding a tensor at level l keeps all its tiles of the loops from l inwards on chip. It then takes the product of the relevant ones among
these loops, and is fetched once per run of the loops outside, down to the innermost of them that is relevant to it. The enumeration is
complete, so that the traffic found is the least of this space.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

from cosma_sched.errors import UsageError

MOST_LOOPS = 6


@dataclass(frozen=True, slots=True)
class LoopTensor:
    """A tensor under tile loops.

    Parameters
    ----------
    name
        For people.
    tile_bytes
        Bytes of one tile in the memory that is asked about.
    loops
        The loops that select its tile.
    factor
        How many bytes move for each byte fetched: 2 for sums that are written and read again, 0 for what never leaves the chip.
    """

    name: str
    tile_bytes: int
    loops: frozenset[str]
    factor: int = 1


@dataclass(frozen=True, slots=True)
class Stationarity:
    """An order of loops, outermost first, the level at which each tensor is held, and what that takes."""

    order: tuple[str, ...]
    levels: Mapping[str, int]
    footprint_bytes: int
    traffic_bytes: int


def footprint(tensor: LoopTensor, order: Sequence[str], level: int, trips: Mapping[str, int]) -> int:
    """Return the bytes that a tensor takes where it is held at a level."""
    return tensor.tile_bytes * math.prod(trips[loop] for loop in order[level:] if loop in tensor.loops)


def fetches(tensor: LoopTensor, order: Sequence[str], level: int, trips: Mapping[str, int]) -> int:
    """Return how often what is held is brought anew."""
    outside = list(order[:level])
    while outside and outside[-1] not in tensor.loops:
        outside.pop()
    return math.prod(trips[loop] for loop in outside)


def least_traffic(tensors: Sequence[LoopTensor], trips: Mapping[str, int], capacity: int | None) -> Stationarity | None:
    """Return the order and levels with the least traffic that fit, or None where nothing does; ties go to the smaller footprint.

    Parameters
    ----------
    tensors
        What is held.
    trips
        Trip count of each loop; at most `MOST_LOOPS` loops.
    capacity
        Bytes that all tensors share; None for no limit.

    Raises
    ------
    UsageError
        If there are more loops.
    """
    if len(trips) > MOST_LOOPS:
        raise UsageError(f"{len(trips)} loops: at most {MOST_LOOPS} are enumerated")
    found = (best for order in permutations(trips) if (best := _best_levels(tensors, order, trips, capacity)) is not None)
    return min(found, key=lambda one: (one.traffic_bytes, one.footprint_bytes), default=None)


def _best_levels(
    tensors: Sequence[LoopTensor], order: tuple[str, ...], trips: Mapping[str, int], capacity: int | None
) -> Stationarity | None:
    front: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]  # (footprint, traffic, levels), no entry dominated
    for tensor in tensors:
        choices = list(_choices(tensor, order, trips))
        joined = sorted(
            (taken + size, traffic + moved, (*levels, level)) for taken, traffic, levels in front for size, moved, level in choices
        )
        front = []
        for entry in joined:
            fits = capacity is None or entry[0] <= capacity
            if fits and (not front or entry[1] < front[-1][1]):
                front.append(entry)
    if not front:
        return None
    taken, traffic, levels = front[-1]
    return Stationarity(order, dict(zip((tensor.name for tensor in tensors), levels, strict=True)), taken, traffic)


def _choices(tensor: LoopTensor, order: Sequence[str], trips: Mapping[str, int]) -> Iterator[tuple[int, int, int]]:
    for level in range(len(order) + 1):
        size = footprint(tensor, order, level, trips)
        yield size, tensor.factor * size * fetches(tensor, order, level, trips), level
