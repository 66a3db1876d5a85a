"""Networks with very many branches: limits hold between two steps of a search, and shortcuts agree with their definitions."""

from __future__ import annotations

from hypothesis import given

from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory import joint
from cosma_sched.memory.bounds import forced_live
from cosma_sched.memory.heuristic import greedy_cover
from cosma_sched.memory.ordering import min_peak_order
from cosma_sched.memory.problem import Network, Scratchpad, largest_operator
from cosma_sched.memory.replacement import Gap, GapModel
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Termination
from tests.strategies import graphs

BRANCHES = 80


def fan() -> Network:
    """One input, many branches of different sizes, one operator that reads them all."""
    branches = [f"b{i}" for i in range(BRANCHES)]
    tensors = [Tensor("x", 10, "input"), *(Tensor(name, 1 + i) for i, name in enumerate(branches)), Tensor("z", 5, "output")]
    operators = [Operator(f"make_{name}", "Relu", ("x",), (name,)) for name in branches]
    return Network(Graph(tensors, [*operators, Operator("join", "Concat", tuple(branches), ("z",))]))


def test_the_search_for_the_least_peak_stops_within_one_state() -> None:
    network = fan()
    found = min_peak_order(network, network.operand_bytes(largest_operator(network)), clock=Clock(0.0))
    assert found.states == 1
    assert found.order == network.given_order


def test_the_search_stops_within_one_label() -> None:
    network = fan()
    capacity = network.operand_bytes(largest_operator(network))
    late = joint.search(network, capacity, cutoff_bytes=None, progress=Progress(Clock(0.0)))
    assert (late.termination, late.labels) == (Termination.TIME_LIMIT, 1)
    full = joint.search(network, capacity, cutoff_bytes=None, progress=Progress(Clock()), most_labels=20)
    assert (full.termination, full.labels) == (Termination.MEMORY_LIMIT, 1)


@given(graphs(parameters=True))
def test_forced_live_tensors_are_those_made_before_and_read_after(graph: Graph) -> None:
    network = Network(graph)
    for v in range(network.num_operators):
        before = [u for u in range(network.num_operators) if network.ancestors[v] >> u & 1]
        expected = network.operands(v)
        for a, consumers in enumerate(network.consumers):
            there = any((network.writes[u] | (network.reads[u] & network.inputs)) >> a & 1 for u in before)
            if there and consumers & network.descendants[v]:
                expected |= 1 << a
        assert forced_live(network, v) == expected


@given(graphs())
def test_the_greedy_cover_always_takes_the_gap_of_most_worth(graph: Graph) -> None:
    network = Network(graph)
    model = GapModel(network, network.given_order, Scratchpad(network.operand_bytes(largest_operator(network))))
    assert greedy_cover(model) == plain_greedy_cover(model)


def plain_greedy_cover(model: GapModel) -> frozenset[Gap]:
    """Return the same gaps by looking at all of them each time."""
    network, dropped = model.network, set[Gap]()
    missing = dict(enumerate(excess for _, excess in model.demand))
    rows = {gap: [row for row, (gaps, _) in enumerate(model.demand) if gap in gaps] for gaps, _ in model.demand for gap in gaps}
    while any(excess > 0 for excess in missing.values()):

        def worth(gap: Gap) -> tuple[float, Gap]:
            a = gap[0]
            has_copy = network.backed >> a & 1 or any(other[0] == a for other in dropped)
            useful = sum(min(network.space[a], missing[row]) for row in rows[gap] if missing[row] > 0)
            return useful / (network.size[a] if has_copy else 2 * network.size[a]), gap

        best = max((gap for gap in rows if gap not in dropped), key=worth)
        dropped.add(best)
        for row in rows[best]:
            missing[row] -= network.space[best[0]]
    return frozenset(dropped)
