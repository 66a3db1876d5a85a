"""Choosing groups: cycles, ties, chains; paths and all back ends alike."""

from __future__ import annotations

import itertools
import random

import pytest

from cosma_sched.backends.options import SolverOptions
from cosma_sched.fusion.assemble import in_running_order
from cosma_sched.fusion.enumeration import candidates
from cosma_sched.fusion.hull import covers, least, lower_hull, plus
from cosma_sched.fusion.problem import FusionProblem, Node, Operand
from cosma_sched.fusion.selection import Option, Paths, Programs
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.network import Support, sweep
from tests.fusion.test_fronts import BASE

SOLVERS = ("cpsat", "cbc")


def network(reads: list[tuple[int, ...]]) -> FusionProblem:
    nodes = []
    for index, producers in enumerate(reads):
        layer = Layer(f"n{index}", (1, 4, 4, 4, 4, 1, 1), pad_p=0, pad_q=0)
        operands = tuple(Operand("input", producer, 64) for producer in producers) or (Operand("input", None, 64),)
        nodes.append(Node(layer.name, "Conv", (1, 4, 4), 64, layer, None, operands, is_output=index == len(reads) - 1))
    return FusionProblem("net", tuple(nodes))


CYCLIC = network([(), (), (0, 1), (0, 1)])
"""Nodes 0 and 2, and nodes 1 and 3, are groups; but each pair reads from the other."""


def cyclic_options() -> list[Option]:
    alone = [Option((index,), ((10, 10),)) for index in range(4)]
    return [*alone, Option((0, 2), ((12, 12),)), Option((1, 3), ((13, 13),))]


def test_groups_that_need_each_other_are_not_chosen_together() -> None:
    found = Paths(CYCLIC, cyclic_options()).solve(1, 1)
    assert (found.energy, found.latency) == (32, 32)


@pytest.mark.parametrize("back_end", SOLVERS)
def test_a_back_end_learns_the_cycle_by_a_cut(back_end: str) -> None:
    programs = Programs(CYCLIC, cyclic_options(), SolverOptions(solver=back_end))
    found = programs.solve(1, 1)
    assert (found.energy, found.latency, found.bound) == (32, 32, 64)
    assert len(programs.cuts) == 1


def brute(problem: FusionProblem, options: list[Option], a: int, b: int) -> int:
    best = None
    for count in range(1, len(problem.nodes) + 1):
        for chosen in itertools.combinations(options, count):
            members = [member for option in chosen for member in option.members]
            if sorted(members) != list(range(len(problem.nodes))):
                continue
            try:
                in_running_order(problem, [option.members for option in chosen])
            except Exception:  # noqa: BLE001 - networkx has its own for a cycle
                continue
            points = [least(option.hull, a, b) for option in chosen]
            value = a * sum(e for e, _ in points) + b * sum(x for _, x in points)
            best = value if best is None else min(best, value)
    assert best is not None
    return best


def random_case(seed: int) -> tuple[FusionProblem, list[Option]]:
    rng = random.Random(seed)
    reads: list[tuple[int, ...]] = [()]
    reads += [tuple(rng.sample(range(index), rng.randint(1, min(2, index)))) for index in range(1, 5)]
    problem = network(reads)
    options = [Option((index,), lower_hull((rng.randint(5, 20), rng.randint(5, 20)) for _ in range(3))) for index in range(5)]
    for members in candidates(problem, BASE, 3).groups:
        options.append(Option(members, lower_hull((rng.randint(8, 40), rng.randint(8, 40)) for _ in range(3))))  # noqa: PERF401
    return problem, options


@pytest.mark.parametrize("seed", range(25))
def test_paths_find_the_best_partition_in_every_direction(seed: int) -> None:
    problem, options = random_case(seed)
    paths = Paths(problem, options)
    for a, b in ((1, 0), (0, 1), (1, 1), (3, 7)):
        assert paths.solve(a, b).bound == brute(problem, options, a, b)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("back_end", SOLVERS)
def test_back_ends_meet_the_same_extreme_points_as_paths(seed: int, back_end: str) -> None:
    problem, options = random_case(seed)
    by_paths = sweep(Paths(problem, options).solve)
    by_solver = sweep(Programs(problem, options, SolverOptions(solver=back_end)).solve)

    def plain(point: Support[object]) -> tuple[int, int]:
        return point.energy, point.latency

    assert [*map(plain, by_solver.points)] == [*map(plain, by_paths.points)]
    assert by_solver.edp_bound == by_paths.edp_bound


def test_a_hull_keeps_only_what_a_weighted_sum_can_choose() -> None:
    assert lower_hull([(0, 10), (5, 4), (10, 0), (4, 7), (6, 6)]) == ((0, 10), (5, 4), (10, 0))
    assert lower_hull([(0, 10), (3, 1), (10, 0)]) == ((0, 10), (3, 1), (10, 0))
    assert lower_hull([(1, 1), (2, 3)]) == ((1, 1),)


def test_a_hull_covers_what_lies_on_or_above_it() -> None:
    hull = ((0, 10), (10, 0))
    assert covers(hull, (5, 5))
    assert covers(hull, (11, 0))
    assert not covers(hull, (4, 5))
    assert not covers(hull, (-1, 100))
    assert not covers(hull, (100, -1))


def test_the_sum_of_hulls_is_the_hull_of_all_sums() -> None:
    rng = random.Random(5)
    for _ in range(50):
        one, other = (lower_hull((rng.randint(0, 30), rng.randint(0, 30)) for _ in range(5)) for _ in range(2))
        assert plus(one, other) == lower_hull((x[0] + y[0], x[1] + y[1]) for x in one for y in other)


def test_without_time_a_back_end_claims_no_bound_below_zero() -> None:
    """Two negative bounds multiplied once to a bound far above the value."""
    problem, options = random_case(3)
    programs = Programs(problem, options, SolverOptions(time_limit=0.0))
    found = sweep(programs.solve)
    assert found.energy_bound >= 0
    assert found.latency_bound >= 0
    assert found.edp_bound <= min(point.energy * point.latency for point in found.points)
