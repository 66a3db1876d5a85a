"""The orders that runs of the canonical search follow, and how many nodes each run may take.

Which order leads to a packing soon is a matter of luck with a heavy tail: most runs that end do so after little more than one node per
buffer, the others hardly ever. So many short runs take turns. The first three follow orders of the literature; the others weigh length,
size, load and the sections in which earlier runs failed, at random.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from cosma_sched.memory.packing_strip import Strip

UNIT_PER_BUFFER, LEAST_UNIT = 3, 500
"""Nodes of a shortest run: enough to place each buffer and change one's mind sometimes."""
DECAY = 0.8
"""How much the failures of a run count one run later."""
COLDEST = 0.05
"""Weight of a section without failures beside 1 for the one with the most."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run: all buffers in an order, whether parts rank by load first, and how many nodes it may take."""

    order: tuple[int, ...]
    is_dynamic: bool
    node_limit: int


class Orders:
    """The orders of one search, repeatable by seed.

    Parameters
    ----------
    strip
        The problem.
    seed
        Of the random weights.
    """

    def __init__(self, strip: Strip, seed: int) -> None:
        self._strip = strip
        self._rng = random.Random(seed)
        self._runs = 0
        self._unit = max(LEAST_UNIT, UNIT_PER_BUFFER * len(strip))
        most = max(strip.load, default=1)
        self._loads = [max((strip.load[s] for s in own), default=most) / most for own in strip.sections]
        self._heat = [0.0] * strip.num_sections

    def next_attempt(self) -> Attempt:
        """Return the next order; limits follow 1, 1, 2, 1, 1, 2, 4, ... units, so that no run waits long for a hopeless one."""
        self._runs += 1
        limit = self._unit * luby(self._runs)
        if self._runs <= 3:
            order, is_dynamic = fixed_order(self._strip, self._runs - 1)
            return Attempt(order, is_dynamic, limit)
        return Attempt(self._random_order(), self._rng.random() < 0.6, limit)

    def learn(self, heat: Sequence[int]) -> None:
        """Remember how often each section was too full in the last run."""
        total = sum(int(count) for count in heat) or 1
        self._heat = [DECAY * old + int(new) / total for old, new in zip(self._heat, heat, strict=True)]

    def _random_order(self) -> tuple[int, ...]:
        """Return an order by descending length^a size^b load^c heat^d with random exponents and a little noise.

        The ranges are those with which runs on random lifetimes and on MiniMalloc's A-K ended most often.
        """
        rng, strip = self._rng, self._strip
        lengths = strip.lengths if rng.random() < 0.6 else strip.durations
        of_length, of_size = rng.uniform(0.5, 3.0), rng.choice((0.0, rng.uniform(0.0, 1.5)))
        of_load, of_heat, noise = rng.choice((0, 8, 30, 100)), rng.choice((0, 1, 2, 4)), rng.choice((0.01, 0.01, 0.05))
        hottest = max(self._heat, default=0.0) or 1.0
        keys = []
        for index, own in enumerate(strip.sections):
            heat = COLDEST + max((self._heat[s] for s in own), default=0.0) / hottest
            key = of_length * math.log(max(1, lengths[index])) + of_size * math.log(max(1, strip.sizes[index]))
            keys.append(key + of_load * math.log(self._loads[index]) + of_heat * math.log(heat) + rng.gauss(0.0, noise))
        return tuple(sorted(range(len(strip)), key=lambda index: (-keys[index], index)))


def fixed_order(strip: Strip, number: int) -> tuple[tuple[int, ...], bool]:
    """Return one of three orders, descending, and whether it is dynamic: (time, area, load), (load, area, time), (load, time, area).

    The load is that of the fullest section of a buffer's life; dynamic means that it leads and that parts recompute it from what is left.
    """
    time, sizes = strip.durations, strip.sizes
    area = [length * size for length, size in zip(time, sizes, strict=True)]
    loads = [max((strip.load[s] for s in own), default=0) for own in strip.sections]
    keys = ((time, area, loads), (area, time), (time, area))[number]
    order = sorted(range(len(strip)), key=lambda i: tuple(-key[i] for key in keys))
    return tuple(order), number > 0


def luby(index: int) -> int:
    """Return the index-th number of 1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8, ... (counted from 1)."""
    while True:
        power = index.bit_length()
        if index == (1 << power) - 1:
            return 1 << (power - 1)
        index -= (1 << (power - 1)) - 1
