"""What a fusion result is measured against, recomputed for the checker: the optimum without fusion, and what no fusion can beat."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from cosma_sched.fusion.recount import least_cost
from cosma_sched.fusion.regions import Window
from cosma_sched.fusion.topology import Member, Read
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.network import layerwise, sweep
from cosma_sched.mapping.search import search_layer
from cosma_sched.mapping.verify import vector_cost
from cosma_sched.progress import Clock


def unfused_edp(members: Iterable[Member], machine: Machine, halo: str, *, charged: bool) -> int:
    """Return the proven optimum of energy times latency with every member by itself; searches the mappings of every distinct layer."""
    points: dict[Layer, list[tuple[int, int]]] = {}
    options, counts = [], []
    for member in members:
        if member.layer is None:
            options.append([vector_cost(member.vector.words, machine) if charged and member.vector is not None else (0, 0)])
            counts.append(1)
            continue
        drains = tuple(read.words for read in member.reads if read.role == "drain") if charged else ()
        problem = replace(member.layer.problem, drain_words=drains)
        if problem not in points:
            found = search_layer(problem, machine, halo, clock=Clock(None)).points
            points[problem] = [(point.energy_pj, point.latency_cycles) for point in found]
        options.append(points[problem])
        counts.append(member.layer.count)
    best = sweep(layerwise(options, counts)).best("edp")
    return best.energy * best.latency


def ceiling_edp(members: Mapping[str, Member], machine: Machine, *, overlap: str) -> int:
    """Return what no grouping, tile or mapping goes below."""
    layers = [
        (member.layer, _read_from_outside(member), member.words if member.is_output else 0) for member in members.values() if member.layer
    ]
    energy, latency = least_cost(
        ((layer, read, made) for layer, read, made in layers if layer is not None), machine, summed_roofs=overlap == "group"
    )
    return energy * latency


def _read_from_outside(member: Member) -> int:
    return sum(_touched_words(member, read) for read in member.reads if read.role == "input" and read.source is None)


def _touched_words(member: Member, read: Read) -> int:
    """Return the words of an operand that any tap reads; what strides skip and what padding adds is left out."""
    layer = member.layer
    if layer is None or read.source_extent is None:
        return read.words
    _, rows, cols = read.source_extent
    down = _touched(layer["P"], layer["R"], read.rows, layer.dilation_p, rows)
    across = _touched(layer["Q"], layer["S"], read.cols, layer.dilation_q, cols)
    return read.words // math.prod(read.source_extent) * read.source_extent[0] * down * across


def _touched(results: int, taps: int, window: Window, dilation: int, extent: int) -> int:
    places = {p * window.stride - window.pad + tap * dilation for tap in range(taps) for p in range(results)}
    return sum(1 for place in places if 0 <= place < extent)
