"""Check a mapping result from scratch: strings, products, capacity, counts by walking the loops, energies in exact fractions, sums, bounds.

No solver and no search takes part. Counts are those of the independent walker where the walk is short enough, else those of the cost model;
energy and cycles follow from the counts here in exact arithmetic, which the float arithmetic of the search must meet.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from cosma_sched.errors import InputError
from cosma_sched.mapping.answer import LayerMapping, MappingResult, VectorCost
from cosma_sched.mapping.cost import Machine, machine_of
from cosma_sched.mapping.layer import Layer
from cosma_sched.mapping.scoring import Score, Words, broken_rules, score
from cosma_sched.mapping.space import LoopNest, parse
from cosma_sched.mapping.walker import walk
from cosma_sched.result import Status, relative_gap

WALK_LIMIT = 100_000
QUICK_WALK_LIMIT = 2_000
"""Tile steps that are walked for each layer before an answer is printed."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule.

    Parameters
    ----------
    rule
        Name of the rule.
    message
        What is wrong, with the values.
    layer
        The layer concerned, or None.
    """

    rule: str
    message: str
    layer: str | None = None

    def __str__(self) -> str:
        place = f'layer "{self.layer}": ' if self.layer is not None else ""
        return f"{self.rule}: {place}{self.message}"


def verify(result: MappingResult, *, walk_limit: int = WALK_LIMIT) -> list[Violation]:
    """Check a result from itself alone.

    Parameters
    ----------
    result
        The result.
    walk_limit
        Longest walk through tiles, for each layer and kind of tile; beyond it the cost model counts.
    """
    machine = machine_of(result.accelerator)
    if result.status in {Status.INFEASIBLE, Status.UNKNOWN}:
        return list(_empty_rules(result))
    found: list[Violation] = []
    halo, clean = str(result.options["halo"]), set()
    for entry in result.layers:
        key = (entry.layer.problem, entry.mapping, entry.energy_pj, entry.latency_cycles)
        broken = list(_repeated_rules(entry, machine, halo) if key in clean else _layer_rules(entry, machine, halo, walk_limit))
        found += broken
        if not broken:
            clean.add(key)
    found += _vector_rules(result, machine)
    found += _total_rules(result)
    found += _bound_rules(result)
    return found


def differences(result: MappingResult, layers: tuple[Layer, ...]) -> list[Violation]:
    """Return in what the layers of a result are not those of its network."""
    own = [entry.layer for entry in result.layers]
    if len(own) != len(layers):
        return [Violation("network", f"has {len(own)} layers, the model has {len(layers)}")]
    wrong = [(mine, theirs) for mine, theirs in zip(own, layers, strict=True) if mine != theirs]
    return [
        Violation("network", f'is not what the model holds in its place, "{theirs.name}": {theirs}', mine.name) for mine, theirs in wrong
    ]


def _empty_rules(result: MappingResult) -> Iterator[Violation]:
    if result.layers or result.energy_pj is not None or result.latency_cycles is not None:
        yield Violation("status", f"is {result.status}, but there are mappings or totals")


# Layers


def _layer_rules(entry: LayerMapping, machine: Machine, halo: str, walk_limit: int) -> Iterator[Violation]:
    layer = entry.layer
    try:
        nest = parse(entry.mapping)
    except InputError as error:
        yield Violation("mapping", error.defects[0].problem, layer.name)
        return
    found = score(layer, nest, machine, halo)
    broken = list(broken_rules(layer, nest, machine, found))
    yield from (Violation(rule.rule, rule.message, layer.name) for rule in broken)
    if any(rule.rule == "product" for rule in broken):
        return
    yield from _walked_rules(layer, nest, machine, found, walk_limit)
    yield from _cost_rules(entry, machine, nest, found)


def _repeated_rules(entry: LayerMapping, machine: Machine, halo: str) -> Iterator[Violation]:
    """Check what a layer says beside its cost; the cost of an equal layer has been checked."""
    found = score(entry.layer, parse(entry.mapping), machine, halo)
    yield from _stated_rules(entry, machine, found)


def _walked_rules(layer: Layer, nest: LoopNest, machine: Machine, found: Score, limit: int) -> Iterator[Violation]:
    """Compare the model's counts with the walker's; its input count may be below, since corners of windows are shared too.

    Parity keeps one row in a case where long kernels share none, because Timeloop does: there the rule of true reuse is the limit.
    """
    walked = walk(layer, nest, limit)
    w_bytes, i_bytes, _ = (size * layer.repeat for size in layer.element_bytes)
    pairs = [("w", walked.w, found.words.w // w_bytes), ("register fills", walked.register_fills, found.register_fills // layer.repeat)]
    if walked.o is not None and walked.psum is not None:
        size = layer.size("O")
        pairs += [("o", walked.o, found.updates_out), ("psum", walked.psum, found.updates_out - size)]
    for name, counted, stated in pairs:
        if counted is not None and counted != stated:
            yield Violation("walk", f"{name} is {stated} in the model, {counted} when the loops are walked", layer.name)
    if walked.i is None or walked.i * i_bytes <= found.words.i:
        return
    if walked.i * i_bytes > score(layer, nest, machine, "reuse").words.i:
        yield Violation("walk", f"i is {found.words.i // i_bytes} in the model, {walked.i} when the loops are walked", layer.name)


def _cost_rules(entry: LayerMapping, machine: Machine, nest: LoopNest, found: Score) -> Iterator[Violation]:
    energy, cycles = exact_cost(entry.layer, nest, machine, found)
    if abs(energy - entry.energy_pj) > Fraction(1, 2) + Fraction(1, 1000):
        yield Violation("energy", f"is {entry.energy_pj} pJ, recomputed {float(energy):.2f}", entry.layer.name)
    if cycles != entry.latency_cycles:
        yield Violation("latency", f"is {entry.latency_cycles} cycles, recomputed {cycles}", entry.layer.name)
    yield from _stated_rules(entry, machine, found)


def exact_cost(layer: Layer, nest: LoopNest, machine: Machine, found: Score) -> tuple[Fraction, int]:
    """Return energy and cycles of counted accesses in exact arithmetic."""
    words, prices = found.words, [_exact(price) for price in machine[3:7]]
    register = layer.macs + found.register_fills
    accumulator = 2 * found.updates + (found.updates_out - layer.size("O")) * layer.repeat
    w_bytes, i_bytes, _ = layer.element_bytes
    scratchpad = words.w + words.i + found.register_fills * w_bytes + Fraction(layer.macs, nest.spatial(2)) * i_bytes
    moved = (words.w, words.i, words.o, words.psum, *layer.drain_words)
    dram = sum(-(-count // machine.block_words) * machine.block_words for count in moved)
    energy = _exact(machine.mac_pj) * layer.macs
    energy += sum((price * count for price, count in zip(prices, (register, accumulator, scratchpad, dram), strict=True)), Fraction(0))
    roofs = (
        Fraction(layer.macs, nest.spatial(1) * nest.spatial(2)),
        accumulator / (_exact(machine.accumulator_bandwidth) * nest.spatial(2)),
        scratchpad / _exact(machine.scratchpad_bandwidth),
        sum(moved) / _exact(machine.dram_bandwidth),
    )
    return energy, math.ceil(max(roofs))


def _exact(value: float) -> Fraction:
    return Fraction(str(value))


def _stated_rules(entry: LayerMapping, machine: Machine, found: Score) -> Iterator[Violation]:
    stated = LayerMapping.of(entry.layer, entry.mapping, found, machine)
    for name in ("words", "roof", "split_pj", "scratchpad_bytes", "accumulator_bytes", "utilization"):
        mine, right = getattr(entry, name), getattr(stated, name)
        if mine != right:
            yield Violation(name, f"is {_plain(mine)}, recomputed {_plain(right)}", entry.layer.name)


def _plain(value: object) -> str:
    if isinstance(value, Words):
        return f"w {value.w}, i {value.i}, o {value.o}, psum {value.psum}"
    return str(value)


# The network


def vector_cost(words: tuple[int, ...], machine: Machine) -> tuple[int, int]:
    """Return energy and cycles of an operator that reads and writes whole tensors in DRAM."""
    blocks = sum(-(-count // machine.block_words) * machine.block_words for count in words)
    return round(_exact(machine.dram_pj) * blocks), math.ceil(sum(words) / _exact(machine.dram_bandwidth))


def _vector_rules(result: MappingResult, machine: Machine) -> Iterator[Violation]:
    charged = result.options["vector_ops"] == "charged"
    drained: dict[str, tuple[int, ...]] = {}
    for vector in result.vector_operators:
        if vector.folded_into is not None:
            drained[vector.folded_into] = (*drained.get(vector.folded_into, ()), *vector.words)
        yield from _vector_cost_rules(vector, machine, charged)
    if not charged:
        return
    for entry in result.layers:
        if entry.layer.drain_words != drained.get(entry.layer.name, ()):
            yield Violation(
                "drain", f"drains {entry.layer.drain_words}, its operators {drained.get(entry.layer.name, ())}", entry.layer.name
            )


def _vector_cost_rules(vector: VectorCost, machine: Machine, charged: bool) -> Iterator[Violation]:
    expected = vector_cost(vector.words, machine) if charged and vector.folded_into is None else (0, 0)
    if (vector.energy_pj, vector.latency_cycles) != expected:
        found = f"is charged {vector.energy_pj} pJ and {vector.latency_cycles} cycles, recomputed {expected[0]} and {expected[1]}"
        yield Violation("vector", found, vector.name)


def _total_rules(result: MappingResult) -> Iterator[Violation]:
    for name in ("energy_pj", "latency_cycles"):
        total = sum(getattr(entry, name) * entry.layer.count for entry in result.layers)
        total += sum(getattr(vector, name) for vector in result.vector_operators)
        if getattr(result, name) != total:
            yield Violation("total", f"{name} is {getattr(result, name)}, the layers sum to {total}")
    if result.energy_pj is not None and result.latency_cycles is not None and result.edp != result.energy_pj * result.latency_cycles:
        yield Violation("edp", f"is {result.edp}, energy times latency is {result.energy_pj * result.latency_cycles}")


def _bound_rules(result: MappingResult) -> Iterator[Violation]:
    for name, value in (("edp", result.edp), ("energy_pj", result.energy_pj), ("latency_cycles", result.latency_cycles)):
        bound = getattr(result.bounds, name)
        if bound is not None and value is not None and bound > value:
            yield Violation("bound", f"the bound {bound} on {name} exceeds the value {value}")
    gap = relative_gap(result.value, result.bound)
    if gap != result.gap:
        yield Violation("gap", f"is {result.gap}, recomputed {gap}")
    proven = result.bound is not None and result.bound == result.value
    if (result.status == Status.OPTIMAL) != proven:
        yield Violation("status", f"is {result.status}, value {result.value} and bound {result.bound}")
