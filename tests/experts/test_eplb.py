"""EPLB and the contiguous placement."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cosma_sched.errors import InfeasibleError
from cosma_sched.experts.eplb import contiguous, eplb_arrays, rebalance
from cosma_sched.experts.load import duplicate_slots, gpu_loads, replica_counts


def test_the_example_of_its_readme_is_met_slot_by_slot(eplb_example: dict[str, Any]) -> None:
    slots, places, counts = rebalance(eplb_example["weight"], 16, 4, 2, 8)
    assert slots.tolist() == eplb_example["phy2log"]
    assert counts.tolist() == replica_counts(slots, 12).tolist()
    for layer in range(2):
        for expert in range(12):
            known = [slot for slot in places[layer, expert].tolist() if slot >= 0]
            assert sorted(known) == np.flatnonzero(slots[layer] == expert).tolist()


def test_the_loads_of_the_example_are_those_published(eplb_example: dict[str, Any]) -> None:
    slots, _, _ = rebalance(eplb_example["weight"], 16, 4, 2, 8)
    assert gpu_loads(eplb_example["weight"], slots, 8).max(axis=1) == pytest.approx([1.2081, 1.2422], abs=5e-5)


def test_counts_and_packing_apart_end_in_232() -> None:
    """vLLM pull request 37656: the case on which EPLB is far from the optimum."""
    loads = np.asarray([[600, 560, 120, 120, 20, 10, 10, 10]])
    slots, _, counts = rebalance(loads, 16, 1, 1, 8)
    assert counts.tolist() == [[5, 5, 1, 1, 1, 1, 1, 1]]
    assert gpu_loads(loads, slots, 8).max() * loads.sum() / 8 == pytest.approx(232)


def test_groups_that_do_not_divide_by_the_nodes_mean_the_global_policy() -> None:
    loads = np.random.default_rng(0).integers(1, 100, (3, 12))
    assert np.array_equal(rebalance(loads, 16, 3, 2, 4)[0], rebalance(loads, 16, 1, 1, 4)[0])


@pytest.mark.parametrize(("slots", "groups", "nodes", "gpus"), [(17, 1, 1, 4), (16, 5, 1, 4), (16, 4, 3, 4)])
def test_what_does_not_divide_is_infeasible_and_names_the_nearest(slots: int, groups: int, nodes: int, gpus: int) -> None:
    with pytest.raises(InfeasibleError, match="cannot be shared out"):
        rebalance(np.ones((1, 12)), slots, groups, nodes, gpus)


def test_contiguous_puts_experts_in_blocks_and_starts_over() -> None:
    assert contiguous(1, 4, 6).tolist() == [[0, 1, 2, 3, 0, 1]]


def test_any_placement_has_the_three_arrays() -> None:
    slots, places, counts = eplb_arrays(np.asarray([[2, 0, 1, 0]]), 3)
    assert slots.tolist() == [[2, 0, 1, 0]]
    assert places.tolist() == [[[1, 3], [2, -1], [0, -1]]]
    assert counts.tolist() == [[2, 1, 1]]


def test_deepseek_counts_give_the_known_loads(deepseek: Any) -> None:
    loads = deepseek("decode_in2000out100").scenarios[0].loads
    slots, _, _ = rebalance(loads, 288, 1, 1, 32)
    relative = gpu_loads(loads, slots, 32).max(axis=1)
    assert relative.mean() == pytest.approx(1.0076, abs=5e-4)
    assert relative.max() == pytest.approx(1.0129, abs=5e-4)
    assert duplicate_slots(slots, 256, 32) == 24
    assert gpu_loads(loads, rebalance(loads, 288, 8, 4, 32)[0], 32).max(axis=1).mean() == pytest.approx(1.2542, abs=5e-4)
