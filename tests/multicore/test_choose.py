"""AUTO: cuts that fit, cuts by weight, the best of what was looked at; and the published schedules by name."""

from __future__ import annotations

import pytest

import cosma_sched as cs
from cosma_sched.errors import InfeasibleError, UsageError
from cosma_sched.multicore.calls import groups_of, request_of
from cosma_sched.multicore.choose import MOST_NODES, NothingFitsError, choose, that_fits
from cosma_sched.multicore.cutting import by_weight, finer, neighbours, shortages, split_into, uniform, weights_of
from cosma_sched.multicore.list_scheduler import list_schedule
from cosma_sched.multicore.named import NAMES, letter_of, named_schedule
from cosma_sched.multicore.nodes import layer_extents
from cosma_sched.multicore.problem import ScheduleProblem
from cosma_sched.multicore.request import Request
from cosma_sched.multicore.splits import Cut, Split, parse_split
from cosma_sched.progress import Clock

CHAIN = "two-conv:4x8x8,8,64,k3,dtype=int8"


def asked(model: str = CHAIN, accelerator: str = "duo", capacity: dict[str, int] | None = None, objective: str = "latency") -> Request:
    return request_of(cs.load(model), accelerator, "analytic", objective, capacity, 1, {})


def extents_of(request: Request) -> dict[str, dict[str, int]]:
    return layer_extents(request.graph, request.semantics.softmax)


def by_list(problem: ScheduleProblem) -> int:
    draft = list_schedule(problem)
    assert draft is not None
    return draft.latency(problem)


def test_what_fits_has_no_shortage() -> None:
    request = asked()
    assert shortages(request.problem(Split())) == {}
    assert finer({}, request.problem(Split()), extents_of(request)) is None


def test_a_shortage_names_the_largest_tile_of_the_worst_node() -> None:
    problem = asked(capacity={"*": 4096}).problem(Split())
    last = list(shortages(problem).values())[-1]
    assert problem.tiles[last.tile].size_bytes == 8 * 64 * 9  # the second convolution's weights
    assert last.short_bytes == 64 * 64 + 8 * 64 + 8 * 64 * 9 - 4096


def test_weights_that_are_too_large_halve_channels_and_features_halve_rows() -> None:
    request = asked(capacity={"*": 4096})
    parts = finer({}, request.problem(Split()), extents_of(request))
    assert parts is not None
    second = parts[list(extents_of(request))[1]]
    assert second.get("channels") == 2


def test_uniform_parts_stay_within_the_extents() -> None:
    parts = uniform({"a": {"rows": 3, "columns": 9}, "b": {"columns": 1}, "c": {}}, {"rows": 4, "columns": 2})
    assert parts == {"a": {"rows": 3, "columns": 2}, "b": {}, "c": {}}
    assert split_into(parts).layers["a"] == (Cut("rows", 3), Cut("columns", 2))


def test_layers_that_weigh_more_in_weights_are_cut_over_channels() -> None:
    request = asked("two-conv:16x4x4,16,256,k3,dtype=int8")
    parts = by_weight(extents_of(request), weights_of(request.problem(Split())), 2, 2)
    assert [set(dims) for dims in parts.values()] == [{"channels"}, {"channels"}]
    request = asked("two-conv:2x32x32,4,4,k3,dtype=int8")
    parts = by_weight(extents_of(request), weights_of(request.problem(Split())), 2, 2)
    assert [set(dims) for dims in parts.values()] == [{"rows"}, {"rows"}]


def test_neighbours_differ_and_stay_within_the_extents() -> None:
    request = asked()
    extents, weights = extents_of(request), weights_of(request.problem(Split()))
    start = uniform(extents, {"rows": 2})
    found = list(neighbours(start, extents, weights, 2))
    assert found
    assert start not in found
    assert all(1 < parts <= extents[layer][dim] for one in found for layer, dims in one.items() for dim, parts in dims.items())


@pytest.mark.parametrize("objective", ["latency", "energy", "memory"])
def test_the_choice_is_no_worse_than_no_split(objective: str) -> None:
    request = asked(objective=objective)
    choice = choose(request, None, Clock(20.0))
    plain = cs.schedule(
        request.graph, "duo", objective=objective, split=Split(), method="list-memory" if objective == "memory" else "list-latency"
    )
    assert choice.start is not None
    assert choice.start.value is not None
    assert plain.value is not None
    assert choice.start.value <= plain.value


def test_a_list_rule_is_judged_by_itself() -> None:
    choice = choose(asked(), None, Clock(20.0), "list-memory")
    assert choice.start is not None
    assert choice.start.method == "list-memory"


def test_a_block_fixes_the_size_of_pieces() -> None:
    choice = choose(asked(), 4, Clock(20.0))
    assert {cut.size for cut in choice.split.default} == {4}


def test_the_named_split_fits() -> None:
    request = asked(capacity={"*": 2500})
    lever = that_fits(request)
    assert lever is not None
    assert lever.option == "--split"
    split = choose(request, None, Clock(20.0)).split if lever.value == "AUTO" else parse_split(str(lever.value))
    problem = request.problem(split)
    assert shortages(problem) == {}
    assert len(problem.nodes) <= MOST_NODES


def test_a_layer_that_fits_nowhere_in_its_finest_pieces_is_infeasible() -> None:
    with pytest.raises(InfeasibleError):
        choose(asked("attention-head:2x2", capacity={"*": 3}), None, Clock(20.0))


def test_without_a_proof_nothing_is_called_infeasible() -> None:
    with pytest.raises(NothingFitsError):
        choose(asked(capacity={"*": 2}), None, Clock(0.5))


def test_layers_are_in_one_group_only_if_no_tile_between_them_left() -> None:
    graph = cs.load("attention-head:32x16")
    roomy = cs.schedule(graph, "duo", split="rows=4", method="list-latency")
    tight = cs.schedule(graph, "duo", split="rows=4", method="list-latency", capacity={"*": 1100})
    assert roomy.groups == (("Q", "K", "V", "S", "A"),)
    assert tight.offchip_bytes.spilled > 0
    assert len(tight.groups) > 1
    problem = asked("attention-head:32x16", capacity={"*": 1100}).problem(parse_split("rows=4"))
    assert groups_of(problem, tight) == tight.groups


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"E", "fused", "layer-by-layer"}])
def test_a_named_schedule_has_its_peak_in_closed_form(name: str) -> None:
    from cosma_sched.multicore.attention import closed_form

    terms = {"inputs": "streamed", "weights": "free", "outputs": "kept"}
    found = named_schedule(cs.load("attention-head:32x16"), "big-single-b-k", name, size=8, objective="memory", **terms)
    assert found.peak_total_bytes == closed_form(name, 32, 16, r=8)
    assert found.verified
    assert cs.verify(cs.load("attention-head:32x16"), found) == []


def test_the_fused_schedule_depends_on_the_shape() -> None:
    assert [letter_of("fused", *shape) for shape in ((8, 32), (32, 8), (8, 8))] == ["A", "C", "L"]
    assert letter_of("layer-by-layer", 8, 32) == "L"
    with pytest.raises(UsageError, match="no named schedule"):
        letter_of("fussed", 8, 8)


def test_named_schedules_are_for_heads() -> None:
    with pytest.raises(UsageError, match="not one attention head"):
        named_schedule(cs.load(CHAIN), "duo", "L")
