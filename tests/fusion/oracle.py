"""Every partition, tile, mode, weight set and mapping of a tiny network, by naive loops: what the exact method must equal.

Mappings are scored all at once by the model's access counts; everything else of a step's cost is written out here in whole numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from cosma_sched.fusion.regions import MODES, Reading, Window, computed, intervals, kept
from cosma_sched.mapping.batch import Batch
from cosma_sched.mapping.cost import Machine, access_counts, shape_of
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.space import L1_ORDER, divisors, l3_orders, spatial_splits, splits
from tests.fusion.nets import Net, Node
from tests.fusion.nets import Window as TinyWindow

Point = tuple[int, int]
"""Energy and latency."""
_SCALE = 10**8
"""Prices have at most eight decimals."""


@dataclass(frozen=True)
class Rules:
    """What is searched: the machine and the rules of the cost."""

    machine: Machine
    halo: str = "parity"
    charged: bool = False
    max_group: int = 4
    modes: tuple[str, ...] = MODES


# Mappings of a step


@dataclass(frozen=True)
class _Scored:
    """All mappings of a layer that its accumulator and array can hold, column by column."""

    columns: dict[str, Any]

    def fitting(self, streams_w: bool, streams_i: bool, complete: bool, capacity: int) -> dict[str, Any]:
        """Return the columns of the mappings that a step may use."""
        working = self.columns["w_tile"] * streams_w + self.columns["i_tile"] * streams_i
        rows = working <= capacity
        if complete:
            rows &= self.columns["psum"] == 0
        return {name: column[rows] for name, column in self.columns.items()}


@cache
def scored(layer: Layer, machine: Machine, halo: str) -> _Scored:
    """Return the counts of every mapping of the Gemmini space, all repetitions included."""
    batch = _every_mapping(layer, machine, halo)
    tiling = batch.tiling(slice(None))
    counts = access_counts(np, shape_of(layer), tiling, halo)
    words_of = {"w": counts.w, "i": counts.i, "o": counts.o, "psum": counts.psum, "fills": counts.register_fills, "updates": counts.updates}
    columns = {name: np.asarray(count * layer.repeat + 0.0 * tiling.spatial_c) for name, count in words_of.items()}
    columns |= {"w_tile": counts.w_tile, "i_tile": counts.i_tile, "sc": tiling.spatial_c, "sk": tiling.spatial_k}
    fits = counts.o_tile * machine.accumulator_element_bytes * machine.cols <= machine.accumulator_bytes
    return _Scored({name: np.rint(column).astype(np.int64)[fits] for name, column in columns.items()})


def _every_mapping(layer: Layer, machine: Machine, halo: str) -> Batch:
    n, k, c, p, q, r, s = layer.dims
    sides = [list(spatial_splits(c, int(machine.rows))), list(spatial_splits(k, int(machine.cols)))]
    rows = np.array(
        [
            (sc, sk, (n1, k1, c1, p1, q1, r1, s1), (n3, k3, c3, p3, q3, r3, s3), order)
            for (sc, c1, c3), (sk, k1, k3), (n1, n3), (p1, p3), (q1, q3), (r1, r3), (s1, s3) in itertools.product(
                *sides, *(list(splits(extent)) for extent in (n, p, q, r, s))
            )
            for order in l3_orders(halo).values()
        ],
        dtype=object,
    )
    inner, outer = (np.array(rows[:, column].tolist(), dtype=np.int64).T for column in (2, 3))
    ones = np.ones_like(inner)
    temporal = np.stack([ones, inner, ones, outer])
    l1_order = np.repeat(np.array(L1_ORDER, dtype=np.int8)[:, None], len(rows), axis=1)
    l3_order = np.array(rows[:, 4].tolist(), dtype=np.int8).T
    return Batch(temporal, rows[:, :2].T.astype(np.int64), np.stack([l1_order, l1_order, l1_order, l3_order]))


@dataclass(frozen=True)
class StepPlace:
    """Where a step's tensors are, and the words of the operands that drain with it."""

    loads_w: bool = False
    keeps_w: bool = False
    keeps_i: bool = False
    keeps_o: bool = False
    leaves: bool = True
    near: tuple[int, ...] = ()
    far: tuple[int, ...] = ()


@cache
def step_points(layer: Layer, place: StepPlace, capacity: int, machine: Machine, halo: str) -> tuple[Point, ...]:
    """Return the best (energy, latency) of a step's mappings within the bytes that are left; none if nothing fits."""
    found = scored(layer, machine, halo).fitting(not place.keeps_w, not place.keeps_i, place.keeps_o, capacity)
    if not found["w"].size:
        return ()
    size_w, size_o = layer.size("W") * layer.repeat, layer.size("O") * layer.repeat
    w = found["w"] if not place.keeps_w else found["w"] * 0 + size_w * place.loads_w
    i = found["i"] * (not place.keeps_i)
    psum = found["psum"] * int(machine.psum_words)
    o = found["o"] * 0 + size_o * place.leaves if place.keeps_o else found["o"] - found["psum"] + psum
    accumulator = 2 * found["updates"] + found["psum"]
    scratchpad = w + i + found["fills"] + layer.macs // found["sk"] + size_o * place.keeps_o + sum(place.near)
    block = int(machine.block_words)
    blocked = sum(-(-words // block) * block for words in (w, i, o, psum)) + sum(-(-words // block) * block for words in place.far)
    prices = [round(price * _SCALE) for price in machine[2:7]]
    accesses = (layer.macs, layer.macs + found["fills"], accumulator, scratchpad, blocked)
    energy = (sum(price * count for price, count in zip(prices, accesses, strict=True)) + _SCALE // 2) // _SCALE
    words = w + i + o + psum + sum(place.far)
    cycles = np.maximum.reduce(
        [
            -(-layer.macs // (found["sc"] * found["sk"])),
            -(-accumulator // (int(machine.accumulator_bandwidth) * found["sk"])),
            -(-scratchpad // int(machine.scratchpad_bandwidth)),
            -(-words // int(machine.dram_bandwidth)),
        ]
    )
    order = np.lexsort((cycles, energy))
    cycles = cycles[order]
    best = np.concatenate(([True], cycles[1:] < np.minimum.accumulate(cycles)[:-1]))
    return tuple(zip(energy[order][best].tolist(), cycles[best].tolist(), strict=True))


def pareto(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the points that no other one beats, least energy first."""
    best: list[Point] = []
    for energy, latency in sorted(set(points)):
        if not best or latency < best[-1][1]:
            best.append((energy, latency))
    return tuple(best)


def sums(one: Iterable[Point], other: Iterable[Point], times: int = 1) -> tuple[Point, ...]:
    """Return the best sums of a point and a multiple of another."""
    return pareto((a + times * c, b + times * d) for (a, b), (c, d) in itertools.product(one, other))


# One group


def group_points(net: Net, members: tuple[str, ...], rules: Rules) -> tuple[Point, ...]:
    """Return the best (energy, latency) of a group over tiles, modes, weight sets and mappings; none if nothing fits."""
    if len(members) == 1 and net.node(members[0]).kind == "pool":
        words = [math.prod(net.extents()[name]) for name in (*net.node(members[0]).reads, members[0])]
        return (vector_point(0, words, rules),) if rules.charged else ((0, 0),)
    if len(members) > 1 and any(_pools_the_input(net.node(name)) for name in members):
        return ()
    if len(members) == 1:
        layer = net.layer(members[0])
        return step_points(layer.problem, _alone(net, members[0], rules), int(rules.machine.scratchpad_bytes), rules.machine, rules.halo)
    found: list[Point] = []
    extents = net.extents()[members[-1]]
    for tile in itertools.product(*(divisors(extents[axis]) for axis in (0, 2, 3))):
        tiles = extents[0] * extents[2] * extents[3] // (tile[0] * tile[1] * tile[2])
        if tiles > 1 and sum(net.node(name).kind == "conv" for name in members) > rules.max_group:
            continue
        for mode in rules.modes if tiles > 1 else ("recompute",):
            classes = extent_classes(net, members, tile, mode)
            weighted = [name for name in members if net.node(name).kind == "conv"]
            for count in range(len(weighted) + 1):
                for resident in itertools.combinations(weighted, count):
                    found += tile_points(net, members, classes, frozenset(resident), rules)
    return pareto(found)


def _pools_the_input(node: Node) -> bool:
    """Whether a node reads the network's input by windows, for which there is no rule."""
    return node.kind == "pool" and node.reads[0] == "x" and node.window != TinyWindow()


def _alone(net: Net, name: str, rules: Rules) -> StepPlace:
    words = int(np.prod(net.extents()[name]))
    return StepPlace(far=tuple(words for _ in net.node(name).reads[1:]) if rules.charged else ())


def readings(net: Net, members: Sequence[str]) -> list[Reading]:
    """Return who reads whom inside a group."""
    found = []
    for name in members:
        node = net.node(name)
        (kernel, stride, pad), source = (node.window.kernel, node.window.stride, node.window.pad), node.reads[0]
        if source in members:
            found.append(Reading(name, source, Window(stride[0], pad[0], kernel[0]), Window(stride[1], pad[1], kernel[1])))
        found += [Reading(name, other, Window(), Window()) for other in node.reads[1:] if other in members]
    return found


@dataclass(frozen=True)
class ExtentClass:
    """The steps of a member with equal extents: batch, rows and columns, how many they are, the bytes of maps at the fullest of them.

    `reads` are the words that a pool reads; pools that read different words are different steps.
    """

    member: str
    extents: tuple[int, int, int]
    times: int
    held_bytes: int
    is_first: bool
    reads: int = 0


def extent_classes(net: Net, members: tuple[str, ...], tile: tuple[int, int, int], mode: str) -> list[ExtentClass]:
    """Return the distinct steps of a group."""
    extents, inside = net.extents(), readings(net, members)
    rows = intervals(members, inside, {name: extents[name][2] for name in members}, tile[1], rows=True)
    cols = intervals(members, inside, {name: extents[name][3] for name in members}, tile[2], rows=False)
    batches = extents[members[-1]][0] // tile[0]
    stay = {name: kept(rows[name], cols[name], mode) for name in members[:-1]}
    last = {name: max((members.index(each.reader) for each in inside if each.source == name), default=-1) for name in members}
    found = []
    for index, name in enumerate(members):
        held = np.zeros((len(rows[name].starts), len(cols[name].starts)), dtype=np.int64)
        for other_index, other in enumerate(members[:-1]):
            parts = stay[other]
            part = parts.before if other_index > index else parts.live if index <= last[other] else parts.after
            held = held + part * tile[0] * extents[other][1]
        down, across = computed(rows[name], cols[name], mode)
        classes: dict[tuple[int, int, int], list[int]] = {}
        for p, q in itertools.product(range(held.shape[0]), range(held.shape[1])):
            extent = int(down[p]), int(across[q])
            if 0 in extent:
                continue
            ends = int(rows[name].ends[p]), int(cols[name].ends[q])
            reads = _pool_reads(net, name, ends, extent) * tile[0] if net.node(name).kind == "pool" else 0
            times_and_most = classes.setdefault((*extent, reads), [0, 0])
            times_and_most[0] += batches
            times_and_most[1] = max(times_and_most[1], int(held[p, q]))
        for position, ((ep, eq, reads), (times, most)) in enumerate(classes.items()):
            found.append(ExtentClass(name, (tile[0], ep, eq), times, most, position == 0, reads))
    return found


def _pool_reads(net: Net, name: str, ends: tuple[int, int], extent: tuple[int, int]) -> int:
    """Return the positions between the first and the last that a pool's windows touch, all channels."""
    node, source = net.node(name), net.extents()[net.node(name).reads[0]]
    lengths = []
    for axis in (0, 1):
        touched = [at for position in range(ends[axis] - extent[axis], ends[axis]) for at in node.window.rows(axis, position)]
        inside = [at for at in touched if 0 <= at < source[2 + axis]]
        lengths.append(max(inside) - min(inside) + 1 if inside else 0)
    return source[1] * lengths[0] * lengths[1]


def vector_point(near: int, far: Sequence[int], rules: Rules) -> Point:
    """Return energy and latency of a vector operator that moves words in the scratchpad and, each tensor apart, in DRAM."""
    machine = rules.machine
    blocked = sum(-(-words // int(machine.block_words)) * int(machine.block_words) for words in far)
    energy = round(machine.scratchpad_pj * _SCALE) * near + round(machine.dram_pj * _SCALE) * blocked
    cycles = max(-(-near // int(machine.scratchpad_bandwidth)), -(-sum(far) // int(machine.dram_bandwidth)))
    return (energy + _SCALE // 2) // _SCALE, cycles


def _pool_point(net: Net, each: ExtentClass, members: Sequence[str], rules: Rules) -> Point:
    """Return what a pool costs in one tile: what crosses the group's border costs in any case."""
    node = net.node(each.member)
    result = math.prod(each.extents) * node.channels
    inside = any(reader.name in members for reader in net.readers(node.name))
    leaves = net.is_output(node.name) or any(reader.name not in members for reader in net.readers(node.name))
    reads_inside = node.reads[0] in members
    near = each.reads * reads_inside + result * inside if rules.charged else 0
    return vector_point(near, [*([] if reads_inside else [each.reads]), *([result] if leaves else [])], rules)


def tile_points(
    net: Net, members: tuple[str, ...], classes: Sequence[ExtentClass], resident: frozenset[str], rules: Rules
) -> tuple[Point, ...]:
    """Return the best (energy, latency) of a group with everything but the mappings given; none if a step does not fit."""
    total: tuple[Point, ...] = ((0, 0),)
    weights = sum(net.layer(name).size("W") * net.layer(name).repeat for name in resident)
    for each in classes:
        if net.node(each.member).kind == "pool":
            total = sums(total, (_pool_point(net, each, members, rules),), each.times)
            if each.held_bytes + weights > rules.machine.scratchpad_bytes:
                return ()
    for layer, place, capacity, times in steps(net, members, classes, resident, rules):
        total = sums(total, step_points(layer, place, capacity, rules.machine, rules.halo), times) if capacity >= 0 else ()
        if not total:
            return ()
    return total


def steps(
    net: Net, members: tuple[str, ...], classes: Sequence[ExtentClass], resident: frozenset[str], rules: Rules
) -> Iterator[tuple[Layer, StepPlace, int, int]]:
    """Yield the steps that are mapped apart: dims, places, the bytes that are left at the fullest of them, and how many there are."""
    layers = {name: net.layer(name).problem for name in members if net.node(name).kind == "conv"}
    weights = sum(layers[name].size("W") * layers[name].repeat for name in resident)
    for each in (each for each in classes if each.member in layers):
        stays, capacity = each.member in resident, int(rules.machine.scratchpad_bytes) - weights - each.held_bytes
        split = ((True, 1), (False, each.times - 1)) if stays and each.is_first else ((False, each.times),)
        for loads, count in split:
            if count:
                yield _on(layers[each.member], each.extents), _place(net, each, members, stays, loads, rules), capacity, count


@cache
def _on(layer: Layer, extents: tuple[int, int, int]) -> Layer:
    """Return a layer on the rows and columns of a step."""
    _, k, c, _, _, r, s = layer.dims
    return replace(layer, dims=(extents[0], k, c, *extents[1:], r, s))


def _place(net: Net, each: ExtentClass, members: Sequence[str], resident: bool, loads: bool, rules: Rules) -> StepPlace:
    name, node = each.member, net.node(each.member)
    words = math.prod(each.extents) * node.channels
    outside = net.is_output(name) or any(reader.name not in members for reader in net.readers(name))
    inside = any(reader.name in members for reader in net.readers(name))
    added = [(other in members, words) for other in node.reads[1:]] if rules.charged else []
    near, far = (tuple(words for is_near, words in added if is_near == side) for side in (True, False))
    return StepPlace(loads, resident, node.reads[0] in members, inside, outside, near, far)


# The network


def partitions(net: Net) -> Iterator[tuple[tuple[str, ...], ...]]:
    """Yield every partition into connected convex groups with one sink whose quotient has no cycle."""
    names = [node.name for node in net.nodes]
    for blocks in _set_partitions(names):
        if all(is_group(net, block) for block in blocks) and _acyclic(net, blocks):
            yield blocks


def _set_partitions(names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], ...]]:
    if not names:
        yield ()
        return
    for rest in _set_partitions(names[:-1]):
        yield (*rest, (names[-1],))
        for index, block in enumerate(rest):
            yield (*rest[:index], (*block, names[-1]), *rest[index + 1 :])


def is_group(net: Net, members: Sequence[str]) -> bool:
    """Whether members are connected and convex and have one sink."""
    inside = set(members)
    sinks = [name for name in members if not any(reader.name in inside for reader in net.readers(name))]
    return len(sinks) == 1 and sinks[0] == members[-1] and _connected(net, members) and not _leaves_and_returns(net, inside)


def _connected(net: Net, members: Sequence[str]) -> bool:
    reached, border = {members[0]}, [members[0]]
    while border:
        name = border.pop()
        near = {reader.name for reader in net.readers(name)} | set(net.node(name).reads)
        border += (near & set(members)) - reached
        reached |= near & set(members)
    return reached == set(members)


def _leaves_and_returns(net: Net, inside: set[str]) -> bool:
    border = [reader.name for name in inside for reader in net.readers(name) if reader.name not in inside]
    seen = set(border)
    while border:
        for reader in net.readers(border.pop()):
            if reader.name in inside:
                return True
            if reader.name not in seen:
                seen.add(reader.name)
                border.append(reader.name)
    return False


def _acyclic(net: Net, blocks: Sequence[Sequence[str]]) -> bool:
    block_of = {name: index for index, block in enumerate(blocks) for name in block}
    edges = {(block_of[source], block_of[node.name]) for node in net.nodes for source in node.reads if source in block_of}
    left = set(range(len(blocks)))
    while left:
        ready = [block for block in left if not any(a in left and b == block and a != b for a, b in edges)]
        if not ready:
            return False
        left -= set(ready)
    return True


def network_points(net: Net, rules: Rules) -> tuple[Point, ...]:
    """Return the best (energy, latency) of the network over everything; none if a layer does not fit alone."""
    groups: dict[tuple[str, ...], tuple[Point, ...]] = {}
    found: list[Point] = []
    for blocks in partitions(net):
        total: tuple[Point, ...] = ((0, 0),)
        for block in blocks:
            if block not in groups:
                groups[block] = group_points(net, block, rules)
            total = sums(total, groups[block])
        found += total
    return pareto(found)


def extreme(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the corners of the lower left hull of points, least energy first."""
    hull: list[Point] = []
    for point in pareto(points):
        while len(hull) > 1 and _is_above(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    return tuple(hull)


def _is_above(one: Point, middle: Point, other: Point) -> bool:
    """Whether a point lies on or above the line through two others."""
    return (middle[1] - one[1]) * (other[0] - one[0]) >= (other[1] - one[1]) * (middle[0] - one[0])
