"""The same random programs by enumeration and by every back end: one optimum, or one "infeasible"."""

from __future__ import annotations

import pytest

from cosma_sched.backends import SolverOptions, solve_linear
from cosma_sched.backends.linear import Program
from cosma_sched.result import Status, Termination
from tests.backends.programs import cover, enumerate_optimum, knapsack, random_program, split

# A child process that loads OR-Tools takes a quarter of a second.
FEW = {"cpsat": 60, "cbc": 60, "highs": 10}


def check(solver: str, seed: int) -> Status:
    program = random_program(seed)
    expected = enumerate_optimum(program)
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    if expected is None:
        assert (outcome.status, outcome.termination) == (Status.INFEASIBLE, Termination.PROVED), seed
    else:
        assert (outcome.status, outcome.objective, outcome.bound) == (Status.OPTIMAL, expected, expected), seed
        assert outcome.values is not None
        assert program.broken(list(outcome.values.values())) is None
    return outcome.status


def test_small_programs_have_the_optimum_that_enumeration_finds(solver: str) -> None:
    found = {check(solver, seed) for seed in range(FEW[solver])}
    assert found == {Status.OPTIMAL, Status.INFEASIBLE}


@pytest.mark.slow
def test_many_small_programs_have_the_optimum_that_enumeration_finds(solver: str) -> None:
    for seed in range(1000, 1000 + 8 * FEW[solver]):
        check(solver, seed)


@pytest.mark.parametrize("program", [knapsack(20, 3), cover(30), split(12, 2), split(12, 1)], ids=lambda program: program.name)
def test_back_ends_agree_on_larger_programs(program: object, request: pytest.FixtureRequest) -> None:
    solvers = request.config.getoption("--solvers").split(",")
    outcomes = [solve_linear(program, options=SolverOptions(solver=solver)) for solver in solvers]  # type: ignore[arg-type]
    assert len({(outcome.status, outcome.objective, outcome.bound) for outcome in outcomes}) == 1


def test_values_above_a_hundred_million_are_exact(solver: str) -> None:
    """Read through CBC's text solution they would have eight digits."""
    program = Program("large")
    x, y = program.integer("x", 0, 123_456_789), program.binary("y")
    program.at_most([(x, 1), (y, 7)], 123_456_788, "sum")
    program.minimise([(x, -1)])
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert dict(outcome.values or {}) == {"x": 123_456_788, "y": 0}


def test_a_feasible_program_with_long_numbers_is_never_called_infeasible(solver: str) -> None:
    """CBC calls this one proven infeasible."""
    program = Program("long")
    x, y = program.integer("x", 1_234_567_891, 1_234_567_899), program.integer("y", 11_111_111_001, 11_111_111_019)
    program.equal([(x, 1), (y, 1)], 12_345_678_901, "sum")
    program.minimise([(x, 3), (y, 2)])
    outcome = solve_linear(program, options=SolverOptions(solver=solver, time_limit=10))
    assert outcome.status is not Status.INFEASIBLE
    assert outcome.values is None or dict(outcome.values) == {"x": 1_234_567_891, "y": 11_111_111_010}


@pytest.mark.parametrize(("weights", "need", "highs", "optimum"), [((78, 71, 61), 106, (1, 3, 1), 132)])
def test_a_covering_knapsack_whose_costs_are_its_weights(
    solver: str, weights: tuple[int, ...], need: int, highs: tuple[int, ...], optimum: int
) -> None:
    """CBC 2.10.3 as it comes proves 139 for this one: probing goes wrong once a heuristic has found a solution."""
    program = Program("parallel")
    terms = [(program.integer(number, 0, high), weight) for number, (weight, high) in enumerate(zip(weights, highs, strict=True))]
    program.at_least(terms, need, "need")
    program.minimise(terms)
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert (outcome.status, outcome.objective) == (Status.OPTIMAL, optimum)
