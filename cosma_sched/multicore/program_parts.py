"""What a program of a schedule is made of: what it covers, slots for copies of tiles and the ways by which they come about."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Any

from cosma_sched.multicore.platform import Route
from cosma_sched.multicore.tables import Tables

ENERGY_SCALE = 1024
"""Energies of transfers count in units of 1/1024 pJ."""


@dataclass(frozen=True, slots=True)
class ProgramOptions:
    """What a program covers.

    Parameters
    ----------
    horizon
        No schedule that ends later is of interest, in cycles.
    with_memory
        Whether capacities count. Without them one arrival per tile and memory is enough, and the optimum bounds every schedule.
    slots
        Arrivals of a tile in a memory that are told apart, its production not counted.
    open_ended
        Whether the last of them stands for any number of later ones: its bytes count while it arrives and while it is read. The optimum is
        then a bound for every schedule, and it is one of a schedule where that one has room for what it leaves out.
    total_limit
        Bytes that may lie on the chip at once, or None.
    spills
        Whether intermediate tiles may go off-chip and come back.
    only
        None for all schedules. Tiles that may be spilled, where a repair leaves the others alone; copies then come to readers only, and
        blocks keep their names. The optimum bounds nothing.
    """

    horizon: int
    with_memory: bool = True
    slots: int = 1
    open_ended: bool = False
    total_limit: int | None = None
    spills: bool = True
    only: frozenset[int] | None = None


@dataclass(slots=True)
class Choice:
    """One way in which a copy comes about: `literal` holds if it is taken."""

    literal: Any
    source: Slot | None
    """None: off-chip."""
    route: Route
    resources: tuple[int, ...]
    cycles: int
    leads: Choice | None = None
    """The choice of another slot on whose transfer over a bus this one rides."""


@dataclass(slots=True, eq=False)
class Slot:
    """A stay of a tile in a memory (`OFF`: off-chip): made there, resident from the start, or brought by a transfer.

    Attributes
    ----------
    present
        Whether it exists.
    start, ready, end
        Bytes are taken in [start, end); contents are usable from `ready`.
    """

    tile: int
    memory: int
    rank: int
    present: Any
    start: Any
    ready: Any
    end: Any
    is_open: bool = False
    choices: list[Choice] = field(default_factory=list)


def time_unit(tables: Tables) -> int:
    """Return the greatest common divisor of all durations."""
    unit = 0
    for node, allowed in enumerate(tables.allowed):
        for core in allowed:
            unit = gcd(unit, tables.cycles[node][core])
    sizes = {tables.sizes[tile] for tile, facts in enumerate(tables.problem.tiles) if tables.problem.takes_memory(facts)}
    for ways in tables.routes.values():
        for _, route in ways:
            for size in sizes:
                unit = gcd(unit, route.cycles(size))
    return unit or 1
