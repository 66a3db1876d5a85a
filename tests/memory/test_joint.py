"""The search over orders against every order, the CP-SAT model of the same question, and an exhaustive shortest path."""

from __future__ import annotations

import itertools

from hypothesis import assume, given, settings

from cosma_sched.backends import SolverOptions
from cosma_sched.graph import Graph
from cosma_sched.memory import joint
from cosma_sched.memory.bounds import peak_bounds
from cosma_sched.memory.joint_intervals import search_by_intervals
from cosma_sched.memory.problem import Network, Scratchpad
from cosma_sched.memory.replacement import GapModel
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Termination
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


def found(network: Network, capacity: int, cutoff: int | None = None, seed: int = 0, limit: float | None = None) -> joint.Found:
    return joint.search(network, capacity, cutoff_bytes=cutoff, progress=Progress(Clock(limit)), seed=seed)


@given(graphs())
@settings(max_examples=300)
def test_the_search_equals_the_gap_model_over_all_orders(graph: Graph) -> None:
    network = Network(graph)
    assume(network.count_orders(201) <= 200)
    peaks = peak_bounds(network)
    for capacity in sorted({peaks.m_r_bytes, peaks.m_h_bytes, peaks.m_p_bytes - 1} - {0}):
        if capacity < peaks.m_r_bytes:
            continue
        best = min(oracle.least_gap_traffic(GapModel(network, order, Scratchpad(capacity))) for order in network.orders())
        result = found(network, capacity)
        assert (result.traffic_bytes, result.bound_bytes) == (best, best)
        assert oracle.least_gap_traffic(GapModel(network, result.order, Scratchpad(capacity))) == best


@given(graphs(max_operators=6))
def test_the_search_equals_an_exhaustive_shortest_path(graph: Graph) -> None:
    network = Network(graph)
    capacity = peak_bounds(network).m_r_bytes
    assert found(network, capacity).traffic_bytes == oracle.least_traffic_by_capacity(graph, capacity)


@given(graphs(max_operators=6))
@settings(max_examples=30)
def test_the_interval_program_agrees(graph: Graph) -> None:
    network = Network(graph)
    capacity = peak_bounds(network).m_r_bytes
    best = found(network, capacity)
    answer = search_by_intervals(network, capacity, options=SolverOptions(), clock=Clock())
    assert (answer.traffic_bytes, answer.bound_bytes) == (best.traffic_bytes, best.traffic_bytes)
    assert oracle.least_gap_traffic(GapModel(network, answer.order, Scratchpad(capacity))) == best.traffic_bytes


@given(graphs())
def test_a_beam_gives_an_order_whose_traffic_is_not_below_the_optimum(graph: Graph) -> None:
    network = Network(graph)
    capacity = peak_bounds(network).m_r_bytes
    order = joint.beam(network, capacity, 5, clock=Clock())
    assert sorted(order) == list(range(len(graph)))
    assert oracle.least_gap_traffic(GapModel(network, order, Scratchpad(capacity))) >= found(network, capacity).traffic_bytes


@given(graphs())
def test_another_seed_finds_the_same_traffic(graph: Graph) -> None:
    network = Network(graph)
    capacity = peak_bounds(network).m_r_bytes
    assert len({found(network, capacity, seed=seed).traffic_bytes for seed in range(3)}) == 1


def test_a_cutoff_at_the_optimum_is_returned_as_the_bound() -> None:
    network = Network(read_toy("crossroads"))
    result = found(network, 14, cutoff=12)
    assert (result.order, result.bound_bytes, result.termination) == (None, 12, Termination.PROVED)
    assert found(network, 14, cutoff=13).traffic_bytes == 12


def test_a_stopped_search_keeps_a_bound_that_holds(monkeypatch) -> None:
    monkeypatch.setattr(joint, "_CLOCK_INTERVAL", 1)
    network = Network(read_toy("crossroads"))
    result = found(network, 14, limit=0)
    assert result.termination == Termination.TIME_LIMIT
    assert (result.order, result.bound_bytes <= 12) == (None, True)


def test_minimal_evictions_are_all_and_only_the_minimal_sets() -> None:
    network = Network(read_toy("crossroads"))
    expansion = joint.Expansion(network, 14)
    everything = (1 << len(network.tensors)) - 1
    for excess in range(1, 30):
        enough = {mask for mask in range(1, everything + 1) if network.bytes_of(mask) >= excess}
        minimal = {mask for mask in enough if not any(mask & ~(1 << a) in enough for a in range(len(network.tensors)) if mask >> a & 1)}
        listed = list(expansion._minimal_evictions(everything, excess))
        assert len(listed) == len(set(listed))
        assert set(listed) == minimal


def test_every_order_is_listed_once() -> None:
    network = Network(read_toy("crossroads"))
    listed = list(network.orders())
    permutations = itertools.permutations(range(network.num_operators))
    valid = [p for p in permutations if all(not network.predecessors[v] & ~sum(1 << u for u in p[:t]) for t, v in enumerate(p))]
    assert sorted(listed) == sorted(valid)
    assert network.count_orders(1000) == len(valid)
