"""The one entry of multi-core scheduling: from a problem to a schedule with its figures, its bounds and what is proven."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata

import cosma_sched
from cosma_sched.errors import InfeasibleError, Reason, UsageError, VerificationError, shown, suggestion
from cosma_sched.multicore.bounds import bounds_of, combined
from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.improve import Held, Improver
from cosma_sched.multicore.list_scheduler import EVICTIONS, RULES, list_schedule
from cosma_sched.multicore.problem import Objective, ScheduleProblem
from cosma_sched.multicore.program_parts import ENERGY_SCALE
from cosma_sched.multicore.schedule import Schedule, ScheduleBounds
from cosma_sched.multicore.tables import Tables
from cosma_sched.multicore.timing import retime
from cosma_sched.multicore.verify import verify
from cosma_sched.progress import Clock, Observer, Progress
from cosma_sched.result import Provenance, Status, Termination, relative_gap

EXACT, GENETIC, GROUPS = "exact", "genetic", "groups"
METHODS = (EXACT, *RULES[:2], GENETIC, *RULES[2:])
_PACKAGES = ("numpy", "ortools")
_BOUND_SECONDS = 1.0
_TIDY_SECONDS = 3.0
_TIDY_NODES = 150


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    time_limit: float | None
    workers: int
    seed: int
    gap: float
    start: Schedule | None
    total_limit: int | None = None


def schedule_problem(
    problem: ScheduleProblem,
    *,
    method: str = "exact",
    time_limit: float | None = 300.0,
    workers: int = 1,
    seed: int = 0,
    gap: float = 0.0,
    start: Schedule | None = None,
    observers: Sequence[Observer] = (),
) -> Schedule:
    """Return a checked schedule.

    Parameters
    ----------
    problem
        What to schedule.
    method
        ``exact``, a rule of the list scheduler, or ``genetic``.
    time_limit
        Seconds in all; None for no limit. A list rule takes what it takes.
    workers, seed
        Of CP-SAT, and of everything that is drawn.
    gap
        Relative difference of value and bound at which ``exact`` stops.
    start
        A schedule of the same problem to begin from. ``exact`` returns nothing worse than it, nor than any list rule.
    observers
        Hear of phases, values and bounds.

    Returns
    -------
    Schedule
        Its scope is "this split"; accelerator, costs, split and warnings are the caller's to add. ``optimal`` is said where the value
        equals a bound that holds for every schedule of the problem, memory, spills and copies included.

    Raises
    ------
    InfeasibleError
        If a node fits on no core, with tile, bytes and the largest capacity; or if no schedule exists, by exhaustion.
    VerificationError
        If the schedule does not pass the checker: a bug.
    """
    return _plan(problem, _Request(method, time_limit, workers, seed, gap, start), observers)


def pareto_front(
    problem: ScheduleProblem,
    points: int,
    *,
    time_limit: float | None = 300.0,
    workers: int = 1,
    seed: int = 0,
    observers: Sequence[Observer] = (),
) -> tuple[Schedule, ...]:
    """Return schedules of which none has both a lower latency and a lower total peak than another, the fastest first.

    The first one has no limit on the total peak, the last one the least peak that was found; between them the limit falls in equal steps,
    and the latency is minimised under each (epsilon-constraint). Each one's bound and status are about its latency under its limit; the
    last one's too. An interrupt ends the front; its last schedule says so.

    Parameters
    ----------
    points
        At most as many schedules, at least 2.
    time_limit
        Seconds in all, shared evenly.

    Raises
    ------
    UsageError
        If fewer than two points are asked for.
    """
    if points < 2:
        raise UsageError(f"--pareto needs at least 2 points, got {points}")
    share = None if time_limit is None else time_limit / (points + 1)
    fast = replace(problem, objective=Objective.LATENCY)
    found = [_plan(fast, _Request("exact", share, workers, seed, 0.0, None), observers)]
    if found[0].termination is Termination.INTERRUPTED:
        return tuple(found)
    small = _plan(replace(problem, objective=Objective.MEMORY), _Request("exact", share, workers, seed, 0.0, found[0]), observers)
    stopped = small.termination is Termination.INTERRUPTED
    top, low = found[0].peak_total_bytes or 0, small.peak_total_bytes
    for step in range(1, points):
        if stopped or low is None or low >= top:
            break
        limit = top - (top - low) * step // (points - 1)
        begin = _as_latency(small) if small.peak_total_bytes is not None and small.peak_total_bytes <= limit else None
        answer = _plan(fast, _Request("exact", share, workers, seed, 0.0, begin, limit), observers)
        stopped = answer.termination is Termination.INTERRUPTED
        if answer.latency_cycles is not None and answer.peak_total_bytes is not None:
            found.append(answer.replace(scope="this split and peak"))  # a higher peak may be faster
    front = _front(found)
    return (*front[:-1], front[-1].replace(termination=Termination.INTERRUPTED)) if stopped else front


def _as_latency(schedule: Schedule) -> Schedule:
    return schedule.replace(objective=Objective.LATENCY)


def _front(found: Sequence[Schedule]) -> tuple[Schedule, ...]:
    kept: list[Schedule] = []
    for answer in sorted(found, key=lambda one: (one.latency_cycles or 0, one.peak_total_bytes or 0)):
        if not kept or (answer.peak_total_bytes or 0) < (kept[-1].peak_total_bytes or 0):
            kept.append(answer)
    return tuple(kept)


def _plan(problem: ScheduleProblem, request: _Request, observers: Sequence[Observer]) -> Schedule:
    if request.method not in METHODS:
        known = f"must be one of {', '.join(METHODS)}"
        raise UsageError(f"method {known}, got {shown(request.method)}{suggestion(request.method, METHODS)}")
    progress = Progress(Clock(request.time_limit), tuple(observers))
    progress.report("tables")
    tables = Tables.of(problem)
    held = Held(tables, progress, request.gap, request.total_limit)
    try:
        progress.report("bounds")
        timer = progress.clock.within(0.1) if request.method == "exact" else Clock(_BOUND_SECONDS)
        bounds = bounds_of(tables, clock=timer, seed=request.seed)
        held.bounds.update(bounds.by_name)
        if request.method == "exact":
            _exact(held, request)
        else:
            _heuristic(held, request)
    except KeyboardInterrupt:
        held.interrupted = True
    if held.best is None and held.proven:
        raise InfeasibleError([_no_schedule(problem, request.total_limit)])
    return _answer(held, request)


def _exact(held: Held, request: _Request) -> None:
    if request.start is not None and request.start.nodes:
        held.offer(Draft.of(held.tables.problem, request.start))
    held.offer(list_schedule(held.tables.problem, tables=held.tables))
    Improver(held, request.workers, request.seed).run()
    if not held.interrupted:
        _tidy(held, request)


def _heuristic(held: Held, request: _Request) -> None:
    problem = held.tables.problem
    if request.method == GENETIC:
        from cosma_sched.multicore.genetic import genetic_schedule

        held.offer(genetic_schedule(problem, seed=request.seed, clock=held.progress.clock).best)
        return
    for eviction in EVICTIONS if problem.objective is Objective.MEMORY else EVICTIONS[:1]:
        held.offer(list_schedule(problem, rule=request.method, eviction=eviction, tables=held.tables))


def _tidy(held: Held, request: _Request) -> None:
    """Fetch late and hold little: the least total peak at the latency that was found, where that is quickly done."""
    from cosma_sched.backends import SolverOptions

    left = held.progress.clock.remaining
    seconds = _TIDY_SECONDS if left is None else min(_TIDY_SECONDS, left)
    best = held.best
    if best is None or held.objective is not Objective.LATENCY or seconds < 0.2 or len(best.starts) > _TIDY_NODES:
        return
    options = SolverOptions(time_limit=seconds, workers=request.workers, seed=request.seed)
    held.offer(retime(held.tables, best, options=options, for_peak=True, total_limit=held.total_limit).draft)


def _no_schedule(problem: ScheduleProblem, total_limit: int | None) -> Reason:
    moves = "allocation" if problem.objective is Objective.MEMORY else "allocation and spill"
    what = f"no schedule exists: every order, {moves} runs into a full memory"
    if total_limit is not None:
        what += f", or into {total_limit} bytes in all"
    return Reason("schedule-exists", problem.name, what)


# the answer


def answer_of(held: Held, method: str, time_limit: float | None, workers: int, seed: int) -> Schedule:
    """Return what is held as a checked schedule, with the method that found it.

    Raises
    ------
    VerificationError
        If it does not pass the checker: a bug.
    """
    return _answer(held, _Request(method, time_limit, workers, seed, 0.0, None))


def _answer(held: Held, request: _Request) -> Schedule:
    problem, clock = held.tables.problem, held.progress.clock
    bounds = _bounds(held)
    base = Schedule(
        status=Status.UNKNOWN,
        termination=_termination(held),
        seconds=round(clock.seconds, 3),
        verified=False,
        provenance=_provenance(request, held),
        objective=problem.objective,
        method=request.method,
        semantics=problem.semantics,
        bounds=bounds,
    )
    if held.best is None or held.figures is None:
        return base
    runs, transfers = held.best.runs(problem), held.best.transfers(problem)
    answer = held.figures.put_into(base.replace(nodes=runs, transfers=transfers))
    bound = held.bound if problem.objective is Objective.MEMORY else _bound_of(answer)
    if problem.objective is Objective.ENERGY and held.proven and answer.energy_pj is not None:
        bound = answer.energy_pj  # proven in fractions of a picojoule; both are rounded alike
        answer = answer.replace(bounds=replace(answer.bounds, energy_pj=bound))
    answer = answer.replace(gap=relative_gap(answer.value, bound))
    if bound is not None and answer.value == bound:
        answer = answer.replace(status=Status.OPTIMAL, termination=Termination.PROVED)
    else:
        answer = answer.replace(status=Status.FEASIBLE)
    held.progress.report("check", incumbent=answer.value, bound=bound)
    if violations := verify(problem, answer):
        raise VerificationError(violations)
    return answer.replace(verified=True, seconds=round(clock.seconds, 3))


def _bounds(held: Held) -> ScheduleBounds:
    """Return the bounds; those in fractions of a picojoule as whole ones, rounded so that they stay bounds."""
    names = dict(held.bounds)
    for name in [name for name in names if name.endswith("_scaled")]:
        # stated energies are sums of two rounded parts, so they may lie one picojoule below the exact sum
        names[name.removesuffix("_scaled") + "_pj"] = max(0, math.ceil(names.pop(name) / ENERGY_SCALE) - 1)
    return combined(names)


def _bound_of(answer: Schedule) -> int | None:
    if answer.objective is Objective.LATENCY:
        return answer.bounds.latency_cycles
    return answer.bounds.energy_pj if answer.objective is Objective.ENERGY else None


def _termination(held: Held) -> Termination:
    if held.interrupted:
        return Termination.INTERRUPTED
    if held.gap_reached:
        return Termination.GAP_REACHED
    return Termination.TIME_LIMIT if held.progress.clock.expired else Termination.EXHAUSTED


def _provenance(request: _Request, held: Held) -> Provenance:
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **{name: metadata.version(name) for name in _PACKAGES}}
    options = {"method": request.method, "time-limit": request.time_limit, "gap": request.gap}
    if request.total_limit is not None:
        options["total-limit"] = request.total_limit
    strongest = [name for name, value in held.bounds.items() if value == held.bound]
    return Provenance(
        version=cosma_sched.__version__,
        model=None,
        sha256="",
        solver="cpsat" if request.method in (EXACT, GROUPS) else "none",
        seed=request.seed,
        workers=request.workers,
        options=options,
        proved_by=tuple(strongest),
        versions=versions,
    )
