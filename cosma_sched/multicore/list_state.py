"""What a list scheduler knows while it runs: busy times of cores and resources, what lies where, and how much room is left."""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass

from cosma_sched.multicore.draft import Move
from cosma_sched.multicore.platform import Route
from cosma_sched.multicore.problem import TileKind
from cosma_sched.multicore.tables import OFF, Tables

FOREVER = 1 << 60


class NoRoomError(Exception):
    """A memory is full of what may not leave it; another order or core may do."""


@dataclass(slots=True)
class Copy:
    """A tile in a memory: usable from `ready`, last use known so far until `busy`, on a core for the record."""

    ready: int
    busy: int
    stays: bool = False
    """Kept outputs and resident inputs do not leave early."""


class Resource:
    """Busy times of a link, bus or port, as sorted disjoint intervals; touching ones are joined."""

    __slots__ = ("ends", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def free_from(self, earliest: int, duration: int) -> int:
        """Return the first cycle from `earliest` at which the resource is free for `duration` cycles."""
        starts, ends = self.starts, self.ends
        if not ends or earliest >= ends[-1]:
            return earliest
        at = bisect_right(ends, earliest)
        while at < len(starts):
            if starts[at] - earliest >= duration:
                return earliest
            earliest = ends[at]
            at += 1
        return earliest

    def take(self, start: int, end: int) -> None:
        """Mark [start, end) as busy; the caller has asked `free_from`."""
        starts, ends = self.starts, self.ends
        at = bisect_right(ends, start - 1)
        if at < len(ends) and ends[at] == start:
            ends[at] = end
            if at + 1 < len(starts) and starts[at + 1] == end:
                ends[at] = ends.pop(at + 1)
                del starts[at + 1]
        elif at < len(starts) and starts[at] == end:
            starts[at] = start
        else:
            starts.insert(at, start)
            ends.insert(at, end)


class MemoryRoom:
    """Bytes taken in one memory, counted forward in time: room is only ever asked for at a cycle that is not before the last one."""

    __slots__ = ("capacity", "clock", "held", "leaving", "peak", "used")

    def __init__(self, capacity: int | None) -> None:
        self.capacity = FOREVER if capacity is None else capacity
        self.used = 0
        self.peak = 0
        self.clock = 0
        self.leaving: list[tuple[int, int]] = []  # (cycle, bytes), a heap
        self.held: dict[int, Copy] = {}  # by tile

    def release(self, cycle: int, size: int) -> None:
        """Give bytes back at a cycle."""
        heapq.heappush(self.leaving, (cycle, size))

    def settle(self, cycle: int) -> None:
        """Advance to a cycle and take out what has left by then."""
        self.clock = max(self.clock, cycle)
        while self.leaving and self.leaving[0][0] <= self.clock:
            self.used -= heapq.heappop(self.leaving)[1]

    def take(self, size: int) -> None:
        """Take bytes from the current cycle on."""
        self.used += size
        self.peak = max(self.peak, self.used)


class ListState:
    """The state, and the four things that change it: make room, bring a tile, write one back, drop the dead."""

    def __init__(self, tables: Tables, eviction: str) -> None:
        self.tables = tables
        problem = tables.problem
        self.eviction = eviction
        self.rooms = [MemoryRoom(capacity) for capacity in tables.capacities]
        self.resources = [Resource() for _ in range(tables.num_resources)]
        self.moves: list[Move] = []
        self.offchip: list[int | None] = [0 if problem.is_fetched(tile) else None for tile in problem.tiles]
        self.copies: list[list[int]] = [[] for _ in problem.tiles]  # memories that hold each tile
        self.to_read = [len(readers) for readers in problem.readers]
        self.next_reader = [0] * len(problem.tiles)
        self.read_by: list[bool] = [False] * len(problem.nodes)
        self.to_write = [len(writers) for writers in problem.writers]
        self.owed: list[dict[int, None]] = [{} for _ in tables.memories]  # outputs not yet written back, by the memory that made them
        self.kept = problem.semantics.outputs == "kept"

    # transfers

    def _when(self, resources: tuple[int, ...], earliest: int, duration: int) -> int:
        if not duration:
            return earliest
        start = earliest
        while True:
            before = start
            for resource in resources:
                start = self.resources[resource].free_from(start, duration)
            if start == before:
                return start

    def _send(self, tile: int, resources: tuple[int, ...], route: Route, start: int, duration: int) -> int:
        end = start + duration
        if duration:
            for resource in resources:
                self.resources[resource].take(start, end)
        self.moves.append(Move(tile, route, (route.target,), start, end))
        return end

    def guess(self, tile: int, memory: int) -> int | None:
        """Return about when a tile could be in a memory, without regard to other transfers; None where there is no way."""
        held = self.rooms[memory].held.get(tile)
        if held is not None:
            return held.ready
        size, best = self.tables.sizes[tile], None
        for source, ready in self._sources(tile):
            for _, route in self.tables.routes.get((source, memory), ()):
                arrival = ready + route.cycles(size)
                if best is None or arrival < best:
                    best = arrival
        if best is None and self.copies[tile]:  # over off-chip
            return self.rooms[self.copies[tile][0]].held[tile].ready
        return best

    def _sources(self, tile: int) -> list[tuple[int, int]]:
        holders = self.copies[tile] if self.tables.forwards(tile) else ()
        found = [(memory, self.rooms[memory].held[tile].ready) for memory in holders]
        ready = self.offchip[tile]
        if ready is not None:
            found.append((OFF, ready))
        return found

    def bring(self, tile: int, memory: int, pinned: set[int]) -> int:
        """Bring a tile into a memory where it is not yet, and return its arrival."""
        size = self.tables.sizes[tile]
        earliest = self.make_room(memory, size, pinned | {tile})
        best: tuple[int, int, int, tuple[int, ...], Route] | None = None
        for source, ready in self._sources(tile):
            for resources, route in self.tables.routes.get((source, memory), ()):
                duration = route.cycles(size)
                start = self._when(resources, max(ready, earliest), duration)
                if best is None or start + duration < best[0]:
                    best = (start + duration, start, source, resources, route)
        if best is None:
            self.write_back(tile, *self._holder(tile, memory))
            return self.bring_after_room(tile, memory, earliest)
        end, start, source, resources, route = best
        return self._arrive(tile, memory, source, resources, route, start, end)

    def bring_after_room(self, tile: int, memory: int, earliest: int) -> int:
        """Fetch a tile that has just been written off-chip; room is already made."""
        ways, ready = self.tables.routes.get((OFF, memory), ()), self.offchip[tile]
        if not ways or ready is None:
            raise NoRoomError
        resources, route = ways[0]
        duration = route.cycles(self.tables.sizes[tile])
        start = self._when(resources, max(ready, earliest), duration)
        return self._arrive(tile, memory, OFF, resources, route, start, start + duration)

    def _arrive(self, tile: int, memory: int, source: int, resources: tuple[int, ...], route: Route, start: int, end: int) -> int:
        self._send(tile, resources, route, start, end - start)
        if source != OFF:
            copy = self.rooms[source].held[tile]
            copy.busy = max(copy.busy, end)
        self.rooms[memory].take(self.tables.sizes[tile])
        self.rooms[memory].held[tile] = Copy(end, end)
        self.copies[tile].append(memory)
        return end

    def _holder(self, tile: int, target: int) -> tuple[int, Copy]:
        for memory in self.copies[tile]:
            if memory != target and self.tables.routes.get((memory, OFF)):
                return memory, self.rooms[memory].held[tile]
        raise NoRoomError

    def write_back(self, tile: int, memory: int, copy: Copy) -> None:
        """Write a tile off-chip from a memory, as early as it can."""
        best: tuple[int, int, tuple[int, ...], Route] | None = None
        for resources, route in self.tables.routes.get((memory, OFF), ()):
            duration = route.cycles(self.tables.sizes[tile])
            start = self._when(resources, copy.ready, duration)
            if best is None or start + duration < best[0]:
                best = (start + duration, start, resources, route)
        if best is None:
            raise NoRoomError
        end, start, resources, route = best
        self._send(tile, resources, route, start, end - start)
        self.offchip[tile] = end
        copy.busy = max(copy.busy, end)
        self.owed[memory].pop(tile, None)

    # room

    def make_room(self, memory: int, size: int, pinned: set[int], cycle: int = 0) -> int:
        """Free bytes in a memory, waiting, writing back or evicting as needed; return the cycle from which they are free."""
        room = self.rooms[memory]
        room.settle(cycle)
        while room.used + size > room.capacity:
            if room.leaving:
                room.settle(room.leaving[0][0])
            elif self.owed[memory]:
                tile = next(iter(self.owed[memory]))
                self.write_back(tile, memory, room.held[tile])
                if not self.to_read[tile]:
                    self._drop(tile, memory)
            else:
                self._evict(memory, pinned)
        return room.clock

    def _evict(self, memory: int, pinned: set[int]) -> None:
        room = self.rooms[memory]
        best: tuple[tuple[int, int], int] | None = None
        for tile, copy in room.held.items():
            if tile in pinned or copy.stays or self.to_write[tile]:
                continue
            is_clean = self.offchip[tile] is not None or len(self.copies[tile]) > 1
            if not is_clean and not self.tables.routes.get((memory, OFF)):
                continue
            if self.eviction == "furthest":
                key = (int(is_clean), self._next_use(tile))
            else:
                key = (-self.to_read[tile] * self.tables.sizes[tile], 0)
            if best is None or key > best[0]:
                best = (key, tile)
        if best is None:
            raise NoRoomError
        tile = best[1]
        if self.offchip[tile] is None and len(self.copies[tile]) == 1:
            self.write_back(tile, memory, room.held[tile])
        self._drop(tile, memory)

    def _drop(self, tile: int, memory: int) -> None:
        copy = self.rooms[memory].held.pop(tile)
        self.copies[tile].remove(memory)
        self.rooms[memory].release(copy.busy, self.tables.sizes[tile])

    def _next_use(self, tile: int) -> int:
        readers = self.tables.problem.readers[tile]
        at = self.next_reader[tile]
        while at < len(readers) and self.read_by[readers[at]]:
            at += 1
        self.next_reader[tile] = at
        return readers[at] if at < len(readers) else FOREVER

    # nodes

    def resident_from_start(self, tile: int, memory: int) -> None:
        """Let an input lie in a memory from cycle 0; only where there has always been room for it."""
        room, size = self.rooms[memory], self.tables.sizes[tile]
        if room.peak + size > room.capacity:
            raise NoRoomError
        room.used += size
        room.peak += size
        room.held[tile] = Copy(0, 0, True)
        self.copies[tile].append(memory)

    def read(self, node: int, tile: int, memory: int, end: int) -> None:
        """Note that a node reads a tile until `end`; a tile that nobody else reads leaves."""
        copy = self.rooms[memory].held[tile]
        copy.busy = max(copy.busy, end)
        self.to_read[tile] -= 1
        self.read_by[node] = True
        if not self.to_read[tile]:
            self._leave(tile)

    def written(self, tile: int, memory: int, end: int) -> None:
        """Note that a writer of a tile ends; the last one completes it."""
        problem, room = self.tables.problem, self.rooms[memory]
        copy = room.held[tile]
        copy.ready = copy.busy = end
        self.to_write[tile] -= 1
        if self.to_write[tile]:
            return
        if extra := self.tables.peak_sizes[tile] - self.tables.sizes[tile]:
            room.release(end, extra)
        facts = problem.tiles[tile]
        if problem.is_written_back(facts):
            self.owed[memory][tile] = None
        copy.stays = self.kept and facts.is_output
        if not self.to_read[tile]:
            self._leave(tile)

    def _leave(self, tile: int) -> None:
        """Release all copies of a tile that nobody will read again, but for those that a write-back or the end still needs."""
        if self.to_write[tile]:
            return
        kind = self.tables.problem.tiles[tile].kind
        for memory in tuple(self.copies[tile]):
            if tile in self.owed[memory]:
                continue
            if self.rooms[memory].held[tile].stays and kind is not TileKind.INPUT:
                continue
            self._drop(tile, memory)
