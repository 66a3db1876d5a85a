"""Periodic schedules: every iteration written out passes the checker; what is listed once says all."""

from __future__ import annotations

from pathlib import Path

import pytest

import cosma_sched as cs
from cosma_sched.accelerator import load_accelerator
from cosma_sched.errors import InputError, UsageError
from cosma_sched.multicore import gated_search
from cosma_sched.multicore.costs import AnalyticCosts, NodeCost
from cosma_sched.multicore.gated import GatedCosts, GatedLayer, Team, Tiling, best_plan, gated_loop, latency_of
from cosma_sched.multicore.periodic import plan_loop, unroll
from cosma_sched.multicore.periodic_answer import periodic_schedule
from cosma_sched.multicore.periods import listed_in_full, listed_once
from cosma_sched.multicore.platforms import platform_of
from cosma_sched.multicore.problem import Objective, Semantics
from cosma_sched.multicore.request import TILE_LOOP, Request, asked_again
from cosma_sched.multicore.schedule import Schedule
from cosma_sched.multicore.verify import verify
from cosma_sched.progress import Clock
from cosma_sched.result import Provenance

NOWHERE = Provenance("0", None, "", "none")


def request(model: str = "swiglu:64x512x512,dtype=bf16", accelerator: str = "quad-b-k") -> Request:
    device = load_accelerator(accelerator)
    semantics = Semantics(capacity_rule="unified")
    return Request(cs.load(model), device, AnalyticCosts(device), semantics, Objective.LATENCY)


@pytest.fixture(scope="module")
def found() -> tuple[Request, Schedule]:
    asked = request()
    gated = gated_search.find(asked.graph)
    assert gated is not None
    searched = gated_search.search(gated, asked)
    assert searched is not None
    document, plan = searched
    return asked, asked.describe(periodic_schedule(plan, NOWHERE, Clock(None)), {TILE_LOOP: document})


def test_every_iteration_passes_the_checker(found: tuple[Request, Schedule]) -> None:
    asked, answer = found
    again = asked_again(asked.graph, Schedule.from_json(answer.to_json()))
    loop = gated_search.rebuilt(answer.split[TILE_LOOP], asked.graph, again.costs, again.platform(), answer.semantics)
    assert loop is not None
    assert verify(loop.unrolled(), listed_in_full(Schedule.from_json(answer.to_json()))) == []
    assert sum(period.iterations for period in answer.periods) == loop.iterations * loop.passes
    assert len(answer.nodes) == len(loop.nodes) * loop.passes


def test_no_allocation_beats_the_bound(found: tuple[Request, Schedule]) -> None:
    _, answer = found
    assert answer.bounds.latency_cycles is not None
    assert answer.latency_cycles is not None
    assert answer.bounds.latency_cycles <= answer.latency_cycles


def test_a_shorter_period_is_refused(found: tuple[Request, Schedule]) -> None:
    asked, answer = found
    loop = gated_search.rebuilt(answer.split[TILE_LOOP], asked.graph, asked.costs, asked.platform(), answer.semantics)
    assert loop is not None
    document = answer.to_json()
    document["periods"][0]["ii_cycles"] //= 2
    assert verify(loop.unrolled(), listed_in_full(Schedule.from_json(document)))


def test_listing_once_and_in_full_are_inverse(found: tuple[Request, Schedule]) -> None:
    _, answer = found
    full = listed_in_full(answer)
    assert listed_once(full, answer.periods) == answer
    assert listed_in_full(full) is full


def test_a_period_without_its_nodes_is_an_input_error(found: tuple[Request, Schedule]) -> None:
    _, answer = found
    with pytest.raises(InputError, match=r"periods\[0\].nodes"):
        listed_in_full(answer.replace(nodes=answer.nodes[1:]))


def test_the_latency_is_that_of_the_listing(found: tuple[Request, Schedule]) -> None:
    asked, answer = found
    loop = gated_search.rebuilt(answer.split[TILE_LOOP], asked.graph, asked.costs, asked.platform(), answer.semantics)
    assert loop is not None
    plan = plan_loop(loop)
    assert plan is not None
    full = unroll(plan)
    assert latency_of(plan) == max(transfer.end for transfer in full.transfers)


def test_pieces_that_do_not_divide_are_refused() -> None:
    platform = request().platform()
    costs = GatedCosts(*({"0": NodeCost(1, 0)},) * 4)
    with pytest.raises(UsageError, match="the chunk 48: must be a multiple of 32"):
        gated_loop(GatedLayer(96, 128, 32), costs, [Team(("0",))], Tiling(48, 32), platform, Semantics())


@pytest.mark.parametrize("model", ["attention-head:64x64", "two-conv:8x32x32,16,32,k3"])
def test_other_networks_are_no_gated_layer(model: str) -> None:
    assert gated_search.find(cs.load(model)) is None


@pytest.mark.parametrize(
    ("system", "cores", "vector", "cycles", "asked"),
    [
        ("tpu_like_quad_core", "0123", "5", (135, 543, 128, 126), 10_400_000),
        ("eyeriss_like_dual_core", "01", "3", (1572, 2859, 64, 62), 162_000_000),
    ],
)
def test_swiglu_is_scheduled_several_times_faster_than_published(
    shared_data: Path, system: str, cores: str, vector: str, cycles: tuple[int, int, int, int], asked: int
) -> None:
    """Stream needs 103,546,916 and 170,918,067 cycles with the same node costs (multi-accelerator.md, section 13)."""
    path = shared_data / "stream" / "hardware" / f"{system}.yaml"
    platform = platform_of(load_accelerator(path), capacity_rule="unified", timing="stream")
    gate_up, down, silu, mul = cycles
    on_array = [{core: NodeCost(count, 0) for core in cores} for count in (gate_up, down)]
    costs = GatedCosts(*on_array, {vector: NodeCost(silu, 0)}, {vector: NodeCost(mul, 0)})
    layer = GatedLayer(256, 2048, 8192)
    found = best_plan(layer, costs, [Team(tuple(cores), vector)], platform, Semantics(timing="stream"))
    assert found is not None
    assert latency_of(found[1]) <= asked
