"""A modulo schedule by CP-SAT, for small bodies where placing one task after the other leaves a gap to the proven bound on II.

For a fixed II, task v starts at ``rho_v + II k_v`` with ``0 <= rho_v < II``. A resource's tasks do not overlap on the circle: each task
and its copy one lap earlier go into one NoOverlap. Precedences are linear in the starts. A stay of at most two laps meets a window of one
lap only with its own copy and those one and two laps earlier, so a Cumulative over the three counts all iterations in flight. Longer
stays and more than `MOST_STAGES` stages are left out: what is found is a schedule, that nothing is found proves nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cosma_sched.backends import SolverOptions
from cosma_sched.backends.cpsat_search import holds, run
from cosma_sched.backends.libraries import cp_model
from cosma_sched.multicore.modulo import PeriodicSystem
from cosma_sched.progress import Clock

MOST_STAGES = 4
"""Iterations that one task may lag behind the first."""


def place_exactly(
    system: PeriodicSystem, ii: int, *, time_limit: float | None, seed: int = 0, hint: Sequence[int] | None = None
) -> list[int] | None:
    """Return the start of each task for one II, checked, or None where none was found."""
    model, starts = _model(system, ii)
    for position, start in enumerate(hint or ()):
        model.add_hint(starts[position], min(max(0, start), MOST_STAGES * ii))
    clock = Clock(time_limit)
    _, response, _ = run(model, SolverOptions(workers=1, seed=seed, time_limit=time_limit), "default", clock, None)
    if not holds(response):
        return None
    values = [response.solution[start.index] for start in starts]
    return None if system.broken(values, ii) else values


def _model(system: PeriodicSystem, ii: int) -> tuple[Any, list[Any]]:
    model = cp_model().CpModel()
    starts, places = [], []
    for position, _ in enumerate(system.tasks):
        stage = model.new_int_var(0, MOST_STAGES - 1, f"stage {position}")
        place = model.new_int_var(0, ii - 1, f"place {position}")
        start = model.new_int_var(0, MOST_STAGES * ii - 1, f"start {position}")
        model.add(start == place + ii * stage)
        starts.append(start)
        places.append(place)
    for edge in system.edges:
        model.add(starts[edge.after] + edge.distance * ii >= starts[edge.before] + edge.lag)
    _resources(model, system, places, ii)
    _memories(model, system, starts, places, ii)
    return model, starts


def _resources(model: Any, system: PeriodicSystem, places: Sequence[Any], ii: int) -> None:
    taken: dict[str, list[Any]] = defaultdict(list)
    for position, task in enumerate(system.tasks):
        if task.duration == 0:
            continue
        if task.duration > ii:
            model.add(places[position] < 0)
        copies = [model.new_fixed_size_interval_var(places[position] - lap * ii, task.duration, f"{position} {lap}") for lap in (0, 1)]
        for resource in task.resources:
            taken[resource] += copies
    for intervals in taken.values():
        model.add_no_overlap(intervals)


def _memories(model: Any, system: PeriodicSystem, starts: Sequence[Any], places: Sequence[Any], ii: int) -> None:
    held: dict[str, list[tuple[Any, int]]] = defaultdict(list)
    for number, stay in enumerate(system.stays):
        if system.room.get(stay.memory) is None:
            continue
        length = model.new_int_var(1, 2 * ii, f"length {number}")
        for task in stay.ends:
            model.add(length >= starts[task] + system.tasks[task].duration - starts[stay.begin])
        for lap in range(3):
            end = model.new_int_var(-2 * ii, 3 * ii, f"end {number} {lap}")
            interval = model.new_interval_var(places[stay.begin] - lap * ii, length, end, f"stay {number} {lap}")
            held[stay.memory].append((interval, stay.size_bytes))
    for memory, stays in held.items():
        model.add_cumulative([interval for interval, _ in stays], [size for _, size in stays], max(0, system.room[memory] or 0))
