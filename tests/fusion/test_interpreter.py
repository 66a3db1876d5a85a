"""The rules of fused groups against an execution element by element: extents, scratchpad contents, DRAM words, results."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from cosma_sched.fusion.recount import Place, step_cost
from cosma_sched.fusion.regions import computed, intervals, kept
from cosma_sched.mapping.layer import Layer, P, Q, R, S
from cosma_sched.mapping.space import LoopNest, gemmini_nest
from tests.fusion.cases import MODES, RESIDUAL, TINY, TWO_CONVS, draw_schedule
from tests.fusion.interpreter import Group, Interpreter, Schedule, Step
from tests.fusion.nets import Net, draw_net
from tests.fusion.oracle import extent_classes, is_group, readings


def draw_group(random_: random.Random, **sizes: object) -> tuple[Net, tuple[str, ...]]:
    """Draw a network and some of its members that may run as a group, two at least."""
    while True:
        net = draw_net(random_, **sizes)
        names = [node.name for node in net.nodes]
        groups = [group for size in range(2, len(names) + 1) for group in itertools.combinations(names, size) if is_group(net, group)]
        if groups:
            return net, random_.choice(groups)


def run_around(world: Interpreter, schedule: Schedule) -> list[Step]:
    """Let DRAM hold everything that the group does not make, and run it."""
    for name in world.dense:
        if name not in schedule.members:
            world.dram[name], world.written[name] = world.dense[name], np.ones(world.dense[name].shape, dtype=bool)
    return world.run(schedule)


@pytest.mark.parametrize("seed", range(4))
def test_extents_and_bytes_are_those_of_the_interval_arithmetic(seed: int) -> None:
    """Twenty-five networks each: every step of every tile."""
    random_ = random.Random(seed)
    for number in range(25):
        net, members = draw_group(random_, pools=True)
        schedule, _ = draw_schedule(random_, net, members)
        steps = run_around(Interpreter(net, number), schedule)
        assert [(s.member, s.tile, s.extents, s.held_bytes) for s in steps] == list(_expected(net, schedule))


def _expected(net: Net, schedule: Schedule) -> list[tuple]:
    members, extents, (tn, tp, tq) = schedule.members, net.extents(), schedule.tile
    inside = readings(net, members)
    rows = intervals(members, inside, {name: extents[name][2] for name in members}, tp, rows=True)
    cols = intervals(members, inside, {name: extents[name][3] for name in members}, tq, rows=False)
    last = {name: max((members.index(each.reader) for each in inside if each.source == name), default=-1) for name in members}
    weights = sum(net.layer(name).size("W") * net.layer(name).repeat for name in schedule.resident)
    places = itertools.product(
        range(extents[members[-1]][0] // tn), range(len(rows[members[-1]].starts)), range(len(cols[members[-1]].starts))
    )
    found = []
    for tile, (_, p, q) in enumerate(places):
        for index, name in enumerate(members):
            down, across = computed(rows[name], cols[name], schedule.mode)
            held = weights
            for other_index, other in enumerate(members[:-1]):
                parts = kept(rows[other], cols[other], schedule.mode)
                part = parts.before if other_index > index else parts.live if index <= last[other] else parts.after
                held += int(part[p, q]) * tn * extents[other][1]
            if down[p] * across[q]:
                found.append((name, tile, (tn, int(down[p]), int(across[q])), held))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_dram_words_and_peaks_are_those_of_the_model(seed: int) -> None:
    """Twenty networks each; inputs from outside are compared with padding, as the model counts them, and clipped."""
    random_ = random.Random(100 + seed)
    for number in range(20):
        net, members = draw_group(random_, most_rows=5)
        schedule, nests = draw_schedule(random_, net, members)
        steps = run_around(Interpreter(net, number), schedule)
        _compare(net, schedule, nests, steps)


def _compare(net: Net, schedule: Schedule, nests: dict, steps: list[Step]) -> None:
    loaded: set[str] = set()
    for step in steps:
        name = step.member
        first = name in schedule.resident and name not in loaded
        loaded.add(name)
        layer = replace(net.layer(name), dims=(step.extents[0], *net.layer(name).dims[1:3], *step.extents[1:], *net.layer(name).dims[5:]))
        place = _place(net, schedule, name, first)
        nest = nests[name, layer]
        model = step_cost(layer, nest, TINY, "reuse", place)
        assert (step.w, step.o, step.psum) == (model.moved.w, model.moved.o, model.moved.psum)
        assert step.working_bytes == model.working_bytes
        assert step.i == model.moved.i
        _compare_clipped(net, layer, nest, step)
    for each in extent_classes(net, schedule.members, schedule.tile, schedule.mode):
        own = [step for step in steps if (step.member, step.extents) == (each.member, each.extents)]
        weights = sum(net.layer(name).size("W") * net.layer(name).repeat for name in schedule.resident)
        assert len(own) == each.times
        assert max(step.held_bytes for step in own) == each.held_bytes + weights


def _compare_clipped(net: Net, layer: Layer, nest: LoopNest, step: Step) -> None:
    """Where the mapping leaves a step's window whole, what is read is the window without its padding, as often."""
    assert step.i_real <= step.i
    if any(nest.temporal(3)[dim] > 1 for dim in (P, Q, R, S)):
        return
    source = net.node(step.member).reads[0]
    padded, clipped = 1, 1
    for span, extent, stride, pad, kernel in zip(
        step.region, net.extents()[source][2:], (layer.stride_p, layer.stride_q), (layer.pad_p, layer.pad_q), layer.dims[5:], strict=True
    ):
        first, last = span.start * stride - pad, (span.stop - 1) * stride - pad + kernel
        padded *= last - first
        clipped *= max(0, min(last, extent) - max(first, 0))
    assert step.i_real * padded == step.i * clipped


def _place(net: Net, schedule: Schedule, name: str, first: bool) -> Place:
    members = schedule.members
    weights = ("loaded" if first else "resident") if name in schedule.resident else "streamed"
    inside = any(reader.name in members for reader in net.readers(name))
    outside = net.is_output(name) or any(reader.name not in members for reader in net.readers(name))
    return Place(weights, net.node(name).reads[0] in members, inside, outside)


@pytest.mark.parametrize("mode", MODES)
def test_an_input_from_outside_is_read_clipped_where_the_model_counts_padding(mode: str) -> None:
    """One tile of the mapping for each step: the model's window less the padding that the border cuts off."""
    net, tile = TWO_CONVS, (1, 2, 3)
    schedule = Schedule(("a", "b"), tile, mode, frozenset(), _untiled)
    for step in Interpreter(net).run(schedule):
        if step.member == "a":
            rows, cols = step.extents[1:]
            assert step.i == (rows + 2) * (cols + 2)
            assert step.i - step.i_real in {0, rows + 2, cols + 2, rows + cols + 3}


def _untiled(_: str, layer: Layer) -> LoopNest:
    return gemmini_nest(1, 1, layer.dims, (1,) * 7, range(7))


@pytest.mark.parametrize(("mode", "rows"), [("recompute", [3, 4, 4, 3]), ("h-cached", [3, 4, 4, 3]), ("cached", [3, 2, 2, 1])])
def test_two_convolutions_in_tiles_of_two_rows_by_hand(mode: str, rows: list[int]) -> None:
    schedule = Schedule(("a", "b"), (1, 2, 6), mode, frozenset(), _untiled)
    steps = Interpreter(TWO_CONVS).run(schedule)
    assert [step.extents[1] for step in steps if step.member == "a"] == rows
    assert [step.extents[1] for step in steps if step.member == "b"] == [2, 2, 2, 2]
    held = [step.held_bytes for step in steps]
    row = 2 * 6
    assert held == [3 * row, 3 * row, 4 * row, 4 * row, 4 * row, 4 * row, 3 * row, 3 * row]


def test_a_skip_tensor_stays_through_its_block() -> None:
    schedule = Schedule(("a", "b", "c"), (1, 6, 4), "recompute", frozenset({"b"}), _untiled)
    held = [step.held_bytes for step in Interpreter(RESIDUAL).run(schedule)]
    map_bytes, weights = 2 * 6 * 4, 2 * 2 * 9
    assert held == [map_bytes + weights, 2 * map_bytes + weights, 2 * map_bytes + weights]


def test_reading_what_was_dropped_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter must be able to fail: a tile that keeps nothing and computes only what is new has nothing to read."""
    monkeypatch.setattr(Group, "_forget", lambda group, name, *_: group.held[name].fill(False))
    monkeypatch.setattr(Group, "_fresh", lambda group, _name, _batch, p, q: (group.rows["b"][p], group.cols["b"][q]))
    with pytest.raises(AssertionError, match="is not there"):
        Interpreter(TWO_CONVS).run(Schedule(("a", "b"), (1, 2, 6), "cached", frozenset(), _untiled))
