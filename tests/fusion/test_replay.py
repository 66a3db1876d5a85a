"""The steps that the checker derives against those that the planner costs: two derivations of one thing."""

from __future__ import annotations

import random

import pytest

from cosma_sched.frontends import load
from cosma_sched.fusion.replay import Replay
from cosma_sched.fusion.topology import members_of, readers_of
from cosma_sched.graph import Graph
from cosma_sched.mapping.space import divisors
from tests.fusion.cases import MODES
from tests.fusion.nets import draw_net

_MOST_TILES = 20_000


def draw_group(random_: random.Random, problem: object) -> tuple[int, ...] | None:
    """Draw some members that hang together and have one sink."""
    nodes, consumers = problem.nodes, problem.consumers  # type: ignore[attr-defined]
    chosen = {random_.randrange(len(nodes))}
    for _ in range(random_.randint(1, 6)):
        near = {other for index in chosen for other in (*nodes[index].producers, *consumers[index])} - chosen
        chosen |= {random_.choice(sorted(near))} if near else set()
    members = tuple(sorted(chosen))
    sinks = sum(not chosen.intersection(consumers[index]) for index in members)
    return members if len(members) > 1 and sinks == 1 and problem.fusable(members) else None  # type: ignore[attr-defined]


def compare(graph: Graph, random_: random.Random, tries: int, *, charged: bool) -> int:
    """Compare all steps of random groups, tiles, modes and weight sets; return how many steps there were."""
    from cosma_sched.fusion.choice import group_steps
    from cosma_sched.fusion.group import Group, Mode
    from cosma_sched.fusion.reading import fusion_problem

    problem, members = fusion_problem(graph, charged=charged), members_of(graph)
    names, readers, compared = [node.name for node in problem.nodes], readers_of(members), 0
    for _ in range(tries):
        drawn = draw_group(random_, problem)
        if drawn is None:
            continue
        group = Group(problem, drawn)
        n, p, q = (random_.choice(divisors(extent)) for extent in group.sink.extent)
        if group.sink.extent[1] * group.sink.extent[2] > _MOST_TILES * p * q:
            continue
        mode, weighted = random_.choice(MODES), [drawn[position] for position in group.weighted]
        resident = frozenset(index for index in weighted if random_.random() < 0.5)
        own = tuple(members[names[index]] for index in drawn)
        replay = Replay(own, readers, (n, p, q), mode, frozenset(names[index] for index in resident), charged)
        mine = [_mine(step) for step in replay.steps()]
        theirs = [_theirs(step, names) for step in group_steps(group, (n, p, q), Mode(mode), tuple(resident))]
        assert sorted(mine, key=str) == sorted(theirs, key=str)
        compared += len(mine)
    return compared


def _mine(step: object) -> tuple:
    place, member = step.place, step.member  # type: ignore[attr-defined]
    weights = place.weights if member.layer is not None else None
    words = (sum(step.inside), sorted(step.outside), sum(place.added_inside), place.added_outside)  # type: ignore[attr-defined]
    return (member.name, step.extents, step.multiplicity, weights, place.input_stays, place.output_stays, words, step.held_bytes)  # type: ignore[attr-defined]


def _theirs(step: object, names: list[str]) -> tuple:
    problem = step.problem  # type: ignore[attr-defined]
    held = step.live_bytes + step.resident_bytes  # type: ignore[attr-defined]
    head = (names[step.node], tuple(step.extent), step.multiplicity)  # type: ignore[attr-defined]
    if problem is None:
        return (*head, None, False, False, (step.inside, sorted(step.outside), 0, ()), held)  # type: ignore[attr-defined]
    words = (0, [], problem.folded_words, problem.layer.drain_words)
    return (*head, str(problem.weights), problem.input_resident, str(problem.output) != "dram", words, held)


def test_tiny_networks() -> None:
    random_ = random.Random(5)
    nets = [draw_net(random_, pools=True) for _ in range(80)]
    counts = [compare(net.graph(), random_, 2, charged=random_.random() < 0.5) for net in nets if any(n.kind == "conv" for n in net.nodes)]
    assert sum(counts) > 200


@pytest.mark.parametrize("model", ["resnet18", "fsrcnn", "mobilenet_v2", "bert_base", "nasnet_a"])
def test_networks_of_the_zoo(model: str) -> None:
    assert compare(load(model), random.Random(6), 40, charged=True) > 40
