"""Parts of a network, what they must cost, and what an operator ahead must cost: bounds that hold, against exhaustive search."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

import cosma_sched as cs
from cosma_sched.graph import Graph
from cosma_sched.memory import divide as divide_module
from cosma_sched.memory import joint
from cosma_sched.memory.divide import Division
from cosma_sched.memory.pressure import Pressure, cheapest
from cosma_sched.memory.problem import Network
from cosma_sched.progress import Clock, Progress
from tests.memory import oracle
from tests.strategies import graphs


def progress() -> Progress:
    return Progress(Clock())


@given(graphs(max_operators=7), st.data())
@settings(max_examples=80)
def test_disjoint_parts_never_cost_more_than_the_whole(graph: Graph, data: st.DataObject) -> None:
    network = Network(graph)
    capacity = max(network.operand_bytes(v) for v in range(len(graph)))
    everything = (1 << len(network.tensors)) - 1
    half = data.draw(st.integers(0, everything))
    floors = []
    for tensors in (half, everything & ~half):
        found = joint.search(network.part(tensors), capacity, cutoff_bytes=None, progress=progress())
        floors.append(joint.Floor(tensors, found.bound_bytes))
    optimum = oracle.least_traffic_by_capacity(graph, capacity)
    assert sum(floor.traffic_bytes for floor in floors) <= optimum
    guided = joint.search(network, capacity, cutoff_bytes=None, progress=progress(), floors=floors)
    assert (guided.traffic_bytes, guided.bound_bytes) == (optimum, optimum)


@given(graphs(max_operators=7))
def test_the_part_with_every_tensor_is_the_network(graph: Graph) -> None:
    network = Network(graph)
    capacity = max(network.operand_bytes(v) for v in range(len(graph)))
    whole = network.part((1 << len(network.tensors)) - 1)
    found = joint.search(whole, capacity, cutoff_bytes=None, progress=progress())
    assert found.traffic_bytes == oracle.least_traffic_by_capacity(graph, capacity)


@given(graphs())
@settings(max_examples=80)
def test_a_grown_division_bounds_the_optimum(graph: Graph) -> None:
    network = Network(graph)
    capacity = max(network.operand_bytes(v) for v in range(len(graph)))
    division = Division(network, capacity)
    original = divide_module.STEP
    divide_module.STEP = 2
    try:
        division.grow(progress())
    finally:
        divide_module.STEP = original
    floors = division.floors()
    assert all(not one.tensors & other.tensors for one, other in itertools.combinations(floors, 2))
    assert division.bound() == sum(floor.traffic_bytes for floor in floors)
    best = joint.search(network, capacity, cutoff_bytes=None, progress=progress(), floors=floors)
    assert division.bound() <= best.traffic_bytes == joint.search(network, capacity, cutoff_bytes=None, progress=progress()).traffic_bytes


@given(graphs(max_operators=7))
def test_dividing_first_gives_the_same_plan_value(graph: Graph) -> None:
    plans = [cs.plan_memory(graph, scratchpad="M_R", method=method, workers=1) for method in ("auto", "divide")]
    assert len({(plan.status, plan.traffic_bytes, plan.bound_bytes) for plan in plans}) == 1


@given(graphs(max_operators=7))
@settings(max_examples=80)
def test_pressure_never_exceeds_the_optimum(graph: Graph) -> None:
    network = Network(graph)
    capacity = max(network.operand_bytes(v) for v in range(len(graph)))
    assert Pressure(network, capacity).least(0, 0, 0) <= oracle.least_traffic_by_capacity(graph, capacity)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6), st.integers(1, 30))
def test_the_cheapest_set_is_the_cheapest(items: list[tuple[int, int]], excess: int) -> None:
    enough = [part for n in range(len(items) + 1) for part in itertools.combinations(items, n) if sum(size for size, _ in part) >= excess]
    expected = min((sum(price for _, price in part) for part in enough), default=0)
    assert cheapest(items, excess) == expected


def test_a_fractional_price_is_below_the_exact_one(monkeypatch) -> None:
    items = [(5, 9), (3, 4), (4, 7)]
    exact = cheapest(items, 6)
    monkeypatch.setattr("cosma_sched.memory.pressure._MOST_STATES", 1)
    assert 0 < cheapest(items, 6) <= exact
