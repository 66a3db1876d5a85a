"""What the dispatcher does with any solver's answer: check it, recompute it, or refuse it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from cosma_sched.backends import BACKENDS, Outcome, SolverOptions, solve, solve_linear
from cosma_sched.backends.linear import Program
from cosma_sched.backends.status import Stop
from cosma_sched.backends.task import Answer, LinearTask
from cosma_sched.errors import BackendError
from cosma_sched.result import Status, Termination
from tests.backends.programs import knapsack


def three_of_five() -> Program:
    program = Program("three of five")
    items = [program.binary(item) for item in range(5)]
    program.at_least([(item, 2) for item in items], 6, "enough")
    program.minimise([(item, 10 * (number + 1)) for number, item in enumerate(items)], 5)
    return program


OPTIMUM = 65
START = dict(enumerate([0, 0, 1, 1, 1]))


class Told:
    """A back end that says what it is told to say."""

    def __init__(self, answer: Answer, name: str = "cpsat") -> None:
        self.capabilities = BACKENDS[name].capabilities
        self.answer = answer
        self.tasks: list[LinearTask] = []

    def load(self) -> Callable[[LinearTask], Answer]:
        return self.solve

    def solve(self, task: LinearTask) -> Answer:
        self.tasks.append(task)
        return self.answer


def answered(
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    *,
    name: str = "cpsat",
    program: Program | None = None,
    start: dict[int, int] | None = None,
) -> Outcome:
    monkeypatch.setattr(solve, "BACKENDS", {name: Told(answer, name)})
    return solve_linear(program or three_of_five(), options=SolverOptions(solver=name), start=start)


def test_an_optimum_is_told_with_values_objective_and_bound(solver: str) -> None:
    outcome = solve_linear(three_of_five(), options=SolverOptions(solver=solver))
    assert (outcome.status, outcome.termination) == (Status.OPTIMAL, Termination.PROVED)
    assert dict(outcome.values or {}) == {0: 1, 1: 1, 2: 1, 3: 0, 4: 0}
    assert (outcome.objective, outcome.bound) == (OPTIMUM, OPTIMUM)


def test_a_program_can_be_extended_and_solved_again(solver: str) -> None:
    program = three_of_five()
    options = SolverOptions(solver=solver)
    solve_linear(program, options=options)
    program.at_most([(program.variables[0], 1), (program.variables[1], 1)], 1, "cut")
    assert solve_linear(program, options=options).objective == 85


def test_an_infeasible_program_holds_nothing(solver: str) -> None:
    program = three_of_five()
    program.at_most([(variable, 1) for variable in program.variables.values()], 2, "too few")
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert (outcome.status, outcome.termination) == (Status.INFEASIBLE, Termination.PROVED)
    assert (outcome.values, outcome.objective, outcome.bound) == (None, None, None)


def test_a_program_without_objective_is_optimal_at_its_constant(solver: str) -> None:
    program = Program("any")
    x = [program.integer(name, -4, 4) for name in "ab"]
    program.equal([(x[0], 1), (x[1], -1)], 3, "apart")
    program.minimise([], 7)
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert (outcome.status, outcome.objective, outcome.bound) == (Status.OPTIMAL, 7, 7)
    assert outcome.values is not None
    assert outcome.values["a"] - outcome.values["b"] == 3


def test_a_variable_that_nothing_mentions_still_has_a_value(solver: str) -> None:
    program = three_of_five()
    program.integer("idle", 2, 9)
    program.integer("idle below zero", -9, -2)
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert outcome.objective == OPTIMUM
    assert outcome.values is not None
    assert 2 <= outcome.values["idle"] <= 9
    assert -9 <= outcome.values["idle below zero"] <= -2


def test_a_program_without_variables_is_its_constant(solver: str) -> None:
    program = Program("empty")
    program.minimise([], 3)
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert (outcome.status, outcome.objective, dict(outcome.values or {})) == (Status.OPTIMAL, 3, {})


def test_a_program_without_rows_goes_to_its_best_bounds(solver: str) -> None:
    program = Program("free")
    program.minimise([(program.integer("up", -2, 9), -1), (program.integer("down", -2, 9), 3)], 1)
    program.integer("idle", 4, 5)
    outcome = solve_linear(program, options=SolverOptions(solver=solver))
    assert dict(outcome.values or {}) == {"up": 9, "down": -2, "idle": 4}
    assert (outcome.status, outcome.objective) == (Status.OPTIMAL, -14)


def test_a_row_that_cannot_hold_needs_no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "BACKENDS", {})
    program = three_of_five()
    program.at_least([], 1, "nothing left to drop")
    outcome = solve_linear(program, options=SolverOptions())
    assert (outcome.status, outcome.termination) == (Status.INFEASIBLE, Termination.PROVED)
    assert "nothing left to drop" in outcome.log_tail


def test_a_start_that_meets_the_trivial_bound_needs_no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "BACKENDS", {})
    program = Program("any")
    x = program.binary("x")
    program.at_most([(x, 1)], 0, "row")
    program.minimise([(x, 5)])
    outcome = solve_linear(program, options=SolverOptions(), start={"x": 0})
    assert (outcome.status, outcome.objective, outcome.bound) == (Status.OPTIMAL, 0, 0)


def test_no_time_at_all_returns_the_start(solver: str) -> None:
    outcome = solve_linear(three_of_five(), options=SolverOptions(solver=solver, time_limit=0), start=START)
    assert (outcome.status, outcome.termination) == (Status.FEASIBLE, Termination.TIME_LIMIT)
    assert (outcome.objective, dict(outcome.values or {})) == (125, START)


def test_a_start_that_the_solver_cannot_beat_in_time_is_the_answer(solver: str) -> None:
    program = knapsack(200, 10)
    start = dict.fromkeys(program.variables, 0) | {("take", 3): 1}
    outcome = solve_linear(program, options=SolverOptions(solver=solver, time_limit=0.001), start=start)
    assert outcome.status is Status.FEASIBLE
    assert outcome.termination is Termination.TIME_LIMIT
    assert outcome.objective is not None
    assert outcome.objective <= program.value([start[meaning] for meaning in program.variables])


def test_without_a_start_and_without_time_nothing_is_held(solver: str) -> None:
    outcome = solve_linear(knapsack(200, 10), options=SolverOptions(solver=solver, time_limit=0))
    assert (outcome.status, outcome.termination) == (Status.UNKNOWN, Termination.TIME_LIMIT)
    assert (outcome.values, outcome.objective) == (None, None)
    assert outcome.bound is not None


def test_a_start_is_taken_up_and_improved(solver: str) -> None:
    outcome = solve_linear(three_of_five(), options=SolverOptions(solver=solver), start=START)
    assert (outcome.status, outcome.objective) == (Status.OPTIMAL, OPTIMUM)


def test_progress_begins_with_the_start_and_ends_at_the_optimum(solver: str) -> None:
    seen: list[tuple[int | None, int | None]] = []
    program = knapsack(25, 3)
    start = dict.fromkeys(program.variables, 0)
    outcome = solve_linear(program, options=SolverOptions(solver=solver), start=start, on_progress=lambda *event: seen.append(event))
    assert seen[0] == (0, program.least() * program.unit)
    incumbents = [value for value, _ in seen if value is not None]
    assert incumbents == sorted(incumbents, reverse=True)
    assert seen[-1][0] == outcome.objective
    assert all(bound is None or value is None or bound <= value for value, bound in seen)


def test_a_gap_that_was_asked_for_is_never_called_optimal(solver: str) -> None:
    program = knapsack(100, 10)
    outcome = solve_linear(program, options=SolverOptions(solver=solver, gap=0.05))
    assert outcome.objective is not None
    assert outcome.bound is not None
    assert outcome.bound < outcome.objective
    assert (outcome.status, outcome.termination) == (Status.FEASIBLE, Termination.GAP_REACHED)


def test_the_same_request_gives_the_same_values(solver: str) -> None:
    first, second = (solve_linear(knapsack(25, 3), options=SolverOptions(solver=solver, seed=4)) for _ in range(2))
    assert dataclasses.replace(first, seconds=0, log_tail="") == dataclasses.replace(second, seconds=0, log_tail="")


def test_two_workers_prove_the_same_optimum() -> None:
    for solver in ("cpsat", "cbc"):
        assert solve_linear(three_of_five(), options=SolverOptions(solver=solver, workers=2)).bound == OPTIMUM


def test_the_program_is_written_where_asked(tmp_path: Path, solver: str) -> None:
    path = tmp_path / "model.mps"
    solve_linear(three_of_five(), options=SolverOptions(solver=solver, write_model=str(path)))
    assert path.read_text(encoding="utf-8") == three_of_five().mps()


def test_a_start_that_breaks_a_row_is_a_bug_of_ours(solver: str) -> None:
    with pytest.raises(BackendError, match="the start of three of five is not feasible: it breaks enough"):
        solve_linear(three_of_five(), options=SolverOptions(solver=solver), start=dict.fromkeys(range(5), 0))


def test_a_start_must_name_every_variable() -> None:
    with pytest.raises(BackendError, match="differ in 1 variables, such as 4"):
        solve_linear(three_of_five(), options=SolverOptions(), start=dict.fromkeys(range(4), 1))


def test_a_start_must_not_name_strangers() -> None:
    with pytest.raises(BackendError, match='differ in 1 variables, such as "stranger"'):
        solve_linear(three_of_five(), options=SolverOptions(), start={**START, "stranger": 1})


def test_a_value_far_from_a_whole_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver without a solution may still hand out the values of the relaxation."""
    with pytest.raises(BackendError, match=r"a value of three of five is 0\.5 away from a whole number"):
        answered(monkeypatch, Answer(Stop.LIMIT, [1.0, 1.0, 0.5, 0.5, 0.0], 0))


def test_values_that_break_a_row_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="rounded to whole numbers, breaks enough"):
        answered(monkeypatch, Answer(Stop.FINISHED, [1.0, 1.0, 0.000001, 0.0, 0.0], 6))


def test_values_a_hair_off_are_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = answered(monkeypatch, Answer(Stop.FINISHED, [0.999999, 1.0, 1.0000001, 0.0, -1e-9], 6))
    assert (outcome.status, outcome.objective) == (Status.OPTIMAL, OPTIMUM)


def test_a_finished_search_with_a_lower_bound_is_not_optimal(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = answered(monkeypatch, Answer(Stop.FINISHED, [1, 1, 1, 0, 0], 5))
    assert (outcome.status, outcome.termination, outcome.bound) == (Status.FEASIBLE, Termination.EXHAUSTED, 55)


def test_an_answer_at_the_limit_that_meets_its_bound_is_optimal(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = answered(monkeypatch, Answer(Stop.LIMIT, [1, 1, 1, 0, 0], 6))
    assert (outcome.status, outcome.termination) == (Status.OPTIMAL, Termination.PROVED)


def test_a_bound_above_a_checked_solution_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="the bound 75 exceeds the objective 65"):
        answered(monkeypatch, Answer(Stop.FINISHED, [1, 1, 1, 0, 0], 7))


def test_infeasible_against_a_feasible_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="said to be infeasible, but a feasible start is known"):
        answered(monkeypatch, Answer(Stop.INFEASIBLE, None, None), start=START)


def test_a_worse_answer_than_the_start_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = answered(monkeypatch, Answer(Stop.LIMIT, [1, 1, 1, 1, 1], 3), start=START)
    assert (outcome.objective, outcome.bound, outcome.termination) == (125, 35, Termination.TIME_LIMIT)


def test_the_back_end_is_given_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(Answer(Stop.LIMIT, None, None))
    monkeypatch.setattr(solve, "BACKENDS", {"cpsat": told})
    solve_linear(three_of_five(), options=SolverOptions(time_limit=9), start=START)
    (task,) = told.tasks
    assert task.start == list(START.values())
    assert task.clock.limit == 9
    assert task.report is None


def beyond_floats() -> Program:
    """Numbers at which a unit is below the tolerances of floating-point solvers; the optimum is 2."""
    program = Program("beyond floats")
    x, y = program.integer("x", 0, 2), program.integer("y", 0, 2)
    program.at_least([(x, 10**9 + 7), (y, 10**9 + 9)], 2 * 10**9 + 15, "long numbers")
    program.minimise([(x, 1), (y, 1)])
    return program


@pytest.mark.parametrize("name", ["cbc", "highs"])
def test_floating_point_proofs_about_long_numbers_are_not_believed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    claims = {Stop.INFEASIBLE: Answer(Stop.INFEASIBLE, None, None), Stop.FINISHED: Answer(Stop.FINISHED, [0, 2], 2)}
    refused = answered(monkeypatch, claims[Stop.INFEASIBLE], name=name, program=beyond_floats())
    assert (refused.status, refused.termination, refused.bound) == (Status.UNKNOWN, Termination.EXHAUSTED, 0)
    found = answered(monkeypatch, claims[Stop.FINISHED], name=name, program=beyond_floats())
    assert (found.status, found.termination, found.objective, found.bound) == (Status.FEASIBLE, Termination.EXHAUSTED, 2, 0)


def test_exact_proofs_about_long_numbers_are_believed() -> None:
    outcome = solve_linear(beyond_floats(), options=SolverOptions())
    assert (outcome.status, outcome.objective) == (Status.OPTIMAL, 2)


def test_a_failure_keeps_the_program_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="kept for a report") as caught:
        answered(monkeypatch, Answer(Stop.FINISHED, [0.5] * 5, 6, log_tail="the last line"))
    (kept,) = caught.value.kept_files
    assert Path(kept).read_text(encoding="utf-8") == three_of_five().mps()
    assert "the last line" in str(caught.value)


def test_nothing_is_left_in_the_temporary_folder(own_temporary_folder: Path, solver: str) -> None:
    solve_linear(three_of_five(), options=SolverOptions(solver=solver))
    assert list(own_temporary_folder.iterdir()) == []


def test_a_blank_in_the_temporary_folder_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, solver: str) -> None:
    """PuLP's own call splits its command line at blanks."""
    folder = tmp_path / "a folder with blanks"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert solve_linear(three_of_five(), options=SolverOptions(solver=solver)).objective == OPTIMUM
