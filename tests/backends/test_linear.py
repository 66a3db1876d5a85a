"""Programs in whole numbers: names, sums, divisors, contradictions, and what is written."""

from __future__ import annotations

import pytest

from cosma_sched.backends.linear import Program, Row, total
from cosma_sched.errors import InputError
from tests.backends.programs import enumerate_optimum, knapsack, random_program


@pytest.fixture
def program() -> Program:
    return Program("a program")


def test_coefficients_of_one_variable_are_added_up(program: Program) -> None:
    x = program.binary("x")
    assert dict(total([(x, 3), (x, 2)])) == {x: 5}


def test_terms_that_cancel_are_dropped(program: Program) -> None:
    x, y = program.binary("x"), program.binary("y")
    assert dict(total([(x, 3), (y, 1), (x, -3)])) == {y: 1}


def test_a_coefficient_that_is_no_whole_number_is_refused(program: Program) -> None:
    with pytest.raises(TypeError):
        total([(program.binary("x"), 0.5)])  # type: ignore[list-item]


def test_numpy_integers_become_exact_ones(program: Program) -> None:
    numpy = pytest.importorskip("numpy")
    x = program.integer("x", numpy.int64(0), numpy.int64(3))
    program.at_least([(x, numpy.int64(2))], numpy.int64(3), "row")
    assert program.rows[0] == Row((0,), (1,), 2, None, "row")
    assert type(program.rows[0].low) is int


def test_names_are_opaque_and_sort_in_the_order_of_creation(program: Program) -> None:
    names = [program.binary(("n/layer", number)).name for number in range(12)]
    assert names == sorted(names)
    assert names[0] == "x0000000"


def test_meanings_that_pulp_would_merge_stay_apart(program: Program) -> None:
    program.binary("n/layer-1")
    program.binary("n/layer_1")
    assert list(program.variables) == ["n/layer-1", "n/layer_1"]


def test_a_meaning_that_stands_twice_is_refused(program: Program) -> None:
    program.binary(("x", 1))
    with pytest.raises(InputError, match=r"variable \('x', 1\) stands twice"):
        program.binary(("x", 1))


def test_a_variable_without_a_bound_is_refused_by_name(program: Program) -> None:
    with pytest.raises(InputError, match='variable "x" must have finite bounds'):
        program.integer("x", 0, None)  # type: ignore[arg-type]


def test_bounds_in_the_wrong_order_are_refused(program: Program) -> None:
    with pytest.raises(InputError, match="low 3 exceeds high 2"):
        program.integer("x", 3, 2)


def test_a_variable_of_another_program_is_refused(program: Program) -> None:
    stranger = Program("other").binary("x")
    program.binary("x")
    with pytest.raises(InputError, match="belongs to another program"):
        program.at_least([(stranger, 1)], 1, "row")


def test_a_row_is_divided_by_its_common_divisor_and_its_side_rounded_inwards(program: Program) -> None:
    x, y = program.integer("x", 0, 9), program.integer("y", 0, 9)
    program.at_least([(x, 4), (y, 6)], 5, "low")
    program.at_most([(x, 4), (y, 6)], 5, "high")
    assert [(row.coefficients, row.low, row.high) for row in program.rows] == [((2, 3), 3, None), ((2, 3), None, 2)]


def test_an_equality_that_no_multiple_meets_is_a_contradiction(program: Program) -> None:
    x, y = program.integer("x", 0, 9), program.integer("y", 0, 9)
    program.equal([(x, 4), (y, 6)], 5, "odd")
    assert program.contradictions == ["odd"]
    assert program.num_rows == 0


def test_a_row_without_terms_holds_or_is_a_contradiction(program: Program) -> None:
    program.at_least([], 0, "fine")
    program.at_least([], 1, "broken")
    program.at_most([], -1, "broken too")
    assert program.contradictions == ["broken", "broken too"]
    assert program.num_rows == 0


def test_the_objective_is_stored_by_its_divisor_and_without_its_constant(program: Program) -> None:
    x, y = program.binary("x"), program.integer("y", -2, 2)
    program.minimise([(x, 64), (y, 128)], 7)
    assert (program.unit, program.constant, tuple(program.objective)) == (64, 7, ((0, 1), (1, 2)))
    assert program.value([1, 2]) == 64 + 256 + 7
    assert program.least() == -4


def test_a_second_objective_replaces_the_first(program: Program) -> None:
    x, y = program.binary("x"), program.binary("y")
    program.minimise([(x, 1)])
    program.minimise([(y, 3)], 1)
    assert program.value([1, 1]) == 4


def test_a_broken_row_and_a_broken_bound_are_named(program: Program) -> None:
    x = program.integer("x", 0, 2)
    program.at_least([(x, 1)], 1, "at least one")
    assert program.broken([0]) == "at least one"
    assert program.broken([3]) == 'bounds of "x": 3 outside 0..2'
    assert program.broken([2]) is None


def test_rows_are_checked_exactly_where_floats_are_not(program: Program) -> None:
    x = program.integer("x", 0, 2**60)
    program.equal([(x, 1)], 2**53 + 1, "exact")
    assert program.broken([2**53]) == "exact"
    assert program.broken([2**53 + 1]) is None


def test_pulp_holds_the_same_rows() -> None:
    program = random_program(3)
    held = [(constraint.sense, -constraint.constant, len(constraint)) for constraint in program.problem.constraints()]
    assert held == [
        ((1, row.low) if row.high is None else (-1, row.high) if row.low is None else (0, row.high)) + (len(row.columns),)
        for row in program.rows
    ]


def test_the_mps_text_says_how_to_read_its_objective(program: Program) -> None:
    x = program.binary("x")
    program.minimise([(x, 64)], 9)
    program.at_least([(x, 3)], 1, "row")
    first, *rest = program.mps().splitlines()
    assert first == "* objective = 64 * OBJ + 9"
    assert rest[-1] == "ENDATA"


def test_writing_adds_no_variable_to_a_program_without_objective(program: Program) -> None:
    """PuLP puts a variable ``__dummy`` into an empty objective while it writes."""
    x = program.binary("x")
    program.at_least([(x, 1)], 1, "row")
    assert "__dummy" not in program.mps()
    assert [variable.name for variable in program.problem.variables()] == ["x0000000"]


def test_an_empty_program_can_be_written(program: Program) -> None:
    assert program.mps().endswith("ENDATA\n")


def test_the_largest_number_counts_sides_bounds_and_coefficients() -> None:
    program = knapsack(4, 2)
    x = program.integer("x", -5000, 7)
    assert program.largest() == 5000
    program.at_most([(x, 1), (next(iter(program.variables.values())), 1)], 90000, "side")
    assert program.largest() == 90000


@pytest.mark.parametrize("seed", range(8))
def test_the_trivial_bound_never_exceeds_the_optimum(seed: int) -> None:
    program = random_program(seed)
    optimum = enumerate_optimum(program)
    assert optimum is None or program.unit * program.least() + program.constant <= optimum
