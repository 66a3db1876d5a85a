"""What no fusion can beat: energy and latency that every grouping, tile, mode and mapping of this model reaches at least.

Each layer spreads over as much of the array as its dims allow, fetches its weights once, reads what comes from outside the network once,
and hands its result to the scratchpad or to DRAM, whichever costs less. In exact fractions; energies are rounded down for each layer:
every further step of a layer fills the registers again, which outweighs what the rounding of its energy may take off; slices of
products do not, and are rounded up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from cosma_sched.fusion.problem import FusionProblem, Node, Operand, Window
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import C, K, Layer
from cosma_sched.mapping.space import divisors


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A bound on any fusion of a network.

    Parameters
    ----------
    energy_pj, latency_cycles
        No plan needs less.
    """

    energy_pj: int
    latency_cycles: int

    @property
    def edp(self) -> int:
        """Their product, which no plan's energy-delay product goes below."""
        return self.energy_pj * self.latency_cycles


@dataclass(frozen=True, slots=True)
class _Least:
    """The least a layer needs: pJ, cycles of the array, words at scratchpad and at DRAM, and words that go to one of the two."""

    energy: Fraction
    compute: Fraction
    scratchpad: Fraction
    dram: Fraction
    result: int

    def cycles(self, machine: Machine) -> int:
        """Return the cycles of a layer, whose result goes one way or the other."""
        near, far = _exact(machine.scratchpad_bandwidth), _exact(machine.dram_bandwidth)
        stays = max((self.scratchpad + self.result) / near, self.dram / far)
        leaves = max(self.scratchpad / near, (self.dram + self.result) / far)
        return math.ceil(max(self.compute, min(stays, leaves)))


def ceiling(problem: FusionProblem, machine: Machine, *, overlap: str = "layer") -> Ceiling:
    """Return what no fusion of a network can beat on a machine.

    Parameters
    ----------
    problem, machine
        Network and accelerator.
    overlap
        ``layer``: latencies of layers add up. ``group``: units work side by side, so only the sums of their busy times are a bound.
    """
    least = [(node.layer, _least(node, node.layer, machine)) for node in problem.nodes if node.layer is not None]
    energy = sum(math.floor(one.energy) * layer.count for layer, one in least)
    if overlap == "layer":
        return Ceiling(energy, sum(one.cycles(machine) * layer.count for layer, one in least))
    near, far = _exact(machine.scratchpad_bandwidth), _exact(machine.dram_bandwidth)
    scratchpad, dram = _sum((layer, one.scratchpad) for layer, one in least), _sum((layer, one.dram) for layer, one in least)
    results = _sum((layer, Fraction(one.result)) for layer, one in least)
    shared = (scratchpad + dram + results) / (near + far)  # results may be spread over the two as they please
    busy = max(_sum((layer, one.compute) for layer, one in least), scratchpad / near, dram / far, shared)
    return Ceiling(energy, math.ceil(busy))


def least_of(node: Node, machine: Machine) -> tuple[int, int]:
    """Return energy and latency that a node reaches at least, whatever group it is in."""
    if node.layer is None:
        return 0, 0
    least = _least(node, node.layer, machine)
    return math.floor(least.energy) * node.layer.count, least.cycles(machine) * node.layer.count


def _sum(parts: Iterable[tuple[Layer, Fraction]]) -> Fraction:
    return sum((part * layer.count for layer, part in parts), Fraction(0))


def _exact(value: float) -> Fraction:
    """Return the fraction that a decimal number means."""
    return Fraction(str(value))


def _least(node: Node, layer: Layer, machine: Machine) -> _Least:
    rows, cols = _widest(layer.dims[C], int(machine.rows)), _widest(layer.dims[K], int(machine.cols))
    i_bytes = layer.element_bytes[1]
    fetched = 0 if any(operand.role == "weight" for operand in node.operands) else node.weight_words  # made in the network, it may be there
    read = sum(_read_words(node, layer, operand) for operand in node.operands if operand.role == "input" and operand.producer is None)
    made = node.words if node.is_output else 0
    result = 0 if node.is_output else node.words
    scratchpad = node.weight_words + fetched + read + Fraction(layer.macs, cols) * i_bytes
    dram = Fraction(fetched + read + made)
    energy = _exact(machine.mac_pj) * layer.macs + _exact(machine.register_pj) * (layer.macs + layer.size("W") * layer.repeat)
    energy += _exact(machine.accumulator_pj) * Fraction(2 * layer.macs, rows)
    energy += _exact(machine.scratchpad_pj) * scratchpad + _exact(machine.dram_pj) * dram
    energy += min(_exact(machine.scratchpad_pj), _exact(machine.dram_pj)) * result
    return _Least(energy, Fraction(layer.macs, rows * cols), scratchpad, dram, result)


def _widest(extent: int, limit: int) -> int:
    return max(divisor for divisor in divisors(extent) if divisor <= limit)


def _read_words(node: Node, layer: Layer, operand: Operand) -> int:
    """Return the words of the network's input that some tap reads; what strides skip and what padding adds is left out."""
    if operand.extent is None:
        return operand.words
    _, rows, columns = operand.extent
    down, across = _touched(node.extent[1], operand.rows, layer["R"], rows), _touched(node.extent[2], operand.columns, layer["S"], columns)
    position = layer["C"] * layer.repeat * layer.element_bytes[1]
    return min(operand.words, layer["N"] * position * down * across)


def _touched(results: int, window: Window | None, taps: int, extent: int) -> int:
    if window is None:
        return extent
    places = {p * window.stride - window.pad + tap * window.dilation for tap in range(taps) for p in range(results)}
    return sum(1 for place in places if 0 <= place < extent)
