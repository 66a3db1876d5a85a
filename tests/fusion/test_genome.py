"""The shared genome: what is decoded is a valid fusion, costs what the planner's functions say, and is repaired only where it must be."""

from __future__ import annotations

import random

import numpy as np
import pytest

from cosma_sched.fusion.assemble import in_running_order
from cosma_sched.fusion.choice import overflows
from cosma_sched.fusion.exact import ExactOptions, ExactSearch
from cosma_sched.fusion.genome import Judge, Plans
from cosma_sched.fusion.group import MODES, Mode
from cosma_sched.fusion.grouping import Partitioner
from cosma_sched.fusion.pricing import TileSpace
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.progress import Clock, Progress
from tests.fusion.cases import RESIDUAL, TWO_CONVS
from tests.fusion.nets import Net, draw_net
from tests.fusion.oracle import is_group
from tests.mapping.cases import machine

MACHINES = (machine(2, 60, 64), machine(2, 400, 64))
ROOMY = machine(2, 100_000, 4096)


def nets(count: int, seed: int) -> list[tuple[Net, FusionProblem]]:
    random_ = random.Random(seed)
    drawn = [draw_net(random_, most_layers=5, most_rows=6, most_cols=4, most_channels=3, pools=index % 2 == 0) for index in range(count)]
    return [(net, fusion_problem(net.graph(), charged=index % 3 == 0)) for index, net in enumerate(drawn)]


NETS = nets(24, seed=5)


@pytest.mark.parametrize("overlap", ["layer", "group"])
def test_decoded_networks_cost_what_their_groups_cost_and_fit(overlap: str) -> None:
    for index, (_, problem) in enumerate(NETS):
        judge = Judge(problem, MACHINES[index % 2], overlap=overlap, max_group=3)
        found = judge.decode(judge.genome.plans(judge.genome.draw(40, np.random.default_rng(index))))
        for row in range(0, 40, 8):
            groups = judge.costed(found, row)
            assert sum(group.energy_pj for group in groups) == found.energy[row]
            assert sum(group.latency_cycles for group in groups) == found.latency[row]
            assert not any(overflows(group, judge.machine) for group in groups)


def test_decoded_networks_are_partitions_into_groups_that_can_run() -> None:
    for index, (net, problem) in enumerate(NETS):
        judge = Judge(problem, MACHINES[1], max_group=4)
        names = [node.name for node in problem.nodes]
        found = judge.decode(judge.genome.plans(judge.genome.draw(30, np.random.default_rng(index))))
        for ways in found.ways:
            groups = [way.members for way in ways]
            assert sorted(member for members in groups for member in members) == list(range(len(names)))
            assert all(is_group(net, [names[member] for member in members]) for members in groups if len(members) > 1)
            in_running_order(problem, groups)


def test_no_decoded_network_goes_below_the_proven_optimum() -> None:
    for index, (_, problem) in enumerate(NETS[:12]):
        own = MACHINES[index % 2]
        exact = ExactSearch(problem, own, ExactOptions(TileSpace(max_group=3)), Progress(Clock())).run()
        judge = Judge(problem, own, max_group=3)
        values = judge.judge(judge.genome.draw(200, np.random.default_rng(index)))
        assert values.min() >= exact.proven.edp_bound


def plan(judge: Judge, *, tile: tuple[int, int, int], mode: Mode, stays: bool, fused: bool = True) -> Plans:
    """Return one plan with the smallest tiles of mappings, under the order that keeps partial sums."""
    layers, nodes = len(judge.problem.layers), len(judge.problem.nodes)
    order = judge.scorer.staying[0]
    edges = np.full((1, len(judge.partitioner.edges)), fused)
    tiles = np.tile(np.array(tile), (1, nodes, 1))
    modes = np.full((1, nodes), MODES.index(mode))
    return Plans(np.ones((1, layers, 9)), np.full((1, layers), order), np.full((1, layers), stays), tiles, modes, edges)


@pytest.mark.parametrize("mode", MODES)
def test_a_wish_that_needs_no_repair_comes_out_as_it_went_in(mode: Mode) -> None:
    judge = Judge(fusion_problem(TWO_CONVS.graph()), ROOMY)
    found = judge.decode(plan(judge, tile=(1, 2, 3), mode=mode, stays=True))
    [way] = found.ways[0]
    assert (way.members, way.tile, way.mode, way.resident) == ((0, 1), (1, 2, 3), mode, (0, 1))
    assert found.valid[0]
    assert judge.tally.valid == 1


def test_weights_are_dropped_before_tiles_shrink_and_tiles_shrink_before_groups_split() -> None:
    problem = fusion_problem(TWO_CONVS.graph())
    kept = {}
    for capacity in (115, 110, 70, 40, 3):
        judge = Judge(problem, machine(2, capacity, 4096))
        found = judge.decode(plan(judge, tile=(1, 4, 6), mode=Mode.RECOMPUTE, stays=True))
        kept[capacity] = [(len(way.members), way.tile, way.resident) for way in found.ways[0]]
        assert bool(found.valid[0]) == (capacity == 115)
    # the map takes 5 x 6 x 2 bytes, the weights 18 and 36, the input's tile 1
    assert kept[115] == [(2, (1, 4, 6), (0, 1))]
    assert kept[110] == [(2, (1, 4, 6), (0,))]
    assert kept[70] == [(2, (1, 4, 6), ())]
    assert [(count, resident) for count, _, resident in kept[40]] == [(2, ())]
    assert kept[40][0][1][1] < 4
    assert [count for count, _, _ in kept[3]] == [1, 1]


def test_a_skipped_middle_layer_bars_the_group_around_it() -> None:
    problem = fusion_problem(RESIDUAL.graph())
    partitioner = Partitioner(problem)
    names = {edge: place for place, edge in enumerate(partitioner.edges)}
    groups, whole = partitioner.groups([names[0, 2]])
    assert (sorted(groups), whole) == ([(0,), (1,), (2,)], False)
    groups, whole = partitioner.groups([names[0, 1], names[1, 2]])
    assert (groups, whole) == (((0, 1, 2),), True)


def test_the_tally_counts_every_network_and_keeps_the_best_in_order() -> None:
    judge = Judge(fusion_problem(RESIDUAL.graph()), MACHINES[1])
    generator = np.random.default_rng(0)
    values = np.concatenate([judge.judge(judge.genome.draw(50, generator)) for _ in range(4)])
    assert judge.tally.evaluations == 200
    products = [one.energy_pj * one.latency_cycles for one in judge.tally.betters]
    assert products == sorted(products, reverse=True)
    assert products[-1] == values.min()
    assert judge.tally.betters[-1].evaluations == int(values.argmin()) + 1
    answer = judge.answer()
    assert sum(group.energy_pj for group in answer) * sum(group.latency_cycles for group in answer) == products[-1]
