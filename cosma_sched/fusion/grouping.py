"""From wished edges, tiles and modes to groups that run: cut where no group may be, shrink tiles until maps fit, split what never fits.

The shared repair of all methods that search by trial. A wish that needs no repair comes out as it went in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cosma_sched.fusion.group import Expansion, Group, Mode, Occurrence, Tile
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.fusion.rows import Field, RowScorer
from cosma_sched.fusion.steps import Output, Weights, score_vector
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.space import divisors
from cosma_sched.mapping.tilings import Integers
from cosma_sched.mapping.verify import vector_cost

Members = tuple[int, ...]
Edge = tuple[int, int]
_MOST_KEPT = 40_000
"""Groups, ways and partitions that are remembered; beyond it memory is started anew."""


@dataclass(frozen=True)
class Way:
    """A group with tile, mode and resident weights, ready to be mapped.

    Parameters
    ----------
    members, tile, mode, resident
        What runs how; resident are nodes.
    matrix
        ``matrix[field, step]`` of the layers' steps, in the order of `choice.group_steps`.
    fixed
        Energy, latency, and cycles of scratchpad and DRAM, of vector operators.
    """

    members: Members
    tile: Tile
    mode: Mode
    resident: Members
    matrix: Integers
    fixed: tuple[int, int, float, float]


def edges_of(problem: FusionProblem) -> tuple[Edge, ...]:
    """Return the (producer, reader) pairs that may be fused."""
    return tuple(
        (producer, index) for index, node in enumerate(problem.nodes) for producer in node.producers if problem.fusable((producer, index))
    )


# Partitions


class Partitioner:
    """Makes groups of nodes that are joined by edges.

    Parameters
    ----------
    problem
        The network.
    """

    def __init__(self, problem: FusionProblem) -> None:
        self.problem = problem
        self.edges = edges_of(problem)
        self._valid: dict[Members, bool] = {}
        self._partitions: dict[tuple[int, ...], tuple[tuple[Members, ...], bool]] = {}
        self._cut: dict[Members, tuple[Members, ...]] = {}
        self._reach = _reachable(problem)

    def groups(self, fused: Sequence[int]) -> tuple[tuple[Members, ...], bool]:
        """Return a valid partition that joins as many as it may of the chosen edges, and whether it joins all of them.

        Parameters
        ----------
        fused
            Places in `edges`.
        """
        key = tuple(fused)
        known = self._partitions.get(key)
        if known is None:
            if len(self._partitions) + len(self._valid) > _MOST_KEPT:
                self._partitions, self._valid = {}, {}
            known = self._partitions[key] = self._joined([self.edges[place] for place in fused])
        return known

    def _joined(self, chosen: Sequence[Edge]) -> tuple[tuple[Members, ...], bool]:
        whole = True
        found: list[Members] = []
        for members in _components(range(len(self.problem.nodes)), chosen):
            if len(members) == 1 or self.is_group(members):
                found.append(members)
            else:
                whole = False
                found += self._merged(members, chosen)
        if any(len(members) > 1 for members in found):
            found, acyclic = self._acyclic(found)
            whole = whole and acyclic
        return tuple(found), whole

    def is_group(self, members: Members) -> bool:
        """Return whether connected nodes, in the order in which they run, are convex, have one sink and no barrier inside."""
        valid = self._valid.get(members)
        if valid is None:
            valid = self._valid[members] = self._check(members)
        return valid

    def _check(self, members: Members) -> bool:
        inside = set(members)
        mask = sum(1 << index for index in members)
        if any(not inside.intersection(self.problem.consumers[index]) for index in members[:-1]):
            return False
        for between in range(members[0] + 1, members[-1]):
            if between not in inside and self._reach[between] & mask and any(self._reach[index] >> between & 1 for index in members):
                return False
        return self.problem.fusable(members)

    def _merged(self, members: Members, edges: Sequence[Edge]) -> list[Members]:
        """Join edge by edge while what comes out is a group."""
        owner: dict[int, Members] = {index: (index,) for index in members}
        for producer, reader in edges:
            if producer not in owner or reader not in owner or owner[producer] == owner[reader]:
                continue
            larger = tuple(sorted((*owner[producer], *owner[reader])))
            if self.is_group(larger):
                owner |= dict.fromkeys(larger, larger)
        return list(dict.fromkeys(owner.values()))

    def _acyclic(self, groups: list[Members]) -> tuple[list[Members], bool]:
        """Take apart groups until they can run one after the other."""
        acyclic = True
        while (stuck := self._stuck(groups)) is not None:
            acyclic = False
            groups = [part for group in groups for part in ([(index,) for index in group] if group == stuck else [group])]
        return groups, acyclic

    def _stuck(self, groups: Sequence[Members]) -> Members | None:
        """Return the largest group that waits for one that waits for it, None where there is none."""
        owner = {index: place for place, group in enumerate(groups) for index in group}
        waits = [{owner[p] for index in group for p in self.problem.nodes[index].producers} - {place} for place, group in enumerate(groups)]
        left = set(range(len(groups)))
        while ready := [place for place in left if not waits[place] & left]:
            left.difference_update(ready)
        fused = [groups[place] for place in left if len(groups[place]) > 1]
        return max(fused, key=len, default=None)

    def split(self, members: Members) -> tuple[Members, ...]:
        """Return a group cut in the middle: the part with the sink, and what is left in groups."""
        found = self._cut.get(members)
        if found is None:
            middle = len(members) // 2
            first, last = members[:middle], members[middle:]
            inside = set(first)
            edges = [edge for edge in self.edges if edge[0] in inside and edge[1] in inside]
            parts: list[Members] = []
            for part in _components(first, edges):
                parts += [part] if len(part) == 1 or self.is_group(part) else self._merged(part, edges)
            found = self._cut[members] = (*parts, last)
        return found


def _reachable(problem: FusionProblem) -> list[int]:
    """Return for each node the nodes that its result reaches, as bits."""
    reach = [0] * len(problem.nodes)
    for index in range(len(problem.nodes) - 1, -1, -1):
        for reader in problem.consumers[index]:
            reach[index] |= reach[reader] | 1 << reader
    return reach


def _components(nodes: Sequence[int], edges: Sequence[Edge]) -> list[Members]:
    owner = {index: index for index in nodes}

    def root(index: int) -> int:
        while owner[index] != index:
            owner[index] = index = owner[owner[index]]
        return index

    for one, other in edges:
        owner[root(other)] = root(one)
    found: dict[int, list[int]] = {}
    for index in nodes:
        found.setdefault(root(index), []).append(index)
    return [tuple(members) for members in found.values()]


# Ways


@dataclass(frozen=True, slots=True)
class _Base:
    """A group's steps with no weights resident: matrix with live bytes in place of room, steps that load, most live bytes."""

    matrix: Integers
    loading: Integers
    live: int
    fixed: tuple[int, int, float, float]


@dataclass(slots=True)
class Kept:
    """What is remembered of groups."""

    groups: dict[Members, Group] = field(default_factory=dict)
    bases: dict[tuple[Members, Tile, Mode], _Base] = field(default_factory=dict)
    ways: dict[tuple[Members, Tile, Mode, Members], tuple[tuple[Way, ...], bool]] = field(default_factory=dict)


class Grouper:
    """Gives groups tiles that fit.

    Parameters
    ----------
    scorer, partitioner
        Of the network.
    max_group
        Most layers of a group of several tiles.
    """

    def __init__(self, scorer: RowScorer, partitioner: Partitioner, max_group: int) -> None:
        self.scorer, self.partitioner, self.max_group = scorer, partitioner, max_group
        self.problem: FusionProblem = scorer.problem
        self.machine: Machine = scorer.machine
        self._kept = Kept()
        self._capacity = int(scorer.machine.scratchpad_bytes)

    def ways(self, members: Members, wished: Callable[[int], tuple[Tile, Mode]], resident: Members) -> tuple[tuple[Way, ...], bool]:
        """Return how a wished group runs, in several groups where it cannot run as one, and whether nothing had to be changed.

        Parameters
        ----------
        members
            A valid group.
        wished
            Tile and mode that a sink asks for.
        resident
            Nodes whose weights shall stay.
        """
        sink = members[-1]
        tile, mode = (self.problem.nodes[sink].extent, Mode.RECOMPUTE) if len(members) == 1 else wished(sink)
        chosen = () if len(members) == 1 else tuple(index for index in resident if index in self._weighted(members))
        key = (members, tile, mode, chosen)
        found = self._kept.ways.get(key)
        if found is None:
            way, same = self._fit(members, tile, mode, chosen)
            if way is None:
                # parts depend on the wishes of their own sinks, so they are not remembered under this key
                parts = [self.ways(part, wished, resident)[0] for part in self.partitioner.split(members)]
                return tuple(way for part in parts for way in part), False
            if len(self._kept.bases) + len(self._kept.ways) > _MOST_KEPT:
                self._kept = Kept()
            found = self._kept.ways[key] = ((way,), same)
        return found

    def _weighted(self, members: Members) -> set[int]:
        group = self._group(members)
        return {members[position] for position in group.weighted}

    def _group(self, members: Members) -> Group:
        group = self._kept.groups.get(members)
        if group is None:
            group = self._kept.groups[members] = Group(self.problem, members)
        return group

    def _fit(self, members: Members, tile: Tile, mode: Mode, resident: Members) -> tuple[Way | None, bool]:
        """Drop resident weights, the largest first, then shrink the tile; None where nothing helps."""
        group = self._group(members)
        whole = group.sink.extent
        same = True
        if len(group.layers) > self.max_group and tile != whole:
            tile, same = whole, False
        while True:
            base = self._base(group, tile, mode)
            kept = sorted(resident, key=lambda index: self.problem.nodes[index].weight_words)
            while True:
                way = self._way(group, tile, mode, tuple(sorted(kept)), base)
                if way is not None:
                    return way, same
                same = False
                if not kept:
                    break
                kept.pop()
            if len(members) == 1:
                raise ValueError(f"{group.sink.name} does not fit alone")
            smaller = _smaller_tile(tile)
            if smaller is None or len(group.layers) > self.max_group:
                return None, False
            tile = smaller

    def _way(self, group: Group, tile: Tile, mode: Mode, resident: Members, base: _Base) -> Way | None:
        kept = sum(self.problem.nodes[index].weight_words for index in resident)
        if len(group.members) > 1 and base.live + kept > self._capacity:
            return None
        matrix = _with_resident(base, resident) if resident else base.matrix.copy()
        matrix[Field.ROOM] = self._capacity - kept - matrix[Field.ROOM]
        if (matrix[Field.ROOM] < self.scorer.least_bytes(matrix)).any():
            return None
        return Way(group.members, tile, mode, resident, matrix, base.fixed)

    def _base(self, group: Group, tile: Tile, mode: Mode) -> _Base:
        key = (group.members, tile, mode)
        base = self._kept.bases.get(key)
        if base is None:
            base = self._kept.bases[key] = self._expanded(group, group.expand(tile, mode))
        return base

    def _expanded(self, group: Group, expansion: Expansion) -> _Base:
        columns: list[list[int]] = []
        loading, live = [], 0
        energy, latency = 0, 0
        scratchpad, dram = 0.0, 0.0
        for index, occurrence in enumerate(expansion.occurrences):
            node = group.nodes[occurrence.position]
            live = max(live, occurrence.live_bytes)
            if node.layer is None:
                one = self._vector(group, occurrence)
                energy, latency = energy + one[0] * occurrence.multiplicity, latency + one[1] * occurrence.multiplicity
                scratchpad, dram = scratchpad + one[2] * occurrence.multiplicity, dram + one[3] * occurrence.multiplicity
                continue
            output = group.outputs[occurrence.position]
            reads = any(operand.role == "input" and group.inside(operand) for operand in node.operands)
            folded, drained = 0, [0] * self.scorer.drains
            if self.problem.charged:
                step = group.step_problem(occurrence, Weights.STREAMED)
                folded = step.folded_words
                drained[: len(step.layer.drain_words)] = step.layer.drain_words
            streams = int(occurrence.position in group.weighted)
            stays = (int(reads), streams, 0, int(output != Output.DRAM), int(output == Output.BOTH), folded)
            times = occurrence.multiplicity * (node.layer.count if len(group.members) == 1 else 1)
            plain = (group.members[occurrence.position], *occurrence.extent, times, occurrence.live_bytes)
            columns.append([*plain, *stays, *drained])
            loading.append(int(index == expansion.loads[occurrence.position]))
        matrix = np.array(columns, dtype=np.int64).reshape(len(columns), self.scorer.height).T
        return _Base(matrix, np.array(loading), live, (energy, latency, scratchpad, dram))

    def _vector(self, group: Group, occurrence: Occurrence) -> tuple[int, int, float, float]:
        machine = self.machine
        if len(group.members) > 1:
            inside, outside = group.vector_words(occurrence)
            score = score_vector(machine, inside, outside, charged=self.problem.charged)
            return score.energy_pj, score.latency_cycles, float(score.roofs[2]), float(score.roofs[3])
        vector = group.sink.vector
        if vector is None or not self.problem.charged or vector.folded_into is not None:
            return 0, 0, 0.0, 0.0
        energy, latency = vector_cost(vector.words, machine)
        return energy, latency, 0.0, float(sum(vector.words) / machine.dram_bandwidth)


def _with_resident(base: _Base, resident: Members) -> Integers:
    """Return the steps with some weights resident: a step that loads them goes apart, before the others of its extents."""
    stays = np.isin(base.matrix[Field.NODE], resident)
    twice = stays & (base.loading > 0) & (base.matrix[Field.TIMES] > 1)
    order = np.repeat(np.arange(stays.size), 1 + twice)
    matrix = base.matrix[:, order]
    first = np.ones(order.size, dtype=bool)
    first[1:] = order[1:] != order[:-1]
    own = stays[order]
    matrix[Field.STREAMS, own] = 0
    loads = own & (base.loading[order] > 0) & first
    matrix[Field.LOADS, loads] = 1
    matrix[Field.TIMES, own & ~first] -= 1
    matrix[Field.TIMES, loads] = 1
    return matrix


def _smaller_tile(tile: Tile) -> Tile | None:
    """Return a tile with fewer rows, then columns, then batch; None for the smallest one."""
    for axis in (1, 2, 0):
        if tile[axis] > 1:
            smaller = list(tile)
            smaller[axis] = divisors(tile[axis])[-2]
            return smaller[0], smaller[1], smaller[2]
    return None
