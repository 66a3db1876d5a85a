"""What passes between the dispatcher and a back end: the task, the raw answer, and the checked outcome."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

if TYPE_CHECKING:
    from cosma_sched.backends.linear import Program, Row
    from cosma_sched.backends.options import SolverOptions
    from cosma_sched.backends.status import Stop

Meaning = Hashable
OnProgress = Callable[[int | None, int | None], None]
"""Takes (best value held, best bound proven), None where unknown; called in the caller's own thread."""


@dataclass(frozen=True, slots=True)
class LinearTask:
    """One linear program to solve.

    Parameters
    ----------
    program
        The program; a back end sees its objective divided by ``program.unit`` and without ``program.constant``.
    rows
        The program's rows.
    options
        Settings.
    clock
        The time that is left; it started before the program was lowered.
    start
        A checked feasible value for each column, or None.
    report
        Takes (objective, bound) as the solver counts them while it runs; None where nobody listens.
    """

    program: Program
    rows: Sequence[Row]
    options: SolverOptions
    clock: Clock
    start: Sequence[int] | None
    report: Callable[[float | None, float | None], None] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a solver said, not yet believed.

    Parameters
    ----------
    stop
        What stopped it.
    columns
        A value for each column where a solution is held, else None.
    bound
        A lower bound on the objective as the solver counts it, already rounded to the safe side, or None.
    nodes
        Nodes of the search tree, or None.
    log_tail
        The last lines it printed.
    """

    stop: Stop
    columns: Sequence[float] | None
    bound: int | None
    nodes: int | None = None
    log_tail: str = ""


class LinearSolver(Protocol):
    """The one function of a back end."""

    def __call__(self, task: LinearTask) -> Answer:
        """Solve, and report honestly what stopped it."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """A checked answer to a linear program.

    Parameters
    ----------
    status, termination
        What is held and why the search stopped, by our own judgement.
    values
        A whole number for each meaning, checked against every row; None where no solution is held.
    objective
        The objective recomputed from `values`.
    bound
        A proven lower bound on the objective; None where none is known or the program is infeasible.
    seconds
        Elapsed time.
    nodes
        Nodes of the search tree, None where unknown.
    log_tail
        The last lines the solver printed.
    """

    status: Status
    termination: Termination
    values: Mapping[Meaning, int] | None
    objective: int | None
    bound: int | None
    seconds: float
    nodes: int | None = None
    log_tail: str = ""
