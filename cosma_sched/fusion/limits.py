"""What a fusion result is measured against, recomputed for the checker: the optimum without fusion, and what no fusion can beat."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cosma_sched.fusion.recount import Demand, least_cost
from cosma_sched.fusion.topology import Member, Read
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.front import Point
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.network import layerwise, sweep
from cosma_sched.mapping.search import search_layer
from cosma_sched.mapping.verify import vector_cost
from cosma_sched.progress import Clock


@dataclass(frozen=True, slots=True)
class Unfused:
    """The optimum without fusion: energy, latency, and the DRAM words of every member."""

    energy_pj: int
    latency_cycles: int
    words: Mapping[str, int]


def unfused(members: Iterable[Member], machine: Machine, halo: str, objective: str, *, charged: bool) -> Unfused:
    """Return the proven optimum of an objective with every member by itself; searches the mappings of every distinct layer."""
    known: dict[Layer, tuple[Point, ...]] = {}
    names, options, words, counts = [], [], [], []
    for member in members:
        names.append(member.name)
        counts.append(member.layer.count if member.layer is not None else 1)
        if member.layer is None:
            moved = member.vector.words if charged and member.vector is not None else ()
            options.append([vector_cost(moved, machine)])
            words.append([sum(moved)])
            continue
        drains = tuple(read.words for read in member.reads if read.role == "drain") if charged else ()
        problem = replace(member.layer.problem, drain_words=drains)
        if problem not in known:
            known[problem] = search_layer(problem, machine, halo, clock=Clock(None)).points
        options.append([(point.energy_pj, point.latency_cycles) for point in known[problem]])
        words.append([(point.dram_words - sum(drains)) * member.layer.count for point in known[problem]])
    best = sweep(layerwise(options, counts)).best(objective)
    return Unfused(best.energy, best.latency, {name: row[choice] for name, row, choice in zip(names, words, best.choice, strict=True)})


def ceiling_edp(members: Mapping[str, Member], machine: Machine, *, overlap: str) -> int:
    """Return what no grouping, tile or mapping goes below."""
    layers = [_demand(member, member.layer) for member in members.values() if member.layer is not None]
    energy, latency = least_cost(layers, machine, summed_roofs=overlap == "group")
    return energy * latency


def _demand(member: Member, layer: Layer) -> Demand:
    read = sum(_touched_words(layer, read) for read in member.reads if read.role == "input" and read.source is None)
    fetches = not any(read.role == "weight" for read in member.reads)
    return Demand(layer, read, member.words if member.is_output else 0, fetches)


def _touched_words(layer: Layer, read: Read) -> int:
    """Return the words of an operand that any tap reads; what strides skip and what padding adds is left out."""
    if read.source_extent is None:
        return read.words
    kernels = ((layer["P"], layer["R"], layer.dilation_p, read.rows), (layer["Q"], layer["S"], layer.dilation_q, read.cols))
    places = 1
    for (results, taps, dilation, window), extent in zip(kernels, read.source_extent[1:], strict=True):
        touched = {p * window.stride - window.pad + tap * dilation for tap in range(taps) for p in range(results)}
        places *= sum(1 for place in touched if 0 <= place < extent)
    return min(read.words, places * layer["N"] * layer["C"] * layer.repeat * layer.element_bytes[1])
