"""The exact search for small problems: the complete program with more and more copies told apart, until value and bound meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cosma_sched.backends import CpOutcome, SolverOptions, solve_cpsat
from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.figures import Figures
from cosma_sched.multicore.problem import Objective
from cosma_sched.multicore.program import ScheduleProgram
from cosma_sched.multicore.program_parts import ENERGY_SCALE, ProgramOptions, time_unit
from cosma_sched.multicore.program_values import hint_of, read_draft
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

MOST_SLOTS = 8
OnFound = Callable[[Draft | None, int | None], None]
"""Takes a better schedule, or a better bound on the objective, or both."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How a complete search ended.

    Parameters
    ----------
    is_proven
        Nothing better than the best schedule exists; without one, no schedule exists at all.
    interrupted
        Whether Ctrl-C ended it.
    """

    is_proven: bool
    interrupted: bool = False


def fits(tables: Tables, draft: Draft, total_limit: int | None = None, found: Figures | None = None) -> bool:
    """Return whether a schedule holds every capacity; `found` are its figures where they are known."""
    problem = tables.problem
    live: dict[str | None, int] = {}
    limits: dict[str | None, int | None] = {name: memory.capacity_bytes for name, memory in problem.platform.memories.items()}
    limits[None] = total_limit
    position = {tile.name: at for at, tile in enumerate(problem.tiles)}
    events = []
    for stay in (draft.figures(problem) if found is None else found).residency:
        memory = problem.memory_of(position[stay.tile], stay.core)
        events += [(stay.start, stay.size_bytes, memory), (stay.end, -stay.size_bytes, memory)]
    for _, size, memory in sorted(events):
        for pool in (memory, None):
            live[pool] = live.get(pool, 0) + size
            limit = limits[pool]
            if limit is not None and live[pool] > limit:
                return False
    return True


def serial_horizon(tables: Tables, slots: int) -> int:
    """Return a latency that no schedule with that many copies needs to exceed: its nodes and transfers one after the other.

    Cycles at which nothing runs can be cut out of any schedule.
    """
    nodes = sum(max(tables.cycles[node][core] for core in allowed) for node, allowed in enumerate(tables.allowed))
    moved = 0
    for tile, facts in enumerate(tables.problem.tiles):
        if tables.problem.takes_memory(facts):
            longest = max((route.cycles(tables.sizes[tile]) for ways in tables.routes.values() for _, route in ways), default=0)
            moved += longest * (slots * len(tables.memories) + 1)
    return nodes + moved


def value_of(tables: Tables, draft: Draft, found: Figures | None = None) -> int:
    """Return the objective of a draft in the program's units: cycles, bytes, or 1/`ENERGY_SCALE` pJ with each transfer rounded down."""
    problem = tables.problem
    if problem.objective is Objective.LATENCY:
        return draft.latency(problem)
    if problem.objective is Objective.MEMORY:
        found = draft.figures(problem) if found is None else found
        worst = problem.semantics.memory_scope == "worst-core"
        return max(found.peak_bytes.values(), default=0) if worst else found.peak_total_bytes
    compute = sum(node.energy_pj[core] for node, core in zip(problem.nodes, draft.cores, strict=True))
    moved = sum(int(8 * tables.sizes[move.tile] * move.route.pj_per_bit * ENERGY_SCALE) for move in draft.moves)
    return ENERGY_SCALE * compute + moved


def search_complete(
    tables: Tables, best: Draft | None, *, options: SolverOptions, clock: Clock, on_found: OnFound, total_limit: int | None = None
) -> Proof:
    """Search all schedules, spills, copies over third cores, multicast and ways included.

    Round k tells k arrivals of a tile in a memory apart; the last of them stands for any number of later ones and its bytes count only
    while it arrives. So the round's optimum bounds every schedule, and where it is itself one that fits, it is the best. If there is
    nothing better than the best one known, that one is optimal. Otherwise the round is repeated with k arrivals and no more, for a
    better schedule, and round k + 1 begins.

    Parameters
    ----------
    best
        The best schedule known, which fits, or None.
    on_found
        Hears of every better schedule and bound, in the units of `value_of`.
    """
    for slots in range(1, MOST_SLOTS + 1):
        for open_ended in (True, False):
            if clock.expired:
                return Proof(False)
            program = _program(tables, best, slots, open_ended, total_limit)
            if program is None:  # better is less than one unit of time
                return Proof(True)
            outcome = _solve(program, best, options, clock)
            if outcome.status is Status.INFEASIBLE:
                if open_ended:
                    return Proof(True)
                continue
            bound = outcome.bound if open_ended else None
            if bound is not None and tables.problem.objective is Objective.LATENCY:
                bound *= program.unit
            found = None if outcome.solution is None else read_draft(program, outcome)
            if found is not None and (not fits(tables, found, total_limit) or not _is_better(tables, found, best)):
                found = None
            best = found or best
            on_found(found, bound)
            if outcome.termination is Termination.INTERRUPTED:
                return Proof(False, interrupted=True)
            if found is not None and outcome.status is Status.OPTIMAL and open_ended:
                return Proof(True)
    return Proof(False)


def _is_better(tables: Tables, draft: Draft, best: Draft | None) -> bool:
    return best is None or value_of(tables, draft) < value_of(tables, best)


def _program(tables: Tables, best: Draft | None, slots: int, open_ended: bool, total_limit: int | None) -> ScheduleProgram | None:
    objective, unit = tables.problem.objective, time_unit(tables)
    horizon = serial_horizon(tables, slots)
    if best is not None and objective is Objective.LATENCY:
        horizon = (value_of(tables, best) - 1) // unit * unit  # the best latency is a multiple of the unit
        if horizon <= 0:
            return None
    options = ProgramOptions(horizon, slots=slots, open_ended=open_ended, total_limit=total_limit, spills=objective is not Objective.MEMORY)
    program = ScheduleProgram(tables, options)
    if best is not None and objective is Objective.ENERGY:
        program.model.add(program.energy() <= value_of(tables, best) - 1)
    if best is not None and program.peak is not None:
        program.model.add(program.peak <= value_of(tables, best) - 1)
    return program


def _solve(program: ScheduleProgram, best: Draft | None, options: SolverOptions, clock: Clock) -> CpOutcome:
    from dataclasses import replace

    hint = hint_of(program, best) if best is not None else None
    if hint is not None:  # a hint to stay near; its latency is out of reach by design
        largest = program.horizon
        hint = {index: min(value, largest) if index == program.latency.index else value for index, value in hint.items()}
    return solve_cpsat(program.model, options=replace(options, time_limit=clock.remaining), hint=hint)
