"""Native CP-SAT models: values only where they are held, exact bounds, hints, limits."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from cosma_sched.backends import SolverOptions, solve_cpsat
from cosma_sched.errors import BackendError
from cosma_sched.result import Status, Termination

cp_model = pytest.importorskip("ortools.sat.python.cp_model")


def knapsack(items: int = 6) -> tuple[Any, list[Any]]:
    """At least half of the weights 1..n, least sum of (n + 1 - weight) squared."""
    model = cp_model.CpModel()
    chosen = [model.new_bool_var(f"take{item}") for item in range(items)]
    model.add(sum((item + 1) * take for item, take in enumerate(chosen)) >= items * (items + 1) // 4)
    model.minimize(sum((items - item) ** 2 * take for item, take in enumerate(chosen)) + 100)
    return model, chosen


def hard(size: int = 60) -> Any:
    """A market split whose feasible points are out of reach."""
    import random

    rng = random.Random(1)
    model = cp_model.CpModel()
    x = [model.new_bool_var("") for _ in range(size)]
    for _ in range(6):
        weights = [rng.randint(1, 99) for _ in x]
        model.add(cp_model.LinearExpr.weighted_sum(x, weights) == sum(weights) // 2)
    model.minimize(sum(x) - 500)
    return model


def test_an_optimum_is_told_with_values_and_an_exact_bound() -> None:
    model, chosen = knapsack()
    outcome = solve_cpsat(model, options=SolverOptions())
    assert (outcome.status, outcome.termination) == (Status.OPTIMAL, Termination.PROVED)
    assert outcome.objective == outcome.bound == 105
    assert [outcome.value(take) for take in chosen] == [0, 0, 0, 0, 1, 1]
    assert outcome.value(~chosen[5]) == 0


def test_a_maximum_is_told_as_the_model_counts() -> None:
    model = cp_model.CpModel()
    x = model.new_int_var(-5, 9, "x")
    model.maximize(3 * x + 7)
    outcome = solve_cpsat(model, options=SolverOptions())
    assert (outcome.status, outcome.objective, outcome.bound) == (Status.OPTIMAL, 34, 34)


def test_a_model_without_objective_is_settled_by_any_solution() -> None:
    model = cp_model.CpModel()
    x = model.new_int_var(0, 9, "x")
    model.add(2 * x == 6)
    outcome = solve_cpsat(model, options=SolverOptions())
    assert (outcome.status, outcome.termination, outcome.objective, outcome.bound) == (Status.OPTIMAL, Termination.PROVED, None, None)
    assert outcome.value(x) == 3


def test_an_infeasible_model_has_neither_value_nor_bound() -> None:
    model, chosen = knapsack()
    model.add(sum(chosen) == 0)
    outcome = solve_cpsat(model, options=SolverOptions())
    assert (outcome.status, outcome.termination) == (Status.INFEASIBLE, Termination.PROVED)
    assert (outcome.solution, outcome.objective, outcome.bound) == (None, None, None)


def test_reading_a_value_where_none_is_held_is_an_error() -> None:
    """CP-SAT itself returns whatever is in memory."""
    model, chosen = knapsack()
    outcome = solve_cpsat(model, options=SolverOptions(time_limit=0))
    assert outcome.status is Status.UNKNOWN
    with pytest.raises(BackendError, match="no solution is held"):
        outcome.value(chosen[0])


def test_a_search_that_never_began_proves_only_what_the_domains_prove() -> None:
    """CP-SAT reports a bound of 0 then, which would be wrong where the objective can be negative."""
    outcome = solve_cpsat(hard(), options=SolverOptions(time_limit=0))
    assert (outcome.status, outcome.termination, outcome.bound) == (Status.UNKNOWN, Termination.TIME_LIMIT, -500)


def test_a_deterministic_limit_repeats_bound_and_values() -> None:
    first, second = (solve_cpsat(hard(), options=SolverOptions(deterministic_limit=0.1)) for _ in range(2))
    assert first.termination is Termination.TIME_LIMIT
    assert dataclasses.replace(first, seconds=0, log_tail="") == dataclasses.replace(second, seconds=0, log_tail="")


def test_an_invalid_model_is_refused_with_the_reason() -> None:
    model = cp_model.CpModel()
    x = model.new_int_var(0, 2**40, "x")
    model.add(2**30 * x <= 5)
    with pytest.raises(BackendError, match="MODEL_INVALID: Possible integer overflow"):
        solve_cpsat(model, options=SolverOptions())


def test_an_objective_in_floats_is_refused() -> None:
    model = cp_model.CpModel()
    model.minimize(0.5 * model.new_int_var(0, 5, "x"))
    with pytest.raises(BackendError, match="not whole numbers"):
        solve_cpsat(model, options=SolverOptions())


@pytest.mark.parametrize("by_index", [False, True])
def test_a_hint_replaces_the_hints_of_the_model(by_index: bool) -> None:
    """Two hints on one variable make a model invalid."""
    model, chosen = knapsack()
    hint = {take.index if by_index else take: 1 for take in chosen}
    for _ in range(2):
        assert solve_cpsat(model, options=SolverOptions(), hint=hint).objective == 105
    assert len(model.proto.solution_hint.vars) == len(chosen)


def test_solutions_are_reported_in_this_thread_while_they_come() -> None:
    import threading

    seen: list[tuple[int | None, int | None, str]] = []
    model, _ = knapsack(14)
    outcome = solve_cpsat(
        model, options=SolverOptions(), on_solution=lambda value, bound: seen.append((value, bound, threading.current_thread().name))
    )
    assert seen[-1][0] == outcome.objective
    assert {name for _, _, name in seen} == {threading.current_thread().name}


def test_an_error_of_an_observer_ends_the_search_and_comes_through() -> None:
    def observer(value: int | None, bound: int | None) -> None:
        raise ZeroDivisionError

    model, _ = knapsack(14)
    with pytest.raises(ZeroDivisionError):
        solve_cpsat(model, options=SolverOptions(), on_solution=observer)


def test_another_thread_may_end_the_search() -> None:
    stop_event = Event()
    stop_event.set()
    outcome = solve_cpsat(hard(), options=SolverOptions(), stop_event=stop_event)  # without the event it would not end
    assert (outcome.status, outcome.termination) == (Status.UNKNOWN, Termination.TIME_LIMIT)


def test_the_model_is_written_as_text(tmp_path: Path) -> None:
    model, _ = knapsack()
    solve_cpsat(model, options=SolverOptions(write_model=str(tmp_path / "model.txt")))
    assert (tmp_path / "model.txt").read_text(encoding="utf-8") == str(model.proto)


def test_the_options_of_another_back_end_bring_no_profile_of_theirs() -> None:
    model, _ = knapsack()
    assert solve_cpsat(model, options=SolverOptions(solver="cbc", profile="nosuch")).status is Status.OPTIMAL
