"""Relabelling and placements within a number of moves."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest

from cosma_sched.errors import InfeasibleError
from cosma_sched.experts.eplb import rebalance
from cosma_sched.experts.joint import layer_traffic
from cosma_sched.experts.load import copies_on_gpus, layer_peaks
from cosma_sched.experts.migration import limited_migration, moved_experts, relabel
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from tests.experts import oracle

A, B = TrafficModel.DISPATCH_COMBINE, TrafficModel.TOKEN_STAYS


def renamed(slots: np.ndarray, order: tuple[int, ...], gpus: int) -> np.ndarray:
    return slots.reshape(len(slots), gpus, -1)[:, list(order)].reshape(slots.shape)


@pytest.mark.parametrize("seed", range(5))
def test_relabelling_moves_as_few_as_trying_all_names(seed: int) -> None:
    new, old = oracle.random_slots(seed, 2, 6, 3, 2), oracle.random_slots(seed + 50, 2, 6, 3, 2)
    names = list(permutations(range(3)))
    per_layer = sum(min(moved_experts(renamed(new[i : i + 1], order, 3), old[i : i + 1], 6, 3) for order in names) for i in range(2))
    assert moved_experts(relabel(new, old, 6, Topology(3), A), old, 6, 3) == per_layer
    together = min(moved_experts(renamed(new, order, 3), old, 6, 3) for order in names)
    assert moved_experts(relabel(new, old, 6, Topology(3), B), old, 6, 3) == together


def test_with_two_levels_nodes_stay_together() -> None:
    new, old = oracle.random_slots(1, 2, 8, 4, 2), oracle.random_slots(2, 2, 8, 4, 2)
    named = relabel(new, old, 8, Topology(4, 2), A)
    for layer in range(2):
        nodes = {frozenset(named[layer, :4].tolist()), frozenset(named[layer, 4:].tolist())}
        assert nodes == {frozenset(new[layer, :4].tolist()), frozenset(new[layer, 4:].tolist())}


def test_relabelling_changes_no_traffic() -> None:
    problem = oracle.problem_of(oracle.draw_profile(4), 3, 2)
    new, old = oracle.random_slots(1, 3, 6, 3, 2), oracle.random_slots(2, 3, 6, 3, 2)
    assert np.allclose(layer_traffic(problem, relabel(new, old, 6, Topology(3), A)), layer_traffic(problem, new))


def test_the_same_placement_under_other_names_moves_nothing() -> None:
    old = oracle.random_slots(3, 4, 8, 4, 3)
    assert np.array_equal(relabel(renamed(old, (2, 0, 3, 1), 4), old, 8, Topology(4), A), old)


@pytest.mark.parametrize("budget", [0, 2, 5, 12, 40])
@pytest.mark.parametrize("traffic", [None, A, B])
def test_no_more_experts_move_than_allowed(budget: int, traffic: TrafficModel | None) -> None:
    profile = oracle.draw_profile(6, layers=4, experts=8, num=150)
    problem = PlacementProblem(profile, Topology(4), 3, traffic or A)
    matrix = None if traffic is None else profile.pooled_coactivation() if traffic == A else profile.pooled_transitions()
    current = oracle.random_slots(0, 1, 8, 4, 3).repeat(4, axis=0)
    work = problem.weights_of_experts()
    before = layer_peaks(work, current, 4)
    slots = limited_migration(problem, current, budget, np.full(4, 1.1), matrix, 0)
    assert moved_experts(slots, current, 8, 4) <= budget
    assert copies_on_gpus(slots, 8, 4).max() == 1
    assert (layer_peaks(work, slots, 4) <= np.maximum(before, 1.1) * (1 + 1e-6)).all()
    if matrix is None:
        assert layer_peaks(work, slots, 4).sum() <= before.sum()


def test_a_larger_budget_is_never_worse() -> None:
    profile = oracle.draw_profile(7, layers=4, experts=8, num=150)
    problem = PlacementProblem(profile, Topology(4), 2)
    current = oracle.random_slots(0, 4, 8, 4, 2)
    work = problem.weights_of_experts()
    values = [layer_peaks(work, limited_migration(problem, current, n, np.ones(4), None, 0), 4).sum() for n in range(0, 20, 2)]
    assert values == sorted(values, reverse=True)


def test_an_expert_twice_on_a_gpu_is_replaced_first() -> None:
    profile = oracle.draw_profile(8, layers=1, experts=4)
    problem = PlacementProblem(profile, Topology(2), 3)
    current = np.asarray([[0, 0, 1, 2, 3, 1]])
    with pytest.raises(InfeasibleError, match="holds 1 experts twice on a GPU"):
        limited_migration(problem, current, 0, np.ones(1), None, 0)
    slots = limited_migration(problem, current, 1, np.ones(1), None, 0)
    assert copies_on_gpus(slots, 4, 2).max() == 1


def test_deepseek_moves_few_experts_for_most_of_the_balance(deepseek: Any) -> None:
    old = rebalance(deepseek("decode_in2000out100").scenarios[0].loads, 288, 1, 1, 32)[0]
    served = deepseek("decode_in1000out1000")
    new = rebalance(served.scenarios[0].loads, 288, 1, 1, 32)[0]
    assert moved_experts(new, old, 256, 32) == 16_065
    assert moved_experts(relabel(new, old, 256, Topology(32), A), old, 256, 32) == 13_346
    problem = PlacementProblem(served, Topology(32), 9)
    slots = limited_migration(problem, old, 620, np.ones(58), None, 0)
    assert layer_peaks(problem.weights_of_experts(), slots, 32).mean() <= 1.09
    assert moved_experts(slots, old, 256, 32) <= 620
