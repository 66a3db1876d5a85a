"""Exchange sweeps: a batched step is the sum of its single exchanges, and the loads and tables follow."""

from __future__ import annotations

import numpy as np
import pytest

from cosma_sched.experts.balance import balance
from cosma_sched.experts.joint import layer_traffic
from cosma_sched.experts.load import layer_peaks, loads_of_shares, replica_counts, served_shares
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.sweeps import Coactivation, Sweeper, anneal, quench, tables_for
from tests.experts import oracle

ASYMMETRIC = np.asarray([[0, 1, 4, 2], [2, 0, 3, 1], [5, 1, 0, 2], [1, 2, 6, 0.0]])
TOPOLOGIES = {"uniform": Topology(4), "two nodes": Topology(4, 2), "matrix": Topology(4, matrix=ASYMMETRIC)}


def pair_value(problem: PlacementProblem, slots: Numbers) -> float:
    """Return what dispatch-combine sweeps maximise, from scratch: pairs together, with theta more for pairs on one node."""
    profile, topology = problem.profile, problem.topology
    off = profile.pooled_coactivation().astype(float)
    for matrix in off:
        np.fill_diagonal(matrix, 0)
        matrix /= matrix.sum() / 2
    shares = served_shares(slots, profile.num_experts, topology.gpus)
    nodes = shares.reshape(len(shares), topology.nodes, topology.per_node, -1).sum(axis=2)
    together = sum(np.einsum("lge,lgf,lef->", f, f, off) / 2 * weight for f, weight in ((shares, 1.0), (nodes, topology.node_premium)))
    return float(together)


def stay_value(problem: PlacementProblem, slots: Numbers) -> float:
    """Return what token-stays sweeps maximise, from scratch: minus the cost of every boundary over its transitions."""
    totals = problem.profile.pooled_transitions().sum(axis=(1, 2))
    costs = problem.topology.costs()
    return -float((layer_traffic(problem, slots) / totals).sum()) / costs.max()


@pytest.mark.parametrize("room", [2, 3], ids=["no replicas", "replicas"])
@pytest.mark.parametrize(
    ("traffic", "topology"),
    [
        ("dispatch-combine", "uniform"),
        ("dispatch-combine", "two nodes"),
        ("token-stays", "uniform"),
        ("token-stays", "two nodes"),
        ("token-stays", "matrix"),
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_a_batched_step_is_worth_the_sum_of_its_exchanges(seed: int, traffic: str, topology: str, room: int) -> None:
    experts = 8
    profile = oracle.draw_profile(seed, layers=4, experts=experts, num=60)
    problem = PlacementProblem(profile, TOPOLOGIES[topology], room, TrafficModel(traffic))
    slots = oracle.random_slots(seed, 1, experts, 4, room).repeat(4, axis=0)
    matrix = profile.pooled_coactivation() if traffic == "dispatch-combine" else profile.pooled_transitions()
    sweeper = Sweeper(problem, slots, tables_for(problem, slots, 1, matrix), np.full(4, np.inf), seed)
    value = pair_value if traffic == "dispatch-combine" else stay_value
    gained: list[float] = []
    costs = sweeper._half_step

    def recorded(group: int, left: Numbers, right: Numbers, temperature: float, penalty: float) -> int:
        rows = sweeper._groups[group]
        before = sweeper.slots.copy()
        gains = sweeper.tables.gains(group, before[rows[:, None], left], before[rows[:, None], right], left, right)
        applied = costs(group, left, right, temperature, penalty)
        after = sweeper.slots
        for i, row in enumerate(rows):
            for p, (g, h) in enumerate(zip(left, right, strict=True)):
                changed = np.flatnonzero(before[row, g] != after[row, g]), np.flatnonzero(before[row, h] != after[row, h])
                if len(changed[0]):
                    gained.append(float(gains[i, p, changed[0][0], changed[1][0]]))
        return applied

    sweeper._half_step = recorded
    for _ in range(6):
        start = value(problem, sweeper.slots.reshape(4, -1))
        gained.clear()
        applied = sweeper.step(0.5)
        assert len(gained) == applied
        assert value(problem, sweeper.slots.reshape(4, -1)) - start == pytest.approx(sum(gained), abs=2e-5)
    assert np.array_equal(replica_counts(sweeper.slots.reshape(4, -1), experts), replica_counts(slots, experts))
    assert all(len(set(gpu)) == room for gpu in sweeper.slots.reshape(-1, room).tolist())


@pytest.mark.parametrize("traffic", ["dispatch-combine", "token-stays"])
def test_tables_and_loads_follow_the_exchanges(traffic: str) -> None:
    profile = oracle.draw_profile(3, layers=5, experts=8, num=80)
    problem = PlacementProblem(profile, Topology(4, 2), 3, TrafficModel(traffic), 1.3)
    slots = np.tile(oracle.random_slots(1, 1, 8, 4, 3).repeat(5, axis=0), (2, 1))
    matrix = profile.pooled_coactivation() if traffic == "dispatch-combine" else profile.pooled_transitions()
    sweeper = Sweeper(problem, slots, tables_for(problem, slots, 2, matrix), np.full(5, 1.3), 0)
    for _ in range(50):
        sweeper.step(0.05)
    follow = sweeper.tables.table.copy() if isinstance(sweeper.tables, Coactivation) else sweeper.tables.toward(1).copy()
    loads = sweeper.loads.copy()
    sweeper.rebuild()
    anew = sweeper.tables.table if isinstance(sweeper.tables, Coactivation) else sweeper.tables.toward(1)
    assert np.allclose(follow, anew, atol=1e-5)
    assert np.allclose(loads, sweeper.loads, atol=1e-4)
    shares = served_shares(sweeper.slots[:5].reshape(5, -1), 8, 4)
    assert np.allclose(sweeper.loads[0, :5], loads_of_shares(profile.scenarios[0].loads, shares), atol=1e-4)


def test_a_cap_holds_after_annealing_and_quenching() -> None:
    profile = oracle.draw_profile(2, layers=4, experts=8, num=200)
    problem = PlacementProblem(profile, Topology(4), 2, TrafficModel.DISPATCH_COMBINE)
    start, peaks = balance(problem, oracle.random_slots(0, 4, 8, 4, 2), 0, lambda: 0.0)
    sweeper = Sweeper(problem, start, tables_for(problem, start, 1, profile.pooled_coactivation()), peaks * 1.05, 0)
    steps = iter(np.linspace(0, 1, 300))
    anneal(sweeper, 0.02, 1e-4, lambda: float(next(steps)))
    quench(sweeper, 100, penalty=1e4)
    assert (layer_peaks(problem.weights_of_experts(), sweeper.slots.reshape(4, -1), 4) <= peaks * 1.05 * (1 + 1e-5)).all()


def test_an_odd_number_of_gpus_leaves_one_out_per_step() -> None:
    profile = oracle.draw_profile(4, layers=3, experts=6)
    problem = PlacementProblem(profile, Topology(3), 2)
    slots = oracle.random_slots(0, 3, 6, 3, 2)
    sweeper = Sweeper(problem, slots, tables_for(problem, slots, 1, profile.pooled_coactivation()), np.full(3, np.inf), 0)
    quench(sweeper, 50)
    assert layer_traffic(problem, sweeper.slots.reshape(3, -1)).sum() <= layer_traffic(problem, slots).sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_load_phase_reaches_the_best_load_of_small_layers(seed: int) -> None:
    profile = oracle.draw_profile(seed, layers=2, experts=6, num=100)
    problem = PlacementProblem(profile, Topology(3), 2)
    _, peaks = balance(problem, oracle.random_slots(seed, 2, 6, 3, 2), 0, lambda: 0.0)
    for layer in range(2):
        loads = profile.scenarios[0].loads[layer : layer + 1]
        best = min(oracle.load(loads, np.asarray([np.ravel(state)]), 3) for state in oracle.placements(6, 3))
        assert best - 1e-12 <= peaks[layer] <= best * 1.1


def test_the_load_phase_is_never_worse_than_where_it_starts() -> None:
    profile = oracle.draw_profile(9, layers=4, experts=8, num=100)
    problem = PlacementProblem(profile, Topology(4), 3)
    slots = oracle.random_slots(3, 4, 8, 4, 3)
    before = layer_peaks(problem.weights_of_experts(), slots, 4)
    _, after = balance(problem, slots, 0, lambda: 0.0)
    assert (after <= before).all()
