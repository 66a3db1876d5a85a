"""What is held and why it stopped, from what was recomputed and not from the solver's word."""

from __future__ import annotations

import math

import pytest

from cosma_sched.backends.status import Stop, conclude, round_up
from cosma_sched.result import Status, Termination

CASES = [
    # stop, objective, bound, gap -> status, termination
    (Stop.FINISHED, 10, 10, 0.0, Status.OPTIMAL, Termination.PROVED),
    (Stop.LIMIT, 10, 10, 0.0, Status.OPTIMAL, Termination.PROVED),
    (Stop.INTERRUPT, 10, 10, 0.1, Status.OPTIMAL, Termination.PROVED),
    (Stop.FINISHED, 10, 9, 0.0, Status.FEASIBLE, Termination.EXHAUSTED),
    (Stop.FINISHED, 10, None, 0.0, Status.FEASIBLE, Termination.EXHAUSTED),
    (Stop.FINISHED, 100, 99, 0.02, Status.FEASIBLE, Termination.GAP_REACHED),
    (Stop.LIMIT, 100, 99, 0.02, Status.FEASIBLE, Termination.GAP_REACHED),
    (Stop.LIMIT, 100, 90, 0.02, Status.FEASIBLE, Termination.TIME_LIMIT),
    (Stop.LIMIT, -100, -101, 0.02, Status.FEASIBLE, Termination.GAP_REACHED),
    (Stop.LIMIT, 0, -1, 0.5, Status.FEASIBLE, Termination.TIME_LIMIT),
    (Stop.LIMIT, 10, None, 0.5, Status.FEASIBLE, Termination.TIME_LIMIT),
    (Stop.INTERRUPT, 10, 8, 0.0, Status.FEASIBLE, Termination.INTERRUPTED),
    (Stop.LIMIT, None, 8, 0.0, Status.UNKNOWN, Termination.TIME_LIMIT),
    (Stop.INTERRUPT, None, None, 0.0, Status.UNKNOWN, Termination.INTERRUPTED),
    (Stop.INFEASIBLE, None, None, 0.0, Status.INFEASIBLE, Termination.PROVED),
]


@pytest.mark.parametrize(("stop", "objective", "bound", "gap", "status", "termination"), CASES)
def test_status_and_termination_follow_from_objective_bound_and_gap(
    stop: Stop, objective: int | None, bound: int | None, gap: float, status: Status, termination: Termination
) -> None:
    assert conclude(stop, objective=objective, bound=bound, gap=gap) == (status, termination)


def test_a_bound_is_rounded_up_to_the_next_whole_number() -> None:
    assert round_up(10.2, 1e-3) == 11
    assert round_up(-10.2, 1e-3) == -10


def test_a_bound_a_hair_above_a_whole_number_proves_only_that_number() -> None:
    assert round_up(10.0004, 1e-3) == 10
    assert round_up(9.9996, 1e-3) == 10


def test_a_large_bound_is_granted_a_larger_error() -> None:
    assert round_up(2e9 + 1, 1e-6) == 2_000_000_000 - 1


@pytest.mark.parametrize("unknown", [None, math.inf, -math.inf, math.nan, 1e50])
def test_an_infinite_bound_is_no_bound(unknown: float | None) -> None:
    assert round_up(unknown, 1e-3) is None
