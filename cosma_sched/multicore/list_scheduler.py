"""List scheduling: one node after the other by a rule, on the core where it ends first, with room made by waiting, spilling and dropping.

The rules ``list-latency`` and ``list-memory`` are reconstructed from the scheduler of arXiv 2406.09804; see docs/multicore.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.list_state import Copy, ListState, NoRoomError
from cosma_sched.multicore.problem import ScheduleProblem, TileKind
from cosma_sched.multicore.tables import Tables

RULES = ("list-latency", "list-memory", "critical-path", "bytes-freed")
EVICTIONS = ("furthest", "paper")

Key = Callable[[int], tuple[float, ...]]


def list_schedule(
    problem: ScheduleProblem,
    *,
    rule: str = "list-latency",
    eviction: str = "furthest",
    cores: Sequence[int] | None = None,
    priority: Sequence[float] | None = None,
    tables: Tables | None = None,
) -> Draft | None:
    """Schedule every node once, in O(nodes x cores x reads + transfers x log) time.

    Candidates are the nodes whose predecessors are scheduled. ``list-latency`` takes the one whose last predecessor ends first;
    ``list-memory`` the one in the deepest layer, the last of the layer first; ``critical-path`` the one with the longest way to the end;
    ``bytes-freed`` the one after which the least lies on the chip. A tile that must leave to make room is, with ``furthest``, a copy that
    exists elsewhere before one that must be spilled, and the one whose next reader comes last; with ``paper``, the one with the least
    remaining reads x bytes.

    The schedule holds every capacity. Nodes that run into a dead end (sums of several layers that grow at once, outputs that are kept)
    are tried again one tile at a time with everything else out of the way, on each core in turn.

    A greedy choice of cores is bad where a slow core that ends first takes a node on the critical path that waits for nobody else.

    Parameters
    ----------
    problem
        What to schedule.
    rule, eviction
        One of `RULES` and of `EVICTIONS`.
    cores
        A core for each node, by position in the platform, in place of the one where it ends first.
    priority
        A number for each node in place of the rule; the smallest goes first.
    tables
        The problem's tables, if they exist already.

    Returns
    -------
    Draft or None
        None where every attempt ends in a dead end.

    Raises
    ------
    InfeasibleError
        If a node fits on no core.
    """
    known = Tables.of(problem) if tables is None else tables
    try:
        return _Run(known, rule, eviction, cores, priority).draft()
    except NoRoomError:
        if cores is not None:
            return None
    one_at_a_time = _one_tile_at_a_time(known)
    each_core = ([core if core in allowed else allowed[0] for allowed in known.allowed] for core in range(len(known.cores)))
    attempts: list[Sequence[int] | None] = [None, *each_core]
    for fixed in attempts:
        try:
            return _Run(known, rule, eviction, fixed, one_at_a_time).draft()
        except NoRoomError:
            continue
    return None


def _one_tile_at_a_time(tables: Tables) -> list[float]:
    """Return a priority by which all writers of a tile run together wherever the dependencies between tiles have no circle."""
    problem = tables.problem
    waiting: list[set[int]] = [set() for _ in problem.tiles]
    after: list[set[int]] = [set() for _ in problem.tiles]
    for position, node in enumerate(problem.nodes):
        for earlier in tables.needs[position]:
            before = problem.nodes[earlier].writes
            if before != node.writes:
                waiting[node.writes].add(before)
                after[before].add(node.writes)
    ready = [-tile for tile in range(len(problem.tiles)) if not waiting[tile]]  # deepest first
    heapq.heapify(ready)
    rank: dict[int, int] = {}
    while ready:
        tile = -heapq.heappop(ready)
        rank[tile] = len(rank)
        for later in after[tile]:
            waiting[later].discard(tile)
            if not waiting[later]:
                heapq.heappush(ready, -later)
    last = len(rank)
    return [float(rank.get(node.writes, last)) for node in problem.nodes]


class _Run:
    """One pass over all nodes."""

    def __init__(self, tables: Tables, rule: str, eviction: str, cores: Sequence[int] | None, priority: Sequence[float] | None) -> None:
        self.tables = tables
        self.state = ListState(tables, eviction)
        self.fixed = cores
        num_nodes = len(tables.problem.nodes)
        self.core_of = [-1] * num_nodes
        self.start = [0] * num_nodes
        self.end = [0] * num_nodes
        self.ready = [0] * num_nodes
        self.core_free = [0] * len(tables.cores)
        self.tile_core: dict[int, int] = {}
        self.changes = rule == "bytes-freed" and priority is None
        self.key = self._keys(rule, priority)

    def _keys(self, rule: str, priority: Sequence[float] | None) -> Key:
        problem = self.tables.problem
        if priority is not None:
            return lambda node: (priority[node], node)
        if rule == "list-memory":
            layers = {layer: depth for depth, layer in enumerate(dict.fromkeys(node.layer for node in problem.nodes))}
            return lambda node: (-layers[problem.nodes[node].layer], -node)
        if rule == "critical-path":
            ways = bottom_levels(self.tables)
            return lambda node: (-ways[node], node)
        if rule == "bytes-freed":
            return self._growth
        return lambda node: (self.ready[node], node)

    def _growth(self, node: int) -> tuple[float, ...]:
        """Return the bytes by which the chip is fuller after a node has run."""
        tables, state = self.tables, self.state
        written = tables.problem.nodes[node].writes
        grows = 0 if written in self.tile_core else tables.sizes[written]
        grows -= sum(tables.sizes[tile] for tile in tables.reads[node] if state.to_read[tile] == 1 and state.copies[tile])
        return (grows, self.ready[node], node)

    def draft(self) -> Draft:
        """Run, and return what was scheduled."""
        tables = self.tables
        waiting = [len(before) for before in tables.needs]
        heap = [(self.key(node), node) for node, count in enumerate(waiting) if not count]
        heapq.heapify(heap)
        is_open = [not count for count in waiting]
        while heap:
            _, node = heapq.heappop(heap)
            if not is_open[node]:
                continue
            is_open[node] = False
            self._schedule(node)
            for later in tables.followers[node]:
                waiting[later] -= 1
                self.ready[later] = max(self.ready[later], self.end[node])
                if not waiting[later]:
                    is_open[later] = True
                    heapq.heappush(heap, (self.key(later), later))
            if self.changes:
                self._renew(node, heap, is_open)
        self._finish()
        cores = tuple(tables.cores[core] for core in self.core_of)
        return Draft(cores, tuple(self.start), tuple(self.state.moves))

    def _renew(self, node: int, heap: list[tuple[tuple[float, ...], int]], is_open: list[bool]) -> None:
        """Give candidates that have become the last reader of a tile their new key; the old entry is skipped when it comes up."""
        for tile in self.tables.reads[node]:
            if self.state.to_read[tile] == 1:
                for other in self.tables.problem.readers[tile]:
                    if is_open[other]:
                        heapq.heappush(heap, (self.key(other), other))

    def _finish(self) -> None:
        state = self.state
        for memory, owed in enumerate(state.owed):
            for tile in tuple(owed):
                state.write_back(tile, memory, state.rooms[memory].held[tile])

    # one node

    def _candidates(self, node: int) -> Sequence[int]:
        made_on = self.tile_core.get(self.tables.problem.nodes[node].writes)
        if made_on is not None:
            return (made_on,)
        return self.tables.allowed[node] if self.fixed is None else (self.fixed[node],)

    def _promise(self, node: int, core: int) -> tuple[int, int, int] | None:
        """Return about when a node would end on a core and the bytes to be brought there; None where it cannot run."""
        tables, state = self.tables, self.state
        begin, missing = max(self.ready[node], self.core_free[core]), 0
        for tile in tables.reads[node]:
            memory = tables.memory[tile][core]
            held = state.rooms[memory].held.get(tile)
            if held is not None:
                begin = max(begin, held.ready)
            elif not self._is_resident(tile):
                arrival = state.guess(tile, memory)
                if arrival is None:
                    return None
                begin = max(begin, arrival)
                missing += tables.sizes[tile]
            elif state.rooms[memory].peak + tables.sizes[tile] > state.rooms[memory].capacity:
                return None
        return begin + tables.cycles[node][core], missing, core

    def _is_resident(self, tile: int) -> bool:
        problem = self.tables.problem
        return problem.tiles[tile].kind is TileKind.INPUT and problem.semantics.inputs == "resident"

    def _schedule(self, node: int) -> None:
        candidates = self._candidates(node)
        if len(candidates) > 1:
            promises = sorted(promise for core in candidates if (promise := self._promise(node, core)) is not None)
            if not promises:
                raise NoRoomError
            core = promises[0][2]
        else:
            core = candidates[0]
        tables, state = self.tables, self.state
        written = tables.problem.nodes[node].writes
        reads = tables.reads[node]
        pinned = {*reads, written}
        begin = max(self.ready[node], self.core_free[core])
        for tile in reads:
            memory = tables.memory[tile][core]
            held = state.rooms[memory].held.get(tile)
            if held is not None:
                arrival = held.ready
            elif self._is_resident(tile):
                state.resident_from_start(tile, memory)
                arrival = 0
            else:
                arrival = state.bring(tile, memory, pinned)
            begin = max(begin, arrival)
        home = tables.memory[written][core]
        if written not in self.tile_core:
            room = state.make_room(home, tables.peak_sizes[written], pinned)
            begin = max(begin, room)
            state.rooms[home].take(tables.peak_sizes[written])
            state.rooms[home].held[written] = Copy(begin, begin)
            state.copies[written].append(home)
            self.tile_core[written] = core
        end = begin + tables.cycles[node][core]
        self.core_of[node], self.start[node], self.end[node] = core, begin, end
        self.core_free[core] = end
        for tile in reads:
            state.read(node, tile, tables.memory[tile][core], end)
        state.written(written, home, end)


def bottom_levels(tables: Tables) -> list[int]:
    """Return, for each node, the least cycles from its start to the end of the last node, without transfers."""
    ways = [0] * len(tables.needs)
    for node in reversed(range(len(ways))):
        later = max((ways[follower] for follower in tables.followers[node]), default=0)
        ways[node] = tables.fastest(node) + later
    return ways
