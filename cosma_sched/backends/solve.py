"""One call for a linear program on any back end, and the checks that make its answer ours.

A solver's answer is rounded to whole numbers, checked against every row in exact arithmetic, and its objective recomputed. A start that
the caller brings stays in hand: it is the answer where the solver finds nothing better.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from cosma_sched import files
from cosma_sched.backends.linear import Program
from cosma_sched.backends.options import SolverOptions
from cosma_sched.backends.registry import BACKENDS
from cosma_sched.backends.status import Stop, conclude, round_up
from cosma_sched.backends.task import Answer, LinearTask, Meaning, OnProgress, Outcome
from cosma_sched.errors import BackendError, shown
from cosma_sched.progress import Clock

INTEGER_TOLERANCE = 1e-5
PROGRESS_TOLERANCE = 1e-3
# From about 1e8 on the tolerances of floating-point solvers are in the way of whole units: CBC has proven feasible programs infeasible
# there (solvers/README.md).
LARGEST_TRUSTED_ACTIVITY = 5 * 10**7


def solve_linear(
    program: Program,
    *,
    options: SolverOptions,
    start: Mapping[Meaning, int] | None = None,
    on_progress: OnProgress | None = None,
) -> Outcome:
    """Minimise a linear program over whole numbers.

    Parameters
    ----------
    program
        What to solve; it is not changed.
    options
        Back end, limits, gap, seed.
    start
        A feasible value for every meaning.
    on_progress
        Called in this thread with (objective held, bound proven) when either gets better.

    Returns
    -------
    Outcome
        Values are checked. A limit or Ctrl-C returns the best that is held.

    Raises
    ------
    BackendError
        If the start breaks a row, or the solver crashes or returns something that is not an answer; the program is kept for a report.
    InputError
        If the profile does not exist or the solver does not know one of its parameters.
    MissingError
        If the back end is not installed.
    """
    clock = Clock(options.time_limit)
    if options.write_model is not None:
        files.write_whole(options.write_model, program.mps())
    try:
        held = _start(program, options.solver, start)
        answer = _without_solver(program, held, options)
        if answer is None:
            task = LinearTask(program, program.rows, options, clock, held, _reporter(program, held, on_progress))
            backend = BACKENDS[options.solver]
            answer = backend.load()(task)
            if "exact-bound" not in backend.capabilities and program.largest_activity() > LARGEST_TRUSTED_ACTIVITY:
                answer = _without_proof(answer)
        return _outcome(program, options, clock, held, answer)
    except BackendError as error:
        kept = [_keep(program)]
        raise BackendError(error.backend, error.problem, error.log_tail, [*error.kept_files, *kept]) from error


def _start(program: Program, solver: str, start: Mapping[Meaning, int] | None) -> Sequence[int] | None:
    if start is None:
        return None
    missing = [meaning for meaning in program.variables if meaning not in start]
    if missing or len(start) != program.num_variables:
        stray = missing or [meaning for meaning in start if meaning not in program.variables]
        raise BackendError(solver, f"the start and the program differ in {len(stray)} variables, such as {shown(stray[0])}")
    columns = [int(start[meaning]) for meaning in program.variables]
    if broken := program.broken(columns):
        raise BackendError(solver, f"the start of {program.name} is not feasible: it breaks {broken}")
    return columns


def _without_solver(program: Program, held: Sequence[int] | None, options: SolverOptions) -> Answer | None:
    """Answer what needs no search: a row that cannot hold, no rows at all, a start that meets the trivial bound, no time."""
    if program.contradictions:
        return Answer(Stop.INFEASIBLE, None, None, 0, f"no values satisfy {program.contradictions[0]}")
    if not program.rows:
        best = _at_rest(program)
        for column, coefficient in program.objective:
            best[column] = program.bounds[column][0 if coefficient > 0 else 1]
        return Answer(Stop.FINISHED, best, program.least(), 0)
    if held is not None and program.value(held) == program.unit * program.least() + program.constant:
        return Answer(Stop.FINISHED, None, program.least(), 0)
    if options.time_limit == 0:
        return Answer(Stop.LIMIT, None, None, 0)
    return None


def _without_proof(answer: Answer) -> Answer:
    """Return an answer that claims no bound and no infeasibility; its values are checked exactly and need no trust."""
    return replace(answer, bound=None, stop=Stop.FINISHED if answer.stop is Stop.INFEASIBLE else answer.stop)


def _at_rest(program: Program) -> list[int]:
    """Return the value nearest to zero for each column."""
    return [min(max(0, low), high) for low, high in program.bounds]


def _reporter(
    program: Program, held: Sequence[int] | None, on_progress: OnProgress | None
) -> Callable[[float | None, float | None], None] | None:
    """Return a function that takes the solver's figures and passes on, in our units, those that are better than before."""
    if on_progress is None:
        return None
    best = None if held is None else program.value(held)
    proven = program.unit * program.least() + program.constant
    on_progress(best, proven)

    def report(objective: float | None, bound: float | None) -> None:
        nonlocal best, proven
        before = best, proven
        if objective is not None:
            value = program.unit * round(objective) + program.constant
            best = value if best is None else min(best, value)
        if (whole := round_up(bound, PROGRESS_TOLERANCE)) is not None:
            proven = max(proven, program.unit * whole + program.constant)
        if (best, proven) != before:
            on_progress(best, proven)

    return report


def _outcome(program: Program, options: SolverOptions, clock: Clock, held: Sequence[int] | None, answer: Answer) -> Outcome:
    if answer.columns is not None:
        found = _decode(program, options.solver, answer)
        if held is None or program.value(found) < program.value(held):
            held = found
    objective = None if held is None else program.value(held)
    bound = None
    if answer.stop is Stop.INFEASIBLE:
        if held is not None:
            raise BackendError(options.solver, f"{program.name} is said to be infeasible, but a feasible start is known", answer.log_tail)
    else:
        least = program.least() if answer.bound is None else max(answer.bound, program.least())
        bound = program.unit * least + program.constant
    if objective is not None and bound is not None and bound > objective:
        raise BackendError(options.solver, f"the bound {bound} exceeds the objective {objective} of a checked solution", answer.log_tail)
    status, termination = conclude(answer.stop, objective=objective, bound=bound, gap=options.gap)
    values = None if held is None else MappingProxyType(dict(zip(program.variables, held, strict=True)))
    return Outcome(status, termination, values, objective, bound, clock.seconds, answer.nodes, answer.log_tail)


def _decode(program: Program, solver: str, answer: Answer) -> Sequence[int]:
    floats = answer.columns or ()
    rounded = [round(value) for value in floats]
    worst = max((abs(value - whole) for value, whole in zip(floats, rounded, strict=True)), default=0.0)
    if worst > INTEGER_TOLERANCE:
        raise BackendError(solver, f"a value of {program.name} is {worst:.2g} away from a whole number", answer.log_tail)
    if broken := program.broken(rounded):
        raise BackendError(solver, f"the solution of {program.name}, rounded to whole numbers, breaks {broken}", answer.log_tail)
    return rounded


def _keep(program: Program) -> str:
    folder = Path(tempfile.mkdtemp(prefix="cosma-sched-report-"))
    path = folder / "program.mps"
    files.write_whole(path, program.mps())
    return str(path)
