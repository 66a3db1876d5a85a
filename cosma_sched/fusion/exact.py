"""The exact method: price the groups of the declared space, choose among them for every direction, and prove the product.

Groups are priced from small to large. What their members cost in smaller groups is the hull that a larger group has to get below; groups
of one form (the same operators, extents and residencies) are priced once. The sweep of `mapping.network` then asks for the best partition
in one direction after the other. Where time runs out, groups not priced stand in for the proof with their floors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cosma_sched.backends.options import SolverOptions
from cosma_sched.fusion.choice import GroupCost, cost_group, group_steps
from cosma_sched.fusion.enumeration import Candidates, candidates
from cosma_sched.fusion.floor import ceiling, least_of
from cosma_sched.fusion.floors import StepFloors
from cosma_sched.fusion.fronts import StepFronts
from cosma_sched.fusion.group import Group, Mode
from cosma_sched.fusion.hull import Point, lower_hull, plus, times
from cosma_sched.fusion.pricing import ColumnPricer, GroupPricer, GroupPrices, TileSpace, Vertex
from cosma_sched.fusion.problem import FusionProblem, Operand
from cosma_sched.fusion.selection import Chosen, Option, Paths, Programs, SelectionError
from cosma_sched.fusion.sliced import SlicedColumn, pair_of
from cosma_sched.fusion.steps import StepProblem
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.network import Support, Sweep, sweep
from cosma_sched.mapping.verify import vector_cost
from cosma_sched.progress import Progress

_LEAST_SECONDS = 2.0
_LEAST_SOLVES = 2
"""Selections in the two extreme directions and one between get so long even where pricing has used up the time."""


@dataclass(frozen=True, slots=True)
class ExactOptions:
    """How the exact method searches.

    Parameters
    ----------
    space
        Tiles and modes.
    halo
        Window rule.
    prune
        Leave out what provably changes no answer.
    solver
        Back end of the set partitioning, or None for paths through ideals where those are few.
    fixed
        Groups that are given; None for free ones.
    """

    space: TileSpace = field(default_factory=TileSpace)
    halo: str = "parity"
    prune: bool = True
    solver: SolverOptions | None = None
    fixed: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What the exact method holds and has proven.

    Parameters
    ----------
    alone
        The sweep without fusion.
    fused
        The sweep of what was priced.
    proven
        The sweep that bounds from below: of the same where everything was priced.
    prices
        Vertices of each option; those of nodes alone have no column.
    complete, interrupted
        Whether every group was priced, and whether the user stopped it.
    longest
        Most layers of a one-tile group that were tried; None for no limit.
    """

    alone: Sweep[Chosen]
    fused: Sweep[Chosen]
    proven: Sweep[Chosen]
    options: tuple[Option, ...]
    prices: tuple[tuple[Vertex, ...], ...]
    complete: bool
    interrupted: bool
    longest: int | None
    groups: int
    priced_tiles: int
    proved_by: str


class ExactSearch:
    """Searches the declared space of a network.

    Parameters
    ----------
    problem, machine
        Network and accelerator.
    options
        How.
    progress
        Clock and observers.
    """

    def __init__(self, problem: FusionProblem, machine: Machine, options: ExactOptions, progress: Progress) -> None:
        self.problem, self.machine, self.options, self.progress = problem, machine, options, progress
        self.fronts = StepFronts(machine, options.halo)
        self.pricer = GroupPricer(self.fronts, StepFloors(machine), options.space, prune=options.prune)
        self.singles = [self._alone(index) for index in range(len(problem.nodes))]
        self._least = [least_of(node, machine) for node in problem.nodes]  # asked for in every group that is not priced
        self._best: dict[tuple[int, ...], tuple[Point, ...]] = {}
        self._by_form: dict[Any, GroupPrices] = {}

    def _alone(self, index: int) -> tuple[Point, ...]:
        """Return the hull of a node by itself, as `map` proves it."""
        node = self.problem.nodes[index]
        if node.layer is None:
            words = node.vector.words if node.vector is not None and self.problem.charged else ()
            return (vector_cost(words, self.machine),)
        group = Group(self.problem, (index,))
        step = group_steps(group, group.sink.extent, Mode.RECOMPUTE)[0]
        points = self.fronts.options(_plain(step.problem), int(self.machine.scratchpad_bytes))
        return times(lower_hull((point.energy, point.latency) for point in points), node.layer.count)

    def run(self) -> Found:
        """Price and choose."""
        options = [Option((index,), hull) for index, hull in enumerate(self.singles)]
        alone = sweep(Paths(self.problem, options).solve)
        prices: list[tuple[Vertex, ...]] = [()] * len(options)
        floors = list(options)
        interrupted, complete, tiles = False, True, 0
        try:
            offered = self._groups()
        except KeyboardInterrupt:
            interrupted, offered = True, Candidates((), None, complete=False)
        groups = offered.groups
        for count, members in enumerate(groups):
            try:
                if interrupted or self.progress.clock.expired:
                    found = GroupPrices((), (self._floor(members),), 0, 0)
                else:
                    self.progress.report("groups", note=f"group {count + 1} of {len(groups)}: {len(members)} members")
                    found = self._price(members)
            except KeyboardInterrupt:
                interrupted, found = True, GroupPrices((), (self._floor(members),), 0, 0)
            tiles += found.priced
            if found.vertices:
                option = Option(members, tuple(vertex.point for vertex in found.vertices))
                options.append(option)
                prices.append(found.vertices)
            if found.open_floors:
                complete = False
            if found.vertices or found.open_floors:
                floors.append(Option(members, lower_hull([*(vertex.point for vertex in found.vertices), *found.open_floors])))
        kept = self._only_fixed(options)
        limit = ceiling(self.problem, self.machine)
        unproven = Sweep(alone.points, limit.edp, limit.energy_pj, limit.latency_cycles)
        try:
            fused, proved_by = self._sweep([options[index] for index in kept])
            if complete and offered.complete:
                proven = fused
            elif offered.complete:
                proven = self._sweep([floors[index] for index in self._only_fixed(floors)])[0]
            else:
                proven = unproven
        except SelectionError:  # no time to choose among the groups: the network without fusion is held
            kept, complete, proved_by = list(range(len(self.problem.nodes))), False, "ceiling"
            fused, proven = alone, unproven
        return Found(
            alone,
            fused,
            proven,
            tuple(options[index] for index in kept),
            tuple(prices[index] for index in kept),
            complete and offered.complete,
            interrupted,
            offered.longest,
            len(groups),
            tiles,
            proved_by,
        )

    def _only_fixed(self, options: Sequence[Option]) -> list[int]:
        """Return the options that may be chosen: with given groups, no node of theirs stands alone."""
        if self.options.fixed is None:
            return list(range(len(options)))
        priced = {option.members for option in options}
        taken = {member for members in self.options.fixed for member in members if len(members) > 1 and members in priced}
        return [index for index, option in enumerate(options) if len(option.members) > 1 or option.members[0] not in taken]

    def _groups(self) -> Candidates:
        if self.options.fixed is not None:
            return Candidates(tuple(members for members in self.options.fixed if len(members) > 1), None)
        found = candidates(self.problem, self.machine, self.options.space.max_group, self.progress.clock)
        return replace(found, groups=tuple(sorted(found.groups, key=lambda members: (len(members), members))))

    def _sweep(self, options: Sequence[Option]) -> tuple[Sweep[Chosen], str]:
        if self.options.solver is None:
            paths = Paths(self.problem, options)
            if paths.is_complete:
                return sweep(paths.solve), "paths"
        solver = self.options.solver or SolverOptions()
        programs = Programs(self.problem, options, solver)
        held: list[tuple[int, int, Support[Chosen]]] = []

        def solve(a: int, b: int) -> Support[Chosen]:
            remaining = self.progress.clock.remaining
            if remaining is not None:
                if not remaining and len(held) > _LEAST_SOLVES:
                    raise SelectionError("time_limit")
                programs.solver = replace(solver, time_limit=max(remaining, _LEAST_SECONDS))
            held.append((a, b, programs.solve(a, b)))
            return held[-1][2]

        try:
            return sweep(solve), solver.solver
        except SelectionError:
            if len(held) <= _LEAST_SOLVES:
                raise
        points = tuple(sorted((support for _, _, support in held), key=lambda support: (support.energy, support.latency)))
        limit = ceiling(self.problem, self.machine)
        return Sweep(points, limit.edp, limit.energy_pj, limit.latency_cycles), solver.solver

    @property
    def evaluations(self) -> int:
        """Mappings that were scored."""
        return self.fronts.evaluations + self.pricer.sliced.evaluations

    # Prices

    def _price(self, members: tuple[int, ...]) -> GroupPrices:
        beat: tuple[Point, ...] = ()
        if self.options.fixed is None:
            beat = self._otherwise(members)
        form = _form(self.problem, members)
        known = self._by_form.get(form)
        if known is None:
            known = self.pricer.price(Group(self.problem, members), beat if self.options.prune else (), self.progress.clock)
            if not known.open_floors:
                self._by_form[form] = known
        else:
            known = replace(known, priced=0)
        self._best[members] = lower_hull([*beat, *(vertex.point for vertex in known.vertices)])
        return known

    def _otherwise(self, members: tuple[int, ...]) -> tuple[Point, ...]:
        """Return the hull of what the members cost in smaller groups: alone, and any priced group with the rest alone or in one group."""
        singles: tuple[Point, ...] = ((0, 0),)
        for member in members:
            singles = plus(singles, self.singles[member])
        points = list(singles)
        inside = set(members)
        for part, hull in self._best.items():
            if len(part) < len(members) and inside.issuperset(part):
                rest = tuple(member for member in members if member not in part)
                other = self._best.get(rest)
                if other is None or not self._in_a_row(part, rest):
                    other = ((0, 0),)
                    for member in rest:
                        other = plus(other, self.singles[member])
                points += plus(hull, other)
        return lower_hull(points)

    def _in_a_row(self, one: Sequence[int], other: Sequence[int]) -> bool:
        """Return whether one of two groups can run after the other."""
        nodes = self.problem.nodes

        def reads(reader: Sequence[int], source: Sequence[int]) -> bool:
            return any(producer in source for index in reader for producer in nodes[index].producers)

        return not (reads(one, other) and reads(other, one))

    def _floor(self, members: Sequence[int]) -> Point:
        """Return what no way to run a group goes below, without looking at any."""
        floors = [self._least[member] for member in members]
        return sum(energy for energy, _ in floors), sum(latency for _, latency in floors)

    # Decisions

    def alone_option(self, index: int) -> Option:
        """Return a node alone."""
        return Option((index,), self.singles[index])

    def decide(self, option: Option, vertices: Sequence[Vertex], place: int, *, halo: str, overlap: str) -> GroupCost:
        """Return a chosen group in full."""
        group = Group(self.problem, option.members)
        if vertices and vertices[place].column.slicing is not None:
            return self._decide_sliced(group, vertices[place], halo, overlap)
        if not vertices:
            return self._decide_alone(group, option.hull[place], halo, overlap)
        vertex = vertices[place]
        resident = tuple(group.members[position] for position in vertex.column.resident)
        chosen = iter(ColumnPricer(group, self.fronts, vertex.column.tile, vertex.column.mode).mappings(vertex))
        steps = group_steps(group, vertex.column.tile, vertex.column.mode, resident)
        mappings = [None if step.problem is None else next(chosen) for step in steps]
        return cost_group(group, vertex.column.tile, vertex.column.mode, resident, mappings, self.machine, halo=halo, overlap=overlap)

    def _decide_sliced(self, group: Group, vertex: Vertex, halo: str, overlap: str) -> GroupCost:
        pair, slicing = pair_of(group), vertex.column.slicing
        if pair is None or slicing is None:
            raise ValueError("the group is no pair of products in slices")
        return SlicedColumn(pair, slicing, self.pricer.sliced).decide(vertex.direction, halo=halo, overlap=overlap)

    def _decide_alone(self, group: Group, point: Point, halo: str, overlap: str) -> GroupCost:
        tile = group.sink.extent
        step = group_steps(group, tile, Mode.RECOMPUTE)[0]
        mapping = None
        if step.problem is not None:
            wanted = (point[0] // step.multiplicity, point[1] // step.multiplicity)
            options = self.fronts.options(step.problem, int(self.machine.scratchpad_bytes))
            best = next(option for option in options if (option.energy, option.latency) == wanted)
            mapping = self.fronts.mapping(step.problem, best)
        return cost_group(group, tile, Mode.RECOMPUTE, (), [mapping], self.machine, halo=halo, overlap=overlap)


def _plain(step: StepProblem | None) -> StepProblem:
    if step is None:
        raise ValueError("a vector operator has no mapping")
    return step


def _form(problem: FusionProblem, members: Sequence[int]) -> Any:
    """Return what decides the prices of a group, whatever its place in the network."""
    group = Group(problem, tuple(members))
    parts = []
    for position, node in enumerate(group.nodes):
        layer = node.layer.problem if node.layer is not None else None
        operands = tuple(
            (replace(operand, producer=None, barrier=None, extent=None), *_source(group, operand)) for operand in node.operands
        )
        parts.append((layer, node.extent, node.words, operands, group.outputs[position]))
    pair = pair_of(group)
    return *parts, pair is not None, pair is not None and pair.has_softmax


def _source(group: Group, operand: Operand) -> tuple[int, Any]:
    """Return the place of an operand's producer in its group, and the extent of what it makes."""
    if operand.producer is None:
        return -2, None
    return group.place.get(operand.producer, -1), group.problem.nodes[operand.producer].extent
