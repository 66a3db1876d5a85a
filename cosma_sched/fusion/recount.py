"""What one step of a fused group moves and costs, in exact fractions; written for the checker, apart from the planner.

A step is a layer on the rows and columns that a tile computes. What stays in the scratchpad is neither fetched nor drained: a resident
input costs no DRAM words and takes no tile of its own, nor does a resident weight after the first tile; a resident output goes from the
accumulator to the scratchpad, once, and to DRAM only if somebody outside reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Score, score
from cosma_sched.mapping.space import LoopNest

WEIGHTS = ("streamed", "loaded", "resident")
"""Fetched as the mapping's loops say; fetched once, to stay; there already."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tensors of a step are.

    Parameters
    ----------
    weights
        One of `WEIGHTS`.
    input_stays, output_stays
        Whether a member of the group makes the input, and whether one reads the output.
    output_leaves
        Whether the output is written to DRAM.
    added_inside, added_outside
        Words of the operands that folded element-wise operators read from the scratchpad, and from DRAM, one number for each operand.
    """

    weights: str = "streamed"
    input_stays: bool = False
    output_stays: bool = False
    output_leaves: bool = True
    added_inside: tuple[int, ...] = ()
    added_outside: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Moved:
    """DRAM words of a step: weights, inputs, outputs with spilled partial sums, partial sums read back, operands of folded operators."""

    w: int
    i: int
    o: int
    psum: int
    added: tuple[int, ...] = ()

    @property
    def words(self) -> int:
        """All of them."""
        return self.w + self.i + self.o + self.psum + sum(self.added)

    def in_blocks(self, block: int) -> int:
        """Return the words of whole blocks, each tensor rounded for itself."""
        return blocks((self.w, self.i, self.o, self.psum, *self.added), block)


@dataclass(frozen=True, slots=True)
class StepCost:
    """A step's cost: energy in pJ before rounding, the cycles of array, accumulator, scratchpad and DRAM, and the bytes of its tiles.

    `complete` tells whether every output stays in the accumulator until it is complete; `plain` is the mapping with nothing resident.
    """

    moved: Moved
    energy_pj: Fraction
    roofs: tuple[Fraction, ...]
    working_bytes: int
    complete: bool
    plain: Score

    @property
    def latency_cycles(self) -> int:
        """Cycles, rounded up."""
        return math.ceil(max(self.roofs))


def step_cost(layer: Layer, nest: LoopNest, machine: Machine, halo: str, place: Place) -> StepCost:
    """Return the cost of a step under a mapping, valid or not.

    Parameters
    ----------
    layer
        With the dims of the step.
    nest
        The mapping.
    machine, halo
        The accelerator and the window rule.
    place
        Where its tensors are.
    """
    found = score(layer, nest, machine, halo)
    moved = _moved(layer, found, place)
    w_bytes, i_bytes, o_bytes = layer.element_bytes
    size_o = layer.size("O") * layer.repeat
    register = layer.macs + found.register_fills
    accumulator = 2 * found.updates + found.updates_out * layer.repeat - size_o
    scratchpad = moved.w + moved.i + found.register_fills * w_bytes + Fraction(layer.macs, nest.spatial(2)) * i_bytes
    scratchpad += sum(place.added_inside) + (size_o * o_bytes if place.output_stays else 0)
    accesses = (register, accumulator, scratchpad, moved.in_blocks(int(machine.block_words)))
    energy = exact(machine.mac_pj) * layer.macs
    energy += _priced(accesses, machine)
    roofs = (
        Fraction(layer.macs, nest.spatial(1) * nest.spatial(2)),
        accumulator / (exact(machine.accumulator_bandwidth) * nest.spatial(2)),
        scratchpad / exact(machine.scratchpad_bandwidth),
        moved.words / exact(machine.dram_bandwidth),
    )
    working = _working_bytes(layer, nest, place)
    return StepCost(moved, energy, roofs, working, found.updates_out == layer.size("O"), found)


def _moved(layer: Layer, found: Score, place: Place) -> Moved:
    w_bytes, _, o_bytes = layer.element_bytes
    w = {"streamed": found.words.w, "loaded": layer.size("W") * layer.repeat * w_bytes, "resident": 0}[place.weights]
    i = 0 if place.input_stays else found.words.i
    if place.output_stays:
        o, psum = (layer.size("O") * layer.repeat * o_bytes if place.output_leaves else 0), 0
    else:
        o, psum = found.words.o, found.words.psum
    return Moved(w, i, o, psum, place.added_outside)


def _working_bytes(layer: Layer, nest: LoopNest, place: Place) -> int:
    """Return the bytes of the tiles that the step itself needs in the scratchpad."""
    n, k, c, p, q, r, s = (product // factor for product, factor in zip(nest.products(), nest.temporal(3), strict=True))
    w_bytes, i_bytes, _ = layer.element_bytes
    rows = (p - 1) * layer.stride_p + (r - 1) * layer.dilation_p + 1
    cols = (q - 1) * layer.stride_q + (s - 1) * layer.dilation_q + 1
    weights = k * c * r * s * w_bytes if place.weights == "streamed" else 0
    return weights + (0 if place.input_stays else n * c * rows * cols * i_bytes)


@dataclass(frozen=True, slots=True)
class VectorStep:
    """What an operator without loops of its own costs in one tile: pJ before rounding and cycles at scratchpad and DRAM."""

    energy_pj: Fraction
    scratchpad_cycles: Fraction
    dram_cycles: Fraction

    @property
    def latency_cycles(self) -> int:
        """Cycles, rounded up."""
        return math.ceil(max(self.scratchpad_cycles, self.dram_cycles))


def vector_step(inside: Iterable[int], outside: Iterable[int], machine: Machine) -> VectorStep:
    """Return the cost of a vector operator in one tile.

    Parameters
    ----------
    inside, outside
        Words of the tensors in the scratchpad, and of those in DRAM.
    machine
        The accelerator.
    """
    near, far = sum(inside), tuple(outside)
    energy = exact(machine.scratchpad_pj) * near + exact(machine.dram_pj) * blocks(far, int(machine.block_words))
    return VectorStep(energy, near / exact(machine.scratchpad_bandwidth), sum(far) / exact(machine.dram_bandwidth))


def blocks(words: Iterable[int], block: int) -> int:
    """Return the words of whole DRAM blocks, each tensor rounded for itself."""
    return sum(-(-count // block) * block for count in words)


def _priced(accesses: Iterable[int | Fraction], machine: Machine) -> Fraction:
    """Return the energy of words at the registers, the accumulator, the scratchpad and DRAM."""
    prices = (machine.register_pj, machine.accumulator_pj, machine.scratchpad_pj, machine.dram_pj)
    return sum((exact(price) * count for price, count in zip(prices, accesses, strict=True)), Fraction(0))


def exact(value: float) -> Fraction:
    """Return the fraction that a decimal number means."""
    return Fraction(str(value))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a layer cannot do without.

    Parameters
    ----------
    layer
        The layer.
    read, made
        Words of the network's own inputs that it reads, and of the network's outputs that it makes.
    fetches_weights
        False where the network makes its right operand, which may be in the scratchpad already.
    """

    layer: Layer
    read: int = 0
    made: int = 0
    fetches_weights: bool = True


def least_cost(demands: Iterable[Demand], machine: Machine, *, summed_roofs: bool = False) -> tuple[int, int]:
    """Return energy and latency that no grouping, tile or mapping goes below.

    Each layer takes its weights from DRAM once, spreads over as much of the array as its dims allow, and reads what comes from outside the
    network once. Its output goes to DRAM, or to the scratchpad, whichever costs less. Energies are rounded down for each layer: of the
    steps of a layer all but one fill the registers again, which outweighs what their rounding may take off.

    Parameters
    ----------
    demands
        Of all layers.
    machine
        The accelerator.
    summed_roofs
        The latency of a group is its busiest unit's: take network sums of each unit, else sums over layers of each one's busiest unit.
    """
    least = [(demand.layer, _least_of_layer(demand, machine)) for demand in demands]
    energy = sum(math.floor(one.energy_pj) * layer.count for layer, one in least)
    if not summed_roofs:
        return energy, sum(one.cycles(machine) * layer.count for layer, one in least)
    total = _Least(
        Fraction(0),
        sum((one.compute * layer.count for layer, one in least), Fraction(0)),
        sum((one.scratchpad * layer.count for layer, one in least), Fraction(0)),
        sum((one.dram * layer.count for layer, one in least), Fraction(0)),
        sum(one.output * layer.count for layer, one in least),
    )
    return energy, math.ceil(total.spread_cycles(machine))


@dataclass(frozen=True, slots=True)
class _Least:
    """The least a layer costs: pJ, cycles of the array, words at scratchpad and DRAM, words of output that go to one of the two."""

    energy_pj: Fraction
    compute: Fraction
    scratchpad: Fraction
    dram: Fraction
    output: int

    def cycles(self, machine: Machine) -> int:
        """Return the least cycles of one layer, whose whole output goes one way."""
        near, far = exact(machine.scratchpad_bandwidth), exact(machine.dram_bandwidth)
        ways = (
            max((self.scratchpad + self.output) / near, self.dram / far),
            max(self.scratchpad / near, (self.dram + self.output) / far),
        )
        return math.ceil(max(self.compute, min(ways)))

    def spread_cycles(self, machine: Machine) -> Fraction:
        """Return the least cycles where any part of the outputs may go either way."""
        near, far = exact(machine.scratchpad_bandwidth), exact(machine.dram_bandwidth)
        both = (self.scratchpad + self.dram + self.output) / (near + far)
        return max(self.compute, self.scratchpad / near, self.dram / far, both)


def _least_of_layer(demand: Demand, machine: Machine) -> _Least:
    layer = demand.layer
    rows, cols = _widest(layer["C"], int(machine.rows)), _widest(layer["K"], int(machine.cols))
    w_bytes, i_bytes, o_bytes = layer.element_bytes
    w = layer.size("W") * layer.repeat * w_bytes
    fetched = w if demand.fetches_weights else 0
    output = 0 if demand.made else layer.size("O") * layer.repeat * o_bytes
    scratchpad = w + fetched + demand.read + Fraction(layer.macs, cols) * i_bytes
    dram = Fraction(fetched + demand.read + demand.made)
    accesses = (layer.macs + layer.size("W") * layer.repeat, Fraction(2 * layer.macs, rows), scratchpad, dram)
    energy = exact(machine.mac_pj) * layer.macs + _priced(accesses, machine)
    energy += min(exact(machine.scratchpad_pj), exact(machine.dram_pj)) * output
    return _Least(energy, Fraction(layer.macs, rows * cols), scratchpad, dram, output)


def _widest(extent: int, limit: int) -> int:
    return max(factor for factor in range(1, min(extent, limit) + 1) if extent % factor == 0)
