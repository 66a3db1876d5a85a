"""Load and traffic against their definitions in plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cosma_sched.experts.load import active_experts, load_report, served_shares
from cosma_sched.experts.problem import Topology, TrafficModel
from cosma_sched.experts.profile import Scenario, build_profile
from cosma_sched.experts.statistics import count_coactivation, count_loads, count_transitions
from cosma_sched.experts.traffic import gpu_matrix, least_copies, pair_hull, traffic_report, usage
from tests.experts import oracle

A, B = TrafficModel.DISPATCH_COMBINE, TrafficModel.TOKEN_STAYS


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("room", [2, 3])
def test_figures_are_those_of_the_definitions(seed: int, room: int) -> None:
    tokens = oracle.draw_tokens(seed)
    profile = oracle.draw_profile(seed)
    slots = oracle.random_slots(seed, 3, 6, 4, room) if room == 3 else oracle.random_slots(seed, 3, 6, 4, 2)
    report, _, _ = traffic_report(profile, slots, Topology(4, 2), A)
    assert report.copies_per_token == pytest.approx(oracle.copies(tokens, slots, 4))
    assert report.nodes_per_token == pytest.approx(oracle.copies(tokens, slots, 4, nodes=2))
    assert report.remote_fraction == pytest.approx(oracle.remote(tokens, slots, 4))
    assert load_report(profile, slots, 4).max_over_mean == pytest.approx(oracle.load(profile.scenarios[0].loads, slots, 4))


@pytest.mark.parametrize("seed", range(3))
def test_pairs_alone_tell_the_copies_of_two_experts_exactly(seed: int) -> None:
    tokens = oracle.draw_tokens(seed)
    counts = build_profile([Scenario("s", count_loads(tokens, 6), count_transitions(tokens, 6), count_coactivation(tokens, 6))], path="x")
    slots = oracle.random_slots(seed, 3, 6, 4, 3)
    exact, _, _ = traffic_report(oracle.draw_profile(seed), slots, Topology(4), A)
    from_pairs, _, _ = traffic_report(counts, slots, Topology(4), A)
    assert from_pairs.copies_per_token == pytest.approx(exact.copies_per_token)
    assert from_pairs.busiest_port == pytest.approx(exact.busiest_port)
    assert from_pairs.remote_fraction == pytest.approx(exact.remote_fraction)


@pytest.mark.parametrize("seed", range(5))
def test_for_more_experts_pairs_give_an_interval_around_the_copies(seed: int) -> None:
    shape = {"experts": 8, "top_k": 4}
    tokens = oracle.draw_tokens(seed, **shape)
    slots = oracle.random_slots(seed, 3, 8, 4, 2)
    counts = build_profile([Scenario("s", count_loads(tokens, 8), None, count_coactivation(tokens, 8))], path="x")
    report, _, _ = traffic_report(counts, slots, Topology(4), A)
    assert report.copies_per_token is None
    least, most = report.copies_interval
    assert least - 1e-9 <= oracle.copies(tokens, slots, 4) <= most + 1e-9


def test_expected_copies_with_replicas_are_what_a_draw_of_replicas_gives() -> None:
    tokens, profile = oracle.draw_tokens(1, num=60), oracle.draw_profile(1, num=60)
    slots = oracle.random_slots(1, 3, 6, 4, 3)
    random, total, draws = np.random.default_rng(0), 0, 100
    holders = [[np.flatnonzero((slots[layer].reshape(4, 3) == e).any(axis=1)) for e in range(6)] for layer in range(3)]
    for _ in range(draws):
        for token in tokens.tolist():
            total += sum(len({int(random.choice(holders[layer][e])) for e in chosen}) for layer, chosen in enumerate(token))
    report, _, _ = traffic_report(profile, slots, Topology(4), A)
    assert total / draws / tokens.shape[0] / 3 == pytest.approx(report.copies_per_token, rel=0.01)


def test_a_rank_that_keeps_to_its_own_replica_changes_copies_and_not_loads() -> None:
    profile, slots = oracle.draw_profile(2), oracle.random_slots(2, 3, 6, 4, 3)
    even, _, _ = traffic_report(profile, slots, Topology(4), A)
    static, _, _ = traffic_report(profile, slots, Topology(4), A, static=True)
    assert static.copies_per_token != pytest.approx(even.copies_per_token)
    without = oracle.random_slots(2, 3, 6, 3, 2)
    same = [traffic_report(profile, without, Topology(3), A, static=static)[0].copies_per_token for static in (False, True)]
    assert same[0] == same[1]


def test_copies_between_nodes_depend_on_forwarding() -> None:
    profile, slots = oracle.draw_profile(3), oracle.random_slots(3, 3, 6, 4, 3)
    forwarded, _, _ = traffic_report(profile, slots, Topology(4, 2), A)
    direct, _, _ = traffic_report(profile, slots, Topology(4, 2, forwarding=False), A)
    assert forwarded.inter_node_copies == pytest.approx(forwarded.nodes_per_token / 2)
    assert direct.inter_node_copies == pytest.approx(direct.copies_per_token / 2)


def test_a_cost_matrix_prices_every_pair_of_gpus() -> None:
    profile, slots = oracle.draw_profile(4), oracle.random_slots(4, 3, 6, 3, 2)
    costs = np.asarray([[0, 1, 5], [2, 0, 3], [4, 6, 0.0]])
    report, _, moved = traffic_report(profile, slots, Topology(3, matrix=costs), B)
    assert report.transition_cost == pytest.approx(float((moved * costs).sum()))


def test_the_matrix_of_gpus_adds_up_to_the_traffic() -> None:
    profile, slots = oracle.draw_profile(5), oracle.random_slots(5, 3, 6, 3, 2)
    report, use, moved = traffic_report(profile, slots, Topology(3), B)
    assert gpu_matrix(B, use, moved).sum() == pytest.approx(report.transitions)
    spread = gpu_matrix(A, use, moved)
    assert spread.sum() == pytest.approx(report.copies_per_token * 3 * (1 - 1 / 3))


def test_known_homes_give_an_upper_bound_on_dispatch() -> None:
    tokens, profile = oracle.draw_tokens(6), oracle.draw_profile(6)
    homes = np.stack([count_loads(tokens[rank::3], 6) for rank in range(3)])
    scenario = profile.scenarios[0]
    with_homes = replace(profile, scenarios=(Scenario("s", scenario.loads, tokens=scenario.tokens, homes=homes),))
    report, _, _ = traffic_report(with_homes, oracle.random_slots(6, 3, 6, 3, 2), Topology(3), A)
    assert report.copies_per_token * (1 - 1 / 3) <= report.home_cost_bound * 1.25
    assert report.home_cost_bound <= 2


def test_a_profile_without_pairs_or_tokens_tells_no_traffic() -> None:
    report, use, moved = traffic_report(
        build_profile([Scenario("s", np.ones((2, 4)))], path="x"), np.asarray([[0, 1, 2, 3]] * 2), Topology(2), A
    )
    assert use is None
    assert moved is None
    assert report.copies_per_token is None
    assert report.remote_fraction is None


def test_the_hull_of_four_experts_is_the_known_one() -> None:
    assert pair_hull(4) == ((0, 4), (2, 2), (6, 1))
    assert least_copies(4, 4) == pytest.approx(1.5)


def test_the_share_of_visits_is_largest_where_the_popular_expert_is() -> None:
    profile = oracle.draw_profile(7)
    slots = np.asarray([[0, 1, 2, 3, 4, 5]] * 3)
    use = usage(profile, slots, Topology(6))
    assert np.allclose(use.visits, profile.scenarios[0].loads / 40)


def test_active_experts_of_a_huge_batch_are_all_experts() -> None:
    profile = oracle.draw_profile(8, num=200)
    shares = served_shares(np.asarray([[0, 1, 2, 3, 4, 5]] * 3), 6, 2)
    assert active_experts(profile, shares, 10**6) == pytest.approx(3)


def test_the_four_definitions_of_imbalance_agree_on_a_case_by_hand() -> None:
    profile = build_profile([Scenario("s", np.asarray([[3, 1], [1, 1]]))], path="x")
    report = load_report(profile, np.asarray([[0, 1], [0, 1]]), 2)
    assert report.max_over_mean == pytest.approx((1.5 + 1) / 2)
    assert report.worst_layer == 0
    assert report.balancedness == pytest.approx((4 + 2) / (6 + 2))
    assert report.utilisation == pytest.approx((2 / 3 + 1) / 2)
    assert report.imbalance_ratio == pytest.approx(0.25)
