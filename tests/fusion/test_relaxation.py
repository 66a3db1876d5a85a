"""The relaxed model: the exact one at whole points, fractions between, more hopeful where it is told to be; what a descent reports."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cosma_sched.fusion import relaxation
from cosma_sched.fusion.genome import Judge, Plans
from cosma_sched.fusion.group import MODES, Mode
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.reading import fusion_problem
from cosma_sched.fusion.relaxation import HONEST, descend
from cosma_sched.fusion.relaxed import Net as Arrays
from cosma_sched.fusion.relaxed import Point, Relaxed, net_of, relaxed_cost
from cosma_sched.mapping.space import divisors
from cosma_sched.progress import Clock, Progress
from tests.fusion.cases import RESIDUAL, TWO_CONVS, conv
from tests.fusion.nets import Net, Node
from tests.fusion.nets import Window as TinyWindow
from tests.mapping.cases import machine

EXACT = machine(2, 1_000_000, 1_000_000)._replace(block_words=1)
"""Roomy, and without blocks, whose rounding the relaxed model leaves out."""
CHAIN = Net((1, 2, 8, 8), (conv("a", "x"), conv("b", "a", channels=3), conv("c", "b", kernel=1)))

POOL = TinyWindow((2, 2), (2, 2), (0, 0), (0, 0))
POOLED = Net((1, 2, 8, 8), (conv("a", "x"), Node("m", "pool", ("a",), 2, POOL), conv("b", "m")))


def judged(problem: FusionProblem, *, tile: tuple[int, int], fused: bool, stays: bool, seed: int) -> tuple[Judge, Plans, Point]:
    """Return one plan with random factors that divide, and the point that stands for it."""
    judge = Judge(problem, EXACT)
    generator = np.random.default_rng(seed)
    plans = judge.genome.plans(judge.genome.draw(1, generator))
    wishes = plans.wishes.copy()
    for place, index in enumerate(problem.layers):
        layer = problem.nodes[index].layer
        assert layer is not None
        wishes[0, place] = 1.0
        wishes[0, place, 7], wishes[0, place, 8] = divisors(layer["C"])[0], divisors(layer["K"])[0]
        wishes[0, place, 1], wishes[0, place, 2] = layer["K"], layer["C"]
        wishes[0, place, 5], wishes[0, place, 6] = layer["R"], layer["S"]
    nodes = len(problem.nodes)
    tiles = np.array([[(1, *tile)] * nodes])
    plans = Plans(
        wishes,
        np.zeros_like(plans.orders),
        np.full_like(plans.stays, stays),
        tiles,
        np.full_like(plans.modes, MODES.index(Mode.CACHED)),
        np.full_like(plans.fused, fused),
    )
    free = len(net_of(problem, judge.partitioner.edges).free)
    point = Point(
        np.log(wishes), np.log(tiles[:, :, 1:]), np.full((1, free), float(fused)), np.full((1, len(problem.layers)), float(stays))
    )
    return judge, plans, point


def relaxed(judge: Judge, point: Point, *, optimistic: bool = False) -> Relaxed:
    net: Arrays = net_of(judge.problem, judge.partitioner.edges)
    return relaxed_cost(np, EXACT, net, "parity", point, optimistic=optimistic)


@pytest.mark.parametrize("charged", [False, True])
@pytest.mark.parametrize("net", [TWO_CONVS, RESIDUAL, CHAIN, POOLED], ids=["two", "residual", "chain", "pooled"])
def test_without_fused_edges_the_relaxed_network_costs_what_the_exact_one_does(
    net: Net, charged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cosma_sched.fusion.relaxed._SHARPNESS", 1e4)  # only the best order counts
    problem = fusion_problem(net.graph(), charged=charged)
    judge, plans, point = judged(problem, tile=(1, 1), fused=False, stays=False, seed=1)
    found = relaxed(judge, point)
    exact = judge.decode(plans._replace(orders=found.orders))
    assert found.energy[0] == pytest.approx(float(exact.energy[0]), rel=1e-4)


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("tile", [(2, 6), (8, 6)])
def test_a_fused_network_costs_about_what_the_exact_one_does(tile: tuple[int, int], stays: bool) -> None:
    """In `cached` mode no row is computed twice; the relaxed model takes all tiles for equal, which the first and the last are not."""
    problem = fusion_problem(TWO_CONVS.graph())
    judge, plans, point = judged(problem, tile=tile, fused=True, stays=stays, seed=2)
    found = judge.decode(plans._replace(orders=np.full_like(plans.orders, judge.scorer.staying[0])))
    exact = float(found.energy[0])
    assert len(found.ways[0]) == 1
    assert relaxed(judge, point).energy[0] == pytest.approx(exact, rel=0.1)


def test_a_map_that_stays_moves_fewer_words_the_more_it_stays() -> None:
    judge, _, point = judged(fusion_problem(TWO_CONVS.graph()), tile=(8, 6), fused=True, stays=False, seed=3)
    energies = [float(relaxed(judge, point._replace(edges=np.full_like(point.edges, share))).energy[0]) for share in (0.0, 0.5, 1.0)]
    assert energies[0] > energies[1] > energies[2]


def test_the_optimistic_model_never_claims_more_than_the_honest_one() -> None:
    pointwise = Net((1, 4, 8, 8), (conv("a", "x", kernel=1), conv("b", "a", channels=6, kernel=1)))  # no windows to share
    problem = fusion_problem(pointwise.graph())
    for seed in range(5):
        judge, _, point = judged(problem, tile=(2, 4), fused=seed % 2 == 0, stays=False, seed=seed)
        generator = np.random.default_rng(seed)
        judge_plans = judge.genome.plans(judge.genome.draw(1, generator))
        point = point._replace(factors=np.minimum(np.log(judge_plans.wishes), 1.0))
        honest, hopeful = relaxed(judge, point), relaxed(judge, point, optimistic=True)
        assert hopeful.energy[0] <= honest.energy[0] * (1 + 1e-9)


def test_what_does_not_fit_breaks_a_limit() -> None:
    judge, _, point = judged(fusion_problem(TWO_CONVS.graph()), tile=(8, 6), fused=True, stays=True, seed=4)
    net = net_of(judge.problem, judge.partitioner.edges)
    roomy = relaxed_cost(np, EXACT, net, "parity", point)
    crowded = relaxed_cost(np, EXACT._replace(scratchpad_bytes=100), net, "parity", point)
    assert roomy.limits.max() <= 1e-9
    assert crowded.limits.max() > 0


def test_an_edge_around_a_layer_is_fused_as_far_as_the_way_through_it() -> None:
    problem = fusion_problem(RESIDUAL.graph())
    judge = Judge(problem, EXACT)
    net = net_of(problem, judge.partitioner.edges)
    around = net.edges.index((0, 2))
    assert around not in net.free
    assert [net.edges[net.free[place]] for place in net.paths[around]] == [(0, 1), (1, 2)]


def test_descent_repeats_with_its_seed_and_answers_within_capacity(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jax", reason="the extra gradient is not installed")
    monkeypatch.setattr(relaxation, "_COMPILER", {"xla_backend_optimization_level": 0})  # compiles faster, runs slower
    problem, own = fusion_problem(TWO_CONVS.graph()), machine(2, 96, 64)
    settings = replace(HONEST, starts=4, rounds=2, steps=2, restarts=1)
    products = []
    for _ in range(2):
        judge = Judge(problem, own)
        report = descend(judge, settings, 5, Progress(Clock()))
        groups = judge.answer()
        energy, latency = sum(group.energy_pj for group in groups), sum(group.latency_cycles for group in groups)
        assert report.repaired == (energy, latency)
        assert 0 <= report.valid_share <= 1
        products.append(energy * latency)
    assert products[0] == products[1]


def test_a_model_that_is_blind_to_orders_gets_the_best_ones_for_its_factors() -> None:
    judge = Judge(fusion_problem(CHAIN.graph()), machine(2, 96, 64), objective="energy")
    plans = judge.genome.plans(judge.genome.draw(6, np.random.default_rng(0)))
    orders = relaxation.Trace(judge, any_order=True).best_orders(plans)
    chosen = judge.decode(plans._replace(orders=orders)).energy
    uniform = [judge.decode(plans._replace(orders=np.full_like(plans.orders, order))).energy for order in range(8)]
    assert (chosen <= np.min(uniform, axis=0) * (1 + 1e-4)).all()
    assert (chosen < np.max(uniform, axis=0)).any()
