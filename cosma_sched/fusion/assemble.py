"""From decided groups to an answer: steps with their costs, what the scratchpad holds, and each layer's share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import networkx as nx
import numpy as np

from cosma_sched.fusion.answer import FusedGroup, FusedLayer, GroupStep, Held
from cosma_sched.fusion.choice import CostedStep, GroupCost
from cosma_sched.fusion.group import Group
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Words


def fused_group(problem: FusionProblem, cost: GroupCost, alone_words: Mapping[int, int]) -> FusedGroup:
    """Return a decided group as an answer holds it.

    Parameters
    ----------
    problem, cost
        Network, and the group.
    alone_words
        DRAM words of each node by itself in the best network without fusion.
    """
    names = [node.name for node in problem.nodes]
    steps = tuple(
        GroupStep(
            layer=names[step.step.node],
            extents=step.step.extent,
            multiplicity=step.step.multiplicity,
            weights=None if step.step.problem is None else str(step.step.problem.weights),
            mapping=step.mapping,
            energy_pj=step.score.energy_pj,
            latency_cycles=step.score.latency_cycles,
            scratchpad_bytes=step.scratchpad_bytes,
            words=step.score.words,
            part=step.step.part,
        )
        for step in cost.steps
    )
    return FusedGroup(
        layers=tuple(names[index] for index in cost.members),
        tile=cost.tile,
        mode=str(cost.mode),
        resident_weights=tuple(names[index] for index in cost.resident),
        energy_pj=cost.energy_pj,
        latency_cycles=cost.latency_cycles,
        peak_bytes=cost.peak_bytes,
        steps=steps,
        held=_held(problem, cost, names),
        dram_words=sum(_total(step.score.words) * step.step.multiplicity for step in cost.steps),
        unfused_dram_words=sum(alone_words[index] for index in cost.members),
        features=None if cost.slicing is None else cost.slicing.features,
        row_tile=None if cost.slicing is None else ("resident" if cost.slicing.stays else "streamed"),
    )


def _total(words: Words) -> int:
    return words.w + words.i + words.o + words.psum


def _held(problem: FusionProblem, cost: GroupCost, names: Sequence[str]) -> tuple[Held, ...]:
    """Return what the scratchpad holds at every step of the tile in which it holds most."""
    if cost.slicing is not None:
        return _held_in_slices(cost, names)
    group = Group(problem, cost.members)
    rows, columns = group.axis_classes(1, cost.tile[1]), group.axis_classes(2, cost.tile[2])
    extents = group.computed(rows, columns, cost.mode)
    live = group.expand(cost.tile, cost.mode).live
    working: dict[tuple[int, tuple[int, int, int]], CostedStep] = {}
    for step in cost.steps:
        key = (group.place[step.step.node], step.step.extent)
        if key not in working or step.score.scratchpad_bytes > working[key].score.scratchpad_bytes:
            working[key] = step
    best: tuple[Held, ...] = ()
    peak = -1
    for r, c in np.ndindex(live.shape[1:]):
        found = []
        for position, index in enumerate(cost.members):
            if live[position, r, c] < 0:
                continue
            step = working[position, (cost.tile[0], int(extents[0][position, r]), int(extents[1][position, c]))]
            found.append(Held(names[index], int(live[position, r, c]), step.step.resident_bytes, step.score.scratchpad_bytes))
        most = max(entry.maps_bytes + entry.weights_bytes + entry.working_bytes for entry in found)
        if most > peak:
            best, peak = tuple(found), most
    return best


def _held_in_slices(cost: GroupCost, names: Sequence[str]) -> tuple[Held, ...]:
    """Return what the scratchpad holds at every member's fullest step."""
    found: dict[int, Held] = {}
    for step in cost.steps:
        index, working = step.step.node, step.score.scratchpad_bytes
        if index not in found or working > found[index].working_bytes:
            found[index] = Held(names[index], step.step.live_bytes, 0, working)
    return tuple(found[index] for index in cost.members)


def in_running_order(problem: FusionProblem, groups: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the positions of groups in an order in which they can run, near the network's own.

    Raises
    ------
    networkx.NetworkXUnfeasible
        If they form a cycle.
    """
    owner = {member: position for position, members in enumerate(groups) for member in members}
    quotient: nx.DiGraph[int] = nx.DiGraph()
    quotient.add_nodes_from(range(len(groups)))
    for place, node in enumerate(problem.nodes):
        quotient.add_edges_from((owner[producer], owner[place]) for producer in node.producers if owner[producer] != owner[place])
    return list(nx.lexicographical_topological_sort(quotient, key=lambda position: max(groups[position])))


def fused_layers(problem: FusionProblem, groups: Sequence[FusedGroup]) -> tuple[FusedLayer, ...]:
    """Return every layer with the sum of its steps."""
    steps: dict[str, list[GroupStep]] = {}
    for group in groups:
        for step in group.steps:
            steps.setdefault(step.layer, []).append(step)
    return tuple(_fused_layer(node.layer, steps[node.name]) for node in problem.nodes if node.layer is not None)


def _fused_layer(layer: Layer, steps: Sequence[GroupStep]) -> FusedLayer:
    count = layer.count

    def total(name: str) -> int:
        return sum(int(getattr(step.words, name)) * step.multiplicity for step in steps) // count

    return FusedLayer(
        name=layer.name,
        count=count,
        dims=layer.dims,
        stride=(layer.stride_p, layer.stride_q),
        repeat=layer.repeat,
        mapping=str(max(steps, key=lambda step: step.multiplicity).mapping),
        energy_pj=sum(step.energy_pj * step.multiplicity for step in steps) // count,
        latency_cycles=sum(step.latency_cycles * step.multiplicity for step in steps) // count,
        words=Words(total("w"), total("i"), total("o"), total("psum")),
    )
