"""The two lemmas: a few loop orders are as good as all of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from cosma_sched.mapping.enumeration import LayerSpace
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Score, score
from cosma_sched.mapping.space import L1_ORDER, Loop, LoopNest, l3_orders
from cosma_sched.progress import Clock
from tests.mapping.cases import SMALL, layer, machine, slow_front, values

# Layers and (side, scratchpad, accumulator) so small that the capacity decides.
CASES = [
    (layer(K=4, C=4, P=4, Q=2), (2, 16, 16)),
    (layer(K=2, C=2, P=4, Q=2, R=3, S=1), (2, 24, 16)),
    (layer(2, K=4, C=2, P=4, Q=1, R=3, S=2), (2, 20, 32)),
    (layer(N=2, K=2, C=4, P=2, Q=4, R=2), (2, 14, 8)),
    (layer(K=3, C=2, P=6, R=3, S=1, Q=2), (1, 12, 12)),
    (layer(K=2, C=3, P=4, R=4), (1, 9, 8)),
    (layer(3, K=4, C=1, P=4, Q=3, R=2, S=3), (2, 18, 16)),
    (layer(K=2, C=4, P=4, R=5), (1, 7, 8)),
]


@pytest.mark.parametrize("halo", ["parity", "reuse"])
@pytest.mark.parametrize(("mapped", "sizes"), CASES, ids=[str(case[0]) for case in CASES])
def test_the_canonical_orders_are_as_good_as_all_orders(mapped: Layer, sizes: tuple[int, int, int], halo: str) -> None:
    device = machine(*sizes)
    canonical = tuple(l3_orders(halo).values())
    everything = values(slow_front(mapped, device, halo))
    assert everything
    assert values(slow_front(mapped, device, halo, canonical)) == everything
    front = Front()
    list(LayerSpace(mapped, device, halo).search(front, Clock()))
    assert values(front.points) == everything


def test_p_q_n_innermost_at_l1_is_as_good_as_any_order() -> None:
    mapped = layer(N=2, K=2, C=2, P=2, R=2)
    moving = [dim for dim in range(7) if mapped.dims[dim] > 1]
    found = [_score(mapped, order) for order in itertools.permutations(moving)]
    ours = _score(mapped, [dim for dim in L1_ORDER if dim in moving])
    assert ours.register_fills == min(score.register_fills for score in found)
    assert {score.words for score in found} == {ours.words}  # nothing else depends on the order


def _score(mapped: Layer, order: Sequence[int]) -> Score:
    l1 = tuple(Loop(dim, mapped.dims[dim]) for dim in reversed(order))
    return score(mapped, LoopNest(((), (), l1, ())), SMALL)


@pytest.mark.parametrize("halo", ["parity", "reuse"])
def test_every_order_names_each_dim_once(halo: str) -> None:
    assert all(sorted(order) == list(range(7)) for order in l3_orders(halo).values())
    assert len(l3_orders("parity")) == 8
