"""Checking a schedule whose passes repeat: as many iterations as can meet each other are listed and checked, the rest follows.

Iteration k of a pass is iteration 0, k periods later. At most ``ceil(span / II)`` further iterations are in flight beside one, so that a
prologue and an epilogue of that many, with three periods between them, hold every pair that can meet. Where nothing else begins or ends
in the periods that are left out, each cycle of theirs looks like one that is checked. Latency, energy and bytes grow by a fixed amount
with each period left out; peaks do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.schedule import NodeRun, OffchipBytes, Period, Residency, Schedule, Transfer
from cosma_sched.multicore.tile_loop import TileLoop
from cosma_sched.multicore.verify import RULES, Violation, each_node_once, unknown_names, verify
from cosma_sched.multicore.verify_facts import Facts
from cosma_sched.multicore.verify_fields import Truth, field_defects, offchip_bytes, transfer_pj, truth_of

STEADY = 3
"""Periods between prologue and epilogue."""

_ROUNDING_PJ = 1e-9
_OF_ITERATION = re.compile(r"^(?P<name>.*)\[(?P<lap>[0-9]+)\.(?P<number>[0-9]+)\]$", re.DOTALL)
_Entry = TypeVar("_Entry", NodeRun, Transfer, Residency)


@dataclass(frozen=True, slots=True)
class _Window:
    """Periods of one pass that are left out: [start, end) in the cycles of the schedule."""

    start: int
    end: int
    left_out: int


def verify_loop(loop: TileLoop, schedule: Schedule) -> list[Violation]:
    """Return every rule that a schedule of a tile loop breaks; an empty list means that it holds.

    Parameters
    ----------
    loop
        The body, and how often it runs.
    schedule
        Lists iteration 0 of each pass, with one period for each pass; or every iteration, without periods. Cycles in messages are those of
        the schedule.
    """
    if not schedule.periods:
        return verify(loop.unrolled(), schedule)
    if wrong := [*_periods(loop, schedule)]:
        return wrong
    shown = min(loop.iterations, STEADY + 2 * max(_in_flight(schedule, lap) for lap in range(loop.passes)))
    windows = [_window(schedule, lap, loop.iterations - shown) for lap in range(loop.passes)]
    if shown < loop.iterations and (wrong := [*_between(schedule, windows)]):
        return wrong
    problem = loop.unrolled(iterations=shown)
    listed = schedule.replace(
        nodes=tuple(_listed(schedule.nodes, schedule.periods, windows, shown)),
        transfers=tuple(_listed(schedule.transfers, schedule.periods, windows, shown)),
        residency=tuple(_listed(schedule.residency, schedule.periods, windows, shown)),
        periods=(),
    )
    return [_at_its_time(violation, windows) for violation in _checked(problem, schedule, listed, windows)]


def _checked(problem: ScheduleProblem, schedule: Schedule, listed: Schedule, windows: list[_Window]) -> Iterator[Violation]:
    unlisted = [*unknown_names(problem, listed)] or [*each_node_once(problem, listed)]
    if unlisted:
        yield from unlisted
        return
    facts = Facts.of(problem, listed)
    for rule in RULES:
        yield from rule(facts)
    truth = _extended(truth_of(facts), facts, windows)
    slack = 1 + _ROUNDING_PJ * max(truth.links_pj, truth.offchip_pj)
    for name, message in field_defects(problem, schedule, truth, slack_pj=slack if any(window.left_out for window in windows) else 0.0):
        yield Violation(name, message)


# What the periods say


def _periods(loop: TileLoop, schedule: Schedule) -> Iterator[Violation]:
    """One period for each pass, with the loop's iterations, and the nodes of iteration 0 alone listed."""
    if len(schedule.periods) != loop.passes:
        yield Violation("periods", f"there are {len(schedule.periods)} for {loop.passes} passes")
        return
    names = {node.name for node in loop.nodes}
    for lap, period in enumerate(schedule.periods):
        if period.ii_cycles < 1:
            yield Violation("periods", f"periods[{lap}]: ii_cycles must be > 0, got {period.ii_cycles}")
        if period.iterations != loop.iterations:
            yield Violation("periods", f"periods[{lap}]: {period.iterations} iterations, the loop has {loop.iterations}")
        if sorted(period.nodes) != sorted(f"{name}[{lap}.0]" for name in names):
            yield Violation("periods", f"periods[{lap}]: its nodes are not those of iteration 0")
        runs = [run.start for run in schedule.nodes if _lap(run.name) == lap]
        if runs and period.start > min(runs):
            yield Violation("periods", f"periods[{lap}]: starts at cycle {period.start}, after one of its nodes", cycle=min(runs))
    names_listed = [run.name for run in schedule.nodes]
    names_listed += [entry.tile for entry in schedule.transfers] + [entry.tile for entry in schedule.residency]
    for name in names_listed:
        match = _OF_ITERATION.match(name)
        if match is not None and int(match["number"]) != 0:
            yield Violation("periods", f"{name} is not of iteration 0")


def _lap(name: str) -> int | None:
    """Return the pass of a name that belongs to one iteration, or None."""
    match = _OF_ITERATION.match(name)
    return None if match is None else int(match["lap"])


def _of_lap(schedule: Schedule, lap: int) -> Iterator[tuple[int, int]]:
    """Yield the intervals of everything that belongs to iteration 0 of a pass."""
    yield from ((run.start, run.end) for run in schedule.nodes if _lap(run.name) == lap)
    yield from ((entry.start, entry.end) for entry in schedule.transfers if _lap(entry.tile) == lap)
    yield from ((entry.start, entry.end) for entry in schedule.residency if _lap(entry.tile) == lap)


def _in_flight(schedule: Schedule, lap: int) -> int:
    """Return how many later iterations can begin before one has ended."""
    span = max((end for _, end in _of_lap(schedule, lap)), default=0) - _begin(schedule, lap)
    return -(-span // schedule.periods[lap].ii_cycles)


def _begin(schedule: Schedule, lap: int) -> int:
    """Return when a pass's first iteration begins."""
    return min((start for start, _ in _of_lap(schedule, lap)), default=schedule.periods[lap].start)


def _window(schedule: Schedule, lap: int, left_out: int) -> _Window:
    """Return the cycles left out: they begin where the prologue and a period are over."""
    period = schedule.periods[lap]
    prologue = (period.iterations - left_out - STEADY) // 2
    start = _begin(schedule, lap) + (prologue + 1) * period.ii_cycles
    return _Window(start, start + left_out * period.ii_cycles, left_out)


def _between(schedule: Schedule, windows: list[_Window]) -> Iterator[Violation]:
    """What belongs to no iteration neither begins nor ends in the cycles left out."""
    for window in windows:
        for moved in schedule.transfers:
            if _lap(moved.tile) is None and moved.end > window.start and moved.start < window.end:
                yield Violation("periods", "passes while the pass repeats", tile=moved.tile, cycle=moved.start)
        for held in schedule.residency:
            inside = window.start < held.start < window.end or window.start < held.end < window.end
            if _lap(held.tile) is None and inside:
                yield Violation("periods", "comes or goes while the pass repeats", tile=held.tile, cycle=held.start)


# Listing


def _listed(entries: Iterable[_Entry], periods: tuple[Period, ...], windows: list[_Window], shown: int) -> Iterator[_Entry]:
    """Yield every entry in the cycles that are left, and those of iteration 0 once for each iteration shown."""
    for entry in entries:
        name = entry.name if isinstance(entry, NodeRun) else entry.tile
        match = _OF_ITERATION.match(name)
        lap = None if match is None else int(match["lap"])
        if match is None or lap is None or lap >= len(periods):
            yield replace(entry, start=_left(entry.start, windows), end=_left(entry.end, windows))
            continue
        before = sum(window.end - window.start for window in windows[:lap])
        for number in range(shown):
            shift = number * periods[lap].ii_cycles - before
            moved = replace(entry, start=entry.start + shift, end=entry.end + shift)
            renamed = f"{match['name']}[{lap}.{number}]"
            yield replace(moved, name=renamed) if isinstance(moved, NodeRun) else replace(moved, tile=renamed)


def _left(cycle: int, windows: list[_Window]) -> int:
    """Return a cycle of the schedule in the cycles that are left."""
    return cycle - sum(max(0, min(cycle, window.end) - window.start) for window in windows)


def _at_its_time(violation: Violation, windows: list[_Window]) -> Violation:
    """Return a violation with its cycle in those of the schedule."""
    if violation.cycle is None:
        return violation
    cycle = violation.cycle
    for window in windows:
        if cycle >= window.start:
            cycle += window.end - window.start
    return replace(violation, cycle=cycle)


def _extended(truth: Truth, facts: Facts, windows: list[_Window]) -> Truth:
    """Add what the periods left out contribute: in each of them everything of an iteration happens once."""
    of_lap: dict[int, list[Transfer]] = {lap: [] for lap in range(len(windows))}
    for transfer in facts.schedule.transfers:
        if transfer.tile.endswith(".0]") and (lap := _lap(transfer.tile)) is not None:
            of_lap[lap].append(transfer)
    busy, compute = dict(truth.busy), truth.compute_pj
    for node, run in zip(facts.problem.nodes, facts.runs, strict=True):
        if run.name.endswith(".0]") and (lap := _lap(run.name)) is not None:
            busy[run.core] += windows[lap].left_out * (run.end - run.start)
            compute += windows[lap].left_out * node.energy_pj.get(run.core, 0)
    links, offchip, moved = truth.links_pj, truth.offchip_pj, truth.offchip_bytes
    for lap, transfers in of_lap.items():
        times = windows[lap].left_out
        for transfer in transfers:
            one = offchip_bytes(facts, [transfer])
            moved = OffchipBytes(moved.read + times * one.read, moved.write + times * one.write, moved.spilled + times * one.spilled)
            energy = times * transfer_pj(facts, transfer)
            if one.read or one.write:
                offchip += energy
            else:
                links += energy
    latency = truth.latency + sum(window.end - window.start for window in windows)
    return Truth(latency, compute, links, offchip, moved, busy, truth.peaks, truth.peak_total)
