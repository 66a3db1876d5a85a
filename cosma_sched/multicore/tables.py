"""A schedule problem in small integers: what list scheduling, bounds and programs look up again and again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cosma_sched.errors import InfeasibleError, Lever, Reason
from cosma_sched.multicore.platform import OFFCHIP, Route
from cosma_sched.multicore.problem import ScheduleProblem, TileKind

OFF = -1
"""Off-chip, where memories are counted from 0."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Positions everywhere: nodes and tiles as in the problem, cores and memories as in the platform, resources as listed.

    Parameters
    ----------
    capacities
        Of each memory; None where it does not bind.
    allowed
        For each node, the cores on which it may run: those that it lists, that every other writer of its tile lists, and whose memories
        hold all that these nodes touch.
    cycles
        For each node, cycles by core.
    quickest
        For each node, the least of them over the allowed cores.
    reads
        For each node, the tiles it reads that take memory.
    needs, followers
        For each node, the nodes that must have ended (writers of what it reads included), and the reverse.
    sizes, peak_sizes
        Bytes of each tile when complete, and while it grows.
    memory
        ``memory[tile][core]``: where a tile lies.
    routes
        Ways from memory to memory (or `OFF`), with the resources by position.
    """

    problem: ScheduleProblem
    cores: tuple[str, ...]
    memories: tuple[str, ...]
    capacities: tuple[int | None, ...]
    allowed: tuple[tuple[int, ...], ...]
    cycles: tuple[dict[int, int], ...]
    quickest: tuple[int, ...]
    reads: tuple[tuple[int, ...], ...]
    needs: tuple[tuple[int, ...], ...]
    followers: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    peak_sizes: tuple[int, ...]
    memory: tuple[tuple[int, ...], ...]
    routes: dict[tuple[int, int], tuple[tuple[tuple[int, ...], Route], ...]]
    num_resources: int

    @classmethod
    def of(cls, problem: ScheduleProblem) -> Tables:
        """Build the tables.

        Raises
        ------
        InfeasibleError
            If a node fits on no core; names the node, its largest tile and what would make it fit.
        """
        platform = problem.platform
        cores, memories = tuple(platform.cores), tuple(platform.memories)
        core_at = {core: position for position, core in enumerate(cores)}
        memory_at = {name: position for position, name in enumerate(memories)}
        features = tuple(memory_at[platform.cores[core].memory] for core in cores)
        weights = tuple(memory_at[platform.cores[core].weight_memory or platform.cores[core].memory] for core in cores)
        memory = tuple(weights if tile.kind is TileKind.PARAMETER else features for tile in problem.tiles)
        reads = tuple(tuple(dict.fromkeys(t for t in node.reads if problem.takes_memory(problem.tiles[t]))) for node in problem.nodes)
        needs = tuple(_needs(problem))
        followers: list[list[int]] = [[] for _ in problem.nodes]
        for position, before in enumerate(needs):
            for earlier in before:
                followers[earlier].append(position)
        factor = problem.semantics.partial_sum_factor
        sizes = tuple(tile.size_bytes for tile in problem.tiles)
        grown = tuple(size * (factor if len(problem.writers[t]) > 1 else 1) for t, size in enumerate(sizes))
        capacities = tuple(platform.memories[name].capacity_bytes for name in memories)
        footprint = Footprint(reads, memory, sizes, grown, capacities)
        allowed = _allowed(problem, core_at, footprint)
        cycles = tuple({core_at[core]: cycles for core, cycles in node.cycles.items()} for node in problem.nodes)
        return cls(
            problem=problem,
            cores=cores,
            memories=memories,
            capacities=capacities,
            allowed=allowed,
            cycles=cycles,
            quickest=tuple(min(row[core] for core in cores) for row, cores in zip(cycles, allowed, strict=True)),
            reads=reads,
            needs=needs,
            followers=tuple(map(tuple, followers)),
            sizes=sizes,
            peak_sizes=grown,
            memory=memory,
            routes=_routes(problem, memory_at),
            num_resources=len(platform.resources),
        )

    def home(self, tile: int, core: str) -> int:
        """Return the memory of a tile on a core given by id, or `OFF`."""
        return OFF if core == OFFCHIP else self.memory[tile][self.cores.index(core)]

    def forwards(self, tile: int) -> bool:
        """Return whether a core may get a tile from another core."""
        return self.problem.platform.forwarding or not self.problem.is_fetched(self.problem.tiles[tile])

    def fastest(self, node: int) -> int:
        """Return the least cycles of a node over the cores that it may run on."""
        return self.quickest[node]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a node touches at once, by memory."""

    reads: tuple[tuple[int, ...], ...]
    memory: tuple[tuple[int, ...], ...]
    sizes: tuple[int, ...]
    grown: tuple[int, ...]
    capacities: tuple[int | None, ...]

    def parts(self, problem: ScheduleProblem, node: int) -> list[tuple[int, int]]:
        """Return (tile, bytes) of all that must be resident while a node runs."""
        written = problem.nodes[node].writes
        return [(tile, self.sizes[tile]) for tile in self.reads[node] if tile != written] + [(written, self.grown[written])]

    def by_memory(self, problem: ScheduleProblem, node: int, core: int) -> dict[int, int]:
        """Return the bytes in each memory that a node on a core takes."""
        found: dict[int, int] = {}
        for tile, size in self.parts(problem, node):
            memory = self.memory[tile][core]
            found[memory] = found.get(memory, 0) + size
        return found

    def fits(self, problem: ScheduleProblem, node: int, core: int) -> bool:
        """Return whether all that a node touches lies in a core's memories at once."""
        demand = self.by_memory(problem, node, core)
        return all((limit := self.capacities[memory]) is None or size <= limit for memory, size in demand.items())


def _needs(problem: ScheduleProblem) -> Iterable[tuple[int, ...]]:
    for position, node in enumerate(problem.nodes):
        found = dict.fromkeys(node.needs)
        for tile in node.reads:
            found |= dict.fromkeys(problem.writers[tile])
        found |= dict.fromkeys(writer for writer in problem.writers[node.writes] if writer < position)
        found.pop(position, None)
        yield tuple(found)


def _allowed(problem: ScheduleProblem, core_at: dict[str, int], footprint: Footprint) -> tuple[tuple[int, ...], ...]:
    found: list[tuple[int, ...]] = [()] * len(problem.nodes)
    reasons: list[Reason] = []
    for writers in problem.writers:
        if not writers:
            continue
        names = [core for core in problem.nodes[writers[0]].cycles if problem.platform.cores[core].is_compute]
        listed = [core_at[core] for core in names if all(core in problem.nodes[node].cycles for node in writers)]
        fitting = tuple(core for core in listed if all(footprint.fits(problem, node, core) for node in writers))
        for node in writers:
            found[node] = fitting
        if not fitting and len(reasons) < 3:
            reasons.append(_reason(problem, writers, listed, footprint))
    if reasons:
        raise InfeasibleError(reasons)
    return tuple(found)


def _reason(problem: ScheduleProblem, writers: tuple[int, ...], listed: list[int], footprint: Footprint) -> Reason:
    """Say which tile or node takes more than every memory, and by how much."""
    name = problem.nodes[writers[0]].name
    if not listed:
        what = f"no core runs all nodes of tile {problem.tiles[problem.nodes[writers[0]].writes].name}"
        return Reason("node-has-core", f'node "{name}"', what, unit="cores")
    worst: tuple[int, int, int, int] | None = None  # (bytes missing, demand, limit, node) on the core where least is missing
    for core in listed:
        over = []
        for node in writers:
            for memory, size in footprint.by_memory(problem, node, core).items():
                limit = footprint.capacities[memory]
                if limit is not None and size > limit:
                    over.append((size - limit, size, limit, node))
        if over and (worst is None or max(over) < worst):
            worst = max(over)
    short, demand, limit, node = worst or (0, 0, 0, writers[0])
    parts = sorted(footprint.parts(problem, node), key=lambda part: -part[1])
    tile, size = parts[0]
    largest = max((c for c in footprint.capacities if c is not None), default=0)
    terms = tuple((problem.tiles[t].name, b) for t, b in parts)
    if size > largest:
        statement = f'tile "{problem.tiles[tile].name}" of {size} bytes is larger than every memory; the largest holds {largest} bytes'
        rule = "tile-fits"
    else:
        statement = (
            f'node "{problem.nodes[node].name}" touches {demand} bytes at once, {short} more than the memory of any core that runs it'
        )
        rule = "node-fits"
    levers = (Lever("--capacity", demand, f"a memory of {demand} bytes holds all that the node touches"),)
    return Reason(rule, f'node "{problem.nodes[node].name}"', statement, demand, limit, short, terms=terms, levers=levers)


def _routes(problem: ScheduleProblem, memory_at: dict[str, int]) -> dict[tuple[int, int], tuple[tuple[tuple[int, ...], Route], ...]]:
    """Return ways between memories; cores that share one bring their ways together, and a memory for weights has those of its core."""
    platform = problem.platform
    resource_at = {name: position for position, name in enumerate(platform.resources)}

    def places(core: str) -> set[int]:
        if core == OFFCHIP:
            return {OFF}
        facts = platform.cores[core]
        return {memory_at[facts.memory], memory_at[facts.weight_memory or facts.memory]}

    found: dict[tuple[int, int], list[tuple[tuple[int, ...], Route]]] = {}
    for (source, target), routes in platform.routes.items():
        for start in places(source):
            for end in places(target):
                if start != end:
                    ways = [(tuple(resource_at[name] for name in route.resources), route) for route in routes]
                    found.setdefault((start, end), []).extend(ways)
    return {pair: tuple(ways) for pair, ways in found.items()}
