"""Whole plans through the public call: optimal with addresses, checked, reproducible, and honest when stopped."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import cosma_sched as cs
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory import joint
from cosma_sched.memory.problem import Network
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


def plan(graph: Graph, scratchpad: int | str, **options) -> cs.MemoryPlan:
    return cs.plan_memory(graph, scratchpad=scratchpad, **{"workers": 1, "time_limit": None, **options})


@pytest.mark.parametrize(("scratchpad", "free", "given_order"), [(14, 12, 22), (15, 10, 22), (16, 3, 12), (17, 0, 0)])
def test_crossroads(scratchpad: int, free: int, given_order: int) -> None:
    """Golden: memory-planning design, section 15; at 14 bytes the optimum's peak exceeds M_P."""
    graph = read_toy("crossroads")
    answers = [plan(graph, scratchpad, order=order) for order in ("free", "given")]
    assert [(a.traffic_bytes, a.bound_bytes, a.status) for a in answers] == [(free, free, "optimal"), (given_order, given_order, "optimal")]


def test_addresses_force_a_spill_although_everything_fits_by_bytes() -> None:
    """Golden: `pinch` has M_R = M_P = 12, yet 12 bytes cost 10 and 13 cost nothing."""
    graph = read_toy("pinch")
    assert [plan(graph, size).traffic_bytes for size in (12, 13)] == [10, 0]


def test_a_scratchpad_of_m_r_may_be_impossible() -> None:
    """Golden: `stuck` has M_R = 12 but no placement at 12; the reason names 13, which works."""
    graph = read_toy("stuck")
    answer = plan(graph, 12)
    assert (answer.status, answer.order, answer.traffic_bytes) == ("infeasible", None, None)
    assert [(lever.option, lever.value) for lever in answer.reasons[0].levers] == [("--scratchpad", 13)]
    assert plan(graph, 13).status == "optimal"


@given(graphs(max_operators=5, max_bytes=4))
@settings(max_examples=60)
def test_free_order_with_addresses_equals_exhaustive_search(graph: Graph) -> None:
    network = Network(graph)
    capacity = max(network.operand_bytes(v) for v in range(len(graph)))
    expected = oracle.least_traffic_with_addresses(graph, capacity)
    answer = plan(graph, capacity)
    assert (answer.traffic_bytes, answer.bound_bytes) == (expected, expected)
    assert answer.status == ("infeasible" if expected is None else "optimal")


@given(graphs())
def test_every_order_choice_gives_a_plan_that_passes_the_checker(graph: Graph) -> None:
    for order in ("free", "given", "min-peak"):
        for budget in ("M_R", "M_H", "M_P"):
            answer = plan(graph, budget, order=order)
            assert cs.verify(graph, answer) == []


@given(graphs(), st.integers(2, 1000))
@settings(max_examples=30)
def test_scaling_all_sizes_scales_the_traffic(graph: Graph, factor: int) -> None:
    scaled = Graph([Tensor(t.name, t.size_bytes * factor, t.kind) for t in graph.tensors.values()], graph.operators)
    budget = cs.memory_bounds(graph).m_h_bytes
    one, other = plan(graph, budget), plan(scaled, budget * factor)
    assert (one.status, one.traffic_bytes or 0) == (other.status, (other.traffic_bytes or 0) // factor)


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_renaming_and_reordering_keep_the_free_optimum(graph: Graph, chooser) -> None:
    orders = [order for order, _ in zip(Network(graph).orders(), range(50), strict=False)]
    order = chooser.choice(orders)
    name = {key: f"other-{i}" for i, key in enumerate(chooser.sample(list(graph.tensors), len(graph.tensors)))}
    tensors = [Tensor(name[t.name], t.size_bytes, t.kind) for t in graph.tensors.values()]
    chooser.shuffle(tensors)
    operators = [graph.operators[v] for v in order]
    renamed = [Operator(f"o-{o.name}", o.type, tuple(name[i] for i in o.inputs), tuple(name[i] for i in o.outputs)) for o in operators]
    one, other = plan(graph, "M_R"), plan(Graph(tensors, renamed), "M_R")
    assert (one.status, one.traffic_bytes) == (other.status, other.traffic_bytes)


@given(graphs())
@settings(max_examples=30)
def test_more_scratchpad_never_costs_more(graph: Graph) -> None:
    bounds = cs.memory_bounds(graph)
    answers = [plan(graph, size) for size in range(bounds.m_r_bytes, bounds.m_p_bytes + 2)]
    traffic = [answer.traffic_bytes for answer in answers if answer.traffic_bytes is not None]
    assert traffic == sorted(traffic, reverse=True)


@given(graphs(max_operators=7))
@settings(max_examples=15)
def test_back_ends_agree(graph: Graph) -> None:
    answers = [plan(graph, "M_R", solver=solver) for solver in ("cpsat", "cbc")]
    assert len({(answer.status, answer.traffic_bytes, answer.bound_bytes) for answer in answers}) == 1


def test_the_same_request_gives_the_same_plan_byte_for_byte() -> None:
    graph = read_toy("crossroads")
    documents = [json.dumps({**plan(graph, 14, seed=3).to_json(), "seconds": 0}) for _ in range(2)]
    assert documents[0] == documents[1]


def test_a_plan_is_saved_and_loaded_whole(tmp_path) -> None:
    graph = read_toy("pinch")
    answer = plan(graph, 12)
    answer.save(tmp_path / "plan.json")
    loaded = cs.load_result(tmp_path / "plan.json")
    assert loaded.to_json() == answer.to_json()
    assert cs.verify(graph, loaded) == []


def test_a_scratchpad_below_m_r_names_the_operator_and_its_tensors(small: Graph) -> None:
    answer = plan(small, 5)
    (reason,) = answer.reasons
    assert (answer.status, reason.demand, reason.limit, reason.short) == ("infeasible", 6, 5, 1)
    assert "first" in reason.statement
    assert dict(reason.terms) == {'input "x"': 4, 'output "a"': 2}
    assert reason.levers[0].value == 6
    assert plan(small, 6).status == "optimal"


def test_without_time_there_is_still_a_checked_plan() -> None:
    answer = plan(read_toy("crossroads"), 14, time_limit=0)
    assert answer.status in {"feasible", "optimal"}
    assert answer.traffic_bytes >= 12 >= answer.bound_bytes
    assert answer.termination in {"time_limit", "proved"}


def test_a_gap_stops_the_work_early() -> None:
    answer = plan(read_toy("crossroads"), 14, order="free", gap=0.99)
    assert (answer.status, answer.termination) in {("feasible", "gap_reached"), ("optimal", "proved")}


@pytest.mark.parametrize("phase", ["search", "beam"])
def test_an_interrupt_keeps_the_best_plan(monkeypatch, phase: str) -> None:
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(joint, phase, interrupt)
    answer = plan(read_toy("crossroads"), 14, method="divide" if phase == "beam" else "auto")
    assert (answer.status, answer.termination) == ("feasible", "interrupted")
    assert answer.traffic_bytes >= 12


def test_many_parallel_branches_do_not_hang() -> None:
    """Twelve independent branches have 12! orders; the flow must not try to count or list them."""
    branches = range(12)
    tensors = [Tensor("x", 3, "input"), *(Tensor(f"b{i}", 2 + i % 3) for i in branches), Tensor("y", 4, "output")]
    operators = [Operator(f"branch{i}", "Conv", ("x",), (f"b{i}",)) for i in branches]
    operators.append(Operator("join", "Concat", tuple(f"b{i}" for i in branches), ("y",)))
    graph = Graph(tensors, operators)
    assert plan(graph, "M_R", time_limit=20).status == "optimal"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "fre"}, "free"),
        ({"method": "magic"}, "auto"),
        ({"gap": 2}, "gap"),
        ({"scratchpad": "512KB"}, "KiB"),
        ({"solver": "cplex"}, "cbc"),
    ],
)
def test_malformed_options_are_refused(small: Graph, options: dict, message: str) -> None:
    with pytest.raises(cs.UsageError, match=message):
        cs.plan_memory(small, **{"scratchpad": 6, **options})


@given(graphs(max_operators=6))
@settings(max_examples=20)
def test_written_models_do_not_change_the_answer(tmp_path_factory, graph: Graph) -> None:
    assume(len(graph) > 2)
    path = tmp_path_factory.mktemp("model") / "gap.mps"
    assert plan(graph, "M_R", write_model=str(path)).traffic_bytes == plan(graph, "M_R").traffic_bytes
    assert path.read_text().rstrip().endswith("ENDATA")
