"""The relaxed fused network: the cost functions of the exact method under jax, with fractions of fused edges and resident weights.

What depends on the network alone is collected here in arrays: who feeds whom by which window, which maps are alive where, which edges
follow from others. Where a path leads from a producer past its reader's other operands, convexity decides the edge: it is fused as far as
all edges of the path are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.genome import Genome
from cosma_sched.fusion.problem import FusionProblem, Operand
from cosma_sched.fusion.rows import Stay, stay_cost
from cosma_sched.mapping.cost import Counts, Machine, Shape, Tiling, access_counts, shape_of
from cosma_sched.mapping.layer import RELEVANT, C, K, N, P, Q
from cosma_sched.mapping.space import L1_ORDER, l3_orders
from cosma_sched.mapping.tilings import SPATIAL_C, SPATIAL_K

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Array = Any

_SHARPNESS = 8.0
"""Of the softmax over orders."""


class Point(NamedTuple):
    """Where a descent stands; the first axis counts starts.

    Parameters
    ----------
    factors
        ``[start, layer, 9]``: logarithms of the factors, as `tilings.tile` takes them.
    tiles
        ``[start, node, 2]``: logarithms of rows and columns of a tile.
    edges, stays
        ``[start, free edge]`` and ``[start, layer]``: logits of fused edges and of resident weights.
    """

    factors: Array
    tiles: Array
    edges: Array
    stays: Array


class Relaxed(NamedTuple):
    """What a relaxed network costs, and how far it breaks each limit (above 0).

    Parameters
    ----------
    energy, latency
        ``[start]``.
    limits
        ``limits[start, constraint]``.
    orders
        ``[start, layer]``: the best order class.
    """

    energy: Array
    latency: Array
    limits: Array
    orders: Array


@dataclass(frozen=True)
class Net:
    """A network as arrays.

    Parameters
    ----------
    shape
        Facts of the layers.
    layers
        Their nodes.
    edges
        ``edges[edge]``: producer and reader.
    free
        Edges with a variable of their own; the others follow.
    paths
        For each edge, the free edges that it is the least of.
    windows
        ``windows[edge, axis]``: stride and reach of the reader; 0 for the whole axis.
    inputs
        For each layer, the edge of its input; the number of edges where it cannot be fused.
    leaving, arriving
        For each node, its edges.
    forced
        Nodes whose result goes to DRAM in any case.
    extents, words
        Of the nodes' results: ``[node, 3]`` and words of one position.
    overlaps
        ``[node, axis]``: rows and columns that two tiles of a reader share.
    alive
        (node, at, edges): the node's map is alive at a step as far as one of the edges is fused.
    weights
        ``[node]``: bytes of W.
    vectors
        Nodes that are vector operators, and the words that each moves by itself where that is charged.
    drains
        Further operands that layers read while they drain, where that is charged: words and edge of each layer's first one, second one, ...
    """

    shape: Shape
    layers: Integers
    edges: tuple[tuple[int, int], ...]
    free: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    windows: Integers
    inputs: Integers
    leaving: tuple[tuple[int, ...], ...]
    arriving: tuple[tuple[int, ...], ...]
    forced: Floats
    extents: Floats
    words: Floats
    overlaps: Floats
    alive: tuple[tuple[int, int, tuple[int, ...]], ...]
    weights: Floats
    vectors: tuple[tuple[int, int], ...]
    drains: tuple[tuple[Floats, Integers], ...]


def net_of(problem: FusionProblem, edges: Sequence[tuple[int, int]]) -> Net:
    """Return a network as arrays.

    Parameters
    ----------
    problem
        The network.
    edges
        (producer, reader) pairs that may be fused.
    """
    place = {edge: index for index, edge in enumerate(edges)}
    paths = _paths(edges)
    free = tuple(index for index, path in enumerate(paths) if not path)
    rank = {edge: index for index, edge in enumerate(free)}
    windows = np.array([_windows(problem, edge) for edge in edges], dtype=np.int64).reshape(len(edges), 2, 2)
    count = len(problem.nodes)
    leaving = tuple(tuple(place[node, reader] for reader in problem.consumers[node] if (node, reader) in place) for node in range(count))
    arriving = tuple(tuple(index for index, edge in enumerate(edges) if edge[1] == node) for node in range(count))
    forced = [
        float(node.is_output or len(leaving[i]) < len(problem.consumers[i]) or not leaving[i]) for i, node in enumerate(problem.nodes)
    ]
    overlaps = np.zeros((count, 2))
    for index, (producer, _) in enumerate(edges):
        for axis in range(2):
            stride, reach = windows[index, axis]
            overlaps[producer, axis] = max(overlaps[producer, axis], reach - stride)
    return Net(
        _shape(problem),
        np.array(problem.layers, dtype=np.int64),
        tuple(edges),
        free,
        tuple(tuple(sorted({rank[step] for step in path})) or (rank[index],) for index, path in enumerate(paths)),
        windows,
        np.array([_input_edge(problem, index, place) for index in problem.layers], dtype=np.int64),
        leaving,
        arriving,
        np.array(forced),
        np.array([node.extent for node in problem.nodes], dtype=np.float64),
        np.array([node.position_words for node in problem.nodes], dtype=np.float64),
        overlaps,
        _alive(problem, edges),
        np.array([node.weight_words for node in problem.nodes], dtype=np.float64),
        tuple((index, _words_alone(problem, index)) for index, node in enumerate(problem.nodes) if node.layer is None),
        _drains(problem, place),
    )


def _words_alone(problem: FusionProblem, index: int) -> int:
    vector = problem.nodes[index].vector
    return sum(vector.words) if problem.charged and vector is not None and vector.folded_into is None else 0


def _drains(problem: FusionProblem, place: dict[tuple[int, int], int]) -> tuple[tuple[Floats, Integers], ...]:
    if not problem.charged:
        return ()
    found = []
    for index in problem.layers:
        operands = [operand for operand in problem.nodes[index].operands if operand.role == "drain"]
        found.append([(float(operand.words), place.get((operand.producer or 0, index), len(place))) for operand in operands])
    height = max((len(operands) for operands in found), default=0)
    filled = [operands + [(0.0, len(place))] * (height - len(operands)) for operands in found]
    return tuple(
        (np.array([operands[row][0] for operands in filled]), np.array([operands[row][1] for operands in filled], dtype=np.int64))
        for row in range(height)
    )


def _shape(problem: FusionProblem) -> Shape:
    facts = [shape_of(layer) for layer in (problem.nodes[index].layer for index in problem.layers) if layer is not None]
    dims = tuple(np.array([fact.dims[dim] for fact in facts], dtype=np.float64) for dim in range(7))
    names = ("stride_p", "stride_q", "dilation_p", "dilation_q", "repeat", "w_bytes", "i_bytes", "o_bytes")
    columns = {name: np.array([getattr(fact, name) for fact in facts], dtype=np.float64) for name in names}
    return Shape(dims, **columns, drain_words=())


def _paths(edges: Sequence[tuple[int, int]]) -> list[set[int]]:
    """Return for each edge the edges without a detour of their own on other paths between its ends; none for most."""
    readers: dict[int, list[int]] = {}
    for index, (producer, _) in enumerate(edges):
        readers.setdefault(producer, []).append(index)
    reach: dict[int, set[int]] = {}

    def reachable(node: int) -> set[int]:
        if node not in reach:
            reach[node] = {node}.union(*(reachable(edges[index][1]) for index in readers.get(node, ())))
        return reach[node]

    found = []
    for index, (producer, reader) in enumerate(edges):
        others = {
            other
            for other, (start, end) in enumerate(edges)
            if other != index and start in reachable(producer) and reader in reachable(end)
        }
        found.append(others)
    free = {index for index, others in enumerate(found) if not others}
    return [others & free for others in found]


def _operand(problem: FusionProblem, edge: tuple[int, int]) -> Operand:
    return next(operand for operand in problem.nodes[edge[1]].operands if operand.producer == edge[0])


def _windows(problem: FusionProblem, edge: tuple[int, int]) -> list[tuple[int, int]]:
    operand = _operand(problem, edge)
    return [(0, 0) if window is None else (window.stride, window.reach) for window in (operand.rows, operand.columns)]


def _input_edge(problem: FusionProblem, index: int, place: dict[tuple[int, int], int]) -> int:
    for operand in problem.nodes[index].operands:
        if operand.role == "input" and operand.producer is not None and (operand.producer, index) in place:
            return place[operand.producer, index]
    return len(place)


def _alive(problem: FusionProblem, edges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int, tuple[int, ...]], ...]:
    """Return at which steps each map is alive: from its producer to its last reader."""
    found: dict[tuple[int, int], list[int]] = {}
    for index, (producer, reader) in enumerate(edges):
        for at in range(producer, reader + 1):
            found.setdefault((producer, at), []).append(index)
    joined = {at: {index for index, edge in enumerate(edges) if at in edge} for at in range(len(problem.nodes))}
    return tuple((node, at, tuple(own)) for (node, at), own in found.items() if joined[at])


def relaxed_cost(xp: Any, machine: Machine, net: Net, halo: str, point: Point, *, optimistic: bool = False) -> Relaxed:
    """Return what relaxed networks cost, and how far they break their limits.

    Parameters
    ----------
    xp
        ``jax.numpy`` or ``numpy``.
    machine, net, halo
        Accelerator, network and window rule.
    point
        Factors and tiles as logarithms; edges and stays as fractions here.
    optimistic
        Every tensor is reused perfectly over all loops that do not index it, partial sums do not spill, and overlaps cost nothing.
    """
    fused = _all_edges(xp, net, point.edges)
    joined = _most(xp, fused, [(*net.leaving[node], *net.arriving[node]) for node in range(len(net.words))])
    keeps = _most(xp, fused, net.leaving)
    writes = xp.maximum(net.forced, _most(xp, 1.0 - fused, net.leaving))
    part = joined[:, net.layers]
    whole = xp.log(net.extents)
    tiles = point.tiles * joined[:, :, None] + whole[:, 1:] * (1.0 - joined[:, :, None])
    batch = net.extents[net.layers, 0] ** (1.0 - part)
    rows, columns = xp.exp(tiles[:, net.layers, 0]), xp.exp(tiles[:, net.layers, 1])
    times = net.extents[net.layers].prod(axis=1) / (batch * rows * columns)
    dims: list[Array] = [extent + 0.0 * rows for extent in net.shape.dims]
    dims[N], dims[P], dims[Q] = batch, rows, columns
    stays = point.stays * part
    reads = fused[:, net.inputs]
    folded = sum((words / times * fused[:, edges] for words, edges in net.drains), start=0.0 * rows)
    drained = tuple(words / times * (1.0 - fused[:, edges]) for words, edges in net.drains)
    stay = Stay(reads, 1.0 - stays, stays / times, keeps[:, net.layers], writes[:, net.layers], folded)
    shape = net.shape._replace(dims=dims, drain_words=drained)
    tiling, over = _tiling(xp, dims, xp.exp(point.factors), halo)
    counts = _optimistic_counts(xp, shape, tiling, halo) if optimistic else access_counts(xp, shape, tiling, halo)
    cost = stay_cost(xp, machine, shape, counts, (tiling.spatial_c, tiling.spatial_k), stay, rounded=False)
    spilled = stay.keeps * xp.log1p(counts.psum / (dims[N] * dims[K] * rows * columns))
    product = xp.log(cost.energy_pj) + xp.log(cost.cycles) + spilled  # product[order, start, layer]
    choice = _weights(xp, product)
    outside_e, outside_l = _vector_cost(machine, net, fused, joined, writes)
    energy = (choice * cost.energy_pj).sum(axis=0) * times
    latency = (choice * cost.cycles).sum(axis=0) * times
    beside = _beside(xp, net, fused, keeps, tiles, stays)
    bytes_used = cost.scratchpad_bytes + beside[:, net.layers]
    # what spills although it must stay is a broken limit too, under the orders that are chosen
    limits = [
        xp.log(bytes_used / machine.scratchpad_bytes),
        xp.log(cost.accumulator_bytes / machine.accumulator_bytes + 0.0 * rows),
        *over,
        (choice * spilled).sum(axis=0),
    ]
    aligned = _misaligned(xp, net, fused, tiles)
    flat = xp.concatenate([*limits, aligned], axis=1)
    return Relaxed(energy.sum(axis=1) + outside_e, latency.sum(axis=1) + outside_l, flat, product.argmin(axis=0))


def _all_edges(xp: Any, net: Net, free: Array) -> Array:
    """Return ``fused[start, edge]`` with a last column of 0 for what is never fused."""
    columns = []
    for path in net.paths:
        value = free[:, path[0]]
        for index in path[1:]:
            value = xp.minimum(value, free[:, index])
        columns.append(value)
    starts = free.shape[0]
    return xp.stack([*columns, xp.zeros(starts)], axis=1)


def _most(xp: Any, values: Array, groups: Sequence[Sequence[int]]) -> Array:
    """Return the largest of some columns for each group; 0 for an empty one."""
    height = max([1, *(len(group) for group in groups)])
    table = np.full((len(groups), height), -1)
    for row, group in enumerate(groups):
        table[row, : len(group)] = group
    gathered = values[:, np.maximum(table, 0)]
    return xp.where(table >= 0, gathered, 0.0).max(axis=2)


def _tiling(xp: Any, dims: Sequence[Array], factors: Array, halo: str) -> tuple[Tiling, list[Array]]:
    """Return tilings under all orders, and the logarithms by which products exceed their dims."""
    spatial_c, spatial_k = factors[:, :, SPATIAL_C], factors[:, :, SPATIAL_K]
    inner = [factors[:, :, dim] for dim in range(7)]
    ones = xp.ones_like(spatial_c)
    spread = [spatial_c if dim == C else spatial_k if dim == K else ones for dim in range(7)]
    quotient = [dims[dim] / (inner[dim] * spread[dim]) for dim in range(7)]
    outer = xp.stack([xp.maximum(part, 1.0) for part in quotient])
    orders = np.array(list(l3_orders(halo).values())).T[:, :, None, None]  # orders[position, order, 1, 1]
    ordered: list[list[Array]] = [[], [inner[dim] for dim in L1_ORDER], [], list(outer[orders[:, :, 0, 0]])]
    tiling = Tiling([[ones] * 7, inner, [ones] * 7, list(outer)], spatial_c, spatial_k, [[], L1_ORDER, [], list(orders)], ordered)
    return tiling, [-xp.log(quotient[dim]) for dim in (C, K, P, Q)]


def _optimistic_counts(xp: Any, shape: Shape, tiling: Tiling, halo: str) -> Counts:
    """Return counts where a tensor is fetched once for each value of the loops that index it, whatever the order."""
    counts = access_counts(xp, shape, tiling, halo)
    outer = tiling.temporal[3]
    fetches = {tensor: 1.0 for tensor in RELEVANT}
    for tensor, relevant in RELEVANT.items():
        for dim in relevant:
            fetches[tensor] = fetches[tensor] * outer[dim]
    like = 0.0 * counts.i
    size_w = counts.w_tile * fetches["W"]
    size_o = counts.o_tile * tiling.spatial_k * fetches["O"]
    return counts._replace(w=size_w + like, i=counts.i_tile * fetches["I"] + like, o=size_o + like, psum=like, register_fills=size_w + like)


def _weights(xp: Any, product: Array) -> Array:
    """Return the softmax over the orders, sharp, and shifted so that nothing overflows."""
    shifted = xp.exp(-_SHARPNESS * (product - product.min(axis=0)))
    return shifted / shifted.sum(axis=0)


def _vector_cost(machine: Machine, net: Net, fused: Array, joined: Array, writes: Array) -> tuple[Array, Array]:
    """Return what vector operators read and write at the border of a group, and by themselves where that is charged."""
    words = 0.0 * joined[:, 0]
    for node, alone in net.vectors:
        size = net.words[node] * net.extents[node].prod()
        border = writes[:, node] * size
        for index in net.arriving[node]:
            producer = net.edges[index][0]
            border = border + (1.0 - fused[:, index]) * net.words[producer] * net.extents[producer].prod()
        words = words + joined[:, node] * border + (1.0 - joined[:, node]) * alone
    return machine.dram_pj * words, words / machine.dram_bandwidth


def _beside(xp: Any, net: Net, fused: Array, keeps: Array, tiles: Array, stays: Array) -> Array:
    """Return ``bytes[start, node]`` of maps, strips and resident weights beside the working tiles of a step."""
    tile = xp.exp(tiles)
    hull = xp.minimum(net.extents[:, 1:], tile + net.overlaps)
    strip = (hull[:, :, 0] - tile[:, :, 0]) * (net.extents[:, 2] - hull[:, :, 1])
    maps = net.words * (hull[:, :, 0] * hull[:, :, 1] + strip)
    live: list[Array] = [0.0 * keeps[:, 0]] * len(net.words)
    for node, at, edges in net.alive:
        share = fused[:, edges[0]]
        for index in edges[1:]:
            share = xp.maximum(share, fused[:, index])
        live[at] = live[at] + share * maps[:, node]
    kept = net.words * (hull[:, :, 0] - tile[:, :, 0]) * net.extents[:, 2] * keeps
    weights = {int(node): stays[:, place] * net.weights[node] for place, node in enumerate(net.layers)}
    own = [kept[:, node] + weights.get(node, 0.0) for node in range(len(net.words))]
    before, after = list(own), list(own)
    for node in range(len(own)):
        before[node] = own[node] + _largest(xp, [fused[:, index] * before[net.edges[index][0]] for index in net.arriving[node]])
    for node in range(len(own) - 1, -1, -1):
        after[node] = own[node] + _largest(xp, [fused[:, index] * after[net.edges[index][1]] for index in net.leaving[node]])
    total = [live[node] + before[node] + after[node] - own[node] for node in range(len(own))]
    return xp.stack(total, axis=1)


def _largest(xp: Any, values: Sequence[Array]) -> Array:
    if not values:
        return 0.0
    most = values[0]
    for value in values[1:]:
        most = xp.maximum(most, value)
    return most


def _misaligned(xp: Any, net: Net, fused: Array, tiles: Array) -> Array:
    """Return for each edge and axis how far a producer's tile is from what its reader's tile needs, as far as the edge is fused."""
    if not net.edges:
        return tiles[:, :0, 0]
    found = []
    for axis in range(2):
        producers = np.array([edge[0] for edge in net.edges])
        readers = np.array([edge[1] for edge in net.edges])
        stride = net.windows[:, axis, 0]
        extent = np.log(net.extents[producers, 1 + axis])
        needed = xp.minimum(extent, tiles[:, readers, axis] + np.log(np.maximum(stride, 1)))
        needed = xp.where(stride > 0, needed, extent)
        found.append(fused[:, :-1] * (tiles[:, producers, axis] - needed) ** 2)
    return xp.concatenate(found, axis=1)


def tables_of(genome_values: Sequence[Sequence[NDArray[np.int64]]]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return ``logs[row, choice, divisor]`` of some lists of divisors, and which of its entries are real."""
    width = max(len(values) for row in genome_values for values in row)
    logs = np.zeros((len(genome_values), len(genome_values[0]), width))
    real = np.zeros(logs.shape, dtype=bool)
    for row, choices in enumerate(genome_values):
        for place, values in enumerate(choices):
            logs[row, place, : len(values)] = np.log(values)
            real[row, place, : len(values)] = True
    return logs, real


def tables(genome: Genome) -> tuple[tuple[Floats, NDArray[np.bool_]], tuple[Floats, NDArray[np.bool_]]]:
    """Return the divisors of the layers' factors, and those of the nodes' rows and columns."""
    return tables_of(genome.factor_values), tables_of([lengths[1:] for lengths in genome.tile_values])
