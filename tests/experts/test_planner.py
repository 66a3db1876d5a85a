"""The public call: requests that cannot be met, hold-out, scenarios, baselines, options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cosma_sched.errors import InputError, UsageError
from cosma_sched.experts.calls import place_experts
from cosma_sched.experts.problem import Topology
from cosma_sched.experts.profile import BLOCK, Profile, Scenario, build_profile, hold_out, profile_from_tokens
from cosma_sched.experts.steptime import StepConstants
from cosma_sched.result import Status
from tests.experts import oracle


@pytest.fixture(scope="module")
def profile() -> Profile:
    return oracle.draw_profile(1, layers=3, experts=8, num=300, top_k=3)


@pytest.fixture(scope="module")
def counts() -> Profile:
    return build_profile([Scenario("s", np.random.default_rng(0).integers(1, 99, (4, 16)))], path="counts")


def quick(profile: Any, **options: Any) -> Any:
    return place_experts(profile, **({"iterations": 20} | options))


@pytest.mark.parametrize(
    ("options", "rule", "levers"),
    [
        ({"gpus": 4, "replicas": 3}, "slots-divide", {0, 4}),
        ({"gpus": 3}, "slots-divide", {2}),
        ({"gpus": 4, "slots": 3}, "every-expert", {4}),
        ({"gpus": 4, "slots": 17}, "replicas-apart", {16}),
        ({"gpus": 4, "slots": 6, "expert_bytes": 10, "gpu_memory": 200}, "memory", {5}),
        ({"gpus": 4, "slots": 6, "expert_bytes": 10, "gpu_memory": 100}, "memory", {160}),
    ],
)
def test_what_is_impossible_says_why_and_what_works(counts: Profile, options: dict[str, Any], rule: str, levers: set[int]) -> None:
    result = quick(counts, **options)
    assert result.status == Status.INFEASIBLE
    assert result.slots is None
    assert result.reasons[0].rule == rule
    named = {lever.value for lever in result.reasons[0].levers}
    assert levers <= named
    for lever in result.reasons[0].levers:
        works = {key: value for key, value in options.items() if key not in {"slots", "replicas"} or rule == "memory"}
        works[lever.option.strip("-").replace("-", "_")] = lever.value
        if lever.option == "--gpu-memory":
            works["slots"] = 4
        assert quick(counts, **works).status != Status.INFEASIBLE


def test_counts_alone_leave_the_traffic_unknown(counts: Profile) -> None:
    result = quick(counts, gpus=4, slots=5)
    assert result.traffic.profile.copies_per_token is None
    assert result.gap.traffic is None
    assert result.load.profile.max_over_mean <= result.baselines["eplb"].load.profile.max_over_mean


def test_counts_alone_need_a_file_to_be_judged_by(counts: Profile) -> None:
    with pytest.raises(UsageError, match="no token ids to split; name a FILE"):
        quick(counts, gpus=4, hold_out="alternate")


def test_a_file_to_judge_by_may_be_given_as_a_profile(counts: Profile) -> None:
    other = build_profile([Scenario("t", np.random.default_rng(1).integers(1, 99, (4, 16)))], path="other")
    result = quick(counts, gpus=4, hold_out=other)
    assert result.load.held_out.max_over_mean == pytest.approx(oracle.load(other.scenarios[0].loads, result.array, 4))


@pytest.mark.parametrize("share", [0, 1, 1.5, "half"])
def test_a_share_that_is_none_is_refused(profile: Profile, share: Any) -> None:
    with pytest.raises((UsageError, InputError), match=r"hold-out|half"):
        quick(profile, gpus=4, hold_out=share)


def test_alternate_holds_out_the_odd_rows(profile: Profile) -> None:
    planned, held = hold_out(profile, "alternate")
    tokens = profile.scenarios[0].tokens
    assert np.array_equal(planned.scenarios[0].tokens, tokens[::2])
    assert np.array_equal(held.scenarios[0].tokens, tokens[1::2])


def test_a_share_holds_out_whole_requests_or_blocks() -> None:
    tokens = oracle.draw_tokens(0, num=640)
    requests = np.arange(640) // 16
    _, held = hold_out(profile_from_tokens(tokens, 6, requests=requests), 0.25)
    assert len(held.scenarios[0].tokens) == 160
    assert len(np.unique(held.scenarios[0].requests)) == 10
    _, blocks = hold_out(profile_from_tokens(tokens, 6), 0.5)
    assert len(blocks.scenarios[0].tokens) == 5 * BLOCK


@pytest.mark.parametrize("method", ["joint", "two-stage", "eplb", "contiguous"])
def test_every_method_is_compared_with_the_others(profile: Profile, method: str) -> None:
    result = quick(profile, gpus=4, method=method, hold_out="alternate")
    assert set(result.baselines) == {"contiguous", "eplb", "two-stage"} - {method}
    assert result.load.held_out is not None
    assert result.verified
    assert result.status == Status.OPTIMAL if method == "joint" else result.status == Status.FEASIBLE


def test_joint_sends_fewer_copies_than_the_baselines(profile: Profile) -> None:
    result = quick(profile, gpus=4, max_load=1.5, slots=3, iterations=300)
    others = [one.traffic.profile.copies_per_token for one in result.baselines.values()]
    assert result.traffic.profile.copies_per_token < min(others)


def test_the_same_options_give_the_same_document(profile: Profile) -> None:
    first, second = (quick(profile, gpus=4, slots=3).replace(seconds=0.0).to_json() for _ in range(2))
    assert first == second


def test_hierarchical_eplb_states_its_own_bound(counts: Profile) -> None:
    result = quick(counts, gpus=4, nodes=2, slots=5, method="eplb", expert_groups=4)
    nodes = result.array.reshape(4, 2, -1)
    for row in nodes:
        assert len({expert // 4 for expert in row[0]} & {expert // 4 for expert in row[1]}) == 0
    assert result.bounds.group_load >= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slots": 2, "replicas": 0}, "say the same thing twice"),
        ({"max_load": 0.9}, "--max-load must be >= 1"),
        ({"max_load": 1.1, "weights": (1, 1)}, "two forms of the objective"),
        ({"weights": (0, 0)}, "not both 0"),
        ({"method": "jiont"}, 'did you mean "joint"'),
        ({"traffic": "token-stay"}, 'did you mean "token-stays"'),
        ({"replica_choice": "odd"}, "must be one of even, static"),
        ({"max_moved": 5}, "needs --current"),
        ({"nodes": 3}, "cannot be shared out evenly; the nearest number that works is 2"),
        ({"topology": Topology(2)}, "the topology has 2 GPUs"),
    ],
)
def test_options_that_make_no_sense_are_refused(profile: Profile, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        quick(profile, gpus=4, **options)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([[0, 1], [1]], r"\[1\]: must be a list of 2 costs"),
        ([[0, 1], [1, 2]], r"\[1\]\[1\]: must be 0 on the diagonal"),
        ([[0, -1], [1, 0]], r"\[0\]\[1\]: must be a number >= 0"),
        ([[0]], "must be a list of 2 rows"),
        ({}, "must be a list of 2 rows"),
    ],
)
def test_a_cost_matrix_that_is_none_is_refused(profile: Profile, write_json: Any, matrix: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        quick(profile, gpus=2, topology=write_json("w.json", matrix))


def test_a_cost_matrix_is_minimised_under_token_stays(profile: Profile, write_json: Any) -> None:
    costs = [[0, 1, 9, 9], [1, 0, 9, 9], [9, 9, 0, 1], [9, 9, 1, 0]]
    result = quick(profile, gpus=4, slots=3, traffic="token-stays", topology=write_json("w.json", costs), iterations=200)
    assert result.traffic.profile.transition_cost < min(one.traffic.profile.transition_cost for one in result.baselines.values())


def test_what_it_is_worth_needs_the_users_constants(profile: Profile) -> None:
    assert quick(profile, gpus=4).worth is None
    result = quick(profile, gpus=4, step_time=StepConstants(balance_share=0.4, tokens=64, seconds_per_token=1e-4), batch=64)
    assert 0 <= result.worth["balance_gain_ceiling"] < 1
    assert result.worth["step_seconds_after"] <= result.worth["step_seconds_before"]
    assert result.load.profile.active_experts <= 2


def test_a_synthetic_profile_is_marked_everywhere() -> None:
    from cosma_sched.report.experts import placement_lines

    result = place_experts("synthetic:mixtral-like,tokens=200", gpus=4, method="eplb", time_limit=0)
    assert result.synthetic
    assert result.to_json()["synthetic"] is True
    assert "[synthetic trace]" in placement_lines(result)[0]
    assert "[in-sample, not a forecast]" in placement_lines(result)[0]


def test_eplb_arrays_describe_the_placement(profile: Profile) -> None:
    result = quick(profile, gpus=4, slots=3)
    slots, places, replicas = result.eplb_arrays()
    assert np.array_equal(slots, result.array)
    assert replicas.sum(axis=1).tolist() == [12] * 3
    for layer, expert in np.ndindex(3, 8):
        assert all(slots[layer, slot] == expert for slot in places[layer, expert] if slot >= 0)


def test_renaming_experts_changes_no_proven_value() -> None:
    tokens = oracle.draw_tokens(5, experts=6)
    order = np.random.default_rng(0).permutation(6)
    first, second = (place_experts(profile_from_tokens(ids, 6), gpus=3, traffic="token-stays") for ids in (tokens, order[tokens]))
    assert first.traffic.profile.remote_transitions == pytest.approx(second.traffic.profile.remote_transitions)


def test_two_workers_are_as_good_as_one(profile: Profile) -> None:
    one, two = (quick(profile, gpus=4, slots=3, workers=n).traffic.profile.copies_per_token for n in (1, 2))
    assert two <= one + 1e-9


@pytest.mark.slow
def test_leaving_one_workload_out_is_survived(deepseek: Any) -> None:
    names = ["prefill_in1024", "prefill_in2048", "prefill_in500out1500", "prefill_in1000out1000", "prefill_in2000out100"]
    files = [deepseek(name) for name in names]
    result = place_experts(files[0], scenarios=files[1:], gpus=32, slots=9, hold_out=deepseek("prefill_in4096"), iterations=120)
    assert result.load.held_out.max_over_mean <= 1.05
    assert result.baselines["eplb"].load.held_out.max_over_mean == pytest.approx(1.186, abs=1e-3)
