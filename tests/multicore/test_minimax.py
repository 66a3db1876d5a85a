"""The search over counts: against every topological order, and as a bound where index order may lose."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cosma_sched.accelerator import load_accelerator
from cosma_sched.frontends import load
from cosma_sched.graph import Graph
from cosma_sched.multicore.attention import head_split, on_one_core
from cosma_sched.multicore.counts import groups_of, relaxed_model
from cosma_sched.multicore.list_scheduler import list_schedule
from cosma_sched.multicore.minimax import _by_bisection, _Search, minimax, peak_of, search
from cosma_sched.multicore.nodes import expand, layer_extents
from cosma_sched.multicore.platforms import platform_of
from cosma_sched.multicore.problem import ScheduleProblem, Semantics, TileKind
from cosma_sched.multicore.splits import Cut, Split, parse_split
from cosma_sched.progress import Clock
from tests.multicore.networks import Flat, matrix_networks, splits

TERMS = st.builds(
    Semantics,
    inputs=st.sampled_from(["streamed", "resident"]),
    weights=st.just("free"),
    outputs=st.sampled_from(["kept", "streamed", "written"]),
    partial_sum_factor=st.sampled_from([1, 2, 3]),
)


def least_of_all_orders(problem: ScheduleProblem) -> int:
    """Search sets of finished nodes: no index order, no counts, nothing shared with the method but the rules of what is live."""
    semantics, factor = problem.semantics, problem.semantics.partial_sum_factor
    needs = [sum(1 << need for need in node.needs) for node in problem.nodes]
    tiles = []
    for position, tile in enumerate(problem.tiles):
        writers, readers = (sum(1 << node for node in nodes) for nodes in (problem.writers[position], problem.readers[position]))
        counts = tile.kind is TileKind.ACTIVATION or (tile.kind is TileKind.INPUT and semantics.inputs == "resident")
        if counts:
            several = len(problem.writers[position]) > 1
            kept = tile.is_output and semantics.outputs == "kept"
            tiles.append((tile.size_bytes, writers, readers, several, kept, position))

    def live(done: int, running: int | None = None) -> int:
        total = 0
        started = done | (0 if running is None else 1 << running)
        for size, writers, readers, several, kept, _ in tiles:
            if writers and not started & writers:
                continue
            complete = done & writers == writers
            if not complete:
                total += size * (factor if several else 1)
            elif kept or done & readers != readers:
                total += size
        return total

    everything = (1 << len(problem.nodes)) - 1
    best = {0: live(0)}
    for done in sorted(range(everything + 1), key=int.bit_count):
        if done not in best:
            continue
        for node, before in enumerate(needs):
            if not done >> node & 1 and done & before == before:
                after = done | 1 << node
                peak = max(best[done], live(done, node), live(after))
                best[after] = min(peak, best.get(after, peak))
    return best[everything]


@pytest.mark.parametrize("outputs", ["kept", "streamed"])
@pytest.mark.parametrize("inputs", ["streamed", "resident"])
def test_index_order_loses_nothing_on_small_heads_whatever_the_split(inputs: str, outputs: str) -> None:
    """81 of the 243 words, every one against all topological orders; the others differ in how Q is cut."""
    graph = load("attention-head:4x6")
    for word in ("".join(letters) for letters in itertools.product("B", "BCK", "BCK", "BCK", "BCK")):
        terms = Semantics(inputs=inputs, weights="free", outputs=outputs, partial_sum_factor=2)
        problem = on_one_core(graph, head_split(word, parts=2), terms)
        found = minimax(problem)
        assert found.is_optimal
        assert found.peak_bytes == least_of_all_orders(problem), word


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["6x4", "4x6", "4x4", "2x8"])
@pytest.mark.parametrize("p", [1, 2])
def test_index_order_loses_nothing_on_any_split_of_small_heads(shape: str, p: int) -> None:
    graph = load(f"attention-head:{shape}")
    for word in ("".join(letters) for letters in itertools.product("BCK", repeat=5)):
        for inputs, outputs in (("streamed", "kept"), ("streamed", "streamed"), ("resident", "kept")):
            terms = Semantics(inputs=inputs, weights="free", outputs=outputs, partial_sum_factor=p)
            problem = on_one_core(graph, head_split(word, parts=2), terms)
            found = minimax(problem)
            assert found.is_optimal
            assert found.peak_bytes == least_of_all_orders(problem), word


@settings(max_examples=100, deadline=None)
@given(st.data(), matrix_networks(), TERMS)
def test_no_order_of_any_cut_network_goes_below_the_bound(data: st.DataObject, graph: Graph, terms: Semantics) -> None:
    problem = on_one_core(graph, data.draw(splits(layer_extents(graph), spread=True)), terms)
    found = minimax(problem)
    assert found.peak_bytes == peak_of(problem, found.order)
    if len(problem.nodes) <= 11:
        least = least_of_all_orders(problem)
        assert found.bound_bytes <= least <= found.peak_bytes


@settings(max_examples=60, deadline=None)
@given(st.data(), matrix_networks())
def test_a_list_schedule_in_the_order_found_has_the_peak_found(data: st.DataObject, graph: Graph) -> None:
    terms = Semantics("streamed", "free", data.draw(st.sampled_from(["kept", "streamed"])), data.draw(st.integers(1, 2)))
    problem = on_one_core(graph, data.draw(splits(layer_extents(graph), spread=True)), terms)
    found = minimax(problem)
    draft = list_schedule(problem, priority=[float(rank) for rank in found.priority])
    assert draft is not None
    assert draft.figures(problem).peak_total_bytes == found.peak_bytes


@settings(max_examples=60, deadline=None)
@given(st.data(), matrix_networks())
def test_no_schedule_on_several_cores_without_spills_holds_less_than_the_bound(data: st.DataObject, graph: Graph) -> None:
    inputs, outputs = data.draw(st.sampled_from(["streamed", "resident", "fetched"])), data.draw(st.sampled_from(["kept", "written"]))
    terms = Semantics(inputs, data.draw(st.sampled_from(["free", "fetched"])), outputs, data.draw(st.integers(1, 2)))
    split = data.draw(splits(layer_extents(graph), spread=True))
    problem = expand(graph, split, terms, Flat("0", "1")).problem(platform_of(load_accelerator("duo")), terms)
    found = minimax(problem, most_states=20_000)
    priority = data.draw(st.permutations(range(len(problem.nodes))))
    for order in (None, [float(rank) for rank in priority]):
        draft = list_schedule(problem, priority=order)
        assert draft is not None
        figures = draft.figures(problem)
        assert figures.offchip_bytes.spilled == 0
        assert found.bound_bytes <= figures.peak_total_bytes


def test_blocks_of_unequal_size_are_bounded_from_below() -> None:
    terms = Semantics("streamed", "free", "kept")
    found = minimax(on_one_core(load("attention-head:7x3"), parse_split("rows=2"), terms))
    assert found.peak_bytes is not None
    assert found.bound_bytes <= found.peak_bytes


def test_partial_sums_and_their_reduction_are_two_groups() -> None:
    terms = Semantics("streamed", "free", "streamed", partial_sum_factor=2)
    split = Split(layers={"S": (Cut("contraction", 2, spread=True),)})
    problem = on_one_core(load("attention-head:2x4"), split, terms)
    assert minimax(problem).peak_bytes == least_of_all_orders(problem)


def test_a_search_that_stops_early_still_bounds() -> None:
    problem = on_one_core(load("attention-head:16x4"), head_split("BBBBB", size=1), Semantics("streamed", "free", "kept"))
    whole, short = minimax(problem), minimax(problem, most_states=40)
    assert (short.peak_bytes, short.order) == (None, ())
    assert whole.peak_bytes is not None
    assert 0 < short.bound_bytes <= whole.peak_bytes


def test_a_search_with_too_many_states_keeps_its_best_path_and_a_bound() -> None:
    problem = on_one_core(load("attention-heads:6x4,heads=3"), parse_split("rows=6"), Semantics("streamed", "free", "kept"))
    model = relaxed_model(problem, groups_of(problem))
    found = _by_bisection(_Search(model), 200, 1_000, 0)
    assert found.peak is not None
    assert 0 < found.bound < found.peak


@settings(max_examples=60, deadline=None)
@given(st.data(), matrix_networks(), TERMS)
def test_a_peak_not_to_be_passed_changes_no_answer_below_it(data: st.DataObject, graph: Graph, terms: Semantics) -> None:
    problem = on_one_core(graph, data.draw(splits(layer_extents(graph))), terms)
    assume(len(problem.nodes) <= 24)
    model = relaxed_model(problem, groups_of(problem))
    whole = search(model)
    assert whole.peak == whole.bound
    limit = data.draw(st.integers(max(0, whole.bound - 3), whole.bound + 3))
    limited = search(model, at_most=limit)
    assert (limited.peak, limited.bound) == (whole.peak, whole.bound) if limit >= whole.bound else limit < limited.bound <= whole.bound


@settings(max_examples=60, deadline=None)
@given(st.data(), matrix_networks(), TERMS)
def test_bisection_finds_what_the_plain_search_finds(data: st.DataObject, graph: Graph, terms: Semantics) -> None:
    problem = on_one_core(graph, data.draw(splits(layer_extents(graph))), terms)
    assume(len(problem.nodes) <= 24)
    model = relaxed_model(problem, groups_of(problem))
    plain, bisected = search(model), _by_bisection(_Search(model), 2 * len(problem.nodes), 100_000, 0)
    assert (bisected.peak, bisected.bound) == (plain.peak, plain.bound)


def test_a_search_whose_time_is_over_still_bounds() -> None:
    problem = on_one_core(load("attention-head:48x8"), head_split("BBBBB", size=1), Semantics("streamed", "free", "kept"))
    found = minimax(problem, clock=Clock(0.0))
    assert not found.is_optimal
    assert 0 < found.bound_bytes <= 3 * 48 * 8 + 48


def test_an_order_that_runs_a_node_before_what_it_needs_has_no_peak() -> None:
    problem = on_one_core(load("attention-head:2x2"), Split(), Semantics("streamed", "free", "kept"))
    with pytest.raises(ValueError, match="before what it needs"):
        peak_of(problem, [3, 0, 1, 2, 4])
    with pytest.raises(ValueError, match="leaves nodes out"):
        peak_of(problem, [0, 1])
