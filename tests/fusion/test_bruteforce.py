"""The exact method's parts against brute force: fronts of steps, prices of groups, groups of a network."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from cosma_sched.fusion.enumeration import candidates
from cosma_sched.fusion.floors import StepFloors
from cosma_sched.fusion.fronts import StepFronts
from cosma_sched.fusion.group import Group
from cosma_sched.fusion.pricing import GroupPricer, TileSpace
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.fusion.steps import Output, StepProblem, Weights
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import Layer
from cosma_sched.progress import Clock
from tests.fusion.nets import Net, draw_net
from tests.fusion.oracle import Rules, StepPlace, extreme, group_points, is_group, step_points
from tests.mapping.cases import machine

MACHINES = [machine(2, scratchpad, accumulator) for scratchpad in (24, 48, 96, 200) for accumulator in (64, 128)]
MACHINES += [machine(3, 96, 96), machine(2, 96, 128)._replace(psum_words=4, dram_bandwidth=2)]


def draw_mixed(random_: random.Random) -> Net:
    """Draw a network with at least one convolution."""
    while True:
        net = draw_net(random_, most_rows=random_.choice([3, 4, 5]), most_channels=2, pools=True)
        if any(node.kind == "conv" for node in net.nodes):
            return net


def draw_step(random_: random.Random) -> tuple[StepProblem, StepPlace]:
    """Draw a step and where its tensors are, in the planner's words and in the oracle's."""
    extents = [random_.randint(1, 6) for _ in range(4)]
    kernel = random_.choice([1, 1, 2, 3, 3, 4])
    dims = (random_.choice([1, 1, 2]), *extents, kernel, random_.choice([1, kernel, kernel]))
    strides, dilation = (random_.choice([1, 1, 2]), random_.choice([1, 1, 2])), random_.choice([1, 1, 2])
    layer = Layer("", dims, *strides, dilation_p=dilation, repeat=random_.choice([1, 1, 3]))
    keeps_i, output, weights = random_.random() < 0.6, random_.choice(list(Output)), random_.choice(list(Weights))
    near, far = random_.choice([0, 0, 7]), random_.choice([(), (), (9,)])
    place = StepPlace(
        loads_w=weights == Weights.LOADED,
        keeps_w=weights != Weights.STREAMED,
        keeps_i=keeps_i,
        keeps_o=output != Output.DRAM,
        leaves=output != Output.RESIDENT,
        near=(near,) if near else (),
        far=far,
    )
    return StepProblem(replace(layer, drain_words=far), keeps_i, output, weights, near), place


@pytest.mark.parametrize("halo", ["parity", "reuse"])
def test_fronts_of_steps_are_those_of_all_mappings(halo: str) -> None:
    random_ = random.Random(11)
    for _ in range(40):
        device: Machine = machine(random_.choice([2, 3, 4]), 200, random_.choice([64, 128]))._replace(psum_words=random_.choice([1, 4]))
        problem, place = draw_step(random_)
        fronts = StepFronts(device, halo)
        for room in (0, 4, 10, 30, 64, 100, 200):
            found = tuple((point.energy, point.latency) for point in fronts.options(problem, room))
            assert found == step_points(replace(problem.layer, drain_words=()), place, room, device, halo)


@pytest.mark.parametrize("prune", [True, False])
def test_prices_of_groups_are_those_of_all_tiles_modes_weight_sets_and_mappings(prune: bool) -> None:
    random_ = random.Random(12)
    for _ in range(24):
        net, device = draw_mixed(random_), random_.choice(MACHINES)
        rules = Rules(device, random_.choice(["parity", "reuse"]), charged=random_.random() < 0.5)
        problem = fusion_problem(net.graph(), charged=rules.charged)
        names = [node.name for node in problem.nodes]
        for size in range(2, len(names) + 1):
            for members in itertools.combinations(names, size):
                indices = tuple(names.index(name) for name in members)
                if is_group(net, members) and problem.fusable(indices):
                    pricer = GroupPricer(StepFronts(device, rules.halo), StepFloors(device), TileSpace(max_group=4), prune=prune)
                    found = pricer.price(Group(problem, indices), (), Clock(None)).vertices
                    assert tuple(vertex.point for vertex in found) == extreme(group_points(net, members, rules))


def test_the_groups_of_a_network_are_all_connected_convex_sets_with_one_sink() -> None:
    random_ = random.Random(13)
    device = machine(2, 10**6, 10**6)
    for _ in range(60):
        net = draw_net(random_, most_layers=7, most_rows=4, most_channels=2)
        names = [node.name for node in net.nodes]
        expected = [group for size in range(2, len(names) + 1) for group in itertools.combinations(range(len(names)), size)]
        expected = [group for group in expected if is_group(net, [names[index] for index in group])]
        assert sorted(candidates(fusion_problem(net.graph()), device, 7).groups) == sorted(expected)
