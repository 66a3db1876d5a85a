"""Stage 2 of MoETuner and the proven joint optimum, against trying everything and against known values."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from cosma_sched.experts import viterbi
from cosma_sched.experts.chain import chain_cost, label_clusters
from cosma_sched.experts.eplb import contiguous, rebalance
from cosma_sched.experts.joint import layer_traffic
from cosma_sched.experts.load import layer_peaks
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.traffic import flows, traffic_report
from tests.experts import oracle

B = TrafficModel.TOKEN_STAYS
UNIFORM, TWO_NODES = Topology(4), Topology(4, 2, inside=1, across=9)


@pytest.mark.parametrize("objective", ["sum", "pair-max"])
@pytest.mark.parametrize("topology", [Topology(3), Topology(3, matrix=np.asarray([[0, 1, 4], [2, 0, 3], [5, 1, 0.0]]))])
def test_labels_are_as_good_as_trying_them_all(objective: str, topology: Topology) -> None:
    random = np.random.default_rng(0)
    orders = list(permutations(range(3)))
    for _ in range(5):
        between = random.integers(0, 20, (2, 3, 3))
        labels = label_clusters(between, topology, objective=objective)
        best = min(chain_cost(between, np.asarray(chosen), topology.costs(), objective) for chosen in product(orders, repeat=3))
        assert labels.cost == labels.bound == pytest.approx(best)
        assert chain_cost(between, labels.gpu_of, topology.costs(), objective) == pytest.approx(best)


def test_many_gpus_get_a_descent_with_a_bound() -> None:
    between = np.random.default_rng(1).integers(0, 50, (3, 8, 8))
    labels = label_clusters(between, Topology(8, 2))
    assert labels.bound <= labels.cost
    assert labels.cost == pytest.approx(chain_cost(between, labels.gpu_of, Topology(8, 2).costs(), "sum"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("traffic", ["token-stays", "dispatch-combine"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_the_joint_optimum_is_that_of_trying_everything(seed: int, traffic: str, nodes: int) -> None:
    profile = oracle.draw_profile(seed, layers=2, experts=4, num=30)
    problem = oracle.problem_of(profile, 4 if nodes == 2 else 2, 1 if nodes == 2 else 2, traffic, nodes, 1.2)
    assert viterbi.fits(problem)
    optimum = viterbi.joint_optimum(problem)
    states = [np.ravel(state) for state in oracle.placements(4, problem.gpus)]
    every = [np.asarray(rows) for rows in product(states, repeat=2)]
    work = problem.weights_of_experts()
    peaks = [layer_peaks(work, slots, problem.gpus) for slots in every]
    least = np.min(peaks, axis=0)
    allowed = [slots for slots, peak in zip(every, peaks, strict=True) if (peak <= 1.2 * least * (1 + 1e-9)).all()]
    assert optimum.objective == pytest.approx(min(float(layer_traffic(problem, slots).sum()) for slots in allowed))
    assert optimum.objective == pytest.approx(float(layer_traffic(problem, optimum.slots).sum()))
    assert (layer_peaks(work, optimum.slots, problem.gpus) <= 1.2 * least * (1 + 1e-9)).all()


def test_more_than_two_experts_per_token_are_counted_by_their_sets() -> None:
    profile = oracle.draw_profile(1, layers=2, experts=6, top_k=3)
    problem = oracle.problem_of(profile, 3, 2, max_load=None)
    optimum = viterbi.joint_optimum(problem)
    report, _, _ = traffic_report(profile, optimum.slots, problem.topology, problem.traffic)
    assert optimum.objective / 2 == pytest.approx(report.copies_per_token)
    assert report.copies_per_token == pytest.approx(oracle.copies(oracle.draw_tokens(1, layers=2, experts=6, top_k=3), optimum.slots, 3))


def solved(profile: Profile, topology: Topology, cap: float | None) -> float:
    return viterbi.joint_optimum(PlacementProblem(profile, topology, 2, B, cap)).objective


@pytest.mark.parametrize(("cap", "value"), [(None, 47_424), (1.05, 49_026), (1.02, 49_659), (1.0, 49_984)])
def test_mixtral_has_its_known_optimum(mixtral: Profile, cap: float | None, value: int) -> None:
    assert solved(mixtral, UNIFORM, cap) == value


def test_mixtral_has_its_known_optimum_on_two_nodes(mixtral: Profile) -> None:
    assert solved(mixtral, TWO_NODES, 1.05) == 296_533


@pytest.mark.slow
def test_mixtral_has_its_known_optimum_on_two_nodes_without_cap(mixtral: Profile) -> None:
    assert solved(mixtral, TWO_NODES, None) == 289_507


def test_labels_do_not_matter_for_equal_costs(mixtral: Profile) -> None:
    problem = PlacementProblem(mixtral, UNIFORM, 2, B, 1.02)
    labelled = replace(problem, topology=Topology(4, matrix=1 - np.eye(4) + np.triu(np.full((4, 4), 1e-12), 1)))
    assert not labelled.topology.is_uniform
    assert viterbi.joint_optimum(labelled).objective == pytest.approx(49_659, abs=1e-3)


def test_mixtral_weighted_has_its_known_optimum(mixtral: Profile) -> None:
    problem = PlacementProblem(mixtral, UNIFORM, 2, B, None, (1.0, 1.0))
    optimum = viterbi.joint_optimum(problem)
    assert optimum.objective == pytest.approx(55.321057, abs=1e-6)
    assert layer_peaks(problem.weights_of_experts(), optimum.slots, 4).sum() == pytest.approx(33.892548, abs=1e-6)


@pytest.mark.parametrize(("cap", "pairs"), [(None, 5197), (1.05, 3918)])
def test_mixtral_has_its_known_co_located_pairs(mixtral: Profile, cap: float | None, pairs: int) -> None:
    optimum = viterbi.joint_optimum(PlacementProblem(mixtral, UNIFORM, 2, TrafficModel.DISPATCH_COMBINE, cap))
    assert (64 - optimum.objective) * 577 == pytest.approx(pairs)


def test_mixtral_contiguous_has_its_known_figures(mixtral: Profile) -> None:
    slots = contiguous(32, 8, 8)
    report, use, between = traffic_report(mixtral, slots, UNIFORM, B)
    assert report.remote_transitions == 53_926
    assert report.transitions == 71_548
    assert report.copies_per_token == pytest.approx(1.8655, abs=5e-5)
    assert use.visits.max(axis=1).mean() == pytest.approx(0.5458, abs=5e-5)
    assert use.visits.max() == pytest.approx(0.6412, abs=5e-5)
    assert report.pair_max == 6463
    assert label_clusters(between, UNIFORM).cost == 50_497
    assert label_clusters(between, UNIFORM, objective="pair-max").cost == 5822
    assert label_clusters(between, TWO_NODES).cost == pytest.approx(310_391)
    assert label_clusters(between, TWO_NODES, objective="pair-max").cost == pytest.approx(49_140)
    assert traffic_report(mixtral, slots, TWO_NODES, B)[0].transition_cost == pytest.approx(343_078)


def test_mixtral_eplb_has_its_known_traffic(mixtral: Profile) -> None:
    slots = rebalance(mixtral.scenarios[0].loads, 8, 1, 1, 4)[0]
    between = flows(mixtral, slots, 4)
    assert traffic_report(mixtral, slots, UNIFORM, B)[0].remote_transitions == 53_320
    assert label_clusters(between, UNIFORM).cost == 50_841
