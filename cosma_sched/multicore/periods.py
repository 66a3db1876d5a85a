"""From a schedule that lists each period once to one that lists every iteration.

Names tell what repeats: a node or tile ``gate[2.0]`` belongs to iteration 0 of pass 2 and stands for ``gate[2.1]``, ``gate[2.2]``, ...,
each a period later; a tile ``y[2]`` belongs to the whole of pass 2 and is listed as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

from cosma_sched.errors import Defect, InputError
from cosma_sched.multicore.schedule import NodeRun, Period, Residency, Schedule, Transfer

MOST_RUNS = 1_000_000
"""More are not listed one by one."""

_ITERATED = re.compile(r"^(?P<name>.*)\[(?P<lap>\d+)\.(?P<number>\d+)\]$", re.DOTALL)
_Entry = TypeVar("_Entry", NodeRun, Transfer, Residency)


def listed_once(schedule: Schedule, periods: Iterable[Period]) -> Schedule:
    """Return a schedule that lists iteration 0 of each pass alone, with its periods."""
    return schedule.replace(
        nodes=tuple(run for run in schedule.nodes if _is_first(run.name)),
        transfers=tuple(transfer for transfer in schedule.transfers if _is_first(transfer.tile)),
        residency=tuple(entry for entry in schedule.residency if _is_first(entry.tile)),
        periods=tuple(periods),
    )


def listed_in_full(schedule: Schedule) -> Schedule:
    """Return a schedule that lists every iteration and no period; one without periods is returned as it is.

    Raises
    ------
    InputError
        If a period does not hold the nodes of iteration 0 of its pass, or there would be more than `MOST_RUNS` runs.
    """
    if not schedule.periods:
        return schedule
    if sum(period.iterations * len(period.nodes) for period in schedule.periods) > MOST_RUNS:
        raise InputError("schedule", [Defect("periods", f"more than {MOST_RUNS:,} runs in all")])
    periods = dict(enumerate(schedule.periods))
    _check(schedule, periods)
    return schedule.replace(
        nodes=tuple(_repeated(schedule.nodes, periods)),
        transfers=tuple(_repeated(schedule.transfers, periods)),
        residency=tuple(_repeated(schedule.residency, periods)),
        periods=(),
    )


def _check(schedule: Schedule, periods: dict[int, Period]) -> None:
    listed: dict[int, set[str]] = {lap: set() for lap in periods}
    for run in schedule.nodes:
        match = _ITERATED.match(run.name)
        if match is None or int(match["number"]) != 0 or int(match["lap"]) not in periods:
            raise InputError("schedule", [Defect("nodes", f"{run.name} is not of iteration 0 of one of the {len(periods)} periods")])
        listed[int(match["lap"])].add(run.name)
    for lap, period in periods.items():
        if period.iterations < 1 or period.ii_cycles < 1:
            raise InputError("schedule", [Defect(f"periods[{lap}]", "iterations and ii_cycles must be > 0")])
        if set(period.nodes) != listed[lap]:
            raise InputError("schedule", [Defect(f"periods[{lap}].nodes", "are not the nodes that are listed for it")])


def _is_first(name: str) -> bool:
    match = _ITERATED.match(name)
    return match is None or int(match["number"]) == 0


def _repeated(entries: Iterable[_Entry], periods: dict[int, Period]) -> Iterator[_Entry]:
    for entry in entries:
        name = entry.name if isinstance(entry, NodeRun) else entry.tile
        match = _ITERATED.match(name)
        if match is None or int(match["lap"]) not in periods:
            yield entry
            continue
        period = periods[int(match["lap"])]
        for number in range(period.iterations):
            shift = number * period.ii_cycles
            renamed = f"{match['name']}[{match['lap']}.{number}]"
            moved = replace(entry, start=entry.start + shift, end=entry.end + shift)
            yield replace(moved, name=renamed) if isinstance(moved, NodeRun) else replace(moved, tile=renamed)
