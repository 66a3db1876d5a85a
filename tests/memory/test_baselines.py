"""The baselines: valid plans or an honest failure, never better than the optimum."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cosma_sched as cs
from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.memory.baseline_placement import Addresses, Bytes, arena_offsets
from cosma_sched.memory.layout import Stay
from tests.conftest import read_toy
from tests.strategies import graphs

POLICIES = ("belady", "greedy")
PLACEMENTS = ("first-fit", "best-fit", "arena")
GRID = tuple(itertools.product(POLICIES, PLACEMENTS))


def plan(graph: Graph, scratchpad: int | str, method: str = "belady", **options) -> cs.MemoryPlan:
    return cs.plan_memory(graph, scratchpad=scratchpad, method=method, **{"workers": 1, "time_limit": None, **options})


# every plan


@given(graphs(), st.sampled_from(["given", "min-peak"]), st.booleans(), st.sampled_from(["M_R", "M_H", "M_P"]))
@settings(max_examples=60)
def test_every_plan_passes_the_checker_and_costs_no_less_than_the_optimum(graph: Graph, order: str, relocation: bool, budget: str) -> None:
    optimum = plan(graph, budget, "exact", order=order, allow_relocation=relocation)
    for method, placement in GRID:
        answer = plan(graph, budget, method, placement=placement, order=order, allow_relocation=relocation)
        assert cs.verify(graph, answer) == []
        if answer.order is None:
            assert (answer.status, answer.traffic_bytes, answer.reasons[0].rule) == ("unknown", None, "fragmentation")
        else:
            assert answer.traffic_bytes >= optimum.traffic_bytes
            assert answer.status == ("feasible" if answer.traffic_bytes else "optimal")


@given(graphs(parameters=True), st.sampled_from([2, 3]), st.integers(1, 3))
@settings(max_examples=30)
def test_alignment_reserved_bytes_and_parameters_hold(graph: Graph, align: int, reserve: int) -> None:
    for method, placement in GRID:
        answer = plan(graph, "M_R", method, placement=placement, align=align, reserve=reserve, tensors="all", allow_relocation=True)
        assert cs.verify(graph, answer) == []
        assert all(entry.offset >= reserve and entry.offset % align == 0 for entry in answer.residency or ())


@given(graphs())
@settings(max_examples=40)
def test_with_relocation_an_online_placement_never_fails(graph: Graph) -> None:
    """Whatever an operator needs can be moved, and its tensors fit together."""
    for method, placement in itertools.product(POLICIES, ("first-fit", "best-fit")):
        assert plan(graph, "M_R", method, placement=placement, allow_relocation=True).order is not None


@given(graphs())
@settings(max_examples=20)
def test_the_same_request_gives_the_same_plan(graph: Graph) -> None:
    for method, placement in GRID:
        one, other = (plan(graph, "M_R", method, placement=placement).replace(seconds=0) for _ in range(2))
        assert one == other


# by hand


@pytest.mark.parametrize("method", POLICIES)
@pytest.mark.parametrize(("name", "scratchpad"), [("pinch", 12), ("stuck", 12)])
def test_operands_that_block_each_other_end_with_the_step_and_the_holes(method: str, name: str, scratchpad: int) -> None:
    """At step 5 t2 lies at 0 to 5 and t4 at 6 to 11; both are needed, and t5 wants two bytes in one piece."""
    answer = plan(read_toy(name), scratchpad, method)
    (reason,) = answer.reasons
    assert (answer.status, answer.traffic_bytes, answer.bound_bytes) == ("unknown", None, 0)
    assert (reason.where, reason.demand, reason.limit, reason.short) == ('step 5, Operator "op5"', 2, 1, 1)
    assert reason.terms == (("hole 5 to 6:", 1), ("hole 11 to 12:", 1))
    relocated = plan(read_toy(name), scratchpad, method, allow_relocation=True)
    assert (relocated.traffic_bytes, relocated.spill_bytes) == (10, 5)


@pytest.mark.parametrize(("method", "placement"), GRID)
def test_what_fits_costs_nothing(method: str, placement: str) -> None:
    answer = plan(read_toy("pinch"), 13, method, placement=placement)
    assert (answer.traffic_bytes, answer.bound_bytes, answer.gap, answer.status) == (0, 0, 0, "optimal")


def test_a_baseline_with_traffic_claims_only_that_traffic_is_not_negative() -> None:
    answer = plan(read_toy("crossroads"), 14)
    assert (answer.traffic_bytes, answer.bound_bytes, answer.gap, answer.status, answer.termination) == (22, 0, 1, "feasible", "exhausted")
    assert (answer.provenance.solver, answer.provenance.options["placement"]) == ("none", "first-fit")


def choice(second: str) -> Graph:
    """a and b are made, then something large; `second` is read before the other."""
    first_reader, last_reader = (second, "b" if second == "a" else "a")
    return Graph(
        [Tensor("a", 2), Tensor("b", 3), Tensor("c", 6), Tensor("d", 1), Tensor("e", 1), Tensor("y", 1, "output")],
        [
            Operator("one", "F", (), ("a",)),
            Operator("two", "F", (), ("b",)),
            Operator("large", "F", (), ("c",)),
            Operator("small", "F", ("c",), ("d",)),
            Operator("near", "F", ("d", first_reader), ("e",)),
            Operator("far", "F", ("e", last_reader), ("y",)),
        ],
    )


@pytest.mark.parametrize(("second", "belady"), [("a", "b"), ("b", "a")])
def test_belady_evicts_the_furthest_next_use_and_greedy_the_least_traffic(second: str, belady: str) -> None:
    """Ten bytes hold c and d with either of a and b; a is the smaller one."""
    spilled = {method: [absence.tensor for absence in plan(choice(second), 10, method, placement="arena").spilled] for method in POLICIES}
    assert spilled == {"belady": [belady], "greedy": ["a"]}


@pytest.mark.parametrize("method", POLICIES)
@pytest.mark.parametrize("placement", ["best-fit", "arena"])
def test_a_second_eviction_of_a_spilled_tensor_is_free(method: str, placement: str) -> None:
    """A re-implementation charged the spill again at each eviction: 5,619,712 bytes on DenseNet-121 against 4,816,896."""
    tensors = [Tensor("a", 3), *(Tensor(f"wide{i}", 6) for i in range(2)), *(Tensor(f"thin{i}", 1) for i in range(3))]
    graph = Graph(
        [*tensors, Tensor("y", 1, "output")],
        [
            Operator("make", "F", (), ("a",)),
            Operator("wide0", "F", (), ("wide0",)),
            Operator("thin0", "F", ("wide0",), ("thin0",)),
            Operator("use0", "F", ("a", "thin0"), ("thin1",)),
            Operator("wide1", "F", ("thin1",), ("wide1",)),
            Operator("thin1", "F", ("wide1",), ("thin2",)),
            Operator("use1", "F", ("a", "thin2"), ("y",)),
        ],
    )
    answer = plan(graph, 8, method, placement=placement)
    assert (answer.spill_bytes, answer.retrieve_bytes) == (3, 6)


def test_inputs_and_stored_outputs_are_evicted_without_a_write() -> None:
    graph = Graph(
        [Tensor("x", 3, "input"), Tensor("o", 2, "output"), Tensor("w", 7), Tensor("v", 1), Tensor("y", 1, "output")],
        [
            Operator("first", "F", ("x",), ("o",)),
            Operator("wide", "F", (), ("w",)),
            Operator("thin", "F", ("w",), ("v",)),
            Operator("last", "F", ("x", "o"), ("y",)),
        ],
    )
    for method, placement in GRID:
        answer = plan(graph, 8, method, placement=placement)
        assert (answer.spill_bytes, answer.retrieve_bytes) == (0, 5)


def test_a_clean_operand_moves_out_of_the_way() -> None:
    """x lies in the middle when both holes are too small for y; it has a copy in DRAM, so it is read again elsewhere."""
    graph = Graph(
        [Tensor("low", 3), Tensor("x", 2, "input"), Tensor("y", 5, "output"), Tensor("z", 1, "output")],
        [Operator("one", "F", ("x",), ("low",)), Operator("end", "F", ("low",), ("z",)), Operator("two", "F", ("x",), ("y",))],
    )
    answer = plan(graph, 7)
    assert (answer.traffic_bytes, answer.retrieve_bytes) == (2, 2)
    assert [entry.offset for entry in answer.residency if entry.tensor == "x"] == [3, 5]


def test_operands_that_arrive_together_do_not_block_each_other() -> None:
    """Was: x went above z, then z left, and y found no hole although x had not even been loaded (AmoebaNet-D at M_R)."""
    graph = Graph(
        [Tensor("z", 2), Tensor("x", 3, "input"), Tensor("y", 3), Tensor("w", 1, "output")],
        [Operator("one", "F", (), ("z",)), Operator("two", "F", ("x",), ("y",)), Operator("three", "F", ("z", "y"), ("w",))],
    )
    for method, placement in GRID:
        assert plan(graph, 6, method, placement=placement).traffic_bytes == 4


def test_free_order_is_read_as_given() -> None:
    graph = read_toy("crossroads")
    answers = [plan(graph, 14, order=order) for order in ("free", "given")]
    assert answers[0].order == answers[1].order == tuple(operator.name for operator in graph)
    assert answers[0].provenance.options["order"] == "given"


def test_min_peak_order_is_the_one_of_the_budgets() -> None:
    graph = read_toy("crossroads")
    assert plan(graph, 14, order="min-peak").order == cs.memory_bounds(graph).order


def test_a_scratchpad_below_m_r_is_infeasible() -> None:
    answer = plan(read_toy("crossroads"), 13)
    assert (answer.status, answer.reasons[0].rule) == ("infeasible", "operator-fits")


@pytest.mark.parametrize(("method", "placement"), GRID)
def test_fcn_is_free_of_traffic_at_m_p_where_batch_normalisation_is_folded(method: str, placement: str) -> None:
    """Published: the one network whose baselines move nothing."""
    pytest.importorskip("onnx")
    answer = plan(cs.load("fcn_resnet50", fold="batchnorm"), "M_P", method, placement=placement)
    assert answer.traffic_bytes == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exact", "placement": "arena"}, "belady and greedy"),
        ({"placement": "worst"}, "first-fit, best-fit, arena"),
        ({"pins": {"t0": 0}}, "cannot pin"),
        ({"write_model": "gaps.mps"}, "no linear program"),
        ({"method": "beladi"}, 'did you mean "belady"'),
    ],
)
def test_options_that_a_method_has_no_use_for_are_refused(options: dict, message: str) -> None:
    with pytest.raises(cs.UsageError, match=message):
        plan(read_toy("crossroads"), 14, **options)


# placement


def test_first_fit_takes_the_lowest_hole_and_best_fit_the_smallest() -> None:
    offsets = []
    for best_fit in (False, True):
        room = Addresses(20, best_fit=best_fit)
        for tensor, offset, space in ((0, 4, 2), (1, 9, 5)):
            room.put(tensor, offset, space)
        assert room.holes() == [(0, 4), (6, 3), (14, 6)]
        offsets.append([room.find(space) for space in (1, 3, 5, 7)])
    assert offsets == [[0, 0, 14, None], [6, 6, 14, None]]


def test_openings_are_shortest_runs_of_neighbours_without_what_is_fixed() -> None:
    room = Addresses(12, best_fit=False)
    for tensor in range(4):
        room.put(tensor, 3 * tensor, 2)  # 0-2, 3-5, 6-8, 9-11, one byte between
    assert list(room.openings(4, 0)) == [(0, 1), (1,), (2,), (3,)]
    assert list(room.openings(4, 0b0010)) == [(2,), (3,)]
    assert list(room.openings(8, 0b0001)) == [(1, 2, 3)]
    assert list(room.openings(9, 0b0001)) == [(1, 2, 3)]
    assert list(room.openings(11, 0b0001)) == []


def test_bytes_count_alone_where_addresses_come_later() -> None:
    room = Bytes(10)
    room.put(0, 0, 4)
    room.put(1, 0, 3)
    assert (room.find(3), room.find(4), room.holes()) == (0, None, [(0, 3)])
    assert list(room.openings(4, 0b01)) == [(1,)]


def test_the_arena_places_the_whole_run_first_then_by_size_into_the_smallest_gap() -> None:
    """Offsets by hand: c (whole run) at 0; a above it; d beside a in time, above; e fits between c and d when a has gone."""
    stays = [Stay(0, 0, 2), Stay(1, 1, 4), Stay(2, 0, 5), Stay(3, 3, 4), Stay(4, 2, 3)]
    assert arena_offsets(stays, [5, 4, 1, 3, 2], 5) == [1, 6, 0, 1, 1]
