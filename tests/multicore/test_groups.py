"""Fusion groups: parts of a problem planned alone, the best cuts between them, and what is claimed about the whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cosma_sched.errors import UsageError
from cosma_sched.multicore.coarse import coarsened
from cosma_sched.multicore.draft import Draft
from cosma_sched.multicore.groups import MOST_NODES, Cuts, Solved, by_groups, in_sequence, part_of, shortest, units_of
from cosma_sched.multicore.list_scheduler import list_schedule
from cosma_sched.multicore.planner import schedule_problem
from cosma_sched.multicore.problem import Objective, ScheduleProblem, Semantics, TileKind
from cosma_sched.multicore.schedule import GROUPED, GROUPING, Schedule
from cosma_sched.multicore.tables import Tables
from cosma_sched.multicore.verify import verify
from cosma_sched.progress import Clock
from cosma_sched.result import Status
from tests.multicore.exhaustive import least_latency
from tests.multicore.instances import KIB, duo_head, random_problem


def layered(seed: int, *, max_nodes: int = 5, num_layers: int = 3, **options: object) -> ScheduleProblem:
    """Return a random problem whose nodes are of several layers; writers of one tile may be of two."""
    problem = random_problem(seed, max_nodes=max_nodes, **options)  # type: ignore[arg-type]
    rng, count = random.Random(f"layers {seed}"), len(problem.nodes)
    layers = sorted(rng.randrange(num_layers) for _ in range(count))
    nodes = tuple(replace(node, layer=f"layer {layer}") for node, layer in zip(problem.nodes, layers, strict=True))
    return replace(problem, nodes=nodes)


def all_cuts(num_units: int) -> Iterator[list[tuple[int, int]]]:
    for chosen in range(2 ** (num_units - 1)):
        ends = [k + 1 for k in range(num_units - 1) if chosen >> k & 1] + [num_units]
        yield list(zip([0, *ends[:-1]], ends, strict=True))


def exact_latency(problem: ScheduleProblem) -> int:
    answer = schedule_problem(problem, time_limit=None)
    assert answer.status is Status.OPTIMAL
    assert answer.latency_cycles is not None
    return answer.latency_cycles


def least_over_cuts(problem: ScheduleProblem) -> int:
    """Return the least sum of exact group latencies over all cuts, each group planned again for each cut that has it."""
    units = units_of(problem)
    known: dict[tuple[int, int], int] = {}
    best: list[int] = []
    for cuts in all_cuts(len(units)):
        for first, end in cuts:
            if (first, end) not in known:
                nodes = sorted(position for unit in units[first:end] for position in unit)
                known[first, end] = exact_latency(part_of(problem, nodes).problem)
        best.append(sum(known[span] for span in cuts))
    return min(best)


@pytest.mark.parametrize("seed", range(12))
def test_the_whole_is_accepted_and_never_better_than_the_exhaustive_optimum(seed: int) -> None:
    problem = layered(seed)
    answer = by_groups(problem, time_limit=1.0)
    assert answer.verified
    assert verify(problem, answer) == []
    assert answer.latency_cycles is not None
    best = least_latency(problem, answer.latency_cycles + 1)
    assert best is not None  # None: nothing is as fast as the answer says to be
    assert answer.bounds.latency_cycles is not None
    assert answer.bounds.latency_cycles <= best
    assert {name for group in answer.groups for name in group} == {node.layer for node in problem.nodes}


@pytest.mark.parametrize("seed", range(8))
def test_the_cuts_are_the_best_of_all_cuts(seed: int) -> None:
    problem = layered(seed, max_nodes=4)
    least = least_over_cuts(problem)
    cuts = Cuts(problem, Clock(None), 1, 0, MOST_NODES)
    path = cuts.path()
    assert path is not None
    assert sum(cuts.solved[span].value for span in path) == least
    assert sum(cuts.solved[span].bound for span in path) == least
    answer = by_groups(problem, time_limit=None)
    assert answer.latency_cycles is not None
    assert answer.latency_cycles <= least


@pytest.mark.parametrize("seed", range(30))
def test_a_grouping_is_optimal_only_where_its_own_bound_is_reached_and_no_other(seed: int) -> None:
    answer = by_groups(layered(seed, num_layers=2), time_limit=0.5, most_nodes=0)
    total = answer.bounds.by_name.get(GROUPING)
    assert (answer.scope == GROUPED) == (total is not None)
    assert answer.bounds.latency_cycles is not None
    assert answer.latency_cycles is not None
    if answer.scope == GROUPED:
        assert answer.status is Status.OPTIMAL
        assert answer.latency_cycles == total
        assert answer.bounds.latency_cycles < answer.latency_cycles
        assert answer.gap != 0
    else:
        assert (answer.status is Status.OPTIMAL) == (answer.bounds.latency_cycles == answer.latency_cycles)


def grouped() -> tuple[ScheduleProblem, Schedule]:
    """Return a problem of three layers in a row that is proven for its grouping only."""
    for seed in range(60):
        problem = layered(seed, num_layers=2)
        answer = by_groups(problem, time_limit=None, most_nodes=0)
        if answer.scope == GROUPED:
            return problem, answer
    raise AssertionError("no seed gives a proven grouping")


def test_a_claim_about_a_grouping_is_checked() -> None:
    problem, answer = grouped()
    assert verify(problem, answer) == []
    without = {name: bound for name, bound in answer.bounds.by_name.items() if name != GROUPING}
    for changed, rule in (
        (answer.replace(scope="this split"), "bound"),
        (answer.replace(groups=()), "scope"),
        (answer.replace(status=Status.FEASIBLE), "status"),
        (answer.replace(bounds=replace(answer.bounds, by_name=without)), "scope"),
        (answer.replace(bounds=replace(answer.bounds, by_name={**without, GROUPING: 1})), "status"),
    ):
        assert rule in {violation.rule for violation in verify(problem, changed)}
    assert Schedule.from_json(answer.to_json()) == answer


def test_a_part_fetches_what_comes_from_before_and_writes_what_goes_on() -> None:
    problem = duo_head(256, 128, 2)
    units = units_of(problem)
    assert [{problem.nodes[position].layer for position in unit} for unit in units] == [{"Q"}, {"K"}, {"V"}, {"S"}, {"A"}]
    part = part_of(problem, units[3])
    tiles = {tile.name: tile for tile in part.problem.tiles}
    assert set(tiles) == {"Q[0]", "Q[1]", "K[0]", "K[1]", "S[0]", "S[1]"}
    assert {tile.kind for name, tile in tiles.items() if name[0] in "QK"} == {TileKind.INPUT}
    assert all(tile.is_output == (name[0] == "S") for name, tile in tiles.items())
    assert all(node.needs == () for node in part.problem.nodes)


def test_layers_that_write_one_tile_are_not_parted() -> None:
    problem = duo_head(256, 128, 2)
    first = next(position for position, node in enumerate(problem.nodes) if node.layer == "S")
    again = replace(problem.nodes[first], name="softmax", layer="softmax", reads=(), needs=(first,))
    nodes = [*problem.nodes[: first + 2], again]
    units = units_of(replace(problem, nodes=tuple(nodes)))
    assert {nodes[position].layer for position in units[-1]} == {"S", "softmax"}


def test_a_head_in_tight_memories_is_joined_to_no_more_than_its_groups() -> None:
    problem = duo_head(512, 128, 4, (320 * KIB, 192 * KIB))
    answer = by_groups(problem, time_limit=3)
    assert answer.verified
    assert answer.method == "groups"
    assert answer.provenance.solver == "cpsat"
    assert answer.latency_cycles is not None
    assert answer.latency_cycles >= 23_552


def test_streamed_inputs_and_outputs_stay_streamed() -> None:
    terms = Semantics(inputs="streamed", weights="free", outputs="streamed")
    answer = by_groups(duo_head(256, 128, 2, semantics=terms), time_limit=2)
    assert answer.verified


def test_schedules_in_sequence_take_the_sum_of_their_latencies() -> None:
    problem = duo_head(256, 128, 2)
    groups = []
    for unit in units_of(problem):
        part = part_of(problem, unit)
        answer = schedule_problem(part.problem, method="list-latency")
        assert answer.latency_cycles is not None
        groups.append((part, Solved(Draft.of(part.problem, answer), answer.latency_cycles, 0)))
    assert in_sequence(problem, groups).latency(problem) == sum(solved.value for _, solved in groups)


def test_the_shortest_path_takes_the_fewest_groups_among_equals() -> None:
    lengths = {(0, 1): 2, (1, 2): 2, (0, 2): 4, (2, 3): 1, (1, 3): 4}
    assert shortest([*lengths], 3, lengths.get) == [(0, 2), (2, 3)]
    assert shortest([(0, 1)], 2, lengths.get) is None


@pytest.mark.parametrize(
    "options", [{"objective": Objective.MEMORY}, {"semantics": Semantics(outputs="kept")}, {"semantics": Semantics(inputs="resident")}]
)
def test_terms_that_admit_no_groups_are_named(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="groups"):
        by_groups(duo_head(256, 128, 2, **options), time_limit=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_coarse_schedule_gives_cores_and_an_order_that_fit_the_fine_problem(size: int) -> None:
    problem = duo_head(512, 128, 6)
    coarse = coarsened(problem, size)
    assert coarse is not None
    assert len(coarse.problem.nodes) == 5 * -(-6 // size)
    answer = schedule_problem(coarse.problem, method="list-latency")
    assert answer.verified
    cores, rank = coarse.cores_and_order(Draft.of(coarse.problem, answer))
    assert sorted(rank) == list(range(30))
    assert all(rank[earlier] < rank[position] for position, node in enumerate(problem.nodes) for earlier in node.needs)
    tables = Tables.of(problem)
    assert list_schedule(problem, cores=[tables.cores.index(core) for core in cores], priority=rank) is not None


@pytest.mark.parametrize("seed", range(15))
def test_a_coarse_problem_has_the_same_work(seed: int) -> None:
    problem = layered(seed, max_nodes=9)
    coarse = coarsened(problem, 2)
    if coarse is None:
        return
    for core in problem.platform.cores:
        if all(core in node.cycles for node in problem.nodes):
            assert sum(node.cycles[core] for node in coarse.problem.nodes) == sum(node.cycles[core] for node in problem.nodes)
    assert sum(tile.size_bytes for tile in coarse.problem.tiles) == sum(tile.size_bytes for tile in problem.tiles)
    assert sorted(set(coarse.block)) == list(range(len(coarse.problem.nodes)))


def test_groups_of_many_nodes_are_planned_in_coarse_form() -> None:
    problem = duo_head(512, 128, 4)
    cuts = Cuts(problem, Clock(4), 1, 0, 12)
    assert cuts.size_of[0, 5] == 2
    answer = by_groups(problem, time_limit=4, most_nodes=12)
    assert answer.verified
