"""The least latency of a tiny problem by searching all states in time; shares nothing with the planners but the problem's definition.

At every instant at which something has just ended, any set of nodes and transfers that can start may start, or nothing. It is enough to
start things at such instants: between two of them nothing changes, so whatever starts in between could have started at the one before. A
copy is dropped when something that starts needs its room, never earlier. Default semantics only: fetched inputs and weights, written
outputs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import ScheduleProblem

WAITING, DONE = -2, -1


@dataclass(frozen=True)
class State:
    """Everything that matters for the future, times counted from now.

    nodes: per node WAITING, DONE, or (core, cycles left); held: per tile the memories (as bits) with a complete copy; grows: per tile the
    memory in which it is being made, -1 if none; off: per tile whether it lies off-chip; moves: transfers under way (tile, source memory
    or -1, targets as bits, 0 for off-chip, cycles left, resources as bits).
    """

    nodes: tuple[object, ...]
    held: tuple[int, ...]
    grows: tuple[int, ...]
    off: tuple[bool, ...]
    moves: tuple[tuple[int, int, int, int, int], ...]


class Search:
    def __init__(self, problem: ScheduleProblem) -> None:
        self.problem = problem
        platform = problem.platform
        self.cores = list(platform.cores)
        self.memories = list(platform.memories)
        self.memory_of_core = [self.memories.index(platform.cores[core].memory) for core in self.cores]
        self.capacity = [platform.memories[memory].capacity_bytes for memory in self.memories]
        self.size = [tile.size_bytes for tile in problem.tiles]
        self.writers = [[k for k, node in enumerate(problem.nodes) if node.writes == t] for t in range(len(problem.tiles))]
        self.readers = [[k for k, node in enumerate(problem.nodes) if t in node.reads] for t in range(len(problem.tiles))]
        self.ways = self._ways()
        self.fetch = [min(self.cycles(rate, size) for start, _, _, rate in self.ways if start < 0) for size in self.size]
        self.write = [min(self.cycles(rate, size) for _, targets, _, rate in self.ways if not targets) for size in self.size]
        shared = [mask for start, _, mask, _ in self.ways if start < 0]
        self.in_port = shared[0]
        for mask in shared:
            self.in_port &= mask  # resources on every way from off-chip
        self.out_port = next(mask for _, targets, mask, _ in self.ways if not targets)
        for _, targets, mask, _ in self.ways:
            self.out_port &= mask if not targets else self.out_port
        self.after = self._after()
        self.known: dict[object, list[tuple[int, tuple[int, ...], tuple[bool, ...]]]] = {}

    def _ways(self) -> list[tuple[int, int, int, object]]:
        """(source memory or -1, targets as bits, 0 for off-chip, resources as bits, cycles by size) with every set of targets on a bus."""
        platform = self.problem.platform
        bit = {name: 1 << k for k, name in enumerate(platform.resources)}
        place = {core: self.memory_of_core[k] for k, core in enumerate(self.cores)}
        found: dict[tuple[int, int, int, int | None], object] = {}
        by_bus: dict[tuple[str, str | None, int, int | None], list[int]] = {}
        for (source, target), routes in platform.routes.items():
            for route in routes:
                start = -1 if source == OFFCHIP else place[source]
                mask = sum(bit[name] for name in route.resources)
                if target == OFFCHIP:
                    found[start, 0, mask, route.bits_per_cycle] = route
                    continue
                found[start, 1 << place[target], mask, route.bits_per_cycle] = route
                if route.bus is not None:
                    by_bus.setdefault((source, route.bus, mask, route.bits_per_cycle), []).append(place[target])
        for (source, _, mask, rate), targets in by_bus.items():
            start = -1 if source == OFFCHIP else place[source]
            for count in range(2, len(targets) + 1):
                for group in combinations(sorted(set(targets)), count):
                    found[start, sum(1 << target for target in group), mask, rate] = next(iter(found.values()))
        return [(start, targets, mask, rate) for start, targets, mask, rate in found]

    def cycles(self, rate: object, size: int) -> int:
        return 0 if rate is None else -(-8 * size // int(str(rate)))

    def _after(self) -> list[int]:
        """Least cycles from the start of each node to the end of everything."""
        problem = self.problem
        found = [0] * len(problem.nodes)
        for k in reversed(range(len(found))):
            node = problem.nodes[k]
            later = [found[j] for j, other in enumerate(problem.nodes) if k in other.needs or node.writes in other.reads]
            found[k] = min(node.cycles.values()) + max([self.write[node.writes] if problem.tiles[node.writes].is_output else 0, *later])
        return found

    # states

    def clean(self, state: State) -> State:
        """Drop copies that nothing will ever use."""
        held, off = list(state.held), list(state.off)
        for t, tile in enumerate(self.problem.tiles):
            if any(state.nodes[k] == WAITING for k in self.readers[t]):
                continue
            written = off[t] or not tile.is_output
            if written:
                held[t] &= self.in_use(state, t)
                off[t] = tile.is_output
        return State(state.nodes, tuple(held), state.grows, tuple(off), state.moves)

    def in_use(self, state: State, t: int) -> int:
        bits = 0
        for k in self.readers[t]:
            status = state.nodes[k]
            if isinstance(status, tuple):
                bits |= 1 << self.memory_of_core[status[0]]
        for tile, source, _, _, _ in state.moves:
            if tile == t and source >= 0:
                bits |= 1 << source
        return bits

    def used(self, state: State, memory: int) -> int:
        bytes_used = sum(size for t, size in enumerate(self.size) if state.held[t] >> memory & 1)
        for t, where in enumerate(state.grows):
            if where == memory:
                bytes_used += self.size[t] * (self.problem.semantics.partial_sum_factor if len(self.writers[t]) > 1 else 1)
        bytes_used += sum(self.size[t] for t, _, targets, _, _ in state.moves if targets >> memory & 1)
        return bytes_used

    def with_room(self, state: State, memory: int, size: int, keep: set[int]) -> Iterator[State]:
        """Yield the states in which a memory has room, by every minimal set of drops."""
        limit = self.capacity[memory]
        missing = 0 if limit is None else self.used(state, memory) + size - limit
        if missing <= 0:
            yield state
            return
        loose = [
            t for t in range(len(self.size)) if state.held[t] >> memory & 1 and t not in keep and not self.in_use(state, t) >> memory & 1
        ]
        for count in range(1, len(loose) + 1):
            for group in combinations(loose, count):
                freed = sum(self.size[t] for t in group)
                if freed >= missing and all(freed - self.size[t] < missing for t in group):
                    held = list(state.held)
                    for t in group:
                        held[t] &= ~(1 << memory)
                    yield State(state.nodes, tuple(held), state.grows, state.off, state.moves)

    # what may start

    def starts(self, state: State, action: tuple[int, ...]) -> Iterator[State]:
        if action[0] == 0:
            yield from self.start_node(state, action[1], action[2])
        else:
            yield from self.start_move(state, action[1], action[2])

    def actions(self) -> list[tuple[int, ...]]:
        nodes = [(0, k, self.cores.index(core)) for k, node in enumerate(self.problem.nodes) for core in node.cycles]
        return nodes + [(1, t, way) for t in range(len(self.size)) for way in range(len(self.ways))]

    def start_node(self, state: State, k: int, core: int) -> Iterator[State]:
        node, memory = self.problem.nodes[k], self.memory_of_core[core]
        if state.nodes[k] != WAITING or any(isinstance(s, tuple) and s[0] == core for s in state.nodes):
            return
        before = set(node.needs) | {w for t in node.reads for w in self.writers[t]} | {w for w in self.writers[node.writes] if w < k}
        if any(state.nodes[j] != DONE for j in before) or any(not state.held[t] >> memory & 1 for t in node.reads):
            return
        busy = list(state.nodes)
        busy[k] = (core, node.cycles[self.cores[core]])
        running = State(tuple(busy), state.held, state.grows, state.off, state.moves)
        if state.grows[node.writes] >= 0:
            if state.grows[node.writes] == memory:  # every core has a memory of its own in these problems
                yield running
            return
        factor = self.problem.semantics.partial_sum_factor if len(self.writers[node.writes]) > 1 else 1
        if any(self.cores[core] not in self.problem.nodes[j].cycles for j in self.writers[node.writes]):
            return
        for roomy in self.with_room(running, memory, factor * self.size[node.writes], set(node.reads)):
            grows = list(roomy.grows)
            grows[node.writes] = memory
            yield State(roomy.nodes, roomy.held, tuple(grows), roomy.off, roomy.moves)

    def start_move(self, state: State, t: int, way: int) -> Iterator[State]:
        source, targets, mask, rate = self.ways[way]
        if any(other & mask for _, _, _, _, other in state.moves):
            return
        if source < 0:
            if not state.off[t]:
                return
        elif not state.held[t] >> source & 1 or (not self.problem.platform.forwarding and not self.writers[t] and targets):
            return
        wanted = any(state.nodes[k] == WAITING for k in self.readers[t])
        owed = self.problem.tiles[t].is_output and not state.off[t]
        coming = state.held[t] | sum(1 << m for m in range(len(self.memories)) if any(x[0] == t and x[2] >> m & 1 for x in state.moves))
        if targets == 0:
            if state.off[t] or not (wanted or owed) or any(x[0] == t and x[2] == 0 for x in state.moves):
                return
        elif targets & coming or not (wanted or owed):
            return
        cycles = self.cycles(rate, self.size[t])
        moves = tuple(sorted((*state.moves, (t, source, targets, cycles, mask))))
        states = [State(state.nodes, state.held, state.grows, state.off, state.moves)]
        for memory in range(len(self.memories)):
            if targets >> memory & 1:
                states = [roomy for one in states for roomy in self.with_room(one, memory, self.size[t], {t})]
        for one in states:
            yield State(one.nodes, one.held, one.grows, one.off, moves)

    # time

    def advance(self, state: State) -> tuple[int, State] | None:
        left = [s[1] for s in state.nodes if isinstance(s, tuple)] + [x[3] for x in state.moves]
        if not left:
            return None
        step = min(left)
        nodes, held, grows, off = list(state.nodes), list(state.held), list(state.grows), list(state.off)
        for k, status in enumerate(state.nodes):
            if isinstance(status, tuple):
                nodes[k] = (status[0], status[1] - step) if status[1] > step else DONE
        for t, where in enumerate(state.grows):
            if where >= 0 and all(nodes[k] == DONE for k in self.writers[t]):
                held[t] |= 1 << where
                grows[t] = -1
        moves = []
        for t, source, targets, cycles, mask in state.moves:
            if cycles > step:
                moves.append((t, source, targets, cycles - step, mask))
            elif targets:
                held[t] |= targets
            else:
                off[t] = True
        return step, self.clean(State(tuple(nodes), tuple(held), tuple(grows), tuple(off), tuple(moves)))

    def still(self, state: State) -> int:
        """Return cycles that the rest takes at least: the longest way, the work, and what has yet to pass a port."""
        problem = self.problem
        least = max((x[3] for x in state.moves), default=0)
        work = 0
        landing = {x[0]: x[3] for x in state.moves if x[1] < 0}
        reading = [0] * len(problem.nodes)
        fetches, writes = 0, 0
        for t, tile in enumerate(problem.tiles):
            if not self.writers[t] and not state.held[t] and any(state.nodes[k] == WAITING for k in self.readers[t]):
                comes = landing.get(t, self.fetch[t])
                fetches += 0 if t in landing else self.fetch[t]
                for k in self.readers[t]:
                    reading[k] = max(reading[k], comes)
            if tile.is_output and not state.off[t] and not any(x[0] == t and x[2] == 0 for x in state.moves):
                writes += self.write[t]
        for k, status in enumerate(state.nodes):
            if status == WAITING:
                least = max(least, reading[k] + self.after[k])
                work += min(problem.nodes[k].cycles.values())
            elif isinstance(status, tuple):
                least = max(least, status[1] + self.after[k] - min(problem.nodes[k].cycles.values()))
                work += status[1]
        into = max((x[3] for x in state.moves if x[4] & self.in_port), default=0)
        out = max((x[3] for x in state.moves if x[4] & self.out_port), default=0)
        if self.in_port & self.out_port:
            return max(least, -(-work // len(self.cores)), max(into, out) + fetches + writes)
        return max(least, -(-work // len(self.cores)), into + fetches, out + writes)

    def is_done(self, state: State) -> bool:
        written = all(state.off[t] for t, tile in enumerate(self.problem.tiles) if tile.is_output)
        return written and all(status == DONE for status in state.nodes)

    def least_latency(self, below: int) -> int | None:
        """Return the least latency if it is less than `below`, else None."""
        problem = self.problem
        first = State(
            (WAITING,) * len(problem.nodes),
            (0,) * len(self.size),
            (-1,) * len(self.size),
            tuple(not self.writers[t] for t in range(len(self.size))),
            (),
        )
        actions = self.actions()
        self.known = {}
        self.is_new(first, 0)
        heap: list[tuple[int, int, int, State]] = [(self.still(first), 0, 0, first)]
        count = 0
        while heap:
            _, before, _, state = heapq.heappop(heap)
            now = -before
            if self.is_done(state) and not state.moves:
                return now
            possible = [action for action in actions if next(self.starts(state, action), None) is not None]
            for begun in self.sets(state, possible, 0, set()):
                moved = self.advance(begun)
                if moved is None:
                    continue
                then, after = now + moved[0], moved[1]
                promise = then + self.still(after)
                if promise < below and self.is_new(after, then):
                    count += 1
                    heapq.heappush(heap, (promise, -then, count, after))
        return None

    def is_new(self, state: State, now: int) -> bool:
        """Note a state; one that differs from an earlier one only in having fewer copies, or comes later, is not new."""
        rows = self.known.setdefault((state.nodes, state.grows, state.moves), [])
        for then, held, off in rows:
            if (
                then <= now
                and all(a | b == a for a, b in zip(held, state.held, strict=True))
                and all(a or not b for a, b in zip(off, state.off, strict=True))
            ):
                return False
        rows.append((now, state.held, state.off))
        return True

    def sets(self, state: State, actions: list[tuple[int, ...]], first: int, seen: set[State]) -> Iterator[State]:
        """Yield the state after every set of starts at this instant, the empty one included."""
        if state in seen:
            return
        seen.add(state)
        yield state
        for index in range(first, len(actions)):
            for started in self.starts(state, actions[index]):
                yield from self.sets(started, actions, index + 1, seen)


def least_latency(problem: ScheduleProblem, below: int) -> int | None:
    """Return the least latency of all schedules if it is less than `below`, else None."""
    return Search(problem).least_latency(below)
