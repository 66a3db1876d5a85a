"""Addresses for a schedule: each memory's residencies packed afterwards. Packing may fail although the bytes fit at every instant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cosma_sched.graph import Buffer
from cosma_sched.memory.packing import pack
from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.schedule import Residency, Schedule
from cosma_sched.progress import Clock

SECONDS = 20.0
"""For each memory."""


@dataclass(slots=True)
class _Stay:
    """Entries of one tile in one memory that touch: they share an address."""

    entries: list[int]
    start: int
    end: int
    size_bytes: int


def with_addresses(problem: ScheduleProblem, schedule: Schedule, *, seconds: float = SECONDS) -> Schedule:
    """Return a schedule whose residencies have offsets, as far as they could be packed; a warning names each memory that could not.

    Parameters
    ----------
    problem
        What was scheduled, with the platform.
    schedule
        Every residency listed.
    seconds
        For each memory.
    """
    entries = list(schedule.residency)
    warnings: list[str] = []
    for memory, stays in _stays(problem, entries).items():
        capacity = problem.platform.memories[memory].capacity_bytes
        buffers = [Buffer(str(number), stay.start, stay.end, stay.size_bytes) for number, stay in enumerate(stays)]
        room = sum(buffer.size_bytes for buffer in buffers) if capacity is None else capacity
        found = pack(buffers, room, clock=Clock(seconds), explain=False)
        if found.offsets is None:
            warnings.append(f"addresses: the residencies of {memory} were not packed into {room:,} bytes ({found.status})")
            continue
        for stay, offset in zip(stays, found.offsets, strict=True):
            for position in stay.entries:
                entries[position] = replace(entries[position], offset=offset)
    return schedule.replace(residency=tuple(entries), warnings=(*schedule.warnings, *warnings))


def _stays(problem: ScheduleProblem, entries: Sequence[Residency]) -> dict[str, list[_Stay]]:
    tiles = {tile.name: position for position, tile in enumerate(problem.tiles)}
    found: dict[str, list[_Stay]] = defaultdict(list)
    last: dict[tuple[str, str], _Stay] = {}
    for position, entry in sorted(enumerate(entries), key=lambda pair: (pair[1].start, pair[1].end)):
        if entry.start == entry.end or entry.size_bytes == 0:
            continue
        memory = problem.memory_of(tiles[entry.tile], entry.core)
        stay = last.get((memory, entry.tile))
        if stay is not None and entry.start <= stay.end:
            stay.entries.append(position)
            stay.end, stay.size_bytes = max(stay.end, entry.end), max(stay.size_bytes, entry.size_bytes)
            continue
        stay = _Stay([position], entry.start, entry.end, entry.size_bytes)
        found[memory].append(stay)
        last[memory, entry.tile] = stay
    return found
