"""CP-SAT: native models, and whole-number linear programs by translation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any

from cosma_sched import files
from cosma_sched.backends import libraries
from cosma_sched.backends.cpsat_search import Report, holds, run
from cosma_sched.backends.options import SolverOptions
from cosma_sched.backends.status import Stop, conclude
from cosma_sched.backends.task import Answer, LinearTask, OnProgress
from cosma_sched.errors import BackendError
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

if TYPE_CHECKING:
    from ortools.sat.python.cp_model import CpModel, IntVar


@dataclass(frozen=True, slots=True)
class CpOutcome:
    """What CP-SAT answered to a native model.

    Parameters
    ----------
    status, termination
        What is held and why the search stopped, by our own judgement.
    solution
        A value for each variable of the model by index; None where no solution is held.
    objective
        The objective recomputed from `solution`; None for a model without objective and where nothing is held.
    bound
        A proven bound on the objective, exact: lower where the model minimises, upper where it maximises; None where unknown.
    seconds
        Elapsed time.
    nodes
        Branches of the search.
    log_tail
        The solver's summary.
    """

    status: Status
    termination: Termination
    solution: tuple[int, ...] | None
    objective: int | None
    bound: int | None
    seconds: float
    nodes: int | None = None
    log_tail: str = ""

    def value(self, variable: IntVar) -> int:
        """Return the value of a variable, or of the negation of a boolean one.

        Raises
        ------
        BackendError
            If no solution is held.
        """
        if self.solution is None:
            raise BackendError("cpsat", f"a value was read although no solution is held (status {self.status})")
        index: int = variable.index
        return self.solution[index] if index >= 0 else 1 - self.solution[-index - 1]


def solve_cpsat(
    model: CpModel,
    *,
    options: SolverOptions,
    hint: Mapping[IntVar, int] | Mapping[int, int] | None = None,
    on_solution: OnProgress | None = None,
    stop_event: Event | None = None,
) -> CpOutcome:
    """Solve a native CP-SAT model.

    Parameters
    ----------
    model
        What to solve, with a whole-number objective or none.
    options
        Limits, gap, workers and seed. The profile counts where ``options.solver`` is ``cpsat``.
    hint
        A value for variables or variable indices; replaces the model's own hints.
    on_solution
        Called in this thread with (objective held, bound proven) when either gets better.
    stop_event
        Ends the search, as a limit would, within half a second after another thread has set it.

    Returns
    -------
    CpOutcome
        Its solution is CP-SAT's word; the caller verifies what it decodes. A limit or Ctrl-C returns the best that is held.

    Raises
    ------
    BackendError
        If the model is invalid.
    """
    clock = Clock(options.time_limit)
    if model.proto.has_floating_point_objective():
        raise BackendError("cpsat", "the objective has coefficients that are not whole numbers")
    if hint is not None:
        _set_hint(model, hint)
    if options.write_model is not None:
        files.write_whole(options.write_model, str(model.proto))
    objective = _Objective(model)
    report = None if on_solution is None else objective.reporter(on_solution)
    profile = options.profile if options.solver == "cpsat" else "default"
    stop, response, summary = run(model, options, profile, clock, report, stop_event)
    solution = tuple(response.solution) if holds(response) else None
    value = objective.of(solution) if solution is not None and objective.exists else None
    bound = None if stop is Stop.INFEASIBLE else objective.bound(response)
    if objective.exists:
        status, termination = conclude(stop, objective=value, bound=bound, gap=options.gap)
    elif solution is not None:
        status, termination = Status.OPTIMAL, Termination.PROVED
    else:
        status, termination = conclude(stop, objective=None, bound=None, gap=0.0)
    shown_value, shown_bound = objective.shown(value), objective.shown(bound)
    return CpOutcome(status, termination, solution, shown_value, shown_bound, clock.seconds, response.num_branches, summary)


def _set_hint(model: CpModel, hint: Mapping[Any, int]) -> None:
    model.clear_hints()  # two hints on one variable make a model invalid
    for key, value in hint.items():
        model.add_hint(model.get_int_var_from_proto_index(key) if isinstance(key, int) else key, value)


class _Objective:
    """The objective of a model in exact arithmetic, as a minimisation."""

    def __init__(self, model: CpModel) -> None:
        self.exists: bool = model.has_objective()
        objective = model.proto.objective
        self._terms = list(zip(objective.vars, objective.coeffs, strict=True)) if self.exists else []
        self._sign = -1 if self.exists and objective.scaling_factor < 0 else 1
        self._offset = round(objective.offset) if self.exists else 0
        self._domains = {index: model.proto.variables[index if index >= 0 else -index - 1].domain for index, _ in self._terms}

    def of(self, solution: tuple[int, ...]) -> int:
        """Return the objective, offset included, of a value for each variable."""
        value: int = sum(c * (solution[i] if i >= 0 else -solution[-i - 1]) for i, c in self._terms)
        return value + self._offset

    def bound(self, response: Any) -> int | None:
        """Return the best lower bound, offset included: the solver's, or what the domains alone prove."""
        if not self.exists:
            return None
        proven = self._least()
        # A search that was stopped before it began leaves zeros, which look like a bound and are none.
        if holds(response) or response.inner_objective_lower_bound != 0 or response.best_objective_bound != 0:
            proven = max(proven, response.inner_objective_lower_bound)
        return int(proven + self._offset)

    def _least(self) -> int:
        least = 0
        for index, coefficient in self._terms:
            domain = self._domains[index]
            ends = (domain[0], domain[len(domain) - 1]) if index >= 0 else (-domain[len(domain) - 1], -domain[0])
            least += min(coefficient * ends[0], coefficient * ends[1])
        return least

    def shown(self, value: int | None) -> int | None:
        """Return a value as the model's own objective counts it, which may maximise."""
        return None if value is None else self._sign * value

    def reporter(self, on_progress: OnProgress) -> Report:
        """Return a function that takes CP-SAT's figures and passes them on when they have changed."""
        last: tuple[int | None, int | None] = (None, None)

        def report(objective: float | None, bound: float | None) -> None:
            nonlocal last
            value = round(objective) if objective is not None and self.exists else last[0]
            proven = last[1]
            if bound is not None and self.exists:
                proven = self._sign * math.ceil(self._sign * bound - 1e-6)
            if (value, proven) != last:
                last = value, proven
                on_progress(value, proven)

        return report


def solve(task: LinearTask) -> Answer:
    """Solve a linear program by translation."""
    cp_model = libraries.cp_model()
    program, model = task.program, cp_model.CpModel()
    variables = [model.new_int_var(low, high, "") for low, high in program.bounds]
    for row in task.rows:
        expression = cp_model.LinearExpr.weighted_sum([variables[j] for j in row.columns], row.coefficients)
        low = cp_model.INT_MIN if row.low is None else row.low
        high = cp_model.INT_MAX if row.high is None else row.high
        model.add_linear_constraint(expression, low, high)
    if program.objective:
        columns, coefficients = zip(*program.objective, strict=True)
        model.minimize(cp_model.LinearExpr.weighted_sum([variables[j] for j in columns], list(coefficients)))
    for variable, value in zip(variables, task.start or (), strict=False):
        model.add_hint(variable, value)
    objective = _Objective(model)
    stop, response, summary = run(model, task.options, task.options.profile, task.clock, task.report)
    found = tuple(response.solution) if holds(response) else None
    bound = objective.bound(response) if program.objective and stop is not Stop.INFEASIBLE else None
    return Answer(stop, found, bound, response.num_branches, summary)
