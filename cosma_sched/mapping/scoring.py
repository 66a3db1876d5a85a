"""One mapping of one layer in full: counts, energy split, roofs, and every rule it breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cosma_sched.mapping.batch import batch_of
from cosma_sched.mapping.cost import ROOFS, Cost, Machine, evaluate, shape_of
from cosma_sched.mapping.layer import DIMS, Layer
from cosma_sched.mapping.space import LoopNest


@dataclass(frozen=True, slots=True)
class Words:
    """DRAM words of one instance of a layer: weights and inputs read, outputs and spilled partial sums written, partial sums read."""

    w: int
    i: int
    o: int
    psum: int


@dataclass(frozen=True, slots=True)
class Score:
    """What a mapping costs for one instance of a layer.

    Parameters
    ----------
    energy_pj, latency_cycles
        Rounded once, as every total counts them.
    energy_exact_pj
        Before rounding.
    words
        DRAM words.
    macs, updates, register_fills
        Multiplications; partial sums that reach the accumulator; weights that reach a register.
    updates_out
        Elements that leave the accumulator in one repetition; all but those of O come back.
    accesses
        Words at the registers, the accumulator, the scratchpad, and DRAM in whole blocks.
    split_pj
        Energy of MACs, registers, accumulator, scratchpad, DRAM.
    roofs
        Cycles that array, accumulator, scratchpad and DRAM need; the largest binds.
    scratchpad_bytes, accumulator_bytes
        Capacity used.
    tile
        Extents of the scratchpad tile in the order of `DIMS`.
    """

    energy_pj: int
    latency_cycles: int
    energy_exact_pj: float
    words: Words
    macs: int
    updates: int
    register_fills: int
    updates_out: int
    accesses: tuple[int, int, int, int]
    split_pj: tuple[float, float, float, float, float]
    roofs: tuple[float, float, float, float]
    scratchpad_bytes: int
    accumulator_bytes: int
    register_words: int
    tile: tuple[int, ...]

    @property
    def roof(self) -> str:
        """Name of the roof that binds; the first of several."""
        return ROOFS[max(range(4), key=lambda index: (self.roofs[index], -index))]

    def utilization(self, machine: Machine) -> float:
        """Return the share of the array's multiplications that is used over the layer's time."""
        return float(self.macs / (machine.rows * machine.cols * self.latency_cycles))


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """A rule of the space that a mapping breaks."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


def score(layer: Layer, nest: LoopNest, machine: Machine, halo: str = "parity") -> Score:
    """Return the cost of a mapping, valid or not."""
    tiling = batch_of([nest]).tiling(slice(0, 1))
    cost = evaluate(np, machine, shape_of(layer), tiling, halo=halo)
    return _score(layer, nest, machine, cost)


def _score(layer: Layer, nest: LoopNest, machine: Machine, cost: Cost) -> Score:
    counts, repeat = cost.counts, layer.repeat
    w_bytes, i_bytes, _ = layer.element_bytes
    psum = _whole(counts.psum) * repeat * max(int(machine.psum_words), layer.element_bytes[2])
    o = (_whole(counts.o) - _whole(counts.psum)) * repeat * layer.element_bytes[2] + psum
    accesses = (_whole(cost.register), _whole(cost.accumulator), _whole(cost.scratchpad), _whole(cost.dram))
    prices = (machine.register_pj, machine.accumulator_pj, machine.scratchpad_pj, machine.dram_pj)
    energy = float(np.ravel(cost.energy_pj)[0])
    r, a, s, d = (words * price for words, price in zip(accesses, prices, strict=True))
    roofs = [float(np.ravel(roof)[0]) for roof in cost.roofs]
    return Score(
        energy_pj=int(np.rint(energy)),
        latency_cycles=int(np.ceil(np.ravel(cost.cycles)[0])),
        energy_exact_pj=energy,
        words=Words(_whole(counts.w) * repeat * w_bytes, _whole(counts.i) * repeat * i_bytes, o, psum),
        macs=layer.macs,
        updates=_whole(counts.updates) * repeat,
        register_fills=_whole(counts.register_fills) * repeat,
        updates_out=_whole(counts.o),
        accesses=accesses,
        split_pj=(machine.mac_pj * layer.macs, r, a, s, d),
        roofs=(roofs[0], roofs[1], roofs[2], roofs[3]),
        scratchpad_bytes=_whole(cost.scratchpad_bytes),
        accumulator_bytes=_whole(cost.accumulator_bytes),
        register_words=_whole(counts.register_tile),
        tile=_tile(nest),
    )


def _whole(value: object) -> int:
    return int(np.ravel(np.asarray(value))[0])


def _tile(nest: LoopNest) -> tuple[int, ...]:
    outer = nest.temporal(3)
    return tuple(product // factor for product, factor in zip(nest.products(), outer, strict=True))


def broken_rules(layer: Layer, nest: LoopNest, machine: Machine, found: Score) -> Iterator[BrokenRule]:
    """Yield every rule that a mapping breaks: products, spatial limits, capacities."""
    for dim, product, extent in zip(DIMS, nest.products(), layer.dims, strict=True):
        if product != extent:
            yield BrokenRule("product", f"the factors of {dim} multiply to {product}, the layer has {dim}={extent}")
    for dim, factor, limit, side in (("C", nest.spatial(1), machine.rows, "rows"), ("K", nest.spatial(2), machine.cols, "columns")):
        if factor > limit:
            yield BrokenRule("array", f"{dim}{factor}X needs {factor} {side} of the array, which has {limit}")
    yield from _capacity_rules(machine, found)


def _capacity_rules(machine: Machine, found: Score) -> Iterator[BrokenRule]:
    for level, used, limit in (
        ("scratchpad", found.scratchpad_bytes, machine.scratchpad_bytes),
        ("accumulator", found.accumulator_bytes, machine.accumulator_bytes),
    ):
        if used > limit:
            yield BrokenRule(level, f"the tile takes {used} bytes, {used - limit} more than the {level}'s {limit}")
    if found.register_words > 1:
        yield BrokenRule("register", f"the loops at L0 keep {found.register_words} weights in a register, which holds 1")
