"""The checker: what is right passes, and for each rule one answer that breaks it is refused under its name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from cosma_sched.errors import InputError
from cosma_sched.frontends import load
from cosma_sched.fusion.answer import FusedGroup, FusionResult
from cosma_sched.fusion.verify import verify
from cosma_sched.graph import Graph
from cosma_sched.mapping.answer import NetworkBounds
from cosma_sched.mapping.scoring import Words
from cosma_sched.result import Status
from tests.fusion.answers import result_of
from tests.fusion.cases import conv
from tests.fusion.nets import Net

NET = Net(
    (1, 2, 24, 16), (conv("a", "x", channels=4), conv("b", "a", channels=4), conv("c", "b", "a", channels=4), conv("d", "c", stride=2))
)
"""A residual block and a convolution behind it."""

BLOCK = (("a", "b", "c"), (1, 12, 8), "cached", ("a", "c"))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return NET.graph()


@pytest.fixture(scope="module")
def good(graph: Graph) -> FusionResult:
    return result_of(graph, "gemmini_small", [BLOCK])


def rules(result: FusionResult, graph: Graph, **known: int) -> set[str]:
    return {violation.rule for violation in verify(result, graph, unfused_edp=known.get("unfused_edp", result.unfused_edp))}


def with_group(result: FusionResult, index: int = 0, **changes: Any) -> FusionResult:
    """Return a result one of whose groups says something else."""
    groups = list(result.groups)
    groups[index] = replace(groups[index], **changes)
    return result.replace(groups=tuple(groups))


def with_step(result: FusionResult, index: int = 0, **changes: Any) -> FusionResult:
    """Return a result one of whose steps says something else."""
    steps = list(result.groups[0].steps)
    steps[index] = replace(steps[index], **changes)
    return with_group(result, steps=tuple(steps))


@pytest.mark.parametrize(("charged", "overlap"), [(False, "layer"), (True, "layer"), (True, "group")])
@pytest.mark.parametrize("mode", ["recompute", "h-cached", "cached"])
def test_a_good_answer_breaks_nothing(graph: Graph, mode: str, charged: bool, overlap: str) -> None:
    members, tile, _, resident = BLOCK
    result = result_of(graph, "gemmini_small", [(members, tile, mode, resident)], charged=charged, overlap=overlap)
    assert verify(result, graph) == []


def test_the_published_fusion_of_fsrcnn_holds() -> None:
    """Energy, latency and gain of the reference in the specification of the fusion planner."""
    fsrcnn = load("fsrcnn")
    names = tuple(operator.name for operator in fsrcnn if operator.type in {"Conv", "ConvTranspose"})
    strips = [(part, (1, 4, 960), "cached", part) for part in (names[:3], names[3:])]
    result = result_of(fsrcnn, "gemmini_large", strips)
    assert (result.energy_pj, result.latency_cycles) == (25270478803, 55987200)
    assert verify(result, fsrcnn, unfused_edp=result.unfused_edp) == []
    assert round(result.unfused_edp / result.edp, 4) == 1.8399  # type: ignore[operator]


# Groups


def regrouped(result: FusionResult, *groups: tuple[str, ...]) -> FusionResult:
    return result.replace(groups=tuple(replace(result.groups[0], layers=group) for group in groups))


def test_a_partition_holds_every_member_once(good: FusionResult, graph: Graph) -> None:
    assert rules(good.replace(groups=good.groups[:1]), graph) == {"partition"}
    assert rules(good.replace(groups=(*good.groups, good.groups[1])), graph) == {"partition"}
    assert rules(with_group(good, 1, layers=("ghost",)), graph) == {"partition"}


@pytest.mark.parametrize(
    ("groups", "rule"),
    [
        ([("a", "c"), ("b",), ("d",)], "convex"),
        ([("a", "d"), ("b",), ("c",)], "connected"),
        ([("b", "a"), ("c",), ("d",)], "order"),
        ([("b",), ("a",), ("c",), ("d",)], "order"),
        ([("a",), ("c", "d", "b")], "sink"),
        ([("a", "c"), ("b", "d")], "cycle"),
    ],
)
def test_groups_are_groups(good: FusionResult, graph: Graph, groups: list, rule: str) -> None:
    assert rule in rules(regrouped(good, *groups), graph)


def test_what_has_no_rule_stays_apart(graph: Graph) -> None:
    resnet = load("resnet18")
    result = result_of(resnet, "gemmini_small", [])
    first, second, *rest = result.groups
    assert second.layers[0].startswith("node_max_pool")
    apart = result.replace(groups=(first, *rest[:-2], replace(rest[-2], layers=(*second.layers, *rest[0].layers)), rest[-1]))
    assert "partition" in rules(apart, resnet)
    table_like = NET.graph()
    assert rules(result_of(table_like, "gemmini_small", []), table_like) == set()


@pytest.mark.parametrize("tile", [(1, 5, 8), (1, 0, 8), (2, 12, 8)])
def test_tiles_divide_the_sink(good: FusionResult, graph: Graph, tile: tuple[int, int, int]) -> None:
    assert rules(with_group(good, tile=tile), graph) == {"tile"}


def test_a_member_by_itself_runs_whole(good: FusionResult, graph: Graph) -> None:
    assert rules(with_group(good, 1, tile=(1, 2, 2)), graph) == {"tile"}
    assert rules(with_group(good, 1, resident_weights=("d",)), graph) == {"tile"}


def test_modes_and_resident_weights_are_those_that_exist(good: FusionResult, graph: Graph) -> None:
    assert rules(with_group(good, mode="cached twice"), graph) == {"mode"}
    assert rules(with_group(good, resident_weights=("a", "d")), graph) == {"resident"}


@pytest.mark.parametrize(
    "changes", [{"tile": (1, 6, 8)}, {"tile": (1, 12, 16)}, {"mode": "recompute"}, {"mode": "h-cached"}, {"resident_weights": ("a",)}]
)
def test_another_tile_mode_or_weight_set_has_other_steps(good: FusionResult, graph: Graph, changes: dict) -> None:
    assert {"steps", "multiplicity", "scratchpad_bytes"} & rules(with_group(good, **changes), graph)


# Steps


def test_every_step_is_there_and_no_other(good: FusionResult, graph: Graph) -> None:
    assert "steps" in rules(with_group(good, steps=good.groups[0].steps[1:]), graph)
    assert "steps" in rules(with_group(good, steps=(*good.groups[0].steps, good.groups[0].steps[0])), graph)


def test_every_statement_about_every_step_is_checked(good: FusionResult, graph: Graph) -> None:
    steps = good.groups[0].steps
    for index in {(step.layer, step.weights): index for index, step in enumerate(steps)}.values():
        step = steps[index]
        n, p, q = step.extents
        changes: list[tuple[dict[str, Any], str]] = [
            ({"extents": (n, p + 1, q)}, "steps"),
            ({"extents": (n, p, q - 1)}, "steps"),
            ({"layer": "d"}, "steps"),
            ({"weights": "resident" if step.weights == "streamed" else "streamed"}, "steps"),
            ({"multiplicity": step.multiplicity + 1}, "multiplicity"),
            ({"mapping": "L3[WIO]"}, "mapping"),
            ({"mapping": None}, "mapping"),
            ({"energy_pj": step.energy_pj - 1}, "energy"),
            ({"latency_cycles": step.latency_cycles - 1}, "latency"),
            ({"scratchpad_bytes": step.scratchpad_bytes - 1}, "scratchpad_bytes"),
            ({"words": Words(step.words.w, step.words.i + 1, step.words.o, step.words.psum)}, "words"),
        ]
        for change, rule in changes:
            assert rule in rules(with_step(good, index, **change), graph), (change, rule)


def test_a_mapping_must_be_one_of_its_step(good: FusionResult, graph: Graph) -> None:
    index, step = next((i, s) for i, s in enumerate(good.groups[0].steps) if s.extents[2] > 1 and s.layer == "b")
    whole = f"L3[WIO] - L2[WI] K4X - L1[O] R3 S3 Q{step.extents[2]} P{step.extents[1]} C4X - L0[W]"
    assert "product" in rules(with_step(good, index, mapping=whole.replace("R3", "R2")), graph)
    assert "partial sums" in rules(
        with_step(good, index, mapping=whole.replace("L3[WIO] -", "L3[WIO] C2 P2 -").replace("C4X", "C2X")), graph
    )


def on(result: FusionResult, *, scratchpad: int | None = None, accumulator: int | None = None, side: int | None = None) -> FusionResult:
    """Return a result that claims to be for a smaller accelerator."""
    core = result.accelerator.core
    levels = list(core.levels)
    levels[1] = replace(levels[1], size_bytes=accumulator or levels[1].size_bytes)
    levels[2] = replace(levels[2], size_bytes=scratchpad or levels[2].size_bytes)
    array = replace(core.array, unroll=(("C", side), ("K", side))) if side else core.array
    return result.replace(accelerator=replace(result.accelerator, cores=(replace(core, levels=tuple(levels), array=array),)))


def test_capacities_hold_at_every_step(good: FusionResult, graph: Graph) -> None:
    group = good.groups[0]
    assert "scratchpad" not in rules(on(good, scratchpad=max(g.peak_bytes for g in good.groups)), graph)
    tight = on(with_group(good), scratchpad=group.peak_bytes - 1)
    assert "scratchpad" in rules(tight, graph)
    assert "accumulator" in rules(on(good, accumulator=64), graph)
    assert "array" in rules(on(good, side=2), graph)


# Sums


@pytest.mark.parametrize("name", ["energy_pj", "latency_cycles", "peak_bytes"])
def test_a_group_is_the_sum_of_its_steps(good: FusionResult, graph: Graph, name: str) -> None:
    group = good.groups[0]
    assert "group" in rules(with_group(good, **{name: getattr(group, name) - 1}), graph)


def test_overlap_says_how_latencies_add_up() -> None:
    """A depth-wise layer needs the scratchpad longest, the other ones the array."""
    net = Net((1, 8, 24, 16), (conv("a", "x", channels=8, groups=8), conv("b", "a", channels=16, kernel=1)))
    graph = net.graph()
    apart, together = (result_of(graph, "gemmini_small", [(("a", "b"), (1, 12, 16), "cached", ())], overlap=o) for o in ("layer", "group"))
    assert together.latency_cycles < apart.latency_cycles  # type: ignore[operator]
    assert verify(together, graph) == []
    assert {"group", "ceiling"} & rules(apart.replace(options=together.options), graph)


@pytest.mark.parametrize("index", [0, 1])
def test_what_a_group_says_of_words_and_contents_is_checked(good: FusionResult, graph: Graph, index: int) -> None:
    group = good.groups[index]
    assert "dram_words" in rules(with_group(good, index, dram_words=group.dram_words + 1), graph)
    changed = with_group(good, index, unfused_dram_words=group.unfused_dram_words + 1)
    assert "unfused" in {violation.rule for violation in verify(changed, graph)}
    for place, entry in enumerate(group.held):
        for name in ("maps_bytes", "weights_bytes", "working_bytes"):
            held = list(group.held)
            held[place] = replace(entry, **{name: getattr(entry, name) + 1})
            assert "held" in rules(with_group(good, index, held=tuple(held)), graph), (name, entry)
    assert "held" in rules(with_group(good, index, held=()), graph)
    assert "held" in rules(with_group(good, index, held=(*group.held, *group.held)), graph)


def test_what_is_said_of_each_layer_is_checked(good: FusionResult, graph: Graph) -> None:
    for index, entry in enumerate(good.layers):
        changes: list[dict[str, Any]] = [
            {"count": 2},
            {"dims": (1,) * 7},
            {"stride": (3, 3)},
            {"repeat": 2},
            {"mapping": "L3[WIO] - L2[WI] - L1[O] - L0[W]"},
            {"energy_pj": entry.energy_pj + 1},
            {"latency_cycles": entry.latency_cycles + 1},
            {"words": Words(1, 2, 3, 4)},
        ]
        for change in changes:
            layers = list(good.layers)
            layers[index] = replace(entry, **change)
            assert "layers" in rules(good.replace(layers=tuple(layers)), graph), change
    assert "layers" in rules(good.replace(layers=good.layers[1:]), graph)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"energy_pj": 1}, "total"),
        ({"latency_cycles": 1}, "total"),
        ({"edp": 1}, "edp"),
        ({"ceiling_edp": 1}, "ceiling"),
        ({"unfused_edp": 1}, "unfused"),
        ({"unfused_energy_pj": 1}, "unfused"),
        ({"unfused_latency_cycles": None}, "unfused"),
        ({"gap": 0.5}, "gap"),
        ({"status": Status.OPTIMAL}, "status"),
        ({"bounds": NetworkBounds(edp=1)}, "gap"),
        ({"bounds": NetworkBounds(energy_pj=10**18)}, "bound"),
        ({"bounds": NetworkBounds(latency_cycles=10**18)}, "bound"),
        ({"status": Status.INFEASIBLE}, "status"),
        ({"options": {"halo": "parity", "psum_words": 4, "vector_ops": "free", "overlap": "layer", "space": ""}}, "options"),
    ],
)
def test_each_statement_about_the_network_is_checked(good: FusionResult, graph: Graph, changes: dict, rule: str) -> None:
    assert rule in {violation.rule for violation in verify(good.replace(**changes), graph)}


def leaves(part: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the places of all numbers of a document."""
    if isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            yield from leaves(value, (*path, key))
    elif isinstance(part, int) and not isinstance(part, bool):
        yield path


def test_a_number_changed_by_one_anywhere_in_the_file_is_refused(good: FusionResult, graph: Graph) -> None:
    """Every sixth number, up and down; those of the accelerator and of the search are no claims."""
    document = good.to_json()
    places = [path for path in leaves(document) if path[0] not in {"accelerator", "provenance", "evaluations", "seconds"}]
    for index, path in enumerate(places[::6]):
        changed = copy.deepcopy(document)
        part = changed
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] += 1 if index % 2 else -1
        try:
            result = FusionResult.from_json(changed)
        except InputError:
            continue
        assert verify(result, graph), path


def test_an_answer_lies_between_the_ceiling_and_the_layers_one_by_one(good: FusionResult, graph: Graph) -> None:
    assert good.ceiling_edp < good.edp  # type: ignore[operator]
    assert good.edp < good.unfused_edp  # type: ignore[operator]
    slow = result_of(graph, "gemmini_small", [(("a", "b", "c"), (1, 1, 1), "recompute", ())])
    assert rules(slow, graph) == {"unfused"}


def test_an_answer_for_another_network_is_refused(good: FusionResult) -> None:
    other = replace(NET, nodes=(*NET.nodes[:3], conv("d", "c")))
    assert rules(good, other.graph())
    assert "partition" in rules(good, replace(NET, nodes=NET.nodes[:3]).graph())


def test_without_an_answer_there_is_nothing_to_state(good: FusionResult, graph: Graph) -> None:
    empty = good.replace(status=Status.INFEASIBLE, groups=(), energy_pj=None, latency_cycles=None, edp=None)
    assert verify(empty, graph) == []


def test_groups_are_named_by_their_ends(good: FusionResult, graph: Graph) -> None:
    violation, _ = verify(with_group(good, peak_bytes=1), graph, unfused_edp=good.unfused_edp)
    assert str(violation).startswith('group: layer "group a .. c": peak_bytes is 1, its steps give')
    assert isinstance(good.groups[0], FusedGroup)
