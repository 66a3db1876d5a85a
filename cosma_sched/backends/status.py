"""What solvers call their endings, in our two words: what is held, and why it stopped.

Solvers overstate: "optimal" may mean "within a gap that nobody asked for" or "stopped by the clock". So their words only say what stopped
them; status and termination follow from the recomputed objective, the rounded bound and the gap that was asked for.
"""

from __future__ import annotations

import math
from enum import StrEnum

from cosma_sched.result import Status, Termination


class Stop(StrEnum):
    """What ended a search."""

    FINISHED = "finished"
    """The solver saw no reason to go on."""
    LIMIT = "limit"
    INTERRUPT = "interrupt"
    INFEASIBLE = "infeasible"


CPSAT_STOPS = {"OPTIMAL": Stop.FINISHED, "FEASIBLE": Stop.LIMIT, "UNKNOWN": Stop.LIMIT, "INFEASIBLE": Stop.INFEASIBLE}

# Variables have finite bounds, so "infeasible or unbounded" can only be the first.
MATHOPT_STOPS = {
    "OPTIMAL": Stop.FINISHED,
    "FEASIBLE": Stop.LIMIT,
    "NO_SOLUTION_FOUND": Stop.LIMIT,
    "INFEASIBLE": Stop.INFEASIBLE,
    "INFEASIBLE_OR_UNBOUNDED": Stop.INFEASIBLE,
}

# First words after "Result - " in CBC's log.
CBC_STOPS = {
    "Optimal solution found": Stop.FINISHED,
    "Stopped on": Stop.LIMIT,
    "User ctrl-c": Stop.INTERRUPT,
    "Problem proven infeasible": Stop.INFEASIBLE,
    "Linear relaxation infeasible": Stop.INFEASIBLE,
}

_TERMINATIONS = {
    Stop.FINISHED: Termination.EXHAUSTED,
    Stop.LIMIT: Termination.TIME_LIMIT,
    Stop.INTERRUPT: Termination.INTERRUPTED,
}


def conclude(stop: Stop, *, objective: int | None, bound: int | None, gap: float) -> tuple[Status, Termination]:
    """Return what is held and why it stopped.

    Parameters
    ----------
    stop
        What ended the search.
    objective
        The recomputed objective of the solution that is held; None where none is held.
    bound
        The proven lower bound, rounded; None where none is known.
    gap
        The relative gap that was asked for.
    """
    if stop is Stop.INFEASIBLE:
        return Status.INFEASIBLE, Termination.PROVED
    if objective is None:
        return Status.UNKNOWN, _TERMINATIONS[stop]
    if bound is not None and bound >= objective:
        return Status.OPTIMAL, Termination.PROVED
    if bound is not None and gap > 0 and objective - bound <= gap * abs(objective):
        return Status.FEASIBLE, Termination.GAP_REACHED
    return Status.FEASIBLE, _TERMINATIONS[stop]


def round_up(bound: float | None, absolute: float) -> int | None:
    """Return the whole number that a floating-point lower bound on whole values proves; None where it proves none.

    Parameters
    ----------
    bound
        What the solver reports; infinite, NaN or beyond 1e30 means unknown.
    absolute
        How far the report may be off by its own printing or arithmetic; a billionth of the bound is granted on top.
    """
    if bound is None or not abs(bound) < 1e30:  # also true for NaN
        return None
    return math.ceil(bound - absolute - 1e-9 * abs(bound))
