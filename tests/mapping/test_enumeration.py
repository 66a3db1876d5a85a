"""The closed-form enumerator against the general evaluator."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosma_sched.mapping import enumeration
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import broken_rules, score
from cosma_sched.mapping.search import floor_of, misfits, search_layer
from cosma_sched.mapping.space import l3_orders, parse, tilings
from cosma_sched.progress import Clock
from tests.mapping.cases import SMALL, layer, machine, slow_front, small_layers, values

machines = st.builds(machine, st.sampled_from([1, 2, 3]), st.integers(2, 60), st.sampled_from([12, 24, 60, 200]))


@given(small_layers(most=3), machines, st.sampled_from(["parity", "reuse"]))
@settings(max_examples=40)
def test_the_enumerator_finds_what_scoring_everything_finds(mapped: Layer, device: Machine, halo: str) -> None:
    orders = tuple(l3_orders(halo).values())
    if misfits(mapped, device, "device"):
        return
    found = search_layer(mapped, device, halo, clock=Clock(), with_bytes=True)
    assert found.complete
    assert values(found.points) == values(slow_front(mapped, device, halo, orders))
    assert found.sized is not None
    everything = slow_front(mapped, device, halo, orders, with_bytes=True)
    assert values(found.sized, with_bytes=True) == values(everything, with_bytes=True)


@given(small_layers(), machines, st.sampled_from(["parity", "reuse"]))
@settings(max_examples=60)
def test_every_point_is_worth_what_the_evaluator_says_and_fits(mapped: Layer, device: Machine, halo: str) -> None:
    if misfits(mapped, device, "device"):
        return
    found = search_layer(mapped, device, halo, clock=Clock(), with_bytes=True)
    for point in (*found.points, *(found.sized or ())):
        nest = parse(point.mapping)
        cost = score(mapped, nest, device, halo)
        assert (cost.energy_pj, cost.latency_cycles, cost.scratchpad_bytes) == (
            point.energy_pj,
            point.latency_cycles,
            point.scratchpad_bytes,
        )
        assert cost.words.w + cost.words.i + cost.words.o + cost.words.psum == point.dram_words
        assert not list(broken_rules(mapped, nest, device, cost))
        energy, latency = floor_of(mapped, device)
        assert point.energy_pj >= energy
        assert point.latency_cycles >= latency


def test_ties_are_broken_by_dram_words_and_then_by_the_string() -> None:
    first = search_layer(layer(P=4, Q=4, K=2), SMALL, "parity", clock=Clock())
    again = search_layer(layer(P=4, Q=4, K=2), SMALL, "parity", clock=Clock())
    assert first.points == again.points
    best = first.points[0]
    ties = [point for point in slow_front(layer(P=4, Q=4, K=2), SMALL, "parity") if point.energy_pj == best.energy_pj]
    assert best.dram_words == min(point.dram_words for point in ties)


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = layer(K=4, C=6, P=4, Q=2, R=3)
    whole = search_layer(mapped, machine(4, 200, 512), "parity", clock=Clock())
    monkeypatch.setattr(enumeration, "BLOCK", 7)
    assert search_layer(mapped, machine(4, 200, 512), "parity", clock=Clock()) == whole


def test_the_number_of_tilings_is_that_of_the_design() -> None:
    assert tilings(layer(K=64, C=3, P=112, Q=112, R=7, S=7).dims, 16, 16) == 30_000
    assert tilings(layer(K=64, C=64, P=56, Q=56, R=3, S=3).dims, 16, 16) == 160_000
    assert tilings(layer(K=1000, C=512).dims, 16, 16) == 2_440


def test_an_expired_clock_leaves_what_was_found_and_says_so() -> None:
    found = search_layer(layer(K=64, C=64, P=56, Q=56, R=3, S=3), SMALL, "parity", clock=Clock(0.0))
    assert not found.complete
    assert found.evaluations < 497_230


def test_a_front_keeps_only_what_nothing_beats() -> None:
    front = Front()
    energy, latency = np.array([5.0, 3.0, 4.0, 3.0, np.inf]), np.array([1.0, 4.0, 2.0, 5.0, 0.0])
    front.absorb(energy, latency, np.zeros(5), np.zeros(5), lambda row: f"m{row}")
    assert [(p.energy_pj, p.latency_cycles, p.mapping) for p in front.points] == [(3, 4, "m1"), (4, 2, "m2"), (5, 1, "m0")]
