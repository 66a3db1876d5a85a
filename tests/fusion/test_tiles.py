"""Bands of tiles at borders, strides and gaps, against numbers written down by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cosma_sched.fusion.problem import SAME, Window
from cosma_sched.fusion.tiles import Bands, Reader, bands, need

THREE = Window(3, 1, 1)


def pairs(found: Bands, member: int) -> list[tuple[int, int]]:
    return list(zip(found.low[member].tolist(), found.high[member].tolist(), strict=True))


def test_two_convolutions_with_tiles_of_two_rows() -> None:
    found = bands([8, 8], [[Reader(1, THREE)], []], 2)
    assert pairs(found, 1) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert pairs(found, 0) == [(0, 3), (1, 5), (3, 7), (5, 8)]
    assert found.new[0].tolist() == [3, 2, 2, 1]
    assert found.before[0].tolist() == [0, 2, 2, 2]
    assert found.after[0].tolist() == [2, 2, 2, 0]


def test_bands_grow_backwards_through_a_chain() -> None:
    found = bands([8, 8, 8], [[Reader(1, THREE)], [Reader(2, THREE)], []], 4)
    assert pairs(found, 1) == [(0, 5), (3, 8)]
    assert pairs(found, 0) == [(0, 6), (2, 8)]


def test_several_readers_need_the_union() -> None:
    found = bands([8, 8, 8], [[Reader(1, THREE), Reader(2, SAME)], [Reader(2, THREE)], []], 2)
    assert pairs(found, 0)[1] == (0, 6)
    assert pairs(bands([8, 8], [[Reader(1, SAME)], []], 2), 0)[1] == (2, 4)


def test_rows_that_a_stride_skips_are_computed_by_the_next_tile() -> None:
    found = bands([8, 4], [[Reader(1, Window(1, 2, 0))], []], 1)
    assert pairs(found, 0) == [(0, 1), (1, 3), (3, 5), (5, 8)]
    assert found.new[0].sum() == 8


def test_the_last_tile_ends_at_the_extent() -> None:
    found = bands([9, 4], [[Reader(1, Window(2, 2, 0))], []], 2)
    assert pairs(found, 0) == [(0, 4), (4, 9)]


def test_a_whole_axis_is_computed_once_and_kept() -> None:
    found = bands([6, 4], [[Reader(1, None)], []], 2)
    assert pairs(found, 0) == [(0, 6), (0, 6)]
    assert found.new[0].tolist() == [6, 0]


def test_dilated_and_strided_windows_reach_far() -> None:
    low, high = need(Window(3, 2, 2, 2), np.array([0, 2]), np.array([2, 4]), 8)
    assert (low.tolist(), high.tolist()) == ([0, 2], [5, 8])


@pytest.mark.parametrize("tile", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("window", [Window(1, 2), Window(3, 2, 1), Window(5, 1, 2), Window(2, 3), None])
def test_new_parts_cover_every_row_once(tile: int, window: Window | None) -> None:
    extent = 7 if window is None else (12 - 1) * window.stride + window.reach - 2 * window.pad
    found = bands([extent, 12], [[Reader(1, window)], []], tile)
    rows = [row for low, high in zip(found.fresh[0], found.high[0], strict=True) for row in range(low, high)]
    assert rows == list(range(extent))
    assert (found.low[0] <= found.fresh[0]).all()
