"""The joint method: order of work, forms of the objective, reproducibility, interruption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cosma_sched.experts import joint, restarts, viterbi
from cosma_sched.experts.joint import SearchOptions, best_layers, layer_traffic
from cosma_sched.experts.load import copies_on_gpus, layer_peaks, replica_counts
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.profile import Profile, with_scenarios
from cosma_sched.experts.synthetic import synthetic_profile
from cosma_sched.progress import Clock, Progress
from tests.experts import oracle

QUICK = SearchOptions(seed=0, iterations=150)


def solve(problem: PlacementProblem, options: SearchOptions = QUICK, **more: object) -> joint.Found:
    return joint.solve(problem, options=options, progress=Progress(Clock(None)), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def trace() -> Profile:
    """32 experts, top-4, small enough for every test."""
    profile = synthetic_profile("synthetic:gpt-oss-like,tokens=600")
    scenario = profile.scenarios[0].layers(range(6), "trace")
    return replace(profile, scenarios=(scenario,), layers=tuple(range(6)))


@pytest.mark.parametrize("traffic", ["dispatch-combine", "token-stays"])
@pytest.mark.parametrize("room", [4, 5])
def test_every_layer_stays_within_its_cap_and_replicas_apart(trace: Profile, traffic: str, room: int) -> None:
    problem = PlacementProblem(trace, Topology(8, 2), room, TrafficModel(traffic))
    found = solve(problem)
    peaks = layer_peaks(problem.weights_of_experts(), found.slots, 8)
    assert (peaks <= 1.05 * found.best_loads * (1 + 1e-9)).all()
    assert copies_on_gpus(found.slots, 32, 8).max() == 1
    assert (replica_counts(found.slots, 32) >= 1).all()


@pytest.mark.parametrize("traffic", ["dispatch-combine", "token-stays"])
def test_more_traffic_is_saved_when_more_load_is_allowed(trace: Profile, traffic: str) -> None:
    totals = []
    for cap in (1.0, 1.05, None):
        problem = PlacementProblem(trace, Topology(4), 8, TrafficModel(traffic), cap)
        totals.append(float(layer_traffic(problem, solve(problem, SearchOptions(iterations=400)).slots).sum()))
    assert totals[0] > totals[1] > totals[2]


def test_the_same_seed_gives_the_same_placement(trace: Profile) -> None:
    problem = PlacementProblem(trace, Topology(4), 9)
    assert np.array_equal(solve(problem).slots, solve(problem).slots)
    assert not np.array_equal(solve(problem).slots, solve(problem, SearchOptions(seed=1, iterations=150)).slots)


@pytest.mark.parametrize("seed", range(20))
def test_sweeps_come_within_a_hundredth_of_the_proven_optimum(mixtral: Profile, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = PlacementProblem(mixtral, Topology(4), 2, TrafficModel.TOKEN_STAYS, 1.05)
    monkeypatch.setattr(viterbi, "fits", lambda _: False)
    found = solve(problem, SearchOptions(seed=seed, iterations=200))
    cost = float(layer_traffic(problem, found.slots).sum())
    assert 49_026 <= cost <= 49_026 * 1.01


def test_where_states_fit_the_answer_is_proven() -> None:
    problem = oracle.problem_of(oracle.draw_profile(1), 3, 2, "token-stays")
    found = solve(problem)
    assert found.proven == "viterbi"
    assert found.objective == pytest.approx(float(layer_traffic(problem, found.slots).sum()))


def test_weights_trade_load_for_traffic(trace: Profile) -> None:
    values = {}
    for alpha in (0.0, 1.0, 100.0):
        problem = PlacementProblem(trace, Topology(4), 8, TrafficModel.TOKEN_STAYS, None, (alpha, 1.0))
        slots = solve(problem).slots
        values[alpha] = layer_peaks(problem.weights_of_experts(), slots, 4).mean(), float(layer_traffic(problem, slots).sum())
    assert values[0.0][1] < values[1.0][1] < values[100.0][1]
    assert values[0.0][0] > values[1.0][0] >= values[100.0][0]


def test_scenarios_are_balanced_in_their_worst_and_not_in_their_mean() -> None:
    parts = [oracle.draw_profile(seed, layers=3, experts=12, num=200) for seed in (1, 2)]
    both = with_scenarios(parts[0], [parts[1]])
    counts = replace(both, scenarios=tuple(type(s)(s.name, s.loads) for s in both.scenarios))
    problem = PlacementProblem(counts, Topology(4), 4)
    found = solve(problem)
    mean = replace(problem, profile=replace(counts, scenarios=(type(counts.scenarios[0])("mean", counts.mean_shares()),)))
    averaged = solve(mean)
    work = problem.weights_of_experts()
    assert layer_peaks(work, found.slots, 4).mean() <= layer_peaks(work, averaged.slots, 4).mean()


def test_counts_and_packing_are_chosen_together_for_two_slots() -> None:
    loads = np.asarray([[600, 560, 120, 120, 20, 10, 10, 10]])
    from cosma_sched.experts.profile import Scenario, build_profile

    problem = PlacementProblem(build_profile([Scenario("s", loads)], path="x"), Topology(8), 2)
    found = solve(problem)
    assert layer_peaks(problem.weights_of_experts(), found.slots, 8)[0] * loads.sum() / 8 == pytest.approx(196.6667, abs=1e-4)
    assert found.proven == "enumeration"


def test_layers_are_taken_from_the_best_candidate_each() -> None:
    problem = oracle.problem_of(oracle.draw_profile(2), 3, 2)
    candidates = [oracle.random_slots(seed, 3, 6, 3, 2) for seed in range(4)]
    chosen = layer_traffic(problem, best_layers(problem, candidates))
    assert np.allclose(chosen, np.min([layer_traffic(problem, slots) for slots in candidates], axis=0))


@pytest.mark.parametrize("where", ["balance", "restarts.anneal"])
def test_an_interrupt_returns_what_is_held(trace: Profile, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"cosma_sched.experts.{where}" if "." in where else f"cosma_sched.experts.joint.{where}", stop)
    problem = PlacementProblem(trace, Topology(4), 8)
    found = solve(problem)
    assert found.interrupted
    assert copies_on_gpus(found.slots, 32, 4).max() == 1
    assert (replica_counts(found.slots, 32) == 1).all()


def test_a_row_that_an_interrupt_left_half_exchanged_is_taken_from_the_start(trace: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(sweeper: joint.Sweeper, *_: object) -> None:
        sweeper.slots[2, 0, 0] = sweeper.slots[2, 1, 0]
        raise KeyboardInterrupt

    monkeypatch.setattr(restarts, "anneal", half)
    found = solve(PlacementProblem(trace, Topology(4), 8))
    assert (replica_counts(found.slots, 32) == 1).all()


def test_one_gpu_has_nothing_to_choose() -> None:
    found = solve(oracle.problem_of(oracle.draw_profile(3), 1, 6))
    assert sorted(found.slots[0].tolist()) == list(range(6))
