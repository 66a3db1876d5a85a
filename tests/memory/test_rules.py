"""Alignment, reserved bytes, pins, relocation and parameters: through budgets, plans and the checker alike."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cosma_sched as cs
from cosma_sched.graph import Graph, Operator, Tensor
from tests.conftest import read_toy
from tests.memory import oracle
from tests.strategies import graphs


def plan(graph: Graph, scratchpad: int | str, **options) -> cs.MemoryPlan:
    return cs.plan_memory(graph, scratchpad=scratchpad, **{"workers": 1, "time_limit": None, **options})


@pytest.mark.parametrize("name", ["pinch", "stuck"])
def test_relocation_costs_two_bytes_where_absence_costs_ten_or_is_impossible(name: str) -> None:
    """Golden: memory-planning design, section 15."""
    graph = read_toy(name)
    answer = plan(graph, 12, allow_relocation=True)
    assert (answer.traffic_bytes, answer.bound_bytes, answer.status) == (2, 2, "optimal")
    without = replace(answer.provenance, options={**answer.provenance.options, "allow-relocation": False})
    assert cs.verify(graph, answer.replace(provenance=without))


@given(graphs(max_operators=4, max_bytes=4), st.sampled_from([1, 2, 3]), st.integers(0, 3), st.booleans(), st.data())
@settings(max_examples=60)
def test_every_rule_together_equals_exhaustive_search(graph: Graph, align: int, reserve: int, relocation: bool, data) -> None:
    bounds = cs.memory_bounds(graph, align=align, reserve=reserve)
    capacity = bounds.m_r_bytes
    pins = {}
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(graph.tensors)))
        bottom = -(-reserve // align) * align
        pins[name] = data.draw(st.integers(0, 3)) * align + bottom
    rules = oracle.Rules(align, reserve, pins, relocation)
    expected = oracle.least_traffic_with_addresses(graph, capacity, rules=rules)
    answer = plan(graph, capacity, align=align, reserve=reserve, pins=pins, allow_relocation=relocation)
    assert (answer.traffic_bytes, answer.status) == (expected, "infeasible" if expected is None else "optimal")
    assert cs.verify(graph, answer) == []


def test_budgets_count_alignment_and_reserved_bytes(small: Graph) -> None:
    assert [cs.memory_bounds(small, align=a, reserve=r).m_r_bytes for a, r in ((1, 0), (4, 0), (1, 10), (4, 10))] == [6, 12, 16, 24]


def test_offsets_are_aligned_and_above_the_reserved_bytes(small: Graph) -> None:
    answer = plan(small, "M_P", align=4, reserve=10)
    assert all(entry.offset % 4 == 0 and entry.offset >= 12 for entry in answer.residency)
    for option, value in (("align", 5), ("reserve", 13)):
        stricter = replace(answer.provenance, options={**answer.provenance.options, option: value})
        assert "entry" in {violation.rule for violation in cs.verify(small, answer.replace(provenance=stricter))}


def test_a_pinned_tensor_lies_where_it_is_pinned(small: Graph) -> None:
    answer = plan(small, 10, pins={"b": 7})
    assert [entry.offset for entry in answer.residency if entry.tensor == "b"] == [7]
    other = replace(answer.provenance, options={**answer.provenance.options, "pin": {"b": 6}})
    assert "entry" in {violation.rule for violation in cs.verify(small, answer.replace(provenance=other))}


def test_pins_that_clash_are_infeasible_and_named(small: Graph) -> None:
    answer = plan(small, 10, pins={"a": 3, "b": 4})
    assert answer.status == "infeasible"
    assert {"a", "b"} <= {term.split('"')[1] for term, _ in answer.reasons[0].terms}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pins": {"bb": 0}}, 'pin of "bb": no such tensor'),
        ({"pins": {"b": -1}}, "must be"),
        ({"pins": {"b": 3}, "align": 2}, "multiple of 2"),
        ({"pins": {"b": 1}, "reserve": 2}, ">= 2"),
        ({"align": 0}, "0"),
        ({"reserve": "4KB"}, "KiB"),
        ({"tensors": "weights"}, "activations"),
    ],
)
def test_malformed_rules_are_refused(small: Graph, options: dict, message: str) -> None:
    with pytest.raises(cs.UsageError, match=message):
        plan(small, 20, **options)


def test_parameters_are_planned_on_request() -> None:
    """Two readers of one weight, and a step between that has no room for it: one more load."""
    graph = Graph(
        [Tensor("w", 4, "parameter"), Tensor("a", 1), Tensor("b", 5), Tensor("c", 1), Tensor("y", 1, "output")],
        [
            Operator("first", "Conv", ("w",), ("a",)),
            Operator("wide", "Conv", ("a",), ("b",)),
            Operator("narrow", "Conv", ("b",), ("c",)),
            Operator("again", "Conv", ("c", "w"), ("y",)),
        ],
    )
    assert cs.memory_bounds(graph).m_r_bytes == 6
    assert plan(graph, 6).traffic_bytes == 0
    answer = plan(graph, 6, tensors="all")
    assert (answer.traffic_bytes, answer.retrieve_bytes, answer.compulsory_bytes) == (4, 4, 5)
    assert cs.verify(graph, answer) == []
    only_activations = replace(answer.provenance, options={**answer.provenance.options, "tensors": "activations"})
    assert cs.verify(graph, answer.replace(provenance=only_activations))
