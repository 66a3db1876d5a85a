"""The cost model on cases that were computed by hand, on published rows, and under its switches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.accelerator import Accelerator, load_accelerator
from cosma_sched.errors import InputError
from cosma_sched.mapping.batch import batch_of, evaluate_chunks
from cosma_sched.mapping.cost import machine_of, shape_of
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Words, score
from cosma_sched.mapping.space import parse
from tests.mapping.cases import HAND_CASES, SMALL, l2_l1, layer, nests_of, small_layers


@pytest.mark.parametrize("case", HAND_CASES, ids=[case[0] for case in HAND_CASES])
def test_hand_case(case: tuple) -> None:
    _, l3, l1, mapped, (w, i), (o, psum), accesses, cycles, energy, i_reuse = case
    found = score(mapped, parse(l2_l1(l3, l1)), SMALL)
    assert found.words == Words(w, i, o, psum)
    assert found.accesses == accesses
    assert found.latency_cycles == cycles
    assert found.energy_exact_pj == pytest.approx(energy, abs=0.0051)
    assert found.energy_pj == round(found.energy_exact_pj)
    assert sum(found.split_pj) == pytest.approx(found.energy_exact_pj)
    assert score(mapped, parse(l2_l1(l3, l1)), SMALL, "reuse").words.i == i_reuse


# Source: DOSA's published Timeloop rows (BSD-2), typed from the design, section 5.
# mapping, dims, stride, (PE, scratchpad KiB, accumulator KiB), cycles, uJ
PUBLISHED = (
    ("L3[WIO] P28 Q56 K8 - L2[WI] N1 K4X - L1[O] K2 S7 R7 Q2 P2 C3X - L0[W] P2",
     {"R": 7, "S": 7, "P": 112, "Q": 112, "C": 3, "K": 64}, 2, (32, 2, 16), 9834496, 1930.771651),
    ("L3[WIO] S3 Q7 K128 P28 - L2[WI] N1 - L1[O] K2 R3 Q4 C8X - L0[W] N1",
     {"R": 3, "S": 3, "P": 28, "Q": 28, "C": 8, "K": 256}, 2, (64, 1, 2), 2007041, 1009.734775),
    ("L3[WIO] P64 C4 K64 - L2[WI] N1 - L1[O] K2 P2 C32X - L0[W] N1",
     {"P": 128, "C": 128, "K": 128}, 1, (128, 16, 8), 147456, 124.772013),
    ("L3[WIO] C4 K64 Q14 P2 - L2[WI] N1 K4X - L1[O] K2 C64 Q2 P2 - L0[W] P7",
     {"P": 28, "Q": 28, "C": 256, "K": 512}, 2, (4, 256, 512), 25840640, 7643.125289),
    ("L3[WIO] K125 C4096 - L2[WI] N1 - L1[O] K8 - L0[W] N1", {"C": 4096, "K": 1000}, 1, (4, 4, 256), 4096000, 543.382954),
    ("L3[WIO] C2 P9 Q3 K32 - L2[WI] N1 - L1[O] K6 S5 R5 C2 Q9 P3 C16X - L0[W] N1",
     {"R": 5, "S": 5, "P": 27, "Q": 27, "C": 64, "K": 192}, 1, (128, 2048, 256), 14066784, 13689.294415),
)  # fmt: skip


@pytest.mark.parametrize("row", PUBLISHED, ids=range(len(PUBLISHED)))
def test_published_timeloop_row(row: tuple) -> None:
    text, dims, stride, (side, scratchpad, accumulator), cycles, energy = row
    device = SMALL._replace(
        rows=side,
        cols=side,
        scratchpad_bytes=scratchpad * 1024,
        accumulator_bytes=accumulator * 1024,
        accumulator_pj=1.94 + 0.1005 * accumulator / side,
        scratchpad_pj=0.49 + 0.02513 * scratchpad,
        scratchpad_bandwidth=2 * side,
    )
    nest = parse(text)
    found = score(layer(stride, **dims), nest, device)
    assert nest.products() == layer(stride, **dims).dims
    assert abs(found.latency_cycles - cycles) <= 1
    assert found.energy_exact_pj == pytest.approx(energy * 1e6, rel=4e-4)


def test_a_spilled_partial_sum_of_four_words_is_charged_four_times() -> None:
    wide = SMALL._replace(psum_words=4)
    case_d = next(case for case in HAND_CASES if case[0] == "D")
    found = score(case_d[3], parse(l2_l1(case_d[1], case_d[2])), wide)
    assert (found.words.o, found.words.psum) == (1024 + 4 * 3072, 4 * 3072)
    assert found.accesses[3] == 4096 + 1024 + 1024 + 8 * 3072


def test_repetitions_multiply_before_rounding_to_blocks_and_to_cycles() -> None:
    nest = parse("L3[WIO] - L2[WI] - L1[O] R3 S3 P5 - L0[W]")
    once, thrice = score(layer(R=3, S=3, P=5), nest, SMALL), score(layer(R=3, S=3, P=5, repeat=3), nest, SMALL)
    assert once.accesses[3] == 64 * 3
    assert thrice.accesses[3] == 64 * 3  # 27, 63 and 15 words still fill one block each
    assert (once.latency_cycles, thrice.latency_cycles) == (45, 135)
    assert [thrice.macs, thrice.updates, thrice.register_fills] == [3 * n for n in (once.macs, once.updates, once.register_fills)]


def test_wider_elements_count_more_words_in_scratchpad_and_dram() -> None:
    nest = parse("L3[WIO] K2 - L2[WI] K8X - L1[O] P4 C8X - L0[W]")
    plain = layer(K=16, C=8, P=4)
    wide = Layer("wide", plain.dims, element_bytes=(2, 4, 1))
    narrow, found = score(plain, nest, SMALL), score(wide, nest, SMALL)
    assert (found.words.w, found.words.i, found.words.o) == (2 * narrow.words.w, 4 * narrow.words.i, narrow.words.o)
    assert found.scratchpad_bytes == 2 * 64 + 4 * 32
    assert found.accesses[:2] == narrow.accesses[:2]


def test_a_dilated_window_covers_the_rows_between_its_taps() -> None:
    found = score(layer(P=4, R=3, dilation=2), parse("L3[WIO] - L2[WI] - L1[O] R3 P4 - L0[W]"), SMALL)
    assert found.words.i == 4 + (3 - 1) * 2


def test_drained_operands_add_words_and_time() -> None:
    nest = parse("L3[WIO] - L2[WI] K16X - L1[O] P16 C16X - L0[W]")
    plain = layer(P=16, C=16, K=16)
    drained = Layer("drained", plain.dims, drain_words=(256, 10))
    before, after = score(plain, nest, SMALL), score(drained, nest, SMALL)
    assert after.accesses[3] - before.accesses[3] == 256 + 64
    assert after.latency_cycles == -(-(768 + 266) // 8)


@given(st.data())
@settings(max_examples=30)
def test_a_batch_scores_each_row_as_if_it_were_alone(data: st.DataObject) -> None:
    mapped = data.draw(small_layers())
    nests = [data.draw(nests_of(mapped)) for _ in range(4)]
    for halo in ("parity", "reuse"):
        [(_, together)] = evaluate_chunks(SMALL, shape_of(mapped), batch_of(nests), halo=halo)
        for row, nest in enumerate(nests):
            alone = score(mapped, nest, SMALL, halo)
            assert (alone.energy_exact_pj, alone.latency_cycles) == (together.energy_pj[row], np.ceil(together.cycles[row]))


def test_an_accelerator_of_another_kind_is_refused() -> None:
    document = load_accelerator("gemmini").to_json()
    document["levels"] = document["levels"][:1] + document["levels"][2:]
    with pytest.raises(InputError, match="mapping needs a register for W, an accumulator for O"):
        machine_of(Accelerator.from_json(document))


def test_a_missing_fact_is_named() -> None:
    document = load_accelerator("gemmini").to_json()
    del document["levels"][2]["words_per_cycle"]
    with pytest.raises(InputError, match=r"levels\[2\].words_per_cycle: is missing"):
        machine_of(Accelerator.from_json(document))
