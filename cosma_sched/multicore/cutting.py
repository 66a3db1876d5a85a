"""Cuts of every layer in so many parts: what does not fit a memory, finer cuts until it does, and where a search of cuts may begin.

Parts are counted for each layer and dimension; a dimension that is not named is not cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cosma_sched.multicore.problem import ScheduleProblem, TileKind
from cosma_sched.multicore.splits import DIMS, Cut, Split

Parts = dict[str, dict[str, int]]
Extents = Mapping[str, Mapping[str, int]]
_Change = Callable[[Mapping[str, int], Mapping[str, int], int], dict[str, int]]
"""From the parts of one layer, its extents and the number of cores to other parts."""

_OUTERMOST_FIRST = ("rows", "columns", "channels", "contraction")


def split_into(parts: Parts) -> Split:
    """Return the split that cuts every layer in so many parts, rows outermost."""
    return Split(layers={layer: tuple(Cut(dim, dims[dim]) for dim in _OUTERMOST_FIRST if dim in dims) for layer, dims in parts.items()})


def uniform(extents: Extents, wanted: Mapping[str, int]) -> Parts:
    """Return the same number of parts for every layer that has a dimension, no more than there are indices."""
    return {layer: cut({dim: wanted.get(dim, 1) for dim in has}, has) for layer, has in extents.items()}


def cut(wanted: Mapping[str, int], extents: Mapping[str, int]) -> dict[str, int]:
    """Return the parts of one layer as they are: within its extents, without dimensions in one part."""
    found = {dim: min(parts, extents[dim]) for dim, parts in wanted.items() if dim in extents}
    return {dim: parts for dim, parts in found.items() if parts > 1}


@dataclass(frozen=True, slots=True)
class Shortage:
    """A node that fits on no core, on the core where least is missing: what is missing, and its largest tile."""

    node: int
    short_bytes: int
    tile: int


def shortages(problem: ScheduleProblem) -> dict[str, Shortage]:
    """Return, for each layer with a node that fits on no core, the node where most is missing."""
    found: dict[str, Shortage] = {}
    for writers in problem.writers:
        worst = _shortage(problem, writers) if writers else None
        if worst is not None:
            layer = problem.nodes[worst.node].layer
            if layer not in found or worst.short_bytes > found[layer].short_bytes:
                found[layer] = worst
    return found


def _shortage(problem: ScheduleProblem, writers: tuple[int, ...]) -> Shortage | None:
    platform, nodes = problem.platform, problem.nodes
    cores = [core for core in nodes[writers[0]].cycles if platform.cores[core].is_compute]
    least: Shortage | None = None
    seen: set[tuple[int | None, ...]] = set()
    for core in cores:
        facts = platform.cores[core]
        rooms = tuple(platform.memories[name].capacity_bytes for name in (facts.memory, facts.weight_memory or facts.memory))
        alike = (*rooms, int(facts.weight_memory is None))
        if alike in seen or any(core not in nodes[node].cycles for node in writers):
            continue
        seen.add(alike)
        worst = max((_missing(problem, node, core) for node in writers), key=lambda found: found.short_bytes)
        if worst.short_bytes <= 0:
            return None
        if least is None or worst.short_bytes < least.short_bytes:
            least = worst
    return least


def _missing(problem: ScheduleProblem, node: int, core: str) -> Shortage:
    facts, written = problem.nodes[node], problem.nodes[node].writes
    factor = problem.semantics.partial_sum_factor if len(problem.writers[written]) > 1 else 1
    sizes = {tile: problem.tiles[tile].size_bytes for tile in facts.reads if problem.takes_memory(problem.tiles[tile])}
    sizes[written] = factor * problem.tiles[written].size_bytes
    taken: dict[str, int] = {}
    for tile, size in sizes.items():
        memory = problem.memory_of(tile, core)
        taken[memory] = taken.get(memory, 0) + size
    short = 0
    for memory, size in taken.items():
        limit = problem.platform.memories[memory].capacity_bytes
        short = max(short, size - limit) if limit is not None else short
    return Shortage(node, short, max(sizes, key=lambda tile: sizes[tile]))


def finer(parts: Parts, problem: ScheduleProblem, extents: Extents) -> Parts | None:
    """Return cuts in which every layer that does not fit is cut once more; None where everything fits.

    A weight that is too large halves the channels of its layer, then the contraction; a tile that the layer writes halves its rows; one
    that it reads halves the rows of both layers. Where nothing is left to cut, the parts are returned as they are.
    """
    wrong = shortages(problem)
    if not wrong:
        return None
    found = {layer: dict(dims) for layer, dims in parts.items()}
    for layer, shortage in wrong.items():
        kind = problem.tiles[shortage.tile].kind
        if kind is TileKind.PARAMETER:
            across = "channels" if "channels" in extents[layer] else "columns"
            _halve(found, layer, (across, "contraction", "rows"), extents)
            continue
        _halve(found, layer, ("rows", "channels", "columns"), extents)
        makers = problem.writers[shortage.tile]
        if makers and (maker := problem.nodes[makers[0]].layer) != layer and maker not in wrong:
            _halve(found, maker, ("rows", "channels", "columns"), extents)
    return found


def _halve(parts: Parts, layer: str, dims: tuple[str, ...], extents: Extents) -> None:
    has, now = extents[layer], parts.setdefault(layer, {})
    for dim in (*dims, *DIMS):
        if dim in has and now.get(dim, 1) < has[dim]:
            now[dim] = min(has[dim], 2 * now.get(dim, 1))
            return


@dataclass(frozen=True, slots=True)
class Weights:
    """What a layer weighs when it is not cut: bytes of its weights and of what else it reads and writes, room, cycles."""

    weights: int
    features: int
    room: int | None
    cycles: int


def weights_of(problem: ScheduleProblem) -> dict[str, Weights]:
    """Return what each layer of a network without cuts weighs."""
    found: dict[str, Weights] = {}
    for node in problem.nodes:
        tiles = [problem.tiles[tile] for tile in {*node.reads, node.writes}]
        weights = sum(tile.size_bytes for tile in tiles if tile.kind is TileKind.PARAMETER)
        features = sum(tile.size_bytes for tile in tiles) - weights
        rooms = [problem.platform.capacity(core) for core in node.cycles]
        known = [room for room in rooms if room is not None]
        before = found.get(node.layer, Weights(0, 0, min(known, default=None), 0))
        cycles = before.cycles + min(node.cycles.values())
        found[node.layer] = Weights(before.weights + weights, before.features + features, before.room, cycles)
    return found


def by_weight(extents: Extents, weights: Mapping[str, Weights], across: int, share: int) -> Parts:
    """Cut layers that weigh more in weights over channels, in a multiple of `across` parts, and the others into rows.

    Parts are as many as let a piece take at most a `share`-th of the memory.
    """
    found: Parts = {}
    for layer, has in extents.items():
        facts = weights.get(layer)
        if facts is None or not has:
            found[layer] = {}
            continue
        room = max(1, (facts.room or 2**40) // share)
        dim = "channels" if "channels" in has else "columns"
        if facts.weights > facts.features and dim in has:
            found[layer] = cut({dim: across * max(1, -(-facts.weights // (room * across)))}, has)
        else:
            found[layer] = cut({"rows": max(across, -(-facts.features // room))}, has)
    return found


def neighbours(parts: Parts, extents: Extents, weights: Mapping[str, Weights], across: int) -> Iterator[Parts]:
    """Yield cuts that differ in one layer, or in all layers of the same extents of rows: twice as many parts, half, one for each core."""
    alike: dict[tuple[int, int], list[str]] = {}
    for layer, has in extents.items():
        if has:
            alike.setdefault((has.get("rows", 0), has.get("columns", 0) if "channels" in has else 0), []).append(layer)
    groups = [layers for layers in alike.values() if len(layers) > 1]
    heaviest = sorted((layer for layer, has in extents.items() if has), key=lambda layer: -weights[layer].cycles if layer in weights else 0)
    for layers in [*groups, *([layer] for layer in heaviest)]:
        for change in _CHANGES:
            changed = {**parts, **{layer: change(parts.get(layer, {}), extents[layer], across) for layer in layers}}
            if changed != parts:
                yield changed


def _scaled(dim: str, up: int, down: int) -> _Change:
    def change(now: Mapping[str, int], has: Mapping[str, int], across: int) -> dict[str, int]:
        del across
        name = dim if dim in has or dim != "channels" else "columns"
        return cut({**now, name: max(1, now.get(name, 1) * up // down)}, has)

    return change


def _one_for_each(dim: str) -> _Change:
    def change(now: Mapping[str, int], has: Mapping[str, int], across: int) -> dict[str, int]:
        name = dim if dim in has or dim != "channels" else "columns"
        return cut({**now, name: across if now.get(name, 1) != across else 1}, has)

    return change


def _turned(now: Mapping[str, int], has: Mapping[str, int], across: int) -> dict[str, int]:
    """Cut along channels what was cut into rows, and the other way round."""
    del across
    name = "channels" if "channels" in has else "columns"
    return cut({**now, "rows": now.get(name, 1), name: now.get("rows", 1)}, has)


_CHANGES: tuple[_Change, ...] = (
    _scaled("rows", 2, 1),
    _one_for_each("channels"),
    _one_for_each("rows"),
    _turned,
    _scaled("channels", 2, 1),
    _scaled("rows", 1, 2),
    _scaled("channels", 1, 2),
)
