"""One way to run a group, and what it costs: tile, mode, resident weights, and a mapping for every distinct step.

`group_steps` says what is to be mapped and how much room there is; `cost_group` adds up what the mappings cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cosma_sched.fusion.group import Group, Mode, Slicing, Tile
from cosma_sched.fusion.steps import Output, StepProblem, StepScore, Weights, score_step, score_vector
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.scoring import Words
from cosma_sched.mapping.space import parse
from cosma_sched.mapping.verify import vector_cost

UNITS = (0, 1, 2, 3)
"""Array, accumulator, scratchpad, DRAM: the four whose busy times bound a group's latency."""


@dataclass(frozen=True, slots=True)
class GroupStep:
    """A distinct step of a group.

    Parameters
    ----------
    node
        Of the network.
    extent
        Batch, rows and columns that are computed.
    multiplicity
        How often it runs.
    problem
        What is to be mapped; None for a vector operator.
    inside, outside
        Of a vector operator: scratchpad words, and DRAM words of each operand or result at the group's border.
    live_bytes
        Maps and retained strips beside it, at most.
    resident_bytes
        Weights that stay for the whole group.
    part
        In a group of sliced products, in which of the slices it runs.
    """

    node: int
    extent: Tile
    multiplicity: int
    problem: StepProblem | None
    inside: int
    outside: tuple[int, ...]
    live_bytes: int
    resident_bytes: int
    part: str | None = None

    def room(self, machine: Machine) -> int:
        """Return the bytes that its working tiles may take."""
        return int(machine.scratchpad_bytes) - self.live_bytes - self.resident_bytes


@dataclass(frozen=True, slots=True)
class CostedStep:
    """A step with its mapping and cost."""

    step: GroupStep
    mapping: str | None
    score: StepScore

    @property
    def scratchpad_bytes(self) -> int:
        """Bytes in the scratchpad while it runs, in the fullest tile."""
        return self.step.live_bytes + self.step.resident_bytes + self.score.scratchpad_bytes


@dataclass(frozen=True, slots=True)
class GroupCost:
    """A group that is decided in full.

    Parameters
    ----------
    members
        Nodes in the order in which they run.
    tile, mode
        Of the sink's result, and what becomes of overlaps.
    resident
        Nodes whose weights stay in the scratchpad.
    steps
        All distinct steps.
    energy_pj, latency_cycles
        Sums over the steps; with ``overlap="group"`` the latency of the unit that is busy longest.
    slicing
        Of two products in slices.
    """

    members: tuple[int, ...]
    tile: Tile
    mode: Mode
    resident: tuple[int, ...]
    steps: tuple[CostedStep, ...]
    energy_pj: int
    latency_cycles: int
    slicing: Slicing | None = None

    @property
    def peak_bytes(self) -> int:
        """Most bytes in the scratchpad at any step."""
        return max((step.scratchpad_bytes for step in self.steps), default=0)


def whole_tile(group: Group) -> Tile:
    """Return the tile that is the sink's whole result."""
    return group.sink.extent


def group_steps(group: Group, tile: Tile, mode: Mode, resident: Sequence[int] = ()) -> tuple[GroupStep, ...]:
    """Return the distinct steps of a group, those in which resident weights are loaded apart from the others.

    Parameters
    ----------
    group, tile, mode
        What runs in which tiles.
    resident
        Nodes whose weights stay in the scratchpad.
    """
    expansion = group.expand(tile, mode)
    kept = sum(group.problem.nodes[index].weight_words for index in resident)
    steps: list[GroupStep] = []
    for position, node in enumerate(group.members):
        produced = node in group.place and position in group.layers and position not in group.weighted
        for index, occurrence in enumerate(expansion.occurrences):
            if occurrence.position != position:
                continue
            if position not in group.layers:
                inside, outside = group.vector_words(occurrence)
                found = GroupStep(node, occurrence.extent, occurrence.multiplicity, None, inside, outside, occurrence.live_bytes, kept)
                steps.append(found)
                continue
            weights = Weights.RESIDENT if produced or node in resident else Weights.STREAMED
            step = GroupStep(
                node,
                occurrence.extent,
                occurrence.multiplicity * (group.sink.layer.count if len(group.members) == 1 and group.sink.layer is not None else 1),
                group.step_problem(occurrence, weights),
                0,
                (),
                occurrence.live_bytes,
                kept,
            )
            if node in resident and index == expansion.loads[position]:
                steps.append(replace(step, multiplicity=1, problem=group.step_problem(occurrence, Weights.LOADED)))
                step = replace(step, multiplicity=step.multiplicity - 1)
            if step.multiplicity:
                steps.append(step)
    return tuple(steps)


def cost_group(
    group: Group,
    tile: Tile,
    mode: Mode,
    resident: Sequence[int],
    mappings: Sequence[str | None],
    machine: Machine,
    *,
    halo: str = "parity",
    overlap: str = "layer",
) -> GroupCost:
    """Return what a group costs; whether its steps fit is for `overflows` to say.

    Parameters
    ----------
    group, tile, mode, resident
        As `group_steps` takes them.
    mappings
        One string for each step of `group_steps`, in its order; None for vector operators.
    machine, halo
        Accelerator and window rule.
    overlap
        ``layer``: steps follow each other. ``group``: the four units work side by side through the whole group.
    """
    costed = []
    for step, mapping in zip(group_steps(group, tile, mode, resident), mappings, strict=True):
        if step.problem is None:
            score = _vector_score(group, step, machine)
        else:
            score = score_step(step.problem, parse(str(mapping)), machine, halo)
        costed.append(CostedStep(step, mapping, score))
    energy, latency = total(costed, overlap)
    return GroupCost(group.members, tile, mode, tuple(resident), tuple(costed), energy, latency)


def _vector_score(group: Group, step: GroupStep, machine: Machine) -> StepScore:
    if len(group.members) > 1:
        return score_vector(machine, step.inside, step.outside, charged=group.problem.charged)
    vector = group.sink.vector
    alone = score_vector(machine, 0, (), charged=False)
    if vector is None or not group.problem.charged or vector.folded_into is not None:
        return alone
    energy, latency = vector_cost(vector.words, machine)
    nothing = Fraction(0)
    roofs = (nothing, nothing, nothing, Fraction(sum(vector.words)) / Fraction(machine.dram_bandwidth))
    return replace(alone, energy_pj=energy, latency_cycles=latency, roofs=roofs, words=Words(0, sum(vector.words), 0, 0))


def total(costed: Sequence[CostedStep], overlap: str) -> tuple[int, int]:
    """Return energy and latency of steps with their multiplicities."""
    energy = sum(step.score.energy_pj * step.step.multiplicity for step in costed)
    if overlap == "layer":
        return energy, sum(step.score.latency_cycles * step.step.multiplicity for step in costed)
    busy = max(sum(step.score.roofs[unit] * step.step.multiplicity for step in costed) for unit in UNITS)
    return energy, math.ceil(busy)


def overflows(cost: GroupCost, machine: Machine) -> list[tuple[CostedStep, str, int]]:
    """Return the steps that break a capacity: the step, the level or rule, and by how many bytes (0 for a spilled partial sum)."""
    found = []
    for step in cost.steps:
        for level, used, limit in (
            ("scratchpad", step.scratchpad_bytes, int(machine.scratchpad_bytes)),
            ("accumulator", step.score.accumulator_bytes, int(machine.accumulator_bytes)),
        ):
            if used > limit and (len(cost.members) > 1 or step.step.problem is not None):
                found.append((step, level, used - limit))
        problem = step.step.problem
        if problem is not None and problem.output != Output.DRAM and step.score.spills:
            found.append((step, "partial sums", 0))
    return found
