"""The methods of ``--method``: which options go with which, and who answers."""

from __future__ import annotations

from collections.abc import Mapping

from cosma_sched.errors import UsageError, shown, suggestion
from cosma_sched.memory.baselines import Placement, Policy, plan_baseline
from cosma_sched.memory.bounds import peak_bounds
from cosma_sched.memory.paper import solve_literally
from cosma_sched.memory.planner import Answer, PlannerOptions, plan
from cosma_sched.memory.problem import OrderChoice, Problem, require_operators_fit
from cosma_sched.progress import Progress

PAPER = "paper"
BASELINES = tuple(Policy)
DIVIDE = "divide"
DEFAULT_SOLVER = "cpsat"
METHODS = ("auto", "exact", DIVIDE, PAPER, *BASELINES)


def settled_options(
    method: str, order: str, placement: str | None, *, pins: Mapping[str, int] | None, write_model: str | None, gap: float, solver: str
) -> tuple[str, str | None]:
    """Return the order and the placement that a method works with: the baselines read ``free`` as ``given`` and place first-fit by default.

    Raises
    ------
    UsageError
        If an option value is unknown, or the method has no use for an option.
    """
    if method not in BASELINES:
        if placement is not None:
            raise UsageError(f"placement is for the methods {' and '.join(BASELINES)}, got {shown(placement)} with {shown(method)}")
        return order, None
    known = tuple(Placement)
    if placement is not None and placement not in known:
        raise UsageError(f"placement must be one of {', '.join(known)}, got {shown(placement)}{suggestion(placement, known)}")
    if pins:
        raise UsageError(f"the method {method} places tensors as they come and cannot pin {shown(next(iter(pins)))}; use exact")
    if write_model is not None:
        raise UsageError(f"the method {method} solves no linear program that could be written to {shown(write_model)}")
    if gap:
        raise UsageError(f"the method {method} proves no bound, and so has no gap at which to stop, got {gap}")
    if solver != DEFAULT_SOLVER:
        raise UsageError(f"the method {method} uses no solver, got {shown(solver)}")
    return OrderChoice.GIVEN if order == OrderChoice.FREE else order, placement or Placement.FIRST_FIT


def plan_with(method: str, placement: str | None, problem: Problem, *, options: PlannerOptions, progress: Progress) -> Answer:
    """Plan with a method; its options have been settled.

    Raises
    ------
    InfeasibleError
        If an operator's own tensors do not fit into the scratchpad.
    """
    if method not in {PAPER, *BASELINES}:
        return plan(problem, options=options, progress=progress)
    require_operators_fit(problem)
    progress.report("peak")
    peaks = peak_bounds(problem.network, reserve_bytes=problem.scratchpad.bottom_bytes, clock=progress.clock.within(0.25))
    if method == PAPER:
        return solve_literally(problem, peaks, options=options, progress=progress)
    progress.report(method)
    return plan_baseline(problem, peaks, Policy(method), Placement(placement or Placement.FIRST_FIT))
