"""Schedules and mappings that several tests of fusion share."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import score
from cosma_sched.mapping.space import LoopNest, divisors, gemmini_nest, spatial_splits, splits
from cosma_sched.mapping.walker import walk
from tests.fusion.interpreter import Schedule
from tests.fusion.nets import Net, Node, Window
from tests.mapping.cases import machine

MODES = ("recompute", "h-cached", "cached")
TINY: Machine = machine(side=2, scratchpad=96, accumulator=128)


def conv(name: str, *reads: str, channels: int = 2, kernel: int = 3, stride: int = 1, pad: int | None = None, groups: int = 1) -> Node:
    """Return a square convolution; its padding keeps the extents unless it is given."""
    around = (kernel - 1) // 2 if pad is None else pad
    return Node(name, "conv", reads, channels, Window((kernel, kernel), (stride, stride), (around, around), (around, around)), groups)


TWO_CONVS = Net((1, 1, 8, 6), (conv("a", "x"), conv("b", "a")))
"""Two 3x3 convolutions in a row."""

RESIDUAL = Net((1, 2, 6, 4), (conv("a", "x"), conv("b", "a"), conv("c", "b", "a")))
"""The sum of `c` and `a`."""


def draw_nest(random_: random.Random, layer: Layer, *, complete: bool) -> LoopNest:
    """Draw a mapping whose input windows the model counts as they are; on request one that finishes every output in the accumulator."""
    while True:
        nest = _draw_any_nest(random_, layer, complete=complete)
        if walk(layer, nest).i == score(layer, nest, TINY, "reuse").words.i // layer.repeat:
            return nest


def _draw_any_nest(random_: random.Random, layer: Layer, *, complete: bool) -> LoopNest:
    spatial_c, c1, c3 = random_.choice(list(spatial_splits(layer["C"], 2)))
    spatial_k, k1, k3 = random_.choice(list(spatial_splits(layer["K"], 2)))
    (n1, n3), (p1, p3), (q1, q3), (r1, r3), (s1, s3) = (random_.choice(list(splits(layer[dim]))) for dim in ("N", "P", "Q", "R", "S"))
    order = random_.sample(range(7), 7)
    if complete:
        order = [2, 5, 6, *(dim for dim in order if dim not in {2, 5, 6})]
    return gemmini_nest(spatial_c, spatial_k, (n1, k1, c1, p1, q1, r1, s1), (n3, k3, c3, p3, q3, r3, s3), order)


def draw_schedule(random_: random.Random, net: Net, members: Sequence[str]) -> tuple[Schedule, dict[tuple[str, Layer], LoopNest]]:
    """Draw a way to run a group: tile, mode, weights, and one mapping for each distinct step."""
    n, _, p, q = net.extents()[members[-1]]
    tile = (random_.choice(divisors(n)), random_.choice(divisors(p)), random_.choice(divisors(q)))
    convolutions = [name for name in members if net.node(name).kind == "conv"]
    resident = frozenset(name for name in convolutions if random_.random() < 0.5)
    nests: dict[tuple[str, Layer], LoopNest] = {}

    def nest(name: str, layer: Layer) -> LoopNest:
        inside = any(reader.name in members for reader in net.readers(name))
        return nests.setdefault((name, layer), draw_nest(random_, layer, complete=inside))

    chosen: Callable[[str, Layer], LoopNest] = nest
    return Schedule(tuple(members), tile, random_.choice(MODES), resident, chosen), nests
