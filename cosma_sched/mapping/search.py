"""The best mappings of one layer: the whole space, a sample where there is no time for that, and what cannot fit at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosma_sched.errors import Lever, Reason
from cosma_sched.mapping.cost import Counts, Machine, cost_of, shape_of, window
from cosma_sched.mapping.enumeration import LayerSpace, Progressed
from cosma_sched.mapping.front import Front, Point
from cosma_sched.mapping.layer import Layer
from cosma_sched.progress import Clock


@dataclass(frozen=True, slots=True)
class LayerSearch:
    """What is known of the mappings of one layer.

    Parameters
    ----------
    points
        The mappings that no other one found beats in energy and latency, least energy first.
    floor
        Energy and latency that no mapping goes below.
    evaluations
        (mapping, order) pairs that were scored.
    complete
        True where the points are those of the whole space.
    """

    points: tuple[Point, ...]
    floor: tuple[int, int]
    evaluations: int
    complete: bool
    sized: tuple[Point, ...] | None = None
    """Those that no other one beats in energy, latency and scratchpad bytes, if they were asked for."""
    interrupted: bool = False


def search_layer(layer: Layer, machine: Machine, halo: str, *, clock: Clock, with_bytes: bool = False) -> LayerSearch:
    """Score the whole space of a layer, or as much as the clock allows.

    Parameters
    ----------
    layer, machine, halo
        What is mapped on what, and the window rule.
    clock
        When to stop.
    with_bytes
        Keep the Pareto set of (energy, latency, scratchpad bytes) too.
    """
    front = Front()
    sized = Front(with_bytes=True) if with_bytes else None
    last, interrupted = Progressed(0, False), False
    try:
        for done in LayerSpace(layer, machine, halo).search(front, clock, sized):
            last = done
    except KeyboardInterrupt:
        interrupted = True
    sized_points = None if sized is None else sized.points
    return LayerSearch(front.points, floor_of(layer, machine), last.evaluations, last.complete, sized_points, interrupted)


def floor_of(layer: Layer, machine: Machine) -> tuple[int, int]:
    """Return energy and latency that no mapping of a layer goes below: every word once, the widest use of the array."""
    macs = float(layer.macs // layer.repeat)
    rows, cols = min(int(machine.rows), layer["C"]), min(int(machine.cols), layer["K"])
    w, o = float(layer.size("W")), float(layer.size("O"))
    i = float(layer["N"] * layer["C"] * layer["P"] * layer["Q"])  # a stride may skip the rest
    counts = Counts(macs, w, i, o, 0.0, w, macs / rows, 1.0, 1.0, 1.0, 1.0)
    cost = cost_of(np, machine, shape_of(layer), counts, rows, cols)
    return int(np.floor(cost.energy_pj)), int(np.ceil(cost.cycles * (1 - 1e-12)))


def misfits(layer: Layer, machine: Machine, accelerator: str) -> list[Reason]:
    """Return why not even one element of each tensor fits; an empty list where it does."""
    reasons = []
    w_bytes, i_bytes, _ = layer.element_bytes
    i_tile = window(1, 1, 1, layer.dilation_p) * window(1, 1, 1, layer.dilation_q) * i_bytes
    needs = (
        ("scratchpad", "weights and inputs", w_bytes + i_tile, machine.scratchpad_bytes, (("W", w_bytes), ("I", i_tile))),
        (
            "accumulator",
            "outputs",
            machine.accumulator_element_bytes * machine.cols,
            machine.accumulator_bytes,
            (("O in each column", machine.accumulator_element_bytes),),
        ),
    )
    for level, operand, demand, limit, terms in needs:
        if demand <= limit:
            continue
        short = demand - limit
        reasons.append(
            Reason(
                rule=f"{level}-fits",
                where=f'layer "{layer.name}"',
                statement=f'layer "{layer.name}": {operand} need {demand} bytes of the {level} with all tiles at 1, {short} too many',
                demand=int(demand),
                limit=int(limit),
                short=int(short),
                terms=terms,
                levers=(Lever(f"{accelerator}: {level} size_bytes", int(demand), "one element of each tensor"),),
            )
        )
    return reasons
