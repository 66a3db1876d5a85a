"""The cost of a step by hand: what is resident is neither fetched nor drained; the floor and its golden values."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from cosma_sched.accelerator import load_accelerator
from cosma_sched.frontends import load
from cosma_sched.fusion.limits import ceiling_edp, unfused
from cosma_sched.fusion.recount import Demand, Place, StepCost, least_cost, step_cost, vector_step
from cosma_sched.fusion.topology import members_of
from cosma_sched.mapping.cost import machine_of
from cosma_sched.mapping.scoring import score
from cosma_sched.mapping.space import parse
from cosma_sched.mapping.verify import exact_cost
from tests.fusion.cases import RESIDUAL
from tests.fusion.oracle import Rules, network_points
from tests.mapping.cases import HAND_CASES, SMALL, l2_l1, layer, machine

# Case G of the mapping's hand cases: a 3x3 convolution, P8 Q8 C16 K16, one tile; w 2304, i 1600, o 1024, scratchpad accesses 15424
CONV = layer(P=8, Q=8, C=16, K=16, R=3, S=3)
WHOLE = parse("L3[WIO] - L2[WI] K16X - L1[O] R3 S3 P8 Q8 C16X - L0[W]")
_E1, _E2 = Fraction("2.141"), Fraction("3.70664")


def cost(**place: object) -> StepCost:
    return step_cost(CONV, WHOLE, SMALL, "parity", Place(**place))  # type: ignore[arg-type]


@pytest.mark.parametrize("case", HAND_CASES, ids=[case[0] for case in HAND_CASES])
def test_a_step_with_nothing_resident_costs_what_the_mapping_costs(case: tuple) -> None:
    nest, mapped = parse(l2_l1(case[1], case[2])), case[3]
    found = step_cost(mapped, nest, SMALL, "parity", Place())
    plain = score(mapped, nest, SMALL)
    assert (found.energy_pj, found.latency_cycles) == exact_cost(mapped, nest, SMALL, plain)
    assert found.working_bytes == plain.scratchpad_bytes


def test_a_resident_input_is_not_fetched_and_takes_no_tile() -> None:
    plain, found = cost(), cost(input_stays=True)
    assert (found.moved.w, found.moved.i, found.moved.o) == (2304, 0, 1024)
    assert plain.energy_pj - found.energy_pj == 1600 * _E2 + 1600 * 100
    assert plain.working_bytes - found.working_bytes == 1600
    assert found.roofs[2] == Fraction(15424 - 1600, 32)


def test_resident_weights_are_loaded_once() -> None:
    streamed, loaded, resident = cost(), cost(weights="loaded"), cost(weights="resident")
    assert (loaded.moved.w, resident.moved.w) == (2304, 0)
    assert loaded.energy_pj == streamed.energy_pj
    assert streamed.energy_pj - resident.energy_pj == 2304 * _E2 + 2304 * 100
    assert loaded.working_bytes == resident.working_bytes == streamed.working_bytes - 2304


def test_a_resident_output_goes_to_the_scratchpad_and_to_dram_only_if_somebody_outside_reads_it() -> None:
    plain, stays, both = cost(), cost(output_stays=True, output_leaves=False), cost(output_stays=True)
    assert (stays.moved.o, both.moved.o) == (0, 1024)
    assert both.energy_pj - plain.energy_pj == 1024 * _E2
    assert both.energy_pj - stays.energy_pj == 1024 * 100
    assert stays.roofs[2] == both.roofs[2] == Fraction(15424 + 1024, 32)


def test_operands_of_folded_operators_cost_where_they_are() -> None:
    plain, found = cost(), cost(added_inside=(1024,), added_outside=(1000,))
    assert found.energy_pj - plain.energy_pj == 1024 * _E2 + 1024 * 100
    assert found.moved.words - plain.moved.words == 1000


def test_spilled_partial_sums_are_noticed() -> None:
    spilling = parse("L3[WIO] C2 P2 - L2[WI] K16X - L1[O] R3 S3 P4 Q8 C8X - L0[W]")
    assert not step_cost(CONV, spilling, SMALL, "parity", Place(output_stays=True)).complete
    assert cost(output_stays=True).complete


def test_a_vector_operator_pays_for_words_inside_and_blocks_outside() -> None:
    found = vector_step((640, 320), (100,), SMALL)
    assert found.energy_pj == 960 * _E2 + 128 * 100
    assert (found.scratchpad_cycles, found.dram_cycles, found.latency_cycles) == (30, Fraction(25, 2), 30)


@pytest.mark.parametrize(
    ("model", "accelerator", "energy", "latency", "ratio"),
    [
        ("resnet18", "gemmini_small", 4762519226, 9146845, 1.126),
        ("resnet18", "gemmini", 5215469070, 9146845, 1.101),
        ("resnet18", "gemmini_large", 5105094387, 3670221, 1.126),
        ("fsrcnn", "gemmini_small", 35651482393, 97977768, 2.118),
        ("fsrcnn", "gemmini", 38341295302, 97977768, 1.975),
        ("fsrcnn", "gemmini_large", 41498736372, 62726568, 1.979),
    ],
)
def test_the_ceiling_of_published_optima(model: str, accelerator: str, energy: int, latency: int, ratio: float) -> None:
    device = machine_of(load_accelerator(accelerator))
    assert round(energy * latency / ceiling_edp(members_of(load(model)), device, overlap="layer"), 3) == ratio


def test_the_optimum_without_fusion_is_that_of_the_mapping_planner() -> None:
    from cosma_sched.mapping.calls import map_layers

    graph = RESIDUAL.graph()
    for vector_ops in ("free", "charged"):
        for objective in ("edp", "energy", "latency"):
            mapped = map_layers(graph, "gemmini_small", objective=objective, vector_ops=vector_ops)
            found = unfused(members_of(graph).values(), SMALL, "parity", objective, charged=vector_ops == "charged")
            assert (found.energy_pj, found.latency_cycles) == (mapped.energy_pj, mapped.latency_cycles)


@pytest.mark.parametrize("bandwidth", [2, 8, 64])
def test_no_schedule_goes_below_the_floor_even_where_dram_is_fast_and_cheap(bandwidth: int) -> None:
    device = machine(side=2, scratchpad=200)._replace(dram_bandwidth=bandwidth, dram_pj=1.5, block_words=1)
    net = replace(RESIDUAL, size=(1, 2, 4, 2))
    members = members_of(net.graph())
    words = 2 * 4 * 2
    energy, latency = least_cost([Demand(net.layer(name), words * (name == "a"), words * (name == "c")) for name in members], device)
    points = network_points(net, Rules(device))
    assert points
    assert all(energy <= point[0] and latency <= point[1] for point in points)
