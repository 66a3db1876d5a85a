"""What the checker reads off a schedule once its names are known: where every tile lies, since when, and how many bytes lie where."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from cosma_sched.multicore.platform import OFFCHIP
from cosma_sched.multicore.problem import ScheduleProblem, TileKind
from cosma_sched.multicore.schedule import NodeRun, Residency, Schedule

Place = tuple[int, str]
"""A tile and a memory."""


@dataclass(frozen=True)
class Facts:
    """A schedule whose names are all known and whose nodes run once each.

    Parameters
    ----------
    problem, schedule
        What was asked and answered.
    runs
        The run of each node, by its position.
    tile_at
        Position of each tile by its name.
    """

    problem: ScheduleProblem
    schedule: Schedule
    runs: tuple[NodeRun, ...]
    tile_at: dict[str, int]

    @classmethod
    def of(cls, problem: ScheduleProblem, schedule: Schedule) -> Facts:
        """Return the facts."""
        by_name = {run.name: run for run in schedule.nodes}
        tile_at = {tile.name: position for position, tile in enumerate(problem.tiles)}
        return cls(problem, schedule, tuple(by_name[node.name] for node in problem.nodes), tile_at)

    @cached_property
    def latency(self) -> int:
        """End of the last run or transfer."""
        ends = [run.end for run in self.runs] + [transfer.end for transfer in self.schedule.transfers]
        return max(ends, default=0)

    def takes_memory(self, tile: int) -> bool:
        """Return whether a tile counts under the problem's semantics."""
        return self.problem.takes_memory(self.problem.tiles[tile])

    def may_be_forwarded(self, tile: int) -> bool:
        """Return whether a core may send a tile to another core."""
        return self.problem.platform.forwarding or self.problem.tiles[tile].kind is TileKind.ACTIVATION

    # Where tiles come from

    @cached_property
    def ready(self) -> dict[int, int]:
        """End of the last writer of each tile that has writers."""
        return {tile: max(self.runs[node].end for node in writers) for tile, writers in enumerate(self.problem.writers) if writers}

    @cached_property
    def home(self) -> dict[int, str]:
        """Memory in which each tile is written."""
        return {
            tile: self.problem.memory_of(tile, self.runs[writers[0]].core) for tile, writers in enumerate(self.problem.writers) if writers
        }

    @cached_property
    def arrivals(self) -> dict[Place, list[int]]:
        """Cycles from which the complete contents of a tile are in a memory, ascending."""
        found: dict[Place, list[int]] = defaultdict(list)
        for tile, ready in self.ready.items():
            found[tile, self.home[tile]].append(ready)
        for transfer in self.schedule.transfers:
            tile = self.tile_at[transfer.tile]
            for core in transfer.targets:
                if core != OFFCHIP:
                    found[tile, self.problem.memory_of(tile, core)].append(transfer.end)
        if self.problem.semantics.inputs == "resident":
            for tile, facts in enumerate(self.problem.tiles):
                if facts.kind is TileKind.INPUT:
                    for memory in self.problem.platform.memories:
                        found[tile, memory].append(0)
        return {place: sorted(cycles) for place, cycles in found.items()}

    @cached_property
    def births(self) -> dict[Place, set[int]]:
        """Cycles at which a tile begins to take room in a memory: its first writer or a transfer starts."""
        found: dict[Place, set[int]] = defaultdict(set)
        for tile, memory in self.home.items():
            found[tile, memory].add(min(self.runs[node].start for node in self.problem.writers[tile]))
        for transfer in self.schedule.transfers:
            tile = self.tile_at[transfer.tile]
            for core in transfer.targets:
                if core != OFFCHIP:
                    found[tile, self.problem.memory_of(tile, core)].add(transfer.start)
        if self.problem.semantics.inputs == "resident":
            for tile, facts in enumerate(self.problem.tiles):
                if facts.kind is TileKind.INPUT:
                    for memory in self.problem.platform.memories:
                        found[tile, memory].add(0)
        return found

    @cached_property
    def _brought(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for transfer in self.schedule.transfers:
            tile = self.tile_at[transfer.tile]
            if OFFCHIP in transfer.targets:
                found[tile] = min(transfer.end, found.get(tile, transfer.end))
        return found

    def offchip_from(self, tile: int) -> int | None:
        """Return the cycle from which a tile is off-chip, or None."""
        return 0 if self.problem.tiles[tile].kind is not TileKind.ACTIVATION else self._brought.get(tile)

    # Where tiles lie

    @cached_property
    def _stays(self) -> tuple[dict[Place, list[tuple[int, int]]], list[tuple[int, str, int]]]:
        """Merged intervals of each tile in each memory, and the starts at which it lay there already."""
        listed: dict[Place, list[tuple[int, int]]] = defaultdict(list)
        for entry in self.schedule.residency:
            tile = self.tile_at[entry.tile]
            if entry.end > entry.start:
                listed[tile, self.problem.memory_of(tile, entry.core)].append((entry.start, entry.end))
        merged: dict[Place, list[tuple[int, int]]] = {}
        twice: list[tuple[int, str, int]] = []
        for place, intervals in listed.items():
            joined: list[tuple[int, int]] = []
            for start, end in sorted(intervals):
                if joined and start < joined[-1][1]:
                    twice.append((*place, start))
                if joined and start <= joined[-1][1]:
                    joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
                else:
                    joined.append((start, end))
            merged[place] = joined
        return merged, twice

    @property
    def stays(self) -> dict[Place, list[tuple[int, int]]]:
        """Intervals during which each tile lies in each memory without a break."""
        return self._stays[0]

    @property
    def doubled(self) -> list[tuple[int, str, int]]:
        """Tile, memory and cycle of every residency that starts where the tile lies already."""
        return self._stays[1]

    def covered(self, tile: int, core: str, start: int, end: int) -> bool:
        """Return whether a tile lies in a core's memory in all of [start, end); it always does where it takes no memory."""
        if end <= start or not self.takes_memory(tile):
            return True
        stays = self.stays.get((tile, self.problem.memory_of(tile, core)), [])
        at = bisect.bisect_right(stays, (start, 2**63)) - 1
        return at >= 0 and stays[at][0] <= start and stays[at][1] >= end

    def lacks(self, tile: int, core: str, start: int, end: int) -> str:
        """Return why a core cannot use the complete tile during [start, end); nothing where it can.

        The contents arrived by then, and the tile lies there from its arrival to the end.
        """
        cycles = self.arrivals.get((tile, self.problem.memory_of(tile, core)), [])
        at = bisect.bisect_right(cycles, start)
        if not at:
            return f"arrives at cycle {cycles[0]}" if cycles else "is neither made nor brought there"
        arrived = cycles[at - 1]
        if self.covered(tile, core, arrived, end):
            return ""
        return f"is complete from cycle {arrived} on, but does not lie there until cycle {end}"

    def unfounded(self) -> Iterator[tuple[int, str, int]]:
        """Yield tile, memory and cycle of every stay that begins where nothing is written or arrives."""
        for (tile, memory), stays in self.stays.items():
            for start, _ in stays:
                if self.takes_memory(tile) and start not in self.births.get((tile, memory), ()):
                    yield tile, memory, start

    @cached_property
    def _stays_anywhere(self) -> dict[int, list[tuple[int, int]]]:
        """Intervals of each tile in whichever memory, ascending."""
        found: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for (tile, _), stays in self.stays.items():
            found[tile].extend(stays)
        return {tile: sorted(stays) for tile, stays in found.items()}

    def left_chip(self, tile: int) -> int | None:
        """Return the first cycle from the completion of a tile on at which it lies on no core, or None."""
        now = self.ready[tile]
        for start, end in self._stays_anywhere.get(tile, ()):
            if start > now:
                break
            now = max(now, end)
        return None if now >= self.latency else now

    def bytes_due(self, tile: int, entry: Residency) -> int:
        """Return the bytes that a residency takes: a tile with several writers counts more until the last of them has ended."""
        size, factor = self.problem.tiles[tile].size_bytes, self.problem.semantics.partial_sum_factor
        grows = len(self.problem.writers[tile]) > 1 and self.problem.memory_of(tile, entry.core) == self.home.get(tile)
        first = min((self.runs[node].start for node in self.problem.writers[tile]), default=0)
        return size * factor if grows and first <= entry.start < self.ready[tile] else size

    # Bytes over time

    @cached_property
    def levels(self) -> dict[str, list[tuple[int, int]]]:
        """For each memory, (cycle, bytes from then on) wherever they change."""
        changes: dict[str, dict[int, int]] = {memory: defaultdict(int) for memory in self.problem.platform.memories}
        for entry in self.schedule.residency:
            change = changes[self.problem.memory_of(self.tile_at[entry.tile], entry.core)]
            change[entry.start] += entry.size_bytes
            change[entry.end] -= entry.size_bytes
        found: dict[str, list[tuple[int, int]]] = {}
        for memory, change in changes.items():
            held, steps = 0, []
            for cycle in sorted(change):
                held += change[cycle]
                steps.append((cycle, held))
            found[memory] = steps
        return found

    def peak_of(self, memories: set[str]) -> int:
        """Return the most bytes that lie in some memories together at one instant."""
        last = dict.fromkeys(memories, 0)
        most = 0
        steps = sorted((cycle, memory, held) for memory in memories for cycle, held in self.levels[memory])
        for position, (cycle, memory, held) in enumerate(steps):
            last[memory] = held
            if position + 1 == len(steps) or steps[position + 1][0] > cycle:
                most = max(most, sum(last.values()))
        return most

    def first_overflow(self) -> dict[str, tuple[int, int]]:
        """Return, for each memory that ever holds more than it can, when first and how much then."""
        found: dict[str, tuple[int, int]] = {}
        for memory, facts in self.problem.platform.memories.items():
            limit = facts.capacity_bytes
            over = next(((cycle, held) for cycle, held in self.levels[memory] if limit is not None and held > limit), None)
            if over is not None:
                found[memory] = over
        return found

    # Addresses

    def clashes(self) -> Iterator[tuple[Residency, Residency | None, str]]:
        """Yield residencies with wrong addresses, the other one concerned, and why."""
        placed: dict[str, list[Residency]] = defaultdict(list)
        for entry in self.schedule.residency:
            if entry.offset is not None and entry.end > entry.start:
                placed[self.problem.memory_of(self.tile_at[entry.tile], entry.core)].append(entry)
        for memory, entries in placed.items():
            limit = self.problem.platform.memories[memory].capacity_bytes
            live: list[Residency] = []
            for entry in sorted(entries, key=lambda entry: (entry.start, entry.end)):
                start, end = entry.offset or 0, (entry.offset or 0) + entry.size_bytes
                if start < 0 or (limit is not None and end > limit):
                    yield entry, None, f"lies at [{start}, {end}) of {limit} bytes"
                for other in live:
                    continues = other.tile == entry.tile and other.end == entry.start
                    if continues and other.offset != entry.offset:
                        yield entry, other, f"lies at {entry.offset}, before at the address of"
                    elif other.end > entry.start and start < (other.offset or 0) + other.size_bytes and (other.offset or 0) < end:
                        yield entry, other, f"lies at [{start}, {end}), which overlaps"
                live = [other for other in live if other.end > entry.start] + [entry]
