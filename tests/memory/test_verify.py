"""The checker: for each rule a plan that breaks it and is refused under that rule's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cosma_sched as cs
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory.plan import Budgets, Residency, Transfer, TransferKind
from tests.strategies import graphs

Change = Callable[[cs.MemoryPlan], cs.MemoryPlan]


@pytest.fixture(scope="module")
def everything() -> Graph:
    """A graph whose plan at 10 bytes spills an activation, drops and reloads an input, and drops a stored output for nothing.

    Step 0 makes a, early and side from x; steps 1 and 2 need nearly everything; step 3 reads a, x and early again.
    """
    return Graph(
        [
            Tensor("x", 2, "input"),
            Tensor("a", 3),
            Tensor("early", 2, "output"),
            Tensor("b", 5),
            Tensor("c", 5),
            Tensor("y", 3, "output"),
        ],
        [
            Operator("begin", "Split", ("x",), ("a", "early")),
            Operator("middle", "Conv", (), ("b",)),
            Operator("big", "Conv", ("b",), ("c",)),
            Operator("end", "Concat", ("a", "x", "early"), ("y",)),
            Operator("sink", "Reduce", ("c",), ()),
        ],
    )


def is_valid(graph: Graph, plan: cs.MemoryPlan) -> set[str]:
    return {violation.rule for violation in cs.verify(graph, plan)}


@pytest.fixture(scope="module")
def good(everything: Graph) -> cs.MemoryPlan:
    plan = cs.plan_memory(everything, scratchpad=15, order="given", workers=1, time_limit=None)
    kinds = {(move.kind, move.tensor) for move in plan.transfers}
    assert {("load", "x"), ("store", "early"), ("store", "y")} <= kinds
    assert plan.spill_bytes or plan.retrieve_bytes
    assert cs.verify(everything, plan) == []
    return plan


def stay(plan: cs.MemoryPlan, of: str, index: int, **changes) -> cs.MemoryPlan:
    """Return the plan with the stay number `index` of a tensor changed."""
    stays = sorted((entry for entry in plan.residency if entry.tensor == of), key=lambda entry: entry.start)
    wanted = stays[index]
    return plan.replace(residency=tuple(replace(entry, **changes) if entry == wanted else entry for entry in plan.residency))


def without(plan: cs.MemoryPlan, kind: str, tensor: str) -> cs.MemoryPlan:
    return plan.replace(transfers=tuple(move for move in plan.transfers if (move.kind, move.tensor) != (kind, tensor)))


def with_move(plan: cs.MemoryPlan, tensor: str, step: int, kind: str, size: int) -> cs.MemoryPlan:
    return plan.replace(transfers=(*plan.transfers, Transfer(tensor, step, TransferKind(kind), size)))


def corruptions(plan: cs.MemoryPlan) -> dict[str, list[cs.MemoryPlan]]:
    """Return plans that break each rule; some break others too."""
    dropped = next(entry.tensor for entry in plan.residency if sum(other.tensor == entry.tensor for other in plan.residency) == 2)
    size = next(entry.size_bytes for entry in plan.residency if entry.tensor == dropped)
    second = max(entry.start for entry in plan.residency if entry.tensor == dropped)
    first_end = min(entry.end for entry in plan.residency if entry.tensor == dropped)
    last = plan.residency[-1]
    return {
        "order": [
            plan.replace(order=plan.order[:-1]),
            plan.replace(order=(*plan.order[:-1], "nobody")),
            plan.replace(order=(plan.order[0], *plan.order[:-1])),
            plan.replace(order=tuple(reversed(plan.order))),
        ],
        "entry": [
            stay(plan, "b", 0, offset=-1),
            stay(plan, "b", 0, offset=plan.scratchpad_bytes - 4),
            stay(plan, "b", 0, size_bytes=4),
            stay(plan, "b", 0, tensor="nothing"),
            stay(plan, "c", 0, end=99),
            stay(plan, "b", 0, start=2, end=2),
            with_move(plan, "nothing", 0, "load", 1),
        ],
        "one-place-at-a-time": [
            plan.replace(residency=(*plan.residency, Residency(last.tensor, last.start, last.end, last.offset, last.size_bytes)))
        ],
        "operands-resident": [
            plan.replace(residency=tuple(entry for entry in plan.residency if entry.tensor != "b")),
            stay(plan, "c", 0, end=3),
        ],
        "no-overlap": [stay(plan, "b", 0, offset=next(entry.offset for entry in plan.residency if entry.tensor == "c"))],
        "first-stay": [
            without(plan, "load", "x"),
            with_move(plan, "b", 1, "load", 5),
            stay(plan, "c", 0, start=1),
        ],
        "retrieve": [
            without(plan, "retrieve", dropped),
            with_move(plan, dropped, second, "retrieve", size),
            with_move(plan, "b", 2, "retrieve", 5),
        ],
        "spill": [
            with_move(plan, "b", 2, "spill", 5),
            with_move(with_move(plan, "a", first_end, "spill", 3), "a", first_end, "spill", 3),
            stay(plan, "b", 0, end=4),
        ],
        "store": [
            without(plan, "store", "y"),
            with_move(plan, "y", 3, "store", 3),
            with_move(plan, "b", 1, "store", 5),
            plan.replace(
                transfers=tuple(
                    replace(move, step=4) if (move.kind, move.tensor) == ("store", "early") else move for move in plan.transfers
                )
            ),
        ],
        "totals": [
            plan.replace(**{name: getattr(plan, name) + 1})
            for name in ("traffic_bytes", "spill_bytes", "retrieve_bytes", "compulsory_bytes", "peak_bytes", "height_bytes")
        ]
        + [plan.replace(budgets=Budgets(1, 1, 1))],
        "bound": [
            plan.replace(bound_bytes=plan.traffic_bytes + 1),
            plan.replace(bound_bytes=plan.traffic_bytes - 1),
            plan.replace(bound_bytes=-1, status=cs.Status.FEASIBLE, gap=(plan.traffic_bytes + 1) / plan.traffic_bytes),
            plan.replace(status=cs.Status.FEASIBLE),
            plan.replace(gap=0.5),
            plan.replace(gap=None),
        ],
    }


RULES = [
    "order",
    "entry",
    "one-place-at-a-time",
    "operands-resident",
    "no-overlap",
    "first-stay",
    "retrieve",
    "spill",
    "store",
    "totals",
    "bound",
]


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_refuses_what_breaks_it(everything: Graph, good: cs.MemoryPlan, rule: str) -> None:
    for number, broken in enumerate(corruptions(good)[rule]):
        violations = cs.verify(everything, broken)
        assert rule in {violation.rule for violation in violations}, (rule, number, violations)


def test_a_violation_names_rule_tensor_and_step(everything: Graph, good: cs.MemoryPlan) -> None:
    (violation,) = [v for v in cs.verify(everything, stay(good, "b", 0, offset=-1)) if v.rule == "entry"]
    assert (violation.tensor, violation.step) == ("b", 1)
    assert str(violation).startswith('entry: tensor "b", step 1: bytes -1 to 4 are outside the scratchpad of 15')


def test_a_plan_for_another_graph_is_refused(small: Graph, good: cs.MemoryPlan) -> None:
    assert is_valid(small, good) == {"order"}


def test_the_given_order_is_checked_where_it_was_asked_for(everything: Graph, good: cs.MemoryPlan) -> None:
    order = ("middle", *(name for name in good.order if name != "middle"))
    assert "order" in is_valid(everything, good.replace(order=order))


def test_a_plan_without_an_answer_must_not_claim_one(small: Graph) -> None:
    nothing = cs.plan_memory(small, scratchpad=5)
    assert cs.verify(small, nothing) == []
    assert "bound" in is_valid(small, nothing.replace(status=cs.Status.OPTIMAL))
    assert "totals" in is_valid(small, nothing.replace(traffic_bytes=0))
    assert "totals" in is_valid(small, nothing.replace(scratchpad_bytes=6))


def test_relocation_is_refused_unless_it_was_asked_for() -> None:
    """Rule 12: a spill and a retrieve in the same step move a tensor; by default it has to be absent for a step."""
    graph = Graph(
        [Tensor("a", 2), Tensor("b", 1), Tensor("y", 1, "output")],
        [Operator("one", "F", (), ("a",)), Operator("two", "F", ("a",), ("b",)), Operator("three", "F", ("a", "b"), ("y",))],
    )
    plan = cs.plan_memory(graph, scratchpad=8, order="given", workers=1)
    moved = stay(plan, "a", 0, end=1, offset=0)
    offset = 4
    kept = [entry for entry in moved.residency if entry.tensor != "b"]
    residency = (*kept, Residency("a", 1, 3, offset, 2), Residency("b", 1, 3, 2, 1))
    transfers = (*moved.transfers, *(Transfer("a", 1, TransferKind(kind), 2) for kind in ("spill", "retrieve")))
    fixed = [entry if entry.tensor != "y" else replace(entry, offset=3) for entry in residency]
    relocated = moved.replace(
        residency=tuple(fixed),
        transfers=transfers,
        traffic_bytes=4,
        spill_bytes=2,
        retrieve_bytes=2,
        height_bytes=6,
        status=cs.Status.FEASIBLE,
        termination=cs.Termination.EXHAUSTED,
        gap=1.0,
    )
    assert is_valid(graph, relocated) == {"retrieve", "spill"}
    allowed = replace(relocated.provenance, options={**relocated.provenance.options, "allow-relocation": True})
    assert is_valid(graph, relocated.replace(provenance=allowed)) == set()


@given(graphs(), st.data())
@settings(max_examples=60)
def test_one_changed_number_is_caught_or_harmless(graph: Graph, data: st.DataObject) -> None:
    """A shifted offset passes only if the stays are still disjoint; a shifted start or end never passes."""
    plan = cs.plan_memory(graph, scratchpad="M_P", workers=1)
    if plan.residency is None:
        return
    entry = data.draw(st.sampled_from(plan.residency))
    field = data.draw(st.sampled_from(["offset", "start", "end"]))
    value = getattr(entry, field) + data.draw(st.sampled_from([-1, 1]))
    changed = replace(entry, **{field: value})
    residency = tuple(changed if other is entry else other for other in plan.residency)
    caught = is_valid(graph, plan.replace(residency=residency))
    if field == "offset":
        overlap = any(
            other is not entry
            and other.start < changed.end
            and changed.start < other.end
            and other.offset < changed.offset + changed.size_bytes
            and changed.offset < other.offset + other.size_bytes
            for other in plan.residency
        )
        outside = changed.offset < 0 or changed.offset + changed.size_bytes > plan.scratchpad_bytes
        height = max(other.offset + other.size_bytes for other in residency) != plan.height_bytes
        assert bool(caught) == (overlap or outside or height)
    else:
        producer_start = field == "start" and graph.tensors[entry.tensor].kind == "input" and value >= 0 and value < entry.start
        assert caught or producer_start


def test_a_stopped_search_proves_nothing(everything: Graph) -> None:
    plan = cs.plan_memory(everything, scratchpad="M_H", workers=1)
    assert plan.status == cs.Status.OPTIMAL
    assert is_valid(everything, plan.replace(termination=cs.Termination.TIME_LIMIT)) == {"bound"}


@pytest.mark.parametrize("option", [{"align": "64"}, {"pin": {"a": "0"}}, {"reserve": -1}, {"allow-relocation": "no"}])
def test_options_that_are_no_values_of_theirs_are_input_errors(everything: Graph, option: dict[str, object]) -> None:
    plan = cs.plan_memory(everything, scratchpad="M_H", workers=1)
    misread = replace(plan.provenance, options={**plan.provenance.options, **option})
    with pytest.raises(cs.InputError, match=f"options.{next(iter(option))}"):
        cs.verify(everything, plan.replace(provenance=misread))
