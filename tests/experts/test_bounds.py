"""Bounds never exceed an enumerated optimum."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from cosma_sched.experts import bounds
from cosma_sched.experts.flow import best_assignment, matched_pairs, regular_subgraph
from cosma_sched.experts.replicas import count_vectors, pack_pairs, search_counts, water_fill
from tests.experts import oracle


@pytest.mark.parametrize("seed", range(100))
def test_the_load_bound_is_below_every_placement(seed: int) -> None:
    random = np.random.default_rng(seed)
    loads = random.integers(1, 50, (1, 6))
    bound = bounds.load_bound(loads, 6, 3)[0]
    best = min(oracle.load(loads, np.asarray([np.ravel(state)]), 3) for state in oracle.placements(6, 3))
    assert bound <= best * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_the_load_bound_with_free_counts_is_below_every_placement_with_replicas(seed: int) -> None:
    loads = np.random.default_rng(seed).integers(1, 60, (1, 4))
    bound = bounds.load_bound(loads, 6, 3)[0]
    best = min(
        oracle.load(loads, np.asarray([row]), 3)
        for row in product(range(4), repeat=6)
        if row[0] < row[1] and row[2] < row[3] and row[4] < row[5] and len(set(row)) == 4
    )
    assert bound <= best * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(100))
def test_the_traffic_bounds_are_below_every_placement(seed: int) -> None:
    profile = oracle.draw_profile(seed, num=25, layers=2)
    problem = oracle.problem_of(profile, 3, 2)
    moves, pairs = profile.pooled_transitions(), profile.pooled_coactivation()
    prices = np.stack([regular_subgraph(matrix, 2)[1] for matrix in moves])
    diagonals = np.stack([bounds.improve_diagonal(off, 3) for off in bounds.off_diagonal(pairs)])
    states = oracle.placements(6, 3)
    hot = np.zeros((len(states), 3, 6))
    for s, state in enumerate(states):
        for g, experts in enumerate(state):
            hot[s, g, list(experts)] = 1
    kept = np.einsum("sga,ab,tgb->st", hot, moves[0].astype(float), hot, optimize=True).max()
    assert bounds.remote_bound(problem, prices) <= 1 - kept / moves.sum() + 1e-9
    located = np.einsum("sga,sgb,lab->ls", hot, hot, bounds.off_diagonal(pairs), optimize=True).max(axis=1) / 2
    assert bounds.copies_bound(problem, diagonals) <= (2 - located / 25).mean() + 1e-9


def test_prices_prove_the_flow_exactly_and_any_prices_are_valid() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        matrix = random.integers(0, 30, (6, 6))
        value, prices = regular_subgraph(matrix, 2)
        assert bounds.priced_kept(matrix, prices, 2) == value
        assert bounds.priced_kept(matrix, random.integers(-5, 20, (2, 6)), 2) >= value


def test_the_group_bound_is_the_best_pairing() -> None:
    loads = np.random.default_rng(1).integers(1, 50, (1, 8)).astype(float)
    sums = loads.reshape(4, 2).sum(axis=1)
    pairs = [(0, 1, 2, 3), (0, 2, 1, 3), (0, 3, 1, 2)]
    best = min(max(sums[a] + sums[b], sums[c] + sums[d]) for a, b, c, d in pairs)
    assert bounds.group_bound(loads, 4, 2)[0] == pytest.approx(max(1, best / sums.sum() * 2))


@pytest.mark.parametrize("seed", range(40))
def test_water_filling_reaches_the_least_load_of_a_replica(seed: int) -> None:
    loads = np.random.default_rng(seed).integers(1, 40, (1, 4)).astype(float)
    counts = water_fill(loads, 7, 7)
    best = min((loads[0] / vector).max() for vector in count_vectors(4, 7))
    assert (loads / counts).max() == pytest.approx(best)
    assert bounds.replica_floor(loads, 7)[0] == pytest.approx(best)


def test_no_expert_gets_more_replicas_than_there_are_gpus() -> None:
    assert water_fill(np.asarray([[1000.0, 1, 1, 1]]), 8, 4).max() == 4


def test_counts_and_packing_together_reach_the_optimum() -> None:
    loads = np.asarray([[600, 560, 120, 120, 20, 10, 10, 10]])
    counts, enumerated = search_counts(loads, 8, 0, lambda: 1.0)
    slots = pack_pairs(loads, counts, 8)
    work = loads[0][slots[0]] / counts[0][slots[0]]
    assert enumerated
    assert counts.tolist() == [[4, 3, 1, 3, 1, 1, 1, 2]]
    assert work.reshape(8, 2).sum(axis=1).max() == pytest.approx(196.6667, abs=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_the_largest_unmatched_pair_is_as_small_as_trying_all_labels_makes_it(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(30):
        flow = random.integers(0, 30, (4, 4))
        worst, partner = matched_pairs(flow)
        left = flow.copy()
        left[np.arange(4), partner] = -1
        assert left.max() == worst
        from itertools import permutations

        assert worst == min(np.where(np.eye(4)[list(order)] > 0, -1, flow).max() for order in permutations(range(4)))


@pytest.mark.parametrize("whole", [True, False])
def test_the_assignment_is_the_best_matching(whole: bool) -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        gain = random.integers(-9, 20, (4, 4)) if whole else random.normal(size=(4, 4))
        partner = best_assignment(gain)
        assert sorted(partner) == [0, 1, 2, 3]
        assert gain[np.arange(4), partner].sum() == pytest.approx(oracle.best_matching(gain))
