"""Software pipelining by list: every layer follows the blocks at a distance of its own.

Where layers are cut into many blocks, the rules of the list scheduler make each block run through all layers before the next one, or each
layer before the next one. In between lies a rhythm: block b of layer l has the priority ``b + delay[l]``, so that the scores of the next
blocks run while a block's softmax is on its way to another core and back. A few delays stand for all nodes, and a search over them finds
in seconds what changes of single nodes do not.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.list_scheduler import EVICTIONS, list_schedule
from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock

FEWEST_BLOCKS = 4
"""Blocks that some layer must have; with fewer there is no rhythm to find."""

TRIES_PER_LAYER = 60
"""Changes without success after which the search ends."""

_FIRST = (0.01, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)
"""Delays per level of layers to begin with."""

_CHANGES = (-4.0, -2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class _Blocks:
    """Where each node stands: its block, on the scale of the layer with most blocks, and the level of its layer."""

    blocks: tuple[float, ...]
    levels: Mapping[str, int]

    @classmethod
    def of(cls, problem: ScheduleProblem) -> _Blocks:
        count = Counter(node.layer for node in problem.nodes)
        most = max(count.values())
        seen: Counter[str] = Counter()
        blocks: list[float] = []
        levels: dict[str, int] = {}
        for node in problem.nodes:
            blocks.append(most * seen[node.layer] / count[node.layer])
            seen[node.layer] += 1
            before = [problem.nodes[need].layer for need in node.needs]
            above = [levels[layer] + 1 for layer in before if layer != node.layer]
            levels[node.layer] = max([levels.get(node.layer, 0), *above])
        return cls(tuple(blocks), levels)


def has_rhythm(problem: ScheduleProblem) -> bool:
    """Return whether there are several layers, and blocks enough."""
    count = Counter(node.layer for node in problem.nodes)
    return len(count) > 1 and max(count.values()) >= FEWEST_BLOCKS


def rhythms(tables: Tables, value: Callable[[Draft], int], *, clock: Clock, rng: random.Random) -> Iterator[Draft]:
    """Yield schedules, each better than the one before.

    Parameters
    ----------
    tables
        Of the problem.
    value
        What is minimised.
    clock
        When to stop.
    rng
        Draws the changes.
    """
    search = _Search(tables, value, rng)
    for per_level in _FIRST:
        for eviction in EVICTIONS:
            if clock.expired:
                return
            if (better := search.first(per_level, eviction)) is not None:
                yield better
    fruitless = 0
    while search.delays is not None and fruitless < TRIES_PER_LAYER * len(search.blocks.levels) and not clock.expired:
        better = search.change()
        fruitless = 0 if better is not None else fruitless + 1
        if better is not None:
            yield better


class _Search:
    def __init__(self, tables: Tables, value: Callable[[Draft], int], rng: random.Random) -> None:
        self.problem, self._tables, self._value, self._rng = tables.problem, tables, value, rng
        self.blocks = _Blocks.of(self.problem)
        self.delays: dict[str, float] | None = None
        self._best: int | None = None
        self._eviction = EVICTIONS[0]

    def first(self, per_level: float, eviction: str) -> Draft | None:
        """Try delays that grow with the level of the layer."""
        return self._try({layer: per_level * level for layer, level in self.blocks.levels.items()}, eviction)

    def change(self) -> Draft | None:
        """Try other delays for one or two layers; equal ones are kept, better ones returned."""
        delays = dict(self.delays or {})
        layers = list(delays)
        for _ in range(self._rng.choice((1, 1, 2))):
            layer = self._rng.choice(layers)
            delays[layer] = max(-4.0, delays[layer] + self._rng.choice(_CHANGES))
        return self._try(delays, self._eviction)

    def _try(self, delays: dict[str, float], eviction: str) -> Draft | None:
        priority = [block + delays[node.layer] for block, node in zip(self.blocks.blocks, self.problem.nodes, strict=True)]
        draft = list_schedule(self.problem, priority=priority, eviction=eviction, tables=self._tables)
        if draft is None:
            return None
        found = self._value(draft)
        if self._best is not None and found > self._best:
            return None
        is_better = self._best is None or found < self._best
        self._best, self.delays, self._eviction = found, delays, eviction
        return draft if is_better else None
