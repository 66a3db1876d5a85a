"""The paper's integer program: a second opinion on every rule, and the traps in which others who wrote it down were caught."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cosma_sched as cs
from cosma_sched.backends import SolverOptions, solve_linear
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory import paper
from cosma_sched.memory.paper_model import LiteralModel, ModelSize
from cosma_sched.memory.paper_program import literal_program
from cosma_sched.memory.problem import Network, Scratchpad
from cosma_sched.progress import Event
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


def plan(graph: Graph, scratchpad: int | str, **options) -> cs.MemoryPlan:
    return cs.plan_memory(graph, scratchpad=scratchpad, **{"method": "paper", "workers": 1, "time_limit": None, **options})


def agree(graph: Graph, scratchpad: int, **options) -> cs.MemoryPlan:
    """Return the literal answer after checking it against the planner's and against the checker."""
    literal, exact = plan(graph, scratchpad, **options), plan(graph, scratchpad, **options, method="exact")
    assert (literal.status, literal.traffic_bytes, literal.bound_bytes) == (exact.status, exact.traffic_bytes, exact.bound_bytes)
    assert cs.verify(graph, literal) == []
    return literal


# the optimum


@pytest.mark.parametrize(
    ("name", "scratchpad", "order", "traffic"),
    [
        ("pinch", 12, "free", 10),
        ("pinch", 13, "free", 0),
        ("stuck", 12, "free", None),
        ("stuck", 13, "free", 0),
        *(("crossroads", size, "given", traffic) for size, traffic in ((14, 22), (16, 12))),
    ],
)
def test_toys_with_every_back_end(solver: str, name: str, scratchpad: int, order: str, traffic: int | None) -> None:
    """Golden: memory-planning design, section 15."""
    answer = plan(read_toy(name), scratchpad, order=order, solver=solver)
    assert (answer.traffic_bytes, answer.status) == (traffic, "infeasible" if traffic is None else "optimal")


@pytest.mark.parametrize(("scratchpad", "traffic"), [(14, 12), (15, 10), (16, 3), (17, 0)])
def test_crossroads_in_every_order(scratchpad: int, traffic: int) -> None:
    """Golden: memory-planning design, section 15."""
    answer = plan(read_toy("crossroads"), scratchpad)
    assert (answer.traffic_bytes, answer.bound_bytes, answer.status) == (traffic, traffic, "optimal")


@pytest.mark.parametrize("name", ["pinch", "stuck"])
def test_with_relocation_a_spill_and_a_retrieve_may_share_a_step(solver: str, name: str) -> None:
    """Golden: memory-planning design, section 15."""
    answer = plan(read_toy(name), 12, allow_relocation=True, solver=solver)
    assert (answer.traffic_bytes, answer.status) == (2, "optimal")
    assert len({transfer.step for transfer in answer.transfers if transfer.kind in {"spill", "retrieve"}}) == 1


@given(graphs(max_operators=7))
@settings(max_examples=20)
def test_the_optimum_is_the_planner_s_on_random_graphs(graph: Graph) -> None:
    bounds = cs.memory_bounds(graph)
    sizes = {bounds.m_r_bytes, bounds.m_h_bytes, bounds.m_p_bytes}
    for scratchpad in sorted(sizes if len(sizes) == 3 else {bounds.m_r_bytes + extra for extra in range(3)}):
        agree(graph, scratchpad)


@given(graphs(max_operators=4, max_bytes=4), st.sampled_from([1, 2]), st.integers(0, 2), st.booleans())
@settings(max_examples=20)
def test_the_optimum_is_that_of_exhaustive_search(graph: Graph, align: int, reserve: int, relocation: bool) -> None:
    capacity = cs.memory_bounds(graph, align=align, reserve=reserve).m_r_bytes
    expected = oracle.least_traffic_with_addresses(graph, capacity, rules=oracle.Rules(align, reserve, {}, relocation))
    answer = plan(graph, capacity, align=align, reserve=reserve, allow_relocation=relocation)
    assert (answer.traffic_bytes, answer.status) == (expected, "infeasible" if expected is None else "optimal")


def test_progress_names_the_size_and_never_a_negative_bound() -> None:
    events: list[Event] = []
    plan(read_toy("crossroads"), 14, observers=[events.append])
    told = [event for event in events if event.phase == "literal model"]
    assert "178 columns, 366 rows" in told[0].note
    assert all(event.bound is None or event.bound >= 0 for event in told)
    assert told[-1].incumbent == 12


@given(graphs(max_operators=6))
@settings(max_examples=10)
def test_back_ends_agree_on_one_order(graph: Graph) -> None:
    answers = [plan(graph, "M_R", order="given", solver=solver) for solver in ("cpsat", "cbc")]
    assert len({(answer.status, answer.traffic_bytes) for answer in answers}) == 1


@given(graphs(max_operators=5, parameters=True), st.sampled_from([1, 2, 3]), st.integers(0, 3), st.booleans(), st.data())
@settings(max_examples=20)
def test_alignment_reserved_bytes_pins_parameters_and_relocation_hold(
    graph: Graph, align: int, reserve: int, relocation: bool, data
) -> None:
    tensors, order = data.draw(st.sampled_from(["activations", "all"])), data.draw(st.sampled_from(["free", "given", "min-peak"]))
    placed = [t.name for t in graph.tensors.values() if t.kind != "parameter" or tensors == "all"]
    pinned = data.draw(st.lists(st.sampled_from(placed), max_size=1)) if placed else []
    pins = {name: -(-reserve // align) * align + align * data.draw(st.integers(0, 3)) for name in pinned}
    capacity = cs.memory_bounds(graph, align=align, reserve=reserve, tensors=tensors).m_r_bytes
    rules = {"align": align, "reserve": reserve, "pins": pins, "allow_relocation": relocation, "tensors": tensors}
    agree(graph, capacity, order=order, **rules)


# the size


@given(graphs(max_operators=6), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=30)
def test_the_size_is_known_without_building(graph: Graph, every_order: bool, printed: bool, relocation: bool) -> None:
    network = Network(graph)
    scratchpad = Scratchpad(sum(network.space), pins=((network.tensors[0].name, 0),), allow_relocation=relocation)
    model = LiteralModel(network, scratchpad, None if every_order else network.given_order, printed=printed)
    program = literal_program(model)
    built = ModelSize(program.num_variables, program.num_rows, sum(len(row.columns) for row in program.rows))
    assert model.size() == built


@given(graphs(max_operators=5, max_bytes=4), st.booleans())
@settings(max_examples=15)
def test_variables_that_are_left_out_change_nothing(graph: Graph, every_order: bool) -> None:
    network = Network(graph)
    scratchpad = Scratchpad(max(network.operand_bytes(v) for v in range(len(graph))))
    order = None if every_order else network.given_order
    forms = [LiteralModel(network, scratchpad, order, printed=printed) for printed in (False, True)]
    outcomes = [solve_linear(literal_program(form), options=SolverOptions()) for form in forms]
    assert outcomes[0].objective == outcomes[1].objective
    assert forms[0].size().columns <= forms[1].size().columns


def test_a_program_above_the_limit_is_refused_with_its_numbers(monkeypatch) -> None:
    graph = read_toy("crossroads")
    size = LiteralModel(Network(graph), Scratchpad(14)).size()
    monkeypatch.setattr(paper, "MOST_NONZEROS", size.nonzeros - 1)
    answer = plan(graph, 14)
    assert (answer.status, answer.termination, answer.traffic_bytes, answer.order) == ("unknown", "exhausted", None, None)
    (reason,) = answer.reasons
    assert (reason.rule, reason.demand, reason.limit, reason.short, reason.unit) == (
        "model-size",
        size.nonzeros,
        size.nonzeros - 1,
        1,
        "non-zeros",
    )
    assert (dict(reason.terms)["columns"], dict(reason.terms)["rows"]) == (size.columns, size.rows)
    assert [(lever.option, lever.value) for lever in reason.levers] == [("--method", "exact")]
    assert cs.verify(graph, answer) == []


def test_densenet_is_refused() -> None:
    pytest.importorskip("onnx")
    (reason,) = plan(cs.load("densenet121"), "M_R").reasons
    sizes = dict(reason.terms)
    assert sizes["columns as printed"] > 1_000_000 > sizes["columns"] > 10_000


def test_the_program_can_be_written(tmp_path) -> None:
    answer = plan(read_toy("pinch"), 12, write_model=str(tmp_path / "literal.mps"))
    assert answer.traffic_bytes == 10
    assert (tmp_path / "literal.mps").read_text().rstrip().endswith("ENDATA")


# the traps: memory-planning design, section 2


def families(graph: Graph, capacity: int, **options) -> Counter[str]:
    """Return the number of rows of each family of the program for every order."""
    return Counter(row.family for row in literal_program(LiteralModel(Network(graph), Scratchpad(capacity), **options)).rows)


def test_nothing_is_resident_or_spilled_before_step_0() -> None:
    """Without this, tensors appeared at step 0 from nowhere and made the rest cheap."""
    network = Network(read_toy("crossroads"))
    variables = literal_program(LiteralModel(network, Scratchpad(14), printed=True)).variables
    assert not [key for key in variables if key[0] in {"P", "S", "V"} and key[-1] == 0]
    answer = plan(read_toy("crossroads"), 14)
    assert {entry.tensor for entry in answer.residency if entry.start == 0} == {"x", "t0"}


def test_one_operator_runs_at_each_step() -> None:
    """Two branches fit at once, so nothing but the added row keeps them from sharing a step."""
    graph = Graph(
        [Tensor("x", 1, "input"), Tensor("a", 1), Tensor("b", 1), Tensor("y", 1, "output")],
        [Operator("left", "F", ("x",), ("a",)), Operator("right", "F", ("x",), ("b",)), Operator("join", "F", ("a", "b"), ("y",))],
    )
    assert families(graph, 9)["one-operator"] == 3
    assert sorted(plan(graph, 9).order) == ["join", "left", "right"]


def test_a_dead_tensor_is_gone() -> None:
    """Solvers left dead tensors resident, below live ones."""
    graph = read_toy("crossroads")
    answer = plan(graph, 17)
    step = {name: t for t, name in enumerate(answer.order)}
    for tensor in graph.tensors:
        used = [step[operator.name] for operator in graph if tensor in (*operator.inputs, *operator.outputs)]
        assert max(entry.end for entry in answer.residency if entry.tensor == tensor) <= max(used) + 1


def test_a_parameter_is_loaded_in_the_step_that_uses_it() -> None:
    """Equation 5 as printed wants a parameter one step early, where there is no room for it."""
    graph = Graph(
        [Tensor("w", 4, "parameter"), Tensor("a", 3), Tensor("b", 1), Tensor("y", 1, "output")],
        [Operator("wide", "F", (), ("a",)), Operator("narrow", "F", ("a",), ("b",)), Operator("last", "F", ("b", "w"), ("y",))],
    )
    answer = agree(graph, 6, tensors="all", order="given")
    assert (answer.traffic_bytes, answer.status) == (0, "optimal")
    assert [transfer.step for transfer in answer.transfers if transfer.tensor == "w"] == [2]


def test_sinks_inputs_several_outputs_duplicates_and_any_name_are_ordinary() -> None:
    graph = Graph(
        [Tensor("in 7", 2, "input"), Tensor("a/0", 3), Tensor("a/1", 1), Tensor("b", 2), Tensor("é", 1, "output")],
        [
            Operator("split", "Split", ("in 7",), ("a/0", "a/1")),
            Operator("print", "Sink", ("a/1",), ()),
            Operator("double", "Add", ("a/0", "a/0"), ("b",)),
            Operator("end", "Add", ("b", "in 7", "a/1"), ("é",)),
        ],
    )
    for order in ("free", "given"):
        for scratchpad in (6, 8):
            agree(graph, scratchpad, order=order)


@pytest.mark.parametrize(("name", "scratchpad", "left"), [("pinch", "M_R", "t2"), ("stuck", "M_R", None), ("crossroads", "M_H", "t1 t3")])
def test_large_sizes_without_a_common_divisor_stay_exact(solver: str, name: str, scratchpad: str, left: str | None) -> None:
    """With M around 1e7 and a tolerance of 1e-5, an overlap of 32 bytes once passed as optimal."""
    toy = read_toy(name)
    graph = Graph([Tensor(t.name, 1_000_003 * t.size_bytes + i, t.kind) for i, t in enumerate(toy.tensors.values())], toy.operators)
    answer = plan(graph, scratchpad, order="given", solver=solver)
    expected = None if left is None else 2 * sum(graph.tensors[tensor].size_bytes for tensor in left.split())
    assert (answer.status, answer.traffic_bytes) == ("infeasible" if left is None else "optimal", expected)


def test_cbc_at_its_limit_never_says_infeasible() -> None:
    """CBC printed "Infeasible" for a feasible program that it had no time for."""
    answer = plan(read_toy("crossroads"), 14, solver="cbc", time_limit=0.2)
    assert answer.status in {"unknown", "feasible"}
    assert answer.bound_bytes <= 12


def test_an_output_that_is_read_again_comes_back_without_a_spill() -> None:
    graph = Graph(
        [Tensor("y", 4, "output"), Tensor("a", 6), Tensor("z", 1, "output")],
        [Operator("first", "F", (), ("y",)), Operator("wide", "F", (), ("a",)), Operator("last", "F", ("y", "a"), ("z",))],
    )
    answer = agree(graph, 11, order="given")
    assert answer.traffic_bytes == 0
    graph = Graph(
        [Tensor("y", 4, "output"), Tensor("a", 8), Tensor("b", 1), Tensor("z", 1, "output")],
        [
            Operator("first", "F", (), ("y",)),
            Operator("wide", "F", (), ("a",)),
            Operator("narrow", "F", ("a",), ("b",)),
            Operator("last", "F", ("y", "b"), ("z",)),
        ],
    )
    answer = agree(graph, 9, order="given")
    assert (answer.spill_bytes, answer.retrieve_bytes) == (0, 4)
