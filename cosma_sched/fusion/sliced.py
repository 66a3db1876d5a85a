"""Two products whose intermediate runs slice by slice of its features: scores and values, or the two layers of a feed-forward block.

A row tile of m rows is taken through all slices of f features: the first product makes m x f of the intermediate, the vector operators
between work on it, and the second one adds what it gives to its m x K results, which stay in the accumulator until the last slice has
ended. Both right operands are streamed slice by slice. Repetitions (heads) follow each other, each with all its row tiles. A softmax
between keeps, for every row, the maximum and the sum of the slices so far; whenever the maximum moves, the results are rescaled.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cosma_sched.fusion.choice import CostedStep, GroupCost, GroupStep, total
from cosma_sched.fusion.fronts import StepFronts, StepPoint
from cosma_sched.fusion.group import Group, Mode, Slicing
from cosma_sched.fusion.hull import Point, lower_hull, plus, times
from cosma_sched.fusion.problem import Node, Operand, Window
from cosma_sched.fusion.steps import Output, SlicePart, StepProblem, score_step, score_vector
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.extract import ELEMENTWISE
from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.space import divisors, parse

EVERY, FIRST, LATER, MIDDLE, LAST, ONLY = "every", "first", "later", "middle", "last", "only"
"""In which slices of a row tile a step runs."""


@dataclass(frozen=True)
class Pair:
    """A group of two products with a sliced intermediate.

    Parameters
    ----------
    group
        Its first member makes the intermediate, its last one reads it; vector operators stand between.
    """

    group: Group

    @cached_property
    def maker(self) -> Layer:
        """The first product."""
        return _layer(self.group.nodes[0])

    @cached_property
    def reader(self) -> Layer:
        """The second product."""
        return _layer(self.group.nodes[-1])

    @cached_property
    def has_softmax(self) -> bool:
        """Whether a softmax stands before the second product."""
        return self.group.nodes[-2].type == "Softmax" and len(self.group.members) > 2

    def rescaled(self, slicing: Slicing) -> int:
        """Return the accumulator words that each slice reads and writes again for the softmax."""
        return 2 * slicing.rows * self.reader.dims[K] if self.has_softmax and self.group.problem.charged else 0

    def tiles(self, slicing: Slicing) -> int:
        """Return the row tiles of all repetitions."""
        return self.maker.repeat * (self.maker.dims[P] // slicing.rows)

    def slices(self, slicing: Slicing) -> int:
        """Return the slices of a row tile."""
        return self.maker.dims[K] // slicing.features

    # Bytes

    def state_bytes(self, slicing: Slicing) -> int:
        """Return the bytes of the running maximum and sum of each row."""
        return 2 * slicing.rows * self.maker.element_bytes[2] if self.has_softmax else 0

    def held_bytes(self, slicing: Slicing, position: int) -> int:
        """Return what stands in the scratchpad beside a member's working tiles: slices, row tile, running maxima and sums."""
        runs = self.tiles(slicing) * self.slices(slicing)
        last = self.group.last_use
        alive = sum(node.words // runs for place, node in enumerate(self.group.nodes[:-1]) if place <= position <= last[place])
        row_tile = slicing.rows * self.maker.dims[C] * self.maker.element_bytes[1] if slicing.stays else 0
        return alive + row_tile + self.state_bytes(slicing)

    def kept_bytes(self, slicing: Slicing, machine: Machine) -> int:
        """Return the bytes of the accumulator that hold the results of the second product."""
        columns = max(size for size in divisors(self.reader.dims[K]) if size <= machine.cols)
        words = slicing.rows * (self.reader.dims[K] // columns)
        return words * int(machine.accumulator_element_bytes) * int(machine.cols)

    # Steps

    def steps(self, slicing: Slicing) -> tuple[GroupStep, ...]:
        """Return all distinct steps in the order of the members, those of the first slices first."""
        found: list[GroupStep] = []
        for position, node in enumerate(self.group.nodes):
            if position == 0:
                found += self._making(slicing)
            elif node.layer is None:
                found.append(self._between(slicing, position))
            else:
                found += self._reading(slicing)
        return tuple(found)

    def _step(self, slicing: Slicing, position: int, times: int, problem: StepProblem | None, part: str) -> GroupStep:
        held = self.held_bytes(slicing, position)
        return GroupStep(self.group.members[position], (1, slicing.rows, 1), times, problem, 0, (), held, 0, part)

    def _making(self, slicing: Slicing) -> Iterator[GroupStep]:
        tiles, slices = self.tiles(slicing), self.slices(slicing)
        dims = list(self.maker.dims)
        dims[P], dims[K] = slicing.rows, slicing.features
        layer = _shape(self.maker, dims, self._drained(0, tiles * slices))
        if not slicing.stays:
            yield self._step(slicing, 0, tiles * slices, StepProblem(layer, False, Output.RESIDENT, part=SlicePart()), EVERY)
            return
        yield self._step(slicing, 0, tiles, StepProblem(layer, True, Output.RESIDENT, part=SlicePart(loads_input=True)), FIRST)
        if slices > 1:
            yield self._step(slicing, 0, tiles * (slices - 1), StepProblem(layer, True, Output.RESIDENT, part=SlicePart()), LATER)

    def _between(self, slicing: Slicing, position: int) -> GroupStep:
        node, runs = self.group.nodes[position], self.tiles(slicing) * self.slices(slicing)
        inside = node.words // runs + (2 * self.state_bytes(slicing) if node.type == "Softmax" else 0)
        outside = []
        for operand in node.operands:
            if self.group.inside(operand):
                inside += operand.words // runs
            else:
                outside.append(operand.words // runs if operand.regional else operand.words)
        return replace(self._step(slicing, position, runs, None, EVERY), inside=inside, outside=tuple(outside))

    def _reading(self, slicing: Slicing) -> Iterator[GroupStep]:
        tiles, slices, position = self.tiles(slicing), self.slices(slicing), len(self.group.members) - 1
        dims = list(self.reader.dims)
        dims[P], dims[C] = slicing.rows, slicing.features
        parts = [(ONLY, tiles, True, True)]
        if slices > 1:
            parts = [(FIRST, tiles, True, False), (MIDDLE, tiles * (slices - 2), False, False), (LAST, tiles, False, True)]
        for name, count, starts, ends in parts:
            layer = _shape(self.reader, dims, self._drained(position, tiles) if ends else ())
            part = SlicePart(accumulates=True, starts=starts, ends=ends, rescaled=self.rescaled(slicing))
            if count:
                yield self._step(slicing, position, count, StepProblem(layer, True, Output.DRAM, part=part), name)

    def _drained(self, position: int, runs: int) -> tuple[int, ...]:
        """Return the words of each further operand that one of the runs reads from DRAM while it drains."""
        drains = (
            [operand for operand in self.group.nodes[position].operands if operand.role == "drain"] if self.group.problem.charged else []
        )
        return tuple(operand.words // runs if operand.regional else operand.words for operand in drains)


def _layer(node: Node) -> Layer:
    if node.layer is None:
        raise ValueError(f"{node.name} is a vector operator")
    return node.layer


def _shape(layer: Layer, dims: Sequence[int], drained: tuple[int, ...]) -> Layer:
    return replace(layer, name="", count=1, repeat=1, dims=tuple(dims), drain_words=drained, pad_p=None, pad_q=None)


# Which groups are pairs


def pair_of(group: Group) -> Pair | None:
    """Return a group as a pair of products whose intermediate can be sliced, or None."""
    if group.layers != (0, len(group.members) - 1):
        return None
    first, last = _layer(group.nodes[0]), _layer(group.nodes[-1])
    if not (_is_product(first) and _is_product(last)) or any(output != Output.RESIDENT for output in group.outputs[:-1]):
        return None
    if first.dims[P] != last.dims[P] or first.dims[K] != last.dims[C] or first.repeat != last.repeat:
        return None
    if first.repeat == first.dims[K] > 1:
        return None  # repetitions and features of a view could have changed places
    made_inside = [operand for operand in group.nodes[-1].operands if group.inside(operand)]
    if len(made_inside) != 1 or made_inside[0].role != "input" or not _is_same(made_inside[0]):
        return None
    source = made_inside[0].producer
    fits = all(_runs_in_slices(group, position, source) for position in range(1, len(group.members) - 1))
    return Pair(group) if fits else None


def _is_product(layer: Layer) -> bool:
    plain = all(layer.dims[dim] == 1 for dim in (N, Q, R, S)) and not layer.pad_p and not layer.pad_q
    return plain and layer.stride_p == layer.stride_q == 1 and layer.count == 1


def _is_same(operand: Operand) -> bool:
    return all(window is not None and _reads_one(window) for window in (operand.rows, operand.columns)) and operand.regional


def _reads_one(window: Window) -> bool:
    return window.kernel == window.stride == 1 and window.pad == 0


def _runs_in_slices(group: Group, position: int, source: int | None) -> bool:
    """Return whether a vector operator gives each feature from the same feature; a softmax may, as the last one before the product."""
    node, first = group.nodes[position], group.nodes[0]
    if node.words != first.words or node.extent != first.extent:
        return False
    inside = [operand for operand in node.operands if group.inside(operand)]
    if not inside or not all(_is_same(operand) and operand.words == node.words for operand in inside):
        return False
    if any(operand.regional and operand.words != node.words for operand in node.operands):
        return False
    if node.type == "Softmax":
        return group.members[position] == source and len(inside) == 1 and node.features == _layer(first).dims[K]
    return node.type in ELEMENTWISE


# Prices


class SlicedFronts:
    """Mappings of the steps of pairs.

    Parameters
    ----------
    machine, halo
        Accelerator and window rule.
    """

    def __init__(self, machine: Machine, halo: str) -> None:
        self.machine, self.halo = machine, halo
        self._fronts: dict[int, StepFronts] = {}

    @property
    def evaluations(self) -> int:
        """Tilings that were scored."""
        return sum(fronts.evaluations for fronts in self._fronts.values())

    def beside(self, kept_bytes: int) -> StepFronts:
        """Return the fronts of steps that run while a part of the accumulator is taken."""
        left = int(self.machine.accumulator_bytes) - kept_bytes
        if left not in self._fronts:
            self._fronts[left] = StepFronts(self.machine._replace(accumulator_bytes=left), self.halo)
        return self._fronts[left]


class SlicedColumn:
    """Prices one way to slice a pair.

    Parameters
    ----------
    pair, slicing, fronts
        What runs, how, and its steps' mappings.
    """

    def __init__(self, pair: Pair, slicing: Slicing, fronts: SlicedFronts) -> None:
        self.pair, self.slicing, self.machine = pair, slicing, fronts.machine
        self.steps = pair.steps(slicing)
        self._reading = fronts.beside(0)
        self._making = fronts.beside(pair.kept_bytes(slicing, fronts.machine))

    def _fronts(self, step: StepProblem) -> StepFronts:
        return self._reading if step.part is not None and step.part.accumulates else self._making

    def _options(self, step: GroupStep) -> tuple[StepPoint, ...]:
        if step.problem is None:
            score = score_vector(self.machine, step.inside, step.outside, charged=self.pair.group.problem.charged)
            return (StepPoint(score.energy_pj, score.latency_cycles, 0, -1),) if step.room(self.machine) >= 0 else ()
        return self._fronts(step.problem).options(step.problem, step.room(self.machine))

    def floor(self) -> Point | None:
        """Return what no mapping goes below: the first product by its floor, the others by their best; None where one does not fit."""
        energy = latency = 0
        for step in self.steps:
            if step.problem is not None and not (step.problem.part is not None and step.problem.part.accumulates):
                if step.room(self.machine) < 0:
                    return None
                least = _least(step.problem, self.machine)
            else:
                options = self._options(step)
                if not options:
                    return None
                least = options[0].energy, options[-1].latency
            energy, latency = energy + step.multiplicity * least[0], latency + step.multiplicity * least[1]
        return energy, latency

    def hull(self) -> tuple[Point, ...]:
        """Return the hull of all mappings; empty where a step does not fit."""
        hull: tuple[Point, ...] = ((0, 0),)
        for step in self.steps:
            options = self._options(step)
            if not options:
                return ()
            hull = plus(hull, times(lower_hull((point.energy, point.latency) for point in options), step.multiplicity))
        return hull

    def decide(self, direction: Point, *, halo: str, overlap: str) -> GroupCost:
        """Return the pair in full, each step with its best mapping in a direction."""
        a, b = direction
        costed = []
        for step in self.steps:
            if step.problem is None:
                score = score_vector(self.machine, step.inside, step.outside, charged=self.pair.group.problem.charged)
                costed.append(CostedStep(step, None, score))
                continue
            best = min(self._options(step), key=lambda point: (a * point.energy + b * point.latency, point))
            mapping = self._fronts(step.problem).mapping(step.problem, best)
            costed.append(CostedStep(step, mapping, score_step(step.problem, parse(mapping), self.machine, halo)))
        energy, latency = total(costed, overlap)
        members = self.pair.group.members
        return GroupCost(members, (1, self.slicing.rows, 1), Mode.SLICED, (), tuple(costed), energy, latency, self.slicing)


def slicings(pair: Pair, rows: Sequence[int], machine: Machine) -> Iterator[Slicing]:
    """Yield the ways to slice a pair that leave the first product a word in every bank of the accumulator.

    Parameters
    ----------
    pair, machine
        Group and accelerator.
    rows
        Lengths of row tiles.
    """
    least = int(machine.accumulator_element_bytes) * int(machine.cols)
    for length in rows:
        for features in divisors(pair.maker.dims[K]):
            for stays in (False, True):
                slicing = Slicing(length, features, stays)
                if pair.kept_bytes(slicing, machine) + least <= machine.accumulator_bytes:
                    yield slicing


def _least(step: StepProblem, machine: Machine) -> Point:
    """Return energy and latency that no mapping of a step of the first product goes below."""
    layer = step.layer
    rows, columns = (
        max(size for size in divisors(layer.dims[dim]) if size <= most) for dim, most in ((C, machine.rows), (K, machine.cols))
    )
    w_bytes, i_bytes, o_bytes = layer.element_bytes
    w, o = layer.size("W"), layer.size("O") * o_bytes
    i = layer.size("I") * i_bytes if not step.input_resident or (step.part is not None and step.part.loads_input) else 0
    scratchpad = 2 * w * w_bytes + i + o + layer.macs / columns * i_bytes
    words = w * w_bytes + i + sum(layer.drain_words)
    energy = machine.mac_pj * layer.macs + machine.register_pj * (layer.macs + w) + machine.accumulator_pj * 2 * layer.macs / rows
    energy += machine.scratchpad_pj * scratchpad + machine.dram_pj * words
    roofs = (
        layer.macs / (rows * columns),
        2 * layer.macs / rows / (machine.accumulator_bandwidth * columns),
        scratchpad / machine.scratchpad_bandwidth,
        words / machine.dram_bandwidth,
    )
    return math.floor(energy * _DOWNWARDS), math.ceil(max(roofs) * _DOWNWARDS)


_DOWNWARDS = 1.0 - 2.0**-40
"""A floor must hold however floating point rounds."""
