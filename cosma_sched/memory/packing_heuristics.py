"""Fast packings: first-fit and best-fit in several orders, then in orders that learn from what did not fit.

One pass costs O(n d log d) for n buffers with d neighbours in time. A pass may fail although a packing exists: with capacity 12 and
lifetimes that need a hole, such as MiniMalloc's ``input.12.csv``, some of the orders do.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

from cosma_sched.memory.packing_strip import Strip
from cosma_sched.progress import Clock

MAX_LEARNING_PASSES = 6
"""Passes after the fixed orders; then the canonical search is the better use of time (zoo networks, random lifetimes)."""


def pack_greedily(strip: Strip, clock: Clock, seed: int = 0, passes: int = MAX_LEARNING_PASSES) -> tuple[int, ...] | None:
    """Return offsets that fit the capacity, or None where no order led to any.

    Parameters
    ----------
    strip
        The problem.
    clock
        Stops the passes when it has expired.
    seed
        Of the random moves; the passes are the same for the same seed.
    passes
        How many learning passes follow the fixed orders.
    """
    if all(hint is not None for hint in strip.hints) and not list(strip.violations(hints := [hint or 0 for hint in strip.hints])):
        return tuple(hints)
    last: list[int] = []
    for order in fixed_orders(strip):
        for prefer_tight in (False, True):
            offsets, failed = place(strip, order, prefer_tight=prefer_tight)
            if failed is None:
                return tuple(offsets)
            if clock.expired:
                return None
        last = last or order
    return _learn(strip, last, clock, seed, passes)


def pack_low(strip: Strip) -> tuple[int, ...] | None:
    """Return the lowest packing that the fixed orders lead to, or None where none of them ends within the capacity."""
    best: tuple[int, tuple[int, ...]] | None = None
    for order in fixed_orders(strip):
        for prefer_tight in (False, True):
            offsets, failed = place(strip, order, prefer_tight=prefer_tight)
            if failed is None and (best is None or strip.height(offsets) < best[0]):
                best = (strip.height(offsets), tuple(offsets))
    return None if best is None else best[1]


def fixed_orders(strip: Strip) -> Iterator[list[int]]:
    """Yield the fixed orders: by size, area, length (descending), then by start; pinned buffers first."""
    sizes, lengths, spans = strip.sizes, strip.lengths, strip.spans
    keys: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda i: (-sizes[i], -lengths[i]),
        lambda i: (-sizes[i] * lengths[i], -sizes[i]),
        lambda i: (-lengths[i], -sizes[i]),
        lambda i: (spans[i][0], -sizes[i]),
    )
    for key in keys:
        order = sorted(range(len(strip)), key=key)
        yield sorted(order, key=lambda i: strip.pins[i] is None)


def place(strip: Strip, order: Sequence[int], *, prefer_tight: bool = False) -> tuple[list[int], int | None]:
    """Place buffers one by one; return the offsets and the buffer that found no place, or None where all did.

    Parameters
    ----------
    strip
        The problem.
    order
        All buffers; pinned ones come first.
    prefer_tight
        Best-fit, the hole that is left with the least slack, instead of first-fit, the lowest hole.
    """
    offsets = [-1] * len(strip)
    for index in order:
        pin = strip.pins[index]
        last = strip.capacity - strip.sizes[index]
        forbidden = sorted(
            (offsets[c.other] + c.above, offsets[c.other] + c.below) for c in strip.conflicts[index] if offsets[c.other] >= 0
        )
        if pin is not None:
            if pin > last or any(above < pin < below for above, below in forbidden):
                return offsets, index
            offsets[index] = pin
            continue
        offset = _lowest_place(forbidden, strip.alignments[index], last, prefer_tight=prefer_tight)
        if offset is None:
            return offsets, index
        offsets[index] = offset
    return offsets, None


def _lowest_place(forbidden: Sequence[tuple[int, int]], alignment: int, last: int, *, prefer_tight: bool) -> int | None:
    """Return an aligned offset in [0, last] outside the sorted open intervals `forbidden`: the lowest, or that of the tightest hole."""
    best: tuple[int, int] | None = None
    offset = 0
    for above, below in [*forbidden, (last, last + 1)]:
        if offset <= min(above, last):
            if not prefer_tight:
                return offset
            # the room above the last neighbour is open: take it only where no hole fits
            slack = above - offset if above < last else last + 1
            if best is None or slack < best[0]:
                best = (slack, offset)
        if below > offset:
            offset = -(-below // alignment) * alignment
    return None if best is None else best[1]


def _learn(strip: Strip, order: Sequence[int], clock: Clock, seed: int, passes: int) -> tuple[int, ...] | None:
    """Move a buffer that found no place forward, with random swaps in between."""
    rng = random.Random(seed)
    pinned = sum(pin is not None for pin in strip.pins)
    current = list(order)
    for _ in range(passes):
        offsets, failed = place(strip, current)
        if failed is None:
            return tuple(offsets)
        if clock.expired:
            return None
        position = current.index(failed)
        if position < pinned:
            return None  # two pins clash: no order helps
        current.pop(position)
        current.insert(rng.randrange(pinned, position + 1) if rng.random() < 0.5 else pinned + (position - pinned) // 2, failed)
    return None
