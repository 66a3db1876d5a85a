"""The gap model against exhaustive search, over every back end."""

from __future__ import annotations

import random

from hypothesis import given, settings

from cosma_sched.backends import SolverOptions
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory.bounds import peak_bounds
from cosma_sched.memory.layout import Stay
from cosma_sched.memory.problem import Network, Scratchpad
from cosma_sched.memory.replacement import GapModel, capacity_traffic, least_traffic
from cosma_sched.progress import Clock
from cosma_sched.result import Status
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


@given(graphs(max_operators=7))
@settings(max_examples=40)
def test_the_gap_model_is_exact_for_capacity(graph: Graph) -> None:
    network = Network(graph)
    peaks = peak_bounds(network)
    order = network.given_order
    for capacity in (peaks.m_r_bytes, peaks.m_h_bytes, peaks.m_p_bytes):
        traffic, bound = capacity_traffic(network, order, Scratchpad(capacity), options=SolverOptions(), clock=Clock())
        assert traffic == bound == oracle.least_gap_traffic(GapModel(network, order, Scratchpad(capacity)))


@given(graphs(max_operators=5, max_bytes=4))
@settings(max_examples=30)
def test_one_order_with_addresses_equals_exhaustive_search(graph: Graph) -> None:
    network = Network(graph)
    capacity = peak_bounds(network).m_r_bytes
    answer = least_traffic(network, network.given_order, Scratchpad(capacity), options=SolverOptions(), clock=Clock())
    expected = oracle.least_traffic_with_addresses(graph, capacity, [operator.name for operator in graph])
    assert (answer.status, answer.traffic_bytes) == ((Status.INFEASIBLE, None) if expected is None else (Status.OPTIMAL, expected))


def test_back_ends_agree_on_random_orders(solver: str) -> None:
    chooser = random.Random(5)
    for _ in range(8):
        network = Network(ladder(chooser, 14))
        capacity = peak_bounds(network).m_r_bytes
        answer = least_traffic(network, network.given_order, Scratchpad(capacity), options=SolverOptions(solver=solver), clock=Clock())
        assert answer.status == Status.OPTIMAL
        model = GapModel(network, network.given_order, Scratchpad(capacity))
        assert answer.traffic_bytes is not None
        assert answer.traffic_bytes >= oracle.least_gap_traffic(model)
        reference = least_traffic(network, network.given_order, Scratchpad(capacity), options=SolverOptions(), clock=Clock())
        assert answer.traffic_bytes == reference.traffic_bytes


def ladder(chooser: random.Random, steps: int) -> Graph:
    """A chain with random skips: every tensor is read once more, some steps later."""
    names = [f"t{i}" for i in range(steps)]
    tensors = [Tensor(name, chooser.randint(1, 9), "output" if name == names[-1] else "activation") for name in names]
    operators = []
    for i, name in enumerate(names):
        reads = {names[i - 1]} | {names[chooser.randrange(i)]} if i else set()
        operators.append(Operator(f"op{i}", "Add", tuple(sorted(reads)), (name,)))
    return Graph(tensors, operators)


def test_toys_in_the_given_order_with_every_back_end(solver: str) -> None:
    """Golden: memory-planning design, section 15."""
    expected = {("pinch", 12): 10, ("pinch", 13): 0, ("stuck", 12): None, ("stuck", 13): 0}
    expected |= {("crossroads", size): traffic for size, traffic in ((14, 22), (15, 22), (16, 12), (17, 0))}
    for (name, capacity), traffic in expected.items():
        network = Network(read_toy(name))
        answer = least_traffic(network, network.given_order, Scratchpad(capacity), options=SolverOptions(solver=solver), clock=Clock())
        assert answer.traffic_bytes == traffic, (name, capacity)
        assert answer.status == (Status.INFEASIBLE if traffic is None else Status.OPTIMAL)


def test_an_infeasible_order_names_stays_that_cannot_be_interrupted() -> None:
    network = Network(read_toy("stuck"))
    answer = least_traffic(network, network.given_order, Scratchpad(12), options=SolverOptions(), clock=Clock())
    model = GapModel(network, network.given_order, Scratchpad(12))
    assert len(answer.clash) > 1
    assert all(model.ways_out(stay) == ((), ()) for stay in answer.clash)


def test_the_cutoff_ends_an_order_that_cannot_be_better() -> None:
    network = Network(read_toy("crossroads"))
    answer = least_traffic(network, network.given_order, Scratchpad(14), options=SolverOptions(), clock=Clock(), cutoff_bytes=12)
    assert (answer.layout, answer.bound_bytes) == (None, 22)


def test_an_input_read_in_adjacent_steps_may_change_its_address() -> None:
    """A tensor with a valid copy moves through DRAM between two adjacent uses: one retrieve."""
    graph = Graph(
        [Tensor("x", 2, "input"), Tensor("y", 2, "output"), Tensor("z", 2, "output")],
        [Operator("one", "F", ("x",), ("y",)), Operator("two", "F", ("x",), ("z",))],
    )
    model = GapModel(Network(graph), (0, 1), Scratchpad(4))
    assert model.ways_out(Stay(0, 0, 2)) == ((), ((0, 1),))
    assert model.stays(frozenset(), frozenset({(0, 1)}))[:2] == (Stay(0, 0, 1), Stay(0, 1, 2))
