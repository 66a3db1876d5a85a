"""From a periodic plan to a schedule like any other: figures from the full listing, bounds over every allocation."""

from __future__ import annotations

from cosma_sched.multicore.bounds import bounds_of
from cosma_sched.multicore.figures import figures
from cosma_sched.multicore.periodic import PeriodicPlan, unroll
from cosma_sched.multicore.periods import listed_once
from cosma_sched.multicore.problem import Objective
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.tables import Tables
from cosma_sched.progress import Clock
from cosma_sched.result import Provenance, Status, Termination, relative_gap

METHOD = "exact"


def periodic_schedule(plan: PeriodicPlan, provenance: Provenance, clock: Clock) -> Schedule:
    """Return the schedule of a plan, with each pass listed once.

    The bounds are those of the computation nodes with these cycles, whichever cores run them and in whichever order.

    Parameters
    ----------
    plan
        A periodic plan.
    provenance
        Where the answer comes from.
    clock
        Of the whole search.
    """
    problem = plan.loop.unrolled()
    full = unroll(plan)
    found = figures(problem, full.runs, full.transfers)
    bounds = bounds_of(Tables.of(problem), clock=clock)
    optimal = bounds.latency_cycles == found.latency_cycles
    schedule = Schedule(
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        termination=Termination.PROVED if optimal else Termination.EXHAUSTED,
        seconds=0.0,
        verified=False,
        provenance=provenance,
        objective=Objective.LATENCY,
        method=METHOD,
        semantics=plan.loop.semantics,
        bounds=bounds,
        gap=relative_gap(found.latency_cycles, bounds.latency_cycles),
        nodes=full.runs,
        transfers=full.transfers,
    )
    schedule = found.put_into(schedule)
    return listed_once(schedule, full.periods).replace(seconds=round(clock.seconds, 3))
