"""Foreign slot lists: the totals of all sixteen published runs follow from node costs and link rates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cosma_sched.multicore.slots import Slot, SlotList, SlotRun, SlotTransfer, replay

INPUT, FIRST, SECOND, BETWEEN, OUTPUT = 131_072, 18_432, 73_728, 262_144, 524_288
"""Bits of two convolutions 8 -> 16 -> 32 channels on 32 x 32, bf16."""

# platform: link rate, costs of both layers on each core that shares them, whether the intermediate crosses a link, latency (Stream 1.13.14)
TWO_CONVOLUTIONS = {
    "eyeriss_like_single_core": (64, ((21_048, 83_423),), False, 114_999),
    "eyeriss_like_dual_core": (128, ((13_991, 55_372),) * 2, True, 76_675),
    "eyeriss_like_quad_core": (128, ((6950, 27_699),) * 4, True, 41_961),
    "tpu_like_quad_core": (128, ((2376, 4656),) * 4, True, 14_344),
    "meta_prototype": (128, ((6417, 3656),) * 2, True, 17_385),
    "simba_small": (128, ((717, 2721),) * 4, True, 10_750),
    "simba": (256, ((138, 372),) * 36, True, 4316),
    "fusemax": (512, ((2304, 4609), (36_864, 147_456)), True, 186_148),
}

# platform: iterations, cycles of one, overlap, latency (Stream 1.13.14)
SWIGLU = {
    "eyeriss_like_single_core": (1_048_576, 421, 93, 343_933_021),
    "eyeriss_like_dual_core": (262_144, 831, 179, 170_918_067),
    "eyeriss_like_quad_core": (65_536, 2296, 357, 127_074_661),
    "tpu_like_quad_core": (65_536, 1616, 36, 103_546_916),
    "meta_prototype": (262_144, 441, 21, 110_100_501),
    "simba_small": (65_536, 2153, 274, 123_142_418),
    "simba": (65_536, 869, 279, 38_666_519),
    "fusemax": (262_144, 328, 35, 76_808_227),
}


def moved(tensor: str, bits: int, rate: int) -> SlotTransfer:
    return SlotTransfer(tensor, "bus", bits, rate)


def two_convolutions(platform: str) -> SlotList:
    rate, costs, crosses, total = TWO_CONVOLUTIONS[platform]
    first, second = (
        tuple(SlotRun(layer, str(core), pair[at]) for core, pair in enumerate(costs)) for at, layer in enumerate(("conv1", "conv2"))
    )
    slots = [
        Slot((moved("input", INPUT, rate),)),
        Slot((moved("w1", FIRST, rate),)),
        Slot((moved("w2", SECOND, rate),), first),
        *([Slot((moved("between", BETWEEN, rate),))] if crosses else []),
        Slot(runs=second),
        Slot((moved("output", OUTPUT, rate),)),
    ]
    return SlotList(platform, tuple(slots), stated_cycles=total)


@pytest.mark.parametrize("platform", TWO_CONVOLUTIONS)
def test_two_convolutions_take_the_published_cycles(platform: str) -> None:
    assert replay(two_convolutions(platform)) == []


@pytest.mark.parametrize("platform", SWIGLU)
def test_the_gated_layer_takes_the_published_cycles(platform: str) -> None:
    iterations, cycles, overlap, total = SWIGLU[platform]
    assert replay(SlotList(platform, (Slot(runs=(SlotRun("all", "0", cycles),)),), iterations, overlap, total)) == []


def test_the_dual_core_total_is_the_sum_of_its_slots() -> None:
    found = two_convolutions("eyeriss_like_dual_core")
    assert [slot.cycles for slot in found.slots] == [1024, 144, 13_991, 2048, 55_372, 4096]
    assert found.cycles == 76_675


def test_the_published_file_states_the_same_totals(shared_data: Path) -> None:
    file = shared_data / "stream" / "golden_metrics.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    golden = json.loads(file.read_text())
    for name, table in (("two_conv", TWO_CONVOLUTIONS), ("swiglu", SWIGLU)):
        for platform, row in table.items():
            assert golden[f"tests/test_hardware_combinations.py::test_hardware_{name}[{platform}]"]["total_latency"] == row[-1]


def test_what_uses_one_resource_goes_one_after_the_other() -> None:
    slot = Slot((moved("a", 100, 10), moved("b", 5, 10), SlotTransfer("c", "link", 110, 10)), (SlotRun("n", "0", 7), SlotRun("m", "0", 3)))
    assert slot.cycles == 11


def test_a_slot_list_that_contradicts_itself_is_named() -> None:
    bad = SlotList("bad", (Slot((moved("a", -10, 1),), (SlotRun("n", "0", -5),)),), 0, 9, 12)
    assert [violation.rule for violation in replay(bad)] == ["slot-iterations", "slot-overlap", "slot-transfer", "slot-run", "slot-total"]


def test_a_link_without_a_rate_is_named_before_anything_is_counted() -> None:
    assert [violation.rule for violation in replay(SlotList("bad", (Slot((moved("a", 10, 0),)),)))] == ["slot-transfer"]
