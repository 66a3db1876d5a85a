"""What may be asked of a solve, and what is refused before anything runs."""

from __future__ import annotations

import math

import pytest

from cosma_sched.backends import SolverOptions
from cosma_sched.errors import UsageError


def test_an_unknown_solver_lists_the_known_ones_and_suggests() -> None:
    with pytest.raises(UsageError, match='"cpsta" is no solver; known ones are cpsat, cbc, highs; did you mean "cpsat"'):
        SolverOptions(solver="cpsta")


def test_highs_refuses_more_than_one_worker_and_names_who_can() -> None:
    with pytest.raises(UsageError, match="highs runs on one worker only, got workers 2; use cpsat or cbc"):
        SolverOptions(solver="highs", workers=2)


def test_a_deterministic_limit_needs_one_worker() -> None:
    with pytest.raises(UsageError, match="deterministic limit needs one worker"):
        SolverOptions(workers=2, deterministic_limit=1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_limit": -1.0},
        {"time_limit": math.nan},
        {"time_limit": math.inf},
        {"gap": -0.1},
        {"gap": math.nan},
        {"deterministic_limit": -1.0},
        {"seed": -1},
        {"seed": 2**31},
        {"workers": 0},
    ],
)
def test_values_out_of_range_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SolverOptions(**wrong)  # type: ignore[arg-type]
