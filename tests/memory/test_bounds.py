"""Budgets and lower bounds against enumeration."""

from __future__ import annotations

from hypothesis import given, settings

import cosma_sched as cs
from cosma_sched.backends import SolverOptions
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory.bounds import forced_live_bytes, peak_bounds
from cosma_sched.memory.covering import covering_bound
from cosma_sched.memory.ordering import greedy_order
from cosma_sched.memory.problem import Network
from cosma_sched.progress import Clock
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


@given(graphs(parameters=True))
@settings(max_examples=300)
def test_m_p_is_the_least_peak_over_all_orders(graph: Graph) -> None:
    network = Network(graph)
    peaks = peak_bounds(network)
    assert peaks.m_p_is_proven
    assert peaks.m_p_bytes == oracle.min_peak(graph)
    assert max(network.live_bytes(peaks.min_peak_order)) == peaks.m_p_bytes


@given(graphs())
def test_budgets_are_ordered(graph: Graph) -> None:
    network = Network(graph)
    peaks = peak_bounds(network)
    forced = max(forced_live_bytes(network, v) for v in range(len(graph)))
    assert peaks.m_r_bytes <= forced <= peaks.m_p_bytes <= peaks.given_order_peak_bytes
    assert peaks.m_r_bytes <= peaks.m_h_bytes <= peaks.m_p_bytes


@given(graphs(max_operators=6))
def test_the_covering_bound_never_exceeds_the_optimum(graph: Graph) -> None:
    network = Network(graph)
    peaks = peak_bounds(network)
    for capacity in range(peaks.m_r_bytes, peaks.m_p_bytes):
        bound = covering_bound(network, capacity, options=SolverOptions(), clock=Clock())
        assert 0 <= bound <= oracle.least_traffic_by_capacity(graph, capacity)


def test_the_toys_have_the_published_budgets() -> None:
    """Golden: memory-planning design, section 15."""
    budgets = {name: cs.memory_bounds(read_toy(name)) for name in ("pinch", "stuck", "crossroads")}
    assert {name: (b.m_r_bytes, b.m_p_bytes, b.given_order_peak_bytes) for name, b in budgets.items()} == {
        "pinch": (12, 12, 12),
        "stuck": (12, 12, 12),
        "crossroads": (14, 17, 17),
    }


def test_an_input_lives_from_its_first_use_and_an_unread_output_for_one_step() -> None:
    graph = Graph(
        [Tensor("x", 8, "input"), Tensor("a", 1), Tensor("unread", 4, "output"), Tensor("y", 1, "output")],
        [Operator("first", "F", (), ("a", "unread")), Operator("second", "F", ("a", "x"), ("y",))],
    )
    assert Network(graph).live_bytes((0, 1)) == [5, 10]


def test_parameters_do_not_count() -> None:
    graph = Graph(
        [Tensor("x", 8, "input"), Tensor("w", 100, "parameter"), Tensor("y", 1, "output")],
        [Operator("conv", "Conv", ("x", "w"), ("y",))],
    )
    assert cs.memory_bounds(graph).m_r_bytes == 9


def test_the_largest_operator_is_named(small: Graph) -> None:
    assert cs.memory_bounds(small).m_r_operator == "first"


def test_bounds_are_saved_and_loaded_whole(small: Graph, tmp_path) -> None:
    bounds = cs.memory_bounds(small)
    bounds.save(tmp_path / "bounds.json")
    loaded = cs.load_result(tmp_path / "bounds.json")
    assert loaded.to_json() == bounds.to_json()
    assert cs.verify(small, loaded) == []


def test_branches_are_followed_where_the_search_for_the_peak_has_no_time() -> None:
    """Thirty branches that shrink: the given order opens all of them first, which needs thirty times the bytes."""
    branches = range(30)
    tensors = [Tensor("x", 1, "input"), *(Tensor(f"wide{i}", 100) for i in branches), *(Tensor(f"narrow{i}", 1) for i in branches)]
    operators = [Operator(f"open{i}", "Conv", ("x",), (f"wide{i}",)) for i in branches]
    operators += [Operator(f"close{i}", "Conv", (f"wide{i}",), (f"narrow{i}",)) for i in branches]
    operators.append(Operator("join", "Concat", tuple(f"narrow{i}" for i in branches), ("y",)))
    network = Network(Graph([*tensors, Tensor("y", 1, "output")], operators))
    order = greedy_order(network)
    assert sorted(order) == list(range(len(operators)))
    assert max(network.live_bytes(order)) < 160
    assert max(network.live_bytes(network.given_order)) > 3000


def test_an_expired_clock_leaves_a_peak_and_a_bound_that_hold() -> None:
    graph = read_toy("crossroads")
    peaks = peak_bounds(Network(graph), clock=Clock(0))
    assert peaks.m_p_bound_bytes <= oracle.min_peak(graph) <= peaks.m_p_bytes
