"""An attention head on one core: closed forms, the published rule, and golden minima. Source of all figures: design, section 4."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import pytest

from cosma_sched.errors import UsageError
from cosma_sched.frontends import load
from cosma_sched.graph import Graph
from cosma_sched.multicore.attention import (
    SCHEDULES,
    all_letters,
    alpha,
    best_of_rows,
    best_split,
    closed_form,
    head_of,
    head_split,
    on_one_core,
    order_of_schedule,
    split_of_schedule,
)
from cosma_sched.multicore.minimax import minimax, peak_of
from cosma_sched.multicore.problem import Semantics


@cache
def head(rows: int, width: int) -> Graph:
    return load(f"attention-head:{rows}x{width}")


def terms(*, inputs: str = "streamed", outputs: str = "kept", p: int = 1) -> Semantics:
    return Semantics(inputs=inputs, weights="free", outputs=outputs, partial_sum_factor=p)


# Closed forms


@pytest.mark.parametrize("outputs", ["kept", "streamed"])
@pytest.mark.parametrize("r", [1, 4])
@pytest.mark.parametrize(("rows", "width"), [(16, 4), (4, 16), (12, 12), (8, 4)])
@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "E"])
def test_closed_forms_of_row_schedules_are_the_simulated_peaks(name: str, rows: int, width: int, r: int, outputs: str) -> None:
    problem = on_one_core(head(rows, width), split_of_schedule(name, r=r), terms(outputs=outputs))
    assert peak_of(problem, order_of_schedule(name, problem)) == closed_form(name, rows, width, r=r, outputs=outputs)


@pytest.mark.parametrize("outputs", ["kept", "streamed"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize(("rows", "width", "b"), [(16, 4, 2), (4, 16, 1), (12, 12, 3), (8, 8, 8), (3, 12, 4)])
def test_the_closed_form_of_the_column_schedule_is_the_simulated_peak(rows: int, width: int, b: int, p: int, outputs: str) -> None:
    problem = on_one_core(head(rows, width), split_of_schedule("E", b=b), terms(outputs=outputs, p=p))
    assert peak_of(problem, order_of_schedule("E", problem)) == closed_form("E", rows, width, b=b, p=p, outputs=outputs)


# M x N, L, the study's fused schedule, its exact alpha, the rule's, best all-row schedule with outputs kept and streamed
PUBLISHED = [
    (1024, 128, 1_310_848, "C", 394_240, 0.3008, 0.3000, 394_240, "D", 263_296),
    (128, 1024, 393_344, "A", 279_552, 0.7107, 0.7083, 262_272, "B", 148_480),
    (81, 32, 11_777, "C", 7_857, 0.6671, 0.6621, 7_857, "D", 5_297),
    (32, 81, 7_808, "A", 6_289, 0.8055, 0.7984, 5_216, "B", 3_697),
    (512, 512, 786_944, "L", 786_944, 1.0, 1.0, 524_800, "B", 524_800),
]


@pytest.mark.parametrize("row", PUBLISHED)
def test_alpha_and_the_best_schedules_of_rows_are_the_golden_ones(row: tuple[Any, ...]) -> None:
    m, n, baseline, name, fused, exact, rule, kept, streaming, streamed = row
    found = alpha(m, n)
    assert (found.baseline_peak, found.fused, found.fused_peak) == (baseline, name, fused)
    assert (round(float(found.exact), 4), round(float(found.rule), 4)) == (exact, rule)
    assert found.best_peak == kept
    assert best_of_rows(m, n, outputs="streamed")[0] == streamed
    assert streaming in best_of_rows(m, n, outputs="streamed")[1]


def test_moving_v_behind_s_beats_the_fused_schedule_where_rows_are_few() -> None:
    assert alpha(128, 1024).best == ("L'", "B")


def test_blocks_of_16_rows_of_the_long_head_have_the_shown_figures() -> None:
    found = alpha(1024, 128, r=16)
    assert (found.baseline_peak, found.fused_peak, round(float(found.exact), 4)) == (1_312_768, 409_600, 0.3120)


@pytest.mark.parametrize("m", [2**k for k in range(4, 12)])
def test_the_rule_is_near_the_exact_quotient_on_the_grid(m: int) -> None:
    for n in (2**k for k in range(4, 12)):
        found = alpha(m, n)
        assert abs(found.exact - found.rule) <= Fraction(max(m, n), found.baseline_peak)


@pytest.mark.parametrize(("rows", "width"), [(6, 3), (3, 6), (5, 5), (8, 2), (2, 8), (9, 4), (4, 9), (12, 5)])
@pytest.mark.parametrize("outputs", ["kept", "streamed"])
def test_the_search_proves_the_best_schedule_of_rows(rows: int, width: int, outputs: str) -> None:
    found = minimax(on_one_core(head(rows, width), head_split("BBBBB", size=1), terms(outputs=outputs)))
    assert found.is_optimal
    assert found.peak_bytes == best_of_rows(rows, width, outputs=outputs)[0]


# Minima over all 243 splits, in blocks of 128 (256x128: 64): M, N, block, inputs, p, kept, streamed, best words named there
MINIMA = [
    (1024, 128, 128, "streamed", 1, 524_288, 409_600, "BBBBB", "BBBBB"),
    (1024, 128, 128, "resident", 1, 524_288, 524_288, "BBBBB", "BBBBB"),
    (128, 1024, 128, "streamed", 1, 163_840, 49_152, "KKKCK", "KKKCK"),
    (128, 1024, 128, "streamed", 2, 163_840, 65_536, "KKKCK", "KKKCK"),
    (128, 1024, 128, "resident", 1, 278_528, 180_224, "KKBCB", "KKKCK"),
    (128, 1024, 128, "resident", 2, 278_528, 196_608, "KKBCB", "KKKCK"),
    (512, 512, 128, "streamed", 1, 589_824, 393_216, "BBBBB", "KKKCK"),
    (512, 512, 128, "streamed", 2, 589_824, 589_824, "BBBBB", "BBBBB"),
    (512, 512, 128, "resident", 1, 786_432, 655_360, "KKBCB", "KKBCB"),
    (512, 512, 128, "resident", 2, 851_968, 851_968, "BBBBB", "BBBBB"),
    (256, 128, 64, "streamed", 1, 106_496, 90_112, "BBBBB", "BBBBB"),
    (256, 128, 64, "resident", 1, 114_688, 114_688, "BBBBB", "BBBBB"),
]


@pytest.mark.parametrize("row", MINIMA)
def test_named_splits_have_the_golden_minima_proved(row: tuple[Any, ...]) -> None:
    m, n, block, inputs, p, kept, streamed, word, other = row
    for outputs, peak, letters in (("kept", kept, word), ("streamed", streamed, other)):
        found = minimax(on_one_core(head(m, n), head_split(letters, size=block), terms(inputs=inputs, outputs=outputs, p=p)))
        assert (found.peak_bytes, found.is_optimal) == (peak, True)


@pytest.mark.parametrize("outputs", ["kept", "streamed"])
def test_no_split_of_a_small_head_is_better_than_the_golden_minimum(outputs: str) -> None:
    found = best_split(head(256, 128), terms(outputs=outputs), size=64)
    assert (found.peak_bytes, found.bound_bytes) == ({"kept": 106_496, "streamed": 90_112}[outputs],) * 2
    assert "BBBBB" in found.letters


@pytest.mark.slow
@pytest.mark.parametrize("row", MINIMA)
def test_no_split_is_better_than_the_golden_minimum(row: tuple[Any, ...]) -> None:
    m, n, block, inputs, p, kept, streamed, word, other = row
    for outputs, peak, letters in (("kept", kept, word), ("streamed", streamed, other)):
        found = best_split(head(m, n), terms(inputs=inputs, outputs=outputs, p=p), size=block)
        assert found.peak_bytes == found.bound_bytes == peak
        assert letters in found.letters


def test_the_short_head_with_streamed_outputs_has_one_best_split() -> None:
    found = best_split(head(128, 1024), terms(outputs="streamed"), size=128)
    assert (found.letters, found.peak_bytes, found.bound_bytes) == (("KKKCK",), 49_152, 49_152)


# One split, M and N in 16 parts: kept, streamed
SIXTEEN = [
    ("BBBBB", 1024, 128, 458_752, 335_872),
    ("BBBBB", 128, 1024, 263_168, 155_648),
    ("BBBBB", 512, 512, 540_672, 540_672),
    ("KKKCK", 1024, 128, 1_187_840, 1_064_960),
    ("KKKCK", 128, 1024, 155_648, 32_768),
    ("KKKCK", 512, 512, 540_672, 294_912),
]


@pytest.mark.parametrize(("word", "m", "n", "kept", "streamed"), SIXTEEN)
def test_sixteen_parts_have_the_golden_minima(word: str, m: int, n: int, kept: int, streamed: int) -> None:
    for outputs, peak in (("kept", kept), ("streamed", streamed)):
        found = minimax(on_one_core(head(m, n), head_split(word, parts=16), terms(outputs=outputs)))
        assert (found.peak_bytes, found.bound_bytes) == (peak, peak)


# Around it


def test_the_order_of_the_long_head_keeps_the_keys_and_streams_the_rest() -> None:
    """K^8 Q S V^8 A (Q S A)^7, or one that runs another order of the same peak."""
    problem = on_one_core(head(1024, 128), head_split("BBBBB", parts=8), terms())
    found = minimax(problem)
    layers = "".join(problem.nodes[position].layer for position in found.order)
    assert sorted(layers) == sorted("QKVSA" * 8)
    assert peak_of(problem, found.order) == found.peak_bytes


def test_there_are_243_words() -> None:
    assert len(set(all_letters())) == 243


def test_a_head_is_recognised_with_free_and_strict_views() -> None:
    for views in ("free", "strict"):
        found = head_of(load("attention-head:6x4,width=3", views=views))
        assert found is not None
        assert (found.layers, found.rows, found.width) == (("Q", "K", "V", "S", "A"), 6, 4)


@pytest.mark.parametrize("name", ["swiglu:4x4x8", "attention-heads:4x4,heads=2", "two-conv:1x4x4,2,2,k3"])
def test_other_networks_are_no_head(name: str) -> None:
    assert head_of(load(name)) is None
    with pytest.raises(UsageError, match="is not one attention head"):
        best_split(load(name), terms(), parts=2)


def test_what_cannot_be_named_is_refused() -> None:
    with pytest.raises(UsageError, match="known are U1, L"):
        closed_form("F", 4, 4)
    with pytest.raises(UsageError, match="r must divide 81, got 8"):
        closed_form("L", 81, 32, r=8)
    with pytest.raises(UsageError, match="five letters"):
        head_split("KKKC", parts=2)
    with pytest.raises(UsageError, match="as many nodes of each of S, A"):
        order_of_schedule("C", on_one_core(head(4, 8), head_split("BBBBK", size=1), terms()))
