"""Check a fusion result from scratch: groups, tiles, steps, capacities, costs, sums, floor, bounds, from the answer and the network alone.

No solver and no part of the planner takes part. What each group must run is replayed from its members, tile, mode and resident weights
(`replay`); what each step costs under its mapping is recounted in exact fractions (`recount`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from cosma_sched.errors import InputError
from cosma_sched.fusion.answer import FusedGroup, FusionResult, GroupStep
from cosma_sched.fusion.limits import Unfused, ceiling_edp, unfused
from cosma_sched.fusion.recount import Place, StepCost, step_cost, vector_step
from cosma_sched.fusion.regions import MODES
from cosma_sched.fusion.replay import Replay, ReplayedStep
from cosma_sched.fusion.slices import SlicedGroup
from cosma_sched.fusion.structure import group_rules, label, network_digraph, order_rules, partition_rules
from cosma_sched.fusion.summary import held_rules, layer_rules, words_rules
from cosma_sched.fusion.topology import Extent, Member, members_of, readers_of
from cosma_sched.graph import Graph
from cosma_sched.mapping.cost import Machine, machine_of
from cosma_sched.mapping.layer import Layer, Workload
from cosma_sched.mapping.scoring import Words, broken_rules
from cosma_sched.mapping.space import LoopNest, parse
from cosma_sched.mapping.verify import Violation
from cosma_sched.result import Status, relative_gap

_HALF = Fraction(1, 2) + Fraction(1, 1000)
"""Energies are rounded once for each step; floating point may disagree about a half."""


def verify(result: FusionResult, network: Graph | Workload, *, unfused_edp: int | None = None) -> list[Violation]:
    """Check a result; an empty list means that it holds.

    Parameters
    ----------
    result
        The result.
    network
        The graph, or the rows of the layer table, that it was made for.
    unfused_edp
        The proven optimum without fusion, if the caller has just found it; else the mappings of all layers are searched here.
    """
    machine = machine_of(result.accelerator)
    if result.status in {Status.INFEASIBLE, Status.UNKNOWN}:
        return list(_empty_rules(result))
    members = members_of(network, chain=bool(result.provenance.options.get("chain", True)))
    found = list(_structure_rules(result, members))
    if found:
        return found
    if result.options["psum_words"] != machine.psum_words:
        found.append(Violation("options", f"psum_words is {result.options['psum_words']}, the accelerator's is {machine.psum_words}"))
    checker = _Checker(result, machine, members)
    for group in result.groups:
        found += checker.group_rules(group)
    found += (Violation(*broken) for broken in layer_rules(result, members))
    found += _total_rules(result)
    found += _limit_rules(result, members, machine, unfused_edp)
    found += _bound_rules(result)
    return found


def _empty_rules(result: FusionResult) -> Iterator[Violation]:
    if result.groups or result.energy_pj is not None or result.latency_cycles is not None:
        yield Violation("status", f"is {result.status}, but there are groups or totals")


def _structure_rules(result: FusionResult, members: Mapping[str, Member]) -> Iterator[Violation]:
    groups = [group.layers for group in result.groups]
    broken = list(partition_rules(groups, members))
    if not broken:
        digraph = network_digraph(members)
        broken = [rule for group in groups for rule in group_rules(group, members, digraph)]
        broken += order_rules(groups, digraph)
    yield from (Violation(rule, message, place) for rule, message, place in broken)


# Groups


@dataclass(frozen=True, slots=True)
class _Costed:
    """A replayed step with what its mapping costs; exact energy, cycles, and the busy cycles of array, accumulator, scratchpad, DRAM."""

    step: ReplayedStep
    energy_pj: Fraction
    roofs: tuple[Fraction, ...]
    scratchpad_bytes: int
    words: Words
    added_words: int = 0

    @property
    def latency_cycles(self) -> int:
        return math.ceil(max(self.roofs))


class _Checker:
    """Checks the groups of one result."""

    def __init__(self, result: FusionResult, machine: Machine, members: Mapping[str, Member]) -> None:
        self.machine, self.members = machine, members
        self.readers = readers_of(members)
        self.halo = str(result.options["halo"])
        self.charged = result.options["vector_ops"] == "charged"
        self.overlap = str(result.options["overlap"])

    def group_rules(self, group: FusedGroup) -> Iterator[Violation]:
        """Yield every rule that a group breaks."""
        title = label(group.layers)
        if group.mode == "sliced":
            sliced = SlicedGroup(group, self.members, self.readers, self.machine, charged=self.charged, overlap=self.overlap)
            yield from (Violation(*broken) for broken in sliced.rules())
            yield from (Violation(*broken) for broken in words_rules(group))
            return
        broken = list(self._shape_rules(group))
        yield from (Violation(rule, message, title) for rule, message in broken)
        if broken:
            return
        costed: list[_Costed] = []
        pairs, problems = self._paired(group)
        yield from problems
        for stated, replayed in pairs:
            yield from self._step_rules(stated, replayed, costed)
        if not problems and len(costed) == len(pairs):
            yield from self._sum_rules(group, costed)
            yield from (Violation(*broken) for broken in words_rules(group))
            yield from (
                Violation(*broken) for broken in held_rules(group, self._replay(group) if len(group.layers) > 1 else None, _working(costed))
            )

    def _shape_rules(self, group: FusedGroup) -> Iterator[tuple[str, str]]:
        sink = self.members[group.layers[-1]]
        for axis, size, extent in zip("NPQ", group.tile, sink.extent, strict=True):
            if size < 1 or extent % size:
                yield "tile", f"{axis}={size} does not divide {extent}, the extent of {sink.name}"
        if group.mode not in MODES:
            yield "mode", f"must be one of {', '.join(MODES)}, got {group.mode}"
        if group.features is not None or group.row_tile is not None or any(step.part is not None for step in group.steps):
            yield "sliced", "only sliced products have slices"
        if len(group.layers) == 1 and (tuple(group.tile) != sink.extent or group.resident_weights):
            yield "tile", "a member by itself runs whole and streams its weights"
        for name in group.resident_weights:
            if name not in group.layers or self.members[name].layer is None or self._made_inside(group, name):
                yield "resident", f"{name} has no weights that could stay"

    def _made_inside(self, group: FusedGroup, name: str) -> bool:
        return any(read.role == "weight" and read.source in group.layers for read in self.members[name].reads)

    def _paired(self, group: FusedGroup) -> tuple[list[tuple[GroupStep, ReplayedStep]], list[Violation]]:
        """Return the stated steps with those that must be there, and what has no partner."""
        waiting: dict[tuple[object, ...], list[ReplayedStep]] = defaultdict(list)
        for step in self._replayed(group):
            waiting[_key(step)].append(step)
        pairs, problems = [], []
        for stated in group.steps:
            key = (stated.layer, tuple(stated.extents), stated.weights)
            same = waiting.get(key, [])
            match = next((step for step in same if step.multiplicity == stated.multiplicity), same[0] if same else None)
            if match is None:
                problems.append(
                    Violation("steps", f"extents {tuple(stated.extents)}, weights {stated.weights}: no tile runs such a step", stated.layer)
                )
                continue
            same.remove(match)
            pairs.append((stated, match))
            if match.multiplicity != stated.multiplicity:
                message = f"extents {match.extents} run {stated.multiplicity} times, recomputed {match.multiplicity}"
                problems.append(Violation("multiplicity", message, stated.layer))
        for step in (step for same in waiting.values() for step in same):
            message = f"{step.multiplicity} steps of extents {step.extents}, weights {_key(step)[2]}, are missing"
            problems.append(Violation("steps", message, step.member.name))
        return pairs, problems

    def _replayed(self, group: FusedGroup) -> list[ReplayedStep]:
        if len(group.layers) == 1:
            return [self._alone(self.members[group.layers[0]])]
        return list(self._replay(group).steps())

    def _replay(self, group: FusedGroup) -> Replay:
        own = tuple(self.members[name] for name in group.layers)
        return Replay(own, self.readers, _extent(group.tile), group.mode, frozenset(group.resident_weights), self.charged)

    def _alone(self, member: Member) -> ReplayedStep:
        if member.layer is None:
            words = member.vector.words if member.vector is not None and self.charged else ()
            return ReplayedStep(member, member.extent, 1, 0, Place(), (), words)
        drains = tuple(read.words for read in member.reads if read.role == "drain") if self.charged else ()
        return ReplayedStep(member, member.extent, member.layer.count, 0, Place(added_outside=drains))

    # Steps

    def _step_rules(self, stated: GroupStep, replayed: ReplayedStep, costed: list[_Costed]) -> Iterator[Violation]:
        name = stated.layer
        if replayed.member.layer is None:
            if stated.mapping is not None:
                yield Violation("mapping", "a vector operator has none", name)
            found = self._vector_cost(replayed)
        else:
            layer = _on_extents(replayed.member.layer, replayed.extents)
            try:
                nest = parse(str(stated.mapping))
            except InputError as error:
                yield Violation("mapping", error.defects[0].problem, name)
                return
            cost = step_cost(layer, nest, self.machine, self.halo, replayed.place)
            yield from self._mapping_rules(name, layer, nest, cost, replayed)
            used, moved = replayed.held_bytes + cost.working_bytes, cost.moved
            words = Words(moved.w, moved.i, moved.o, moved.psum)
            found = _Costed(replayed, cost.energy_pj, cost.roofs, used, words, sum(moved.added))
        costed.append(found)
        yield from self._stated_rules(stated, found)

    def _mapping_rules(self, name: str, layer: Layer, nest: LoopNest, cost: StepCost, replayed: ReplayedStep) -> Iterator[Violation]:
        for rule in broken_rules(layer, nest, self.machine, cost.plain):
            if rule.rule != "scratchpad":
                yield Violation(rule.rule, rule.message, name)
        if replayed.place.output_stays and not cost.complete:
            yield Violation("partial sums", "leave the accumulator, but the output stays in the scratchpad", name)
        used, limit = replayed.held_bytes + cost.working_bytes, int(self.machine.scratchpad_bytes)
        if used > limit:
            parts = f"maps and weights {replayed.held_bytes}, tiles {cost.working_bytes}"
            yield Violation("scratchpad", f"extents {replayed.extents} take {used} bytes ({parts}), {used - limit} more than {limit}", name)

    def _vector_cost(self, replayed: ReplayedStep) -> _Costed:
        cost = vector_step(replayed.inside if self.charged else (), replayed.outside, self.machine)
        roofs = (Fraction(0), Fraction(0), cost.scratchpad_cycles, cost.dram_cycles)
        return _Costed(replayed, cost.energy_pj, roofs, replayed.held_bytes, Words(0, sum(replayed.outside), 0, 0))

    def _stated_rules(self, stated: GroupStep, found: _Costed) -> Iterator[Violation]:
        if abs(found.energy_pj - stated.energy_pj) > _HALF:
            yield Violation("energy", f"is {stated.energy_pj} pJ, recomputed {float(found.energy_pj):.2f}", stated.layer)
        if stated.latency_cycles != found.latency_cycles:
            yield Violation("latency", f"is {stated.latency_cycles} cycles, recomputed {found.latency_cycles}", stated.layer)
        for name in ("scratchpad_bytes", "words"):
            if getattr(stated, name) != getattr(found, name):
                yield Violation(name, f"is {getattr(stated, name)}, recomputed {getattr(found, name)}", stated.layer)

    def _sum_rules(self, group: FusedGroup, costed: Sequence[_Costed]) -> Iterator[Violation]:
        title = label(group.layers)
        energy = sum(step.energy_pj * step.multiplicity for step in group.steps)
        if self.overlap == "group":
            busy = [sum((step.roofs[unit] * step.step.multiplicity for step in costed), Fraction(0)) for unit in range(4)]
            latency = math.ceil(max(busy))
        else:
            latency = sum(step.latency_cycles * step.step.multiplicity for step in costed)
        for name, mine, right in (
            ("energy_pj", group.energy_pj, energy),
            ("latency_cycles", group.latency_cycles, latency),
            ("peak_bytes", group.peak_bytes, max(step.scratchpad_bytes for step in costed)),
        ):
            if mine != right:
                yield Violation("group", f"{name} is {mine}, its steps give {right}", title)


def _working(costed: Sequence[_Costed]) -> dict[tuple[str, Extent], int]:
    """Return for each member and its extents the most bytes of working tiles."""
    found: dict[tuple[str, Extent], int] = {}
    for step in costed:
        key = step.step.member.name, step.step.extents
        found[key] = max(found.get(key, 0), step.scratchpad_bytes - step.step.held_bytes)
    return found


def _key(step: ReplayedStep) -> tuple[object, ...]:
    return step.member.name, step.extents, None if step.member.layer is None else step.place.weights


def _extent(tile: Sequence[int]) -> Extent:
    n, p, q = tile
    return n, p, q


def _on_extents(layer: Layer, extents: Extent) -> Layer:
    _, k, c, _, _, r, s = layer.dims
    n, p, q = extents
    return replace(layer, count=1, dims=(n, k, c, p, q, r, s))


# The network


def _total_rules(result: FusionResult) -> Iterator[Violation]:
    for name in ("energy_pj", "latency_cycles"):
        total = sum(getattr(group, name) for group in result.groups)
        if getattr(result, name) != total:
            yield Violation("total", f"{name} is {getattr(result, name)}, the groups sum to {total}")
    if result.energy_pj is not None and result.latency_cycles is not None and result.edp != result.energy_pj * result.latency_cycles:
        yield Violation("edp", f"is {result.edp}, energy times latency is {result.energy_pj * result.latency_cycles}")


def _limit_rules(result: FusionResult, members: Mapping[str, Member], machine: Machine, known: int | None) -> Iterator[Violation]:
    halo, overlap, charged = (str(result.options[name]) for name in ("halo", "overlap", "vector_ops"))
    ceiling = ceiling_edp(members, machine, overlap=overlap)
    if result.ceiling_edp != ceiling:
        yield Violation("ceiling", f"is {result.ceiling_edp}, recomputed {ceiling}")
    if result.edp is not None and result.edp < ceiling:
        yield Violation("ceiling", f"EDP {result.edp} is below {ceiling}, which no fusion can beat")
    if known is None:
        yield from _unfused_rules(result, unfused(members.values(), machine, halo, result.objective, charged=charged == "charged"))
    elif result.unfused_edp != known:
        yield Violation("unfused", f"is {result.unfused_edp}, recomputed {known}")
    for name in {"edp": ("edp",), "energy": ("energy_pj",), "latency": ("latency_cycles",)}[result.objective]:
        value, alone = getattr(result, name), getattr(result, f"unfused_{name}")
        if value is not None and alone is not None and value > alone:
            yield Violation("unfused", f"{name} {value} exceeds {alone}, what the layers cost one by one")
    energy, latency = result.unfused_energy_pj, result.unfused_latency_cycles
    if energy is None or latency is None or energy * latency != result.unfused_edp:
        yield Violation("unfused", f"EDP is {result.unfused_edp}, but energy and latency are {energy} and {latency}")


def _unfused_rules(result: FusionResult, alone: Unfused) -> Iterator[Violation]:
    for name, right in (("energy_pj", alone.energy_pj), ("latency_cycles", alone.latency_cycles)):
        if getattr(result, f"unfused_{name}") != right:
            yield Violation("unfused", f"{name} is {getattr(result, f'unfused_{name}')}, recomputed {right}")
    for group in result.groups:
        words = sum(alone.words[name] for name in group.layers)
        if group.unfused_dram_words != words:
            yield Violation("unfused", f"DRAM words are {group.unfused_dram_words}, recomputed {words}", label(group.layers))


def _bound_rules(result: FusionResult) -> Iterator[Violation]:
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
