"""The orders that runs of the canonical search follow, and how many nodes each run may take.

Which order leads to a packing soon is a matter of luck with a heavy tail: most runs that end do so after little more than one node per
buffer, the others hardly ever. So many short runs take turns. The first three follow orders of the literature. The others sort by
length^a size^b load^c heat^d, where heat is how often earlier runs failed in a section: half of them with random exponents, which is best
where hardly a byte is free, half as variations of the orders that got furthest, which is best where some are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cosma_sched.memory.packing_strip import Strip

UNIT_PER_BUFFER, LEAST_UNIT = 3, 500
"""Nodes of a shortest run: enough to place each buffer and change one's mind sometimes."""
LONGEST_VARIATION = 4
"""Units of the longest variation: to refute is left to the other runs."""
DECAY = 0.8
"""How much the failures of a run count one run later."""
COLDEST = 0.05
"""Heat of a section without failures beside 1 for the one with the most."""
SHARE_OF_VARIATIONS, SHARE_WITH_PARENTS = 0.5, 0.85
"""How many runs vary an earlier order; how many where orders are known that led to a packing a little higher."""
POOL, PATIENCE = 8, 20
"""How many orders are varied, and how often in vain before one is given up."""
SHARE_LOCAL, HOT = 0.5, 5
"""How many variations move only buffers of the sections that failed most: at least one HOT-th as often as the worst."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run: all buffers in an order, whether parts rank by load first, and how many nodes it may take."""

    order: tuple[int, ...]
    is_dynamic: bool
    node_limit: int


@dataclass(frozen=True, slots=True)
class Weights:
    """What makes an order: exponents, the heat of the sections they were drawn with, and a factor (its logarithm) per buffer."""

    length: float
    size: float
    load: float
    heat: float
    in_sections: bool
    is_dynamic: bool
    heats: tuple[float, ...]
    noise: tuple[float, ...]


@dataclass(slots=True)
class _Candidate:
    """Weights that got far, the sections they failed in, and how often they were varied since one of theirs got further."""

    placed: int
    weights: Weights
    failed_at: frozenset[int]
    in_vain: int = 0


class Orders:
    """The orders of one search, repeatable by seed.

    Parameters
    ----------
    strip
        The problem.
    seed
        Of the random weights.
    parents
        Weights that led to a packing of the same buffers into a higher strip; they are tried first and varied.
    """

    def __init__(self, strip: Strip, seed: int, parents: Sequence[Weights] = ()) -> None:
        self._strip = strip
        self._rng = random.Random(seed)
        self._parents = list(reversed(parents))
        self._share = SHARE_WITH_PARENTS if parents else SHARE_OF_VARIATIONS
        self._draws = self._variations = 0
        self._unit = max(LEAST_UNIT, UNIT_PER_BUFFER * len(strip))
        most = max(strip.load, default=1)
        self._load = [math.log(max((strip.load[s] for s in own), default=most) / most) for own in strip.sections]
        self._size = [math.log(max(1, size)) for size in strip.sizes]
        self._length = {
            True: [math.log(max(1, length)) for length in strip.lengths],
            False: [math.log(max(1, length)) for length in strip.durations],
        }
        self._heat = (0.0,) * strip.num_sections
        self._pool: list[_Candidate] = []
        self._parent: _Candidate | None = None
        self._weights: Weights | None = None

    @property
    def best(self) -> tuple[Weights, ...]:
        """The weights of the present run, then those that got furthest."""
        present = () if self._weights is None else (self._weights,)
        return present + tuple(candidate.weights for candidate in self._pool if candidate.weights is not self._weights)

    def next_attempt(self) -> Attempt:
        """Return the next order; limits follow 1, 1, 2, 1, 1, 2, 4, ... units, so that no run waits long for a hopeless one."""
        self._parent = self._weights = None
        if self._parents:
            self._weights = self._parents.pop()
            return Attempt(self._order(self._weights), self._weights.is_dynamic, self._unit)
        if self._pool and self._rng.random() < self._share:
            self._variations += 1
            self._parent = self._rng.choice(self._pool)
            self._weights = self._varied(self._parent)
            limit = min(luby(self._variations), LONGEST_VARIATION)
            return Attempt(self._order(self._weights), self._weights.is_dynamic, limit * self._unit)
        self._draws += 1
        limit = luby(self._draws) * self._unit
        if self._draws <= 3:
            order, is_dynamic = fixed_order(self._strip, self._draws - 1)
            return Attempt(order, is_dynamic, limit)
        self._weights = self._drawn()
        return Attempt(self._order(self._weights), self._weights.is_dynamic, limit)

    def learn(self, placed: int, heat: Sequence[int]) -> None:
        """Remember how many buffers the last run placed at most, and how often each section was too full in it."""
        counts = [int(count) for count in heat]
        total = sum(counts) or 1
        self._heat = tuple(DECAY * old + new / total for old, new in zip(self._heat, counts, strict=True))
        if self._weights is None:
            return
        if self._parent is not None:
            self._parent.in_vain = 0 if placed > self._parent.placed else self._parent.in_vain + 1
        hottest = max(counts, default=0)
        failed_at = frozenset(section for section, count in enumerate(counts) if count * HOT >= hottest > 0)
        self._pool.append(_Candidate(placed, self._weights, failed_at))
        self._pool.sort(key=lambda candidate: -candidate.placed)
        self._pool = [candidate for candidate in self._pool if candidate.in_vain < PATIENCE][:POOL]

    def _drawn(self) -> Weights:
        """Return random weights; the ranges are those that ended most runs on MiniMalloc's A-K and on random lifetimes."""
        rng = self._rng
        size, load, heat = rng.choice((0.0, rng.uniform(0.0, 1.5))), rng.choice((0, 8, 30, 100)), rng.choice((0, 1, 2, 4))
        spread = rng.choice((0.01, 0.01, 0.05))
        noise = tuple(rng.gauss(0.0, spread) for _ in self._size)
        return Weights(rng.uniform(0.5, 3.0), size, load, heat, rng.random() < 0.6, rng.random() < 0.6, self._heat, noise)

    def _varied(self, candidate: _Candidate) -> Weights:
        """Return weights near others: those of buffers that live where the other failed, or a little of everything."""
        rng, parent = self._rng, candidate.weights
        if rng.random() < SHARE_LOCAL:
            spread, share = rng.choice((0.1, 0.3, 1.0)), rng.choice((0.2, 0.5, 1.0))
            noise = tuple(
                old + rng.gauss(0.0, spread) if rng.random() < share and not candidate.failed_at.isdisjoint(own) else old
                for old, own in zip(parent.noise, self._strip.sections, strict=True)
            )
            return replace(parent, noise=noise)
        share, spread = rng.choice((0.02, 0.1, 0.5)), rng.choice((0.02, 0.1, 0.5))
        noise = tuple(old + rng.gauss(0.0, spread) if rng.random() < share else old for old in parent.noise)
        return replace(
            parent,
            length=self._moved(parent.length, 0.3),
            size=self._moved(parent.size, 0.2),
            load=self._moved(parent.load, 5.0),
            heat=self._moved(parent.heat, 0.5),
            in_sections=parent.in_sections != (rng.random() < 0.1),
            is_dynamic=parent.is_dynamic != (rng.random() < 0.1),
            heats=self._heat if rng.random() < 0.5 else parent.heats,
            noise=noise,
        )

    def _moved(self, value: float, spread: float) -> float:
        return max(0.0, value + self._rng.gauss(0.0, spread)) if self._rng.random() < 0.5 else value

    def _order(self, weights: Weights) -> tuple[int, ...]:
        hottest = max(weights.heats, default=0.0) or 1.0
        warmth = [COLDEST + heat / hottest for heat in weights.heats]
        length = self._length[weights.in_sections]
        keys = []
        for index, own in enumerate(self._strip.sections):
            key = weights.length * length[index] + weights.size * self._size[index] + weights.load * self._load[index]
            hot = math.log(max((warmth[s] for s in own), default=COLDEST))
            keys.append(key + weights.heat * hot + weights.noise[index])
        return tuple(sorted(range(len(keys)), key=lambda index: (-keys[index], index)))


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
