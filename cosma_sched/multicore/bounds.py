"""Lower bounds on latency, peak and energy, each with its name; what no schedule of the problem goes below, spills and copies included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from math import floor

import numpy as np
import numpy.typing as npt

from cosma_sched.backends import SolverOptions
from cosma_sched.backends.linear import Program
from cosma_sched.backends.solve import solve_linear
from cosma_sched.multicore.list_scheduler import bottom_levels
from cosma_sched.multicore.platform import Route
from cosma_sched.multicore.problem import TileKind
from cosma_sched.multicore.schedule import ScheduleBounds
from cosma_sched.multicore.tables import OFF, Footprint, Tables
from cosma_sched.progress import Clock

Numbers = npt.NDArray[np.float64]

LOAD = "load"
CRITICAL_PATH = "critical_path"
FETCH_PATH = "fetch_path"
OFFCHIP_TRAFFIC = "offchip"
LINKS = "links"
RELAXATION = "relaxation"
SEARCH = "search"
FOOTPRINT = "footprint_bytes"
MINIMAX = "minimax_bytes"
ENERGY = "assignment_pj"
MOST_KINDS = 150
"""Kinds of nodes up to which the assignment is solved in whole numbers."""
_WEIGHT_SCALE = 10**6
_BALANCE_STEPS = 120
_SECONDS = 5.0
_WORK = 4.0
"""CP-SAT's deterministic seconds for one assignment program; enough for some hundred kinds of nodes."""


def bounds_of(
    tables: Tables, *, extra: Mapping[str, int] | None = None, clock: Clock | None = None, seed: int = 0, quick: bool = False
) -> ScheduleBounds:
    """Return all bounds that need no search.

    ``load``: least T such that on every core that is used, head + busy cycles + tail <= T, over all assignments; head is the least time
    before any node can start there, tail the least time after any node ends there. ``critical_path``: fastest cycles, no transfers.
    ``fetch_path``: the same with the first fetches and the last write-back. ``offchip``: every fetched tile is read once and every written
    output written once, over the ways that there are; ``links``: so, and tiles whose readers can only run away from their writers cross
    over once. ``footprint_bytes``: the largest node with all that it touches, or all kept outputs, or all resident inputs.

    Parameters
    ----------
    extra
        Bounds proven elsewhere, by name; those ending in ``_bytes`` are on the total peak, in ``_pj`` on energy, others on latency.
    clock
        Programs stop with it; what they have proven by then still counts.
    quick
        Leave out the programs.
    """
    reach = Reach(tables)
    timer = Clock(None) if clock is None else clock
    found: dict[str, int] = {CRITICAL_PATH: max(bottom_levels(tables), default=0), FETCH_PATH: reach.longest_way()}
    if not quick:
        found[LOAD] = load_bound(tables, reach, timer, seed)
        found[OFFCHIP_TRAFFIC] = _traffic_bound(compulsory(tables, crossings=False), timer, seed)
        found[LINKS] = _traffic_bound(compulsory(tables, crossings=True), timer, seed)
    found[FOOTPRINT] = footprint_bound(tables)
    found[ENERGY] = energy_bound(tables)
    return combined({**found, **(extra or {})})


def combined(by_name: Mapping[str, int]) -> ScheduleBounds:
    """Return the best bound on each figure."""
    on_bytes = [value for name, value in by_name.items() if name.endswith("_bytes")]
    on_energy = [value for name, value in by_name.items() if name.endswith("_pj")]
    on_latency = [value for name, value in by_name.items() if not name.endswith(("_bytes", "_pj"))]
    return ScheduleBounds(max(on_latency, default=None), max(on_bytes, default=None), max(on_energy, default=None), dict(by_name))


@dataclass(frozen=True)
class Reach:
    """Least times to bring tiles from off-chip, to start nodes, and to finish after them, over empty links.

    Attributes
    ----------
    earliest
        ``earliest[node]``: no schedule starts it before.
    tail
        ``tail[node]``: no schedule ends earlier than that after it.
    """

    tables: Tables
    _in: dict[int, dict[int, int]] = field(init=False, default_factory=dict, repr=False)
    _out: dict[int, dict[int, int]] = field(init=False, default_factory=dict, repr=False)
    _heads: dict[tuple[tuple[int, ...], int], int | None] = field(init=False, default_factory=dict, repr=False)

    def arrival(self, size: int) -> dict[int, int]:
        """Return, for each memory, the least time in which that many bytes come there from off-chip, over other memories too."""
        if size not in self._in:
            ways = self._steps(size)
            self._in[size] = _shortest({pair: cycles for pair, cycles in ways.items() if pair[1] != OFF}, OFF)
        return self._in[size]

    def departure(self, size: int) -> dict[int, int]:
        """Return, for each memory, the least time in which that many bytes go off-chip from there."""
        if size not in self._out:
            ways = {(b, a): cycles for (a, b), cycles in self._steps(size).items() if a != OFF}
            self._out[size] = _shortest(ways, OFF)
        return self._out[size]

    def _steps(self, size: int) -> dict[tuple[int, int], int]:
        return {pair: min(route.cycles(size) for _, route in ways) for pair, ways in self.tables.routes.items()}

    @cached_property
    def _port(self) -> bool:
        """Whether all ways from off-chip share a resource, so that fetches come one after the other."""
        ways = [set(resources) for (source, _), ways in self.tables.routes.items() if source == OFF for resources, _ in ways]
        return bool(ways) and bool(set.intersection(*ways))

    @cached_property
    def _fetched(self) -> list[tuple[int, ...]]:
        """Sizes and kinds of what each node fetches: one tile of each, as positions."""
        facts = self.tables.problem.tiles
        alike: dict[tuple[int, tuple[int, ...]], int] = {}
        found = []
        for reads in self.tables.reads:
            tiles = [t for t in reads if self.tables.problem.is_fetched(facts[t])]
            found.append(tuple(sorted(alike.setdefault((facts[t].size_bytes, self.tables.memory[t]), t) for t in tiles)))
        return found

    def head(self, node: int, core: int) -> int | None:
        """Return the least time before a node can start on a core because of what it fetches; None where it cannot run there."""
        key = (self._fetched[node], core)
        if key not in self._heads:
            self._heads[key] = self._head(*key)
        return self._heads[key]

    def _head(self, tiles: tuple[int, ...], core: int) -> int | None:
        tables = self.tables
        latest = together = 0
        for tile in tiles:
            reach = self.arrival(tables.sizes[tile])
            if tables.memory[tile][core] not in reach:
                return None
            latest = max(latest, reach[tables.memory[tile][core]])
            together += min((cycles for memory, cycles in reach.items() if memory != OFF), default=0)
        return max(latest, together) if self._port else latest

    @cached_property
    def earliest(self) -> list[int]:
        """Least start of each node."""
        tables = self.tables
        found: list[int] = []
        for node, before in enumerate(tables.needs):
            heads = [head for core in tables.allowed[node] if (head := self.head(node, core)) is not None]
            start = min(heads, default=0)
            found.append(max([start, *(found[earlier] + tables.fastest(earlier) for earlier in before)]))
        return found

    def tail_on(self, node: int, core: int) -> int:
        """Return the least time from the end of a node on a core to the end of the schedule."""
        return max(self._after[node], self._write(node, core))

    def _write(self, node: int, core: int) -> int:
        """Return the least time in which the tile that a node completes on a core is written back."""
        tables = self.tables
        written = tables.problem.nodes[node].writes
        if node != tables.problem.writers[written][-1] or not tables.problem.is_written_back(tables.problem.tiles[written]):
            return 0
        return self.departure(tables.sizes[written]).get(tables.memory[written][core], 0)

    @cached_property
    def _after(self) -> list[int]:
        """Least time from the end of each node to the end of the last write-back of those that follow."""
        tables = self.tables
        found = [0] * len(tables.needs)
        for node in reversed(range(len(found))):
            for other in tables.followers[node]:
                write = min(self._write(other, core) for core in tables.allowed[other])
                found[node] = max(found[node], tables.fastest(other) + max(found[other], write))
        return found

    @cached_property
    def tail(self) -> list[int]:
        """Least time from the end of each node to the end of the schedule."""
        return [min(self.tail_on(node, core) for core in allowed) for node, allowed in enumerate(self.tables.allowed)]

    def longest_way(self) -> int:
        """Return the longest of first fetch, fastest cycles and last write-back over all nodes."""
        tables = self.tables
        return max((self.earliest[node] + tables.fastest(node) + self.tail[node] for node in range(len(tables.needs))), default=0)


def _shortest(ways: Mapping[tuple[int, int], int], start: int) -> dict[int, int]:
    found = {start: 0}
    changed = True
    while changed:
        changed = False
        for (source, target), cycles in ways.items():
            if source in found and found[source] + cycles < found.get(target, 1 << 62):
                found[target] = found[source] + cycles
                changed = True
    return found


def ends_of_cores(tables: Tables, reach: Reach) -> list[tuple[int, int]]:
    """Return (head, tail) of each core: least time before any node starts there and after any node ends there."""
    found = []
    for core in range(len(tables.cores)):
        nodes = [node for node in range(len(tables.needs)) if core in tables.allowed[node]]
        heads = [max(head, reach.earliest[node]) for node in nodes if (head := reach.head(node, core)) is not None]
        found.append((min(heads, default=0), min((reach.tail_on(node, core) for node in nodes), default=0)))
    return found


def load_bound(tables: Tables, reach: Reach, clock: Clock, seed: int = 0) -> int:
    """Return the bound ``load``: a whole-number program over kinds of nodes that cost the same on every core, and weights for its dual."""
    kinds = Counter(tuple(sorted((core, tables.cycles[node][core]) for core in tables.allowed[node])) for node in range(len(tables.needs)))
    ends = ends_of_cores(tables, reach)
    rows = [Forced(frozenset(((core,), cycles) for core, cycles in kind), count) for kind, count in kinds.items()]
    usable = {core for allowed in tables.allowed for core in allowed}
    least = weighted_bound(rows) + min((sum(ends[core]) for core in usable), default=0)
    if len(kinds) > MOST_KINDS or clock.expired:
        return least
    most = sum(max(cycles for _, cycles in kind) * count for kind, count in kinds.items()) + max((sum(pair) for pair in ends), default=0)
    program = Program("load of cores")
    span = program.integer("span", least, max(most, least))
    shares: dict[int, list[tuple[object, int]]] = {core: [] for core in range(len(tables.cores))}
    used = {core: program.binary(("used", core)) for core in shares}
    for position, (kind, count) in enumerate(sorted(kinds.items())):
        parts = []
        for core, cycles in kind:
            part = program.integer(("share", position, core), 0, count)
            parts.append((part, 1))
            shares[core].append((part, cycles))
            program.at_most([(part, 1), (used[core], -count)], 0, "used")
        program.equal(parts, count, "every node runs")
    for core, (head, tail) in enumerate(ends):
        program.at_most([*shares[core], (used[core], head + tail), (span, -1)], 0, "core")
    program.minimise([(span, 1)])
    return max(least, _least(program, clock, seed))


@dataclass(frozen=True, slots=True)
class Forced:
    """A transfer that every schedule makes in one of several ways, and how many of the kind there are."""

    ways: frozenset[tuple[tuple[int, ...], int]]
    """(resources, cycles)"""
    count: int


def compulsory(tables: Tables, *, crossings: bool) -> list[Forced]:
    """Return the transfers that no schedule avoids, alike ones together.

    Fetched tiles that somebody reads leave off-chip once, written outputs arrive there once. With `crossings`, a tile one of whose readers
    can run in none of the memories where it can be made enters one of the reader's memories once; one such reader of a tile is counted,
    because a multicast may serve others too.
    """
    problem = tables.problem
    found: Counter[frozenset[tuple[tuple[int, ...], int]]] = Counter()
    for tile, facts in enumerate(problem.tiles):
        if problem.is_fetched(facts) and problem.readers[tile]:
            found[_ways(tables, tile, lambda source, _: source == OFF)] += 1
        if problem.is_written_back(facts):
            found[_ways(tables, tile, lambda _, target: target == OFF)] += 1
        if crossings and problem.writers[tile] and (away := _away(tables, tile)):
            found[_ways(tables, tile, partial(_enters, away))] += 1
    return [Forced(ways, count) for ways, count in found.items() if ways]


def _enters(away: frozenset[int], source: int, target: int) -> bool:
    return target in away and source not in away


def _ways(tables: Tables, tile: int, wanted: Callable[[int, int], bool]) -> frozenset[tuple[tuple[int, ...], int]]:
    size = tables.sizes[tile]
    rows = (
        (tuple(sorted(resources)), route.cycles(size))
        for (source, target), ways in tables.routes.items()
        if wanted(source, target)
        for resources, route in ways
    )
    return frozenset(rows)


def _away(tables: Tables, tile: int) -> frozenset[int]:
    """Return the memories of a reader that can never run where the tile is made; empty where every reader may."""
    problem = tables.problem
    home = {tables.memory[tile][core] for core in tables.allowed[problem.writers[tile][0]]}
    best: frozenset[int] = frozenset()
    for reader in problem.readers[tile] if problem.takes_memory(problem.tiles[tile]) else ():
        places = frozenset(tables.memory[tile][core] for core in tables.allowed[reader])
        if not places & home and (not best or len(places) < len(best)):
            best = places
    return best


def _traffic_bound(forced: Sequence[Forced], clock: Clock, seed: int) -> int:
    """Return the least time in which links, buses and ports carry all forced transfers, each over its best way."""
    most = sum(max(cycles for _, cycles in transfer.ways) * transfer.count for transfer in forced)
    least = weighted_bound(forced)
    if not most or clock.expired or all(len(transfer.ways) == 1 for transfer in forced):
        return least
    program = Program("traffic")
    span = program.integer("span", least, most)
    busy: dict[int, list[tuple[object, int]]] = {}
    for position, transfer in enumerate(forced):
        parts = []
        for way, (resources, cycles) in enumerate(sorted(transfer.ways)):
            part = program.integer((position, way), 0, transfer.count)
            parts.append((part, 1))
            for resource in resources if cycles else ():
                busy.setdefault(resource, []).append((part, cycles))
        program.equal(parts, transfer.count, "every transfer is made")
    for terms in busy.values():
        program.at_most([*terms, (span, -1)], 0, "resource")
    program.minimise([(span, 1)])
    return _least(program, clock, seed)


def weighted_bound(forced: Sequence[Forced]) -> int:
    """Return a bound on the time in which resources do what is forced, from weights of the resources.

    For any weights w >= 0: T >= sum over all that is forced of its least weighted time / sum of weights, because T is at least the busy
    time of each resource and so at least their weighted mean. The weights are found by letting those of busy resources grow; the bound
    itself is computed in whole numbers. Where each has one way, the weight of the busiest resource alone gives the exact answer.
    """
    rows = [(tuple(sorted(transfer.ways)), transfer.count) for transfer in forced]
    names = sorted({resource for ways, _ in rows for resources, _ in ways for resource in resources})
    if not names:
        return 0
    column = {name: position for position, name in enumerate(names)}
    busy = np.zeros((sum(len(ways) for ways, _ in rows), len(names)))  # busy[way, resource]
    firsts, counts, line = [], [], 0
    for ways, count in rows:
        firsts.append(line)
        counts.append(count)
        for resources, cycles in ways:
            for resource in resources:
                busy[line, column[resource]] = cycles
            line += 1
    tried = [np.eye(len(names))[k] for k in range(len(names))] if len(names) <= 40 else []
    tried += _balanced(busy, np.array(firsts), np.array(counts, dtype=float))
    best = max(tried, key=lambda weights: float(np.minimum.reduceat(busy @ weights, firsts) @ counts) / max(float(weights.sum()), 1e-9))
    whole = [round(float(weight) * _WEIGHT_SCALE) for weight in best / best.max()]
    total = sum(
        count * min(cycles * sum(whole[column[resource]] for resource in resources) for resources, cycles in ways) for ways, count in rows
    )
    return -(-total // sum(whole))


def _balanced(busy: Numbers, firsts: npt.NDArray[np.intp], counts: Numbers) -> list[Numbers]:
    """Return weights of resources, from equal ones to those under which work is spread best."""
    weights = np.full(busy.shape[1], 1.0 / busy.shape[1])
    found = [weights]
    group = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(busy))))
    for step in range(_BALANCE_STEPS):
        price = busy @ weights
        is_least = price <= np.minimum.reduceat(price, firsts)[group]
        share = is_least * (counts / np.add.reduceat(is_least.astype(float), firsts))[group]
        load = share @ busy
        weights = weights * np.exp((load / max(load.max(), 1e-9) - 1) * 2 / (1 + step) ** 0.5)
        weights /= weights.sum()
        found.append(weights)
    return found[:: max(1, _BALANCE_STEPS // 40)] + found[-1:]


def _least(program: Program, clock: Clock, seed: int) -> int:
    seconds = _SECONDS if clock.remaining is None else min(_SECONDS, clock.remaining)
    options = SolverOptions("cpsat", time_limit=seconds, seed=seed, deterministic_limit=_WORK)
    return max(0, solve_linear(program, options=options).bound or 0)


def footprint_bound(tables: Tables) -> int:
    """Return the bytes that lie on the chip at once in every schedule: the largest node's, all kept outputs, or all resident inputs."""
    problem = tables.problem
    footprint = Footprint(tables.reads, tables.memory, tables.sizes, tables.peak_sizes, tables.capacities)
    largest = max((sum(size for _, size in footprint.parts(problem, node)) for node in range(len(problem.nodes))), default=0)
    kept = resident = 0
    for tile, facts in enumerate(problem.tiles):
        if facts.is_output and problem.semantics.outputs == "kept":
            kept += facts.size_bytes
        if facts.kind is TileKind.INPUT and problem.semantics.inputs == "resident" and problem.readers[tile]:
            resident += facts.size_bytes
    return max(largest, kept, resident)


def energy_bound(tables: Tables) -> int:
    """Return every node's least energy plus that of the transfers that no schedule avoids, each over its cheapest way."""
    problem = tables.problem
    compute = sum(
        min(node.energy_pj[tables.cores[core]] for core in tables.allowed[position]) for position, node in enumerate(problem.nodes)
    )
    fetch = _cheapest(route for (source, _), ways in tables.routes.items() if source == OFF for _, route in ways)
    store = _cheapest(route for (_, target), ways in tables.routes.items() if target == OFF for _, route in ways)
    moved = 0.0
    for tile, facts in enumerate(problem.tiles):
        bits = 8 * facts.size_bytes
        if problem.is_fetched(facts) and problem.readers[tile]:
            moved += bits * fetch
        if problem.is_written_back(facts):
            moved += bits * store
    return compute + max(0, floor(moved * (1 - 1e-12)))


def _cheapest(routes: Iterable[Route]) -> float:
    return min((route.pj_per_bit for route in routes), default=0.0)
