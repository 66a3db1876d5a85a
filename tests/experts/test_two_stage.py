"""Stage 1 of MoETuner against trying everything, its tolerance, and an interrupt between layers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from cosma_sched.backends import SolverOptions
from cosma_sched.experts import two_stage as module
from cosma_sched.experts.calls import place_experts
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.two_stage import cluster_layer, deviation_of, two_stage
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination
from tests.experts import oracle

START = np.asarray([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", ["equal", "paper"])
def test_a_layer_is_clustered_as_well_as_trying_everything(seed: int, sizes: str, solver: str) -> None:
    loads = np.random.default_rng(seed).integers(1, 60, 6)
    every = [np.asarray(cluster) for cluster in product(range(3), repeat=6) if len(set(cluster)) == 3]
    if sizes == "equal":
        every = [cluster for cluster in every if (np.bincount(cluster) == 2).all()]
    cluster, deviation, bound, outcome = cluster_layer(loads, START, SolverOptions(solver), sizes=sizes, tolerance=0.0)
    assert outcome.status == Status.OPTIMAL
    assert deviation == bound == deviation_of(loads, cluster, 3) == min(deviation_of(loads, other, 3) for other in every)


def test_a_deviation_within_the_tolerance_needs_no_search() -> None:
    loads = np.asarray([1000, 1001, 1000, 1000, 1000, 1000])
    cluster, deviation, bound, outcome = cluster_layer(loads, START, SolverOptions(time_limit=0), tolerance=0.001)
    assert outcome.status == Status.OPTIMAL
    assert (deviation, bound) == (4, 0)
    assert sorted(np.bincount(cluster)) == [2, 2, 2]


def test_both_stages_are_proven_and_said_not_to_be_optimal_together() -> None:
    result = place_experts(oracle.draw_profile(1, experts=6), gpus=3, method="two-stage", iterations=50)
    assert result.status == Status.FEASIBLE
    assert any("the pair of stages is not optimal" in note for note in result.notes)
    assert any("stage 2 cost" in note for note in result.notes)


def test_replicas_are_said_to_be_beyond_the_paper() -> None:
    result = place_experts(oracle.draw_profile(1, experts=6), gpus=3, slots=3, method="two-stage", iterations=50)
    assert any("replicas are not in the paper" in note for note in result.notes)


def test_after_an_interrupt_the_other_layers_keep_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []

    def interrupted(program: Any, *, options: SolverOptions, start: Any) -> Any:
        asked.append(options.time_limit)
        found = solve(program, options=replace(options, time_limit=0), start=start)
        return replace(found, termination=Termination.INTERRUPTED)

    solve = module.solve_linear
    monkeypatch.setattr(module, "solve_linear", interrupted)
    result = place_experts(oracle.draw_profile(3, layers=3, experts=8, top_k=3, num=100), gpus=4, method="two-stage", time_limit=20)
    assert asked[1:] == [0, 0]
    assert result.termination == Termination.INTERRUPTED


def test_mixtral_is_solved_to_the_known_deviation(mixtral: Profile) -> None:
    """One layer by the integer program; all layers are in the benchmark."""
    problem = PlacementProblem(mixtral, Topology(4), 2, TrafficModel.TOKEN_STAYS)
    found = two_stage(problem, options=SolverOptions(), clock=Clock(0.0))
    assert found.deviation == 5_476
    assert found.labels.cost == 50_841
