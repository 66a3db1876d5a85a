"""What one step of a fused group costs: a layer on the rows and columns of one tile, with operands that are in the scratchpad already.

The counts are those of the mapping model on the step's extents; what is resident moves no DRAM words and takes no working tile:

    input resident     i = 0, no tile of I
    output resident    only mappings without spilled partial sums; |O| scratchpad writes instead of DRAM updates; `both`: |O| DRAM words too
    weights resident   w = 0, no tile of W; `loaded`, in the first tile: w = |W| once in scratchpad and DRAM
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Any

import numpy as np

from cosma_sched.mapping.batch import batch_of
from cosma_sched.mapping.cost import Array, Cost, Counts, Machine, access_counts, cost_of, shape_of
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Words
from cosma_sched.mapping.space import LoopNest


class Output(StrEnum):
    """Where a step's result goes."""

    DRAM = "dram"
    RESIDENT = "resident"
    BOTH = "both"


class Weights(StrEnum):
    """Where a step's weights are."""

    STREAMED = "streamed"
    RESIDENT = "resident"
    LOADED = "loaded"


@dataclass(frozen=True, slots=True)
class SlicePart:
    """What a step does within the slices of a pair of products.

    Parameters
    ----------
    loads_input
        The row tile comes from DRAM once, to stay for the later slices.
    accumulates
        The step adds a slice to results that stay in the accumulator.
    starts, ends
        Of such a step: the first slice, whose first reads of the accumulator are none, and the last one, after which results leave.
    rescaled
        Accumulator words that are read and written anew because a softmax has moved its maximum.
    """

    loads_input: bool = False
    accumulates: bool = False
    starts: bool = True
    ends: bool = True
    rescaled: int = 0


@dataclass(frozen=True, slots=True)
class StepProblem:
    """A layer on the extents of one tile; equal problems have equal mappings.

    Parameters
    ----------
    layer
        With the step's N, P and Q, without a name; its `drain_words` are those that the step reads from DRAM.
    input_resident
        The input was made in the group.
    output, weights
        Where they are.
    folded_words
        Scratchpad words of further operands that were made in the group.
    part
        In a pair of products with a sliced intermediate, what the step does there.
    """

    layer: Layer
    input_resident: bool = False
    output: Output = Output.DRAM
    weights: Weights = Weights.STREAMED
    folded_words: int = 0
    part: SlicePart | None = None

    @property
    def is_plain(self) -> bool:
        """True where the step is the layer by itself, as `map` costs it."""
        return (
            not self.input_resident
            and self.output == Output.DRAM
            and self.weights == Weights.STREAMED
            and not self.folded_words
            and self.part is None
        )


@dataclass(frozen=True, slots=True)
class StepScore:
    """What one step costs.

    Parameters
    ----------
    energy_pj, latency_cycles
        Rounded once.
    words
        DRAM words.
    roofs
        Cycles that array, accumulator, scratchpad and DRAM need, exactly.
    scratchpad_bytes, accumulator_bytes
        Of the working tiles.
    spills
        True where partial sums leave the accumulator.
    """

    energy_pj: int
    latency_cycles: int
    words: Words
    roofs: tuple[Fraction, Fraction, Fraction, Fraction]
    scratchpad_bytes: int
    accumulator_bytes: int
    spills: bool


def step_cost(xp: Any, machine: Machine, step: StepProblem, counts: Counts, spatial_c: Array, spatial_k: Array) -> Cost:
    """Return the cost of mappings of a step whose plain counts are given; whether they spill what must stay is another question.

    Parameters
    ----------
    xp
        Array namespace: ``numpy`` or ``jax.numpy``.
    machine, step
        Accelerator and step.
    counts
        What the mapping model counts for the step's layer.
    spatial_c, spatial_k
        Spatial factors.
    """
    layer = step.layer
    size_o = layer.size("O") * 1.0
    nothing = counts.w * 0.0
    changes: dict[str, Array] = {}
    if step.input_resident:
        changes |= {"i": nothing, "i_tile": nothing}
    if step.part is not None:
        changes |= {"i": nothing + layer.size("I")} if step.part.loads_input else {}
        changes |= {} if step.part.ends else {"o": nothing, "psum": nothing}
    if step.weights != Weights.STREAMED:
        loaded = layer.size("W") * 1.0 if step.weights == Weights.LOADED else 0.0
        changes |= {"w": nothing + loaded, "w_tile": nothing}
    stored = 0.0
    if step.output != Output.DRAM:
        changes |= {"o": nothing + (size_o if step.output == Output.BOTH else 0.0), "psum": nothing}
        stored = size_o * layer.repeat * layer.element_bytes[2]
    cost = cost_of(xp, machine, shape_of(layer), counts._replace(**changes), spatial_c, spatial_k)
    extra = stored + step.folded_words
    scratchpad, accumulator, energy = cost.scratchpad + extra, cost.accumulator, cost.energy_pj + machine.scratchpad_pj * extra
    busy = cost.roofs[1]
    if step.part is not None:
        more = step.part.rescaled + size_o * layer.repeat * (int(not step.part.starts) - int(not step.part.ends))
        accumulator, energy = accumulator + more, energy + machine.accumulator_pj * more
        busy = accumulator / (machine.accumulator_bandwidth * spatial_k)
    roofs = (cost.roofs[0], busy, scratchpad / machine.scratchpad_bandwidth, cost.roofs[3])
    cycles = xp.maximum(xp.maximum(roofs[0], roofs[1]), xp.maximum(roofs[2], roofs[3]))
    return cost._replace(accumulator=accumulator, scratchpad=scratchpad, energy_pj=energy, roofs=roofs, cycles=cycles)


def whole_energy(step: StepProblem, energy: Array) -> Array:
    """Return energies as whole numbers: rounded, and in slices rounded up, by more than floating point may be off.

    Slices of one row tile load the registers no more often together than the unsliced layer does, so nothing would make up for what
    rounding down many of them takes off, and the ceiling would be none.
    """
    return np.rint(energy) if step.part is None else np.ceil(energy * (1.0 + _UPWARDS))


_UPWARDS = 2.0**-40


def score_step(step: StepProblem, nest: LoopNest, machine: Machine, halo: str) -> StepScore:
    """Return what a step costs under one mapping, valid or not."""
    layer = step.layer
    tiling = batch_of([nest]).tiling(slice(0, 1))
    plain = access_counts(np, shape_of(layer), tiling, halo)
    cost = step_cost(np, machine, step, plain, tiling.spatial_c, tiling.spatial_k)
    counts, repeat, (w_bytes, i_bytes, o_bytes) = cost.counts, layer.repeat, layer.element_bytes
    psum = _whole(counts.psum) * repeat * max(int(machine.psum_words), o_bytes)
    o = (_whole(counts.o) - _whole(counts.psum)) * repeat * o_bytes + psum
    array = Fraction(layer.macs, nest.spatial(1) * nest.spatial(2))
    accumulator = Fraction(_whole(cost.accumulator)) / (Fraction(machine.accumulator_bandwidth) * nest.spatial(2))
    scratchpad = Fraction(_whole(cost.scratchpad)) / Fraction(machine.scratchpad_bandwidth)
    dram = Fraction(_whole(cost.dram_words)) / Fraction(machine.dram_bandwidth)
    return StepScore(
        energy_pj=int(np.ravel(whole_energy(step, cost.energy_pj))[0]),
        latency_cycles=int(np.ceil(np.ravel(cost.cycles)[0])),
        words=Words(_whole(counts.w) * repeat * w_bytes, _whole(counts.i) * repeat * i_bytes, o, psum),
        roofs=(array, accumulator, scratchpad, dram),
        scratchpad_bytes=_whole(cost.scratchpad_bytes),
        accumulator_bytes=_whole(cost.accumulator_bytes),
        spills=_whole(plain.psum) > 0,
    )


def _whole(value: object) -> int:
    return int(np.ravel(np.asarray(value))[0])


def score_vector(machine: Machine, inside: int, outside: tuple[int, ...], *, charged: bool) -> StepScore:
    """Return what one step of a vector operator inside a group costs.

    Parameters
    ----------
    machine
        The accelerator.
    inside
        Scratchpad words: operands and results that stay in the group. They cost where vector operators are charged.
    outside
        DRAM words of each operand that comes from outside and of a result that leaves; they cost in any case, else a free operator at the
        border of a group would carry a layer's traffic for nothing.
    charged
        Whether vector operators are charged.
    """
    words = inside if charged else 0
    blocks = sum(-(-count // machine.block_words) * machine.block_words for count in outside)
    scratchpad = Fraction(words) / Fraction(machine.scratchpad_bandwidth)
    dram = Fraction(sum(outside)) / Fraction(machine.dram_bandwidth)
    energy = int(np.rint(machine.scratchpad_pj * words + machine.dram_pj * blocks))
    roofs = (Fraction(0), Fraction(0), scratchpad, dram)
    return StepScore(energy, math.ceil(max(roofs)), Words(0, sum(outside), 0, 0), roofs, 0, 0, False)
