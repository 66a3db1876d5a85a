"""Prices of groups: for every tile, mode and set of resident weights the hull of (energy, latency) over all mappings of its steps.

A tile is priced only if its floor lies below the hull that is known already; what is left out provably changes no weighted minimum. With
`prune` off every tile is priced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosma_sched.fusion.floors import AxisTable, StepFloors, TileFloors, tile_floors
from cosma_sched.fusion.fronts import StepFronts, StepPoint
from cosma_sched.fusion.group import MODES, Group, Mode, Occurrence, Slicing, Tile
from cosma_sched.fusion.hull import Point, covers, lower_hull, plus, times
from cosma_sched.fusion.sliced import SlicedColumn, SlicedFronts, pair_of, slicings
from cosma_sched.fusion.steps import StepProblem, Weights, score_vector
from cosma_sched.mapping.space import divisors
from cosma_sched.progress import Clock


@dataclass(frozen=True, slots=True)
class Column:
    """A way to run a group: all but the mappings, which follow from the direction (a, b) of the vertex."""

    tile: Tile
    mode: Mode
    resident: tuple[int, ...]
    """Positions of the members whose weights stay."""
    slicing: Slicing | None = None
    """Of two products in slices."""


@dataclass(frozen=True, slots=True)
class Vertex:
    """A vertex of a group's hull: energy, latency, the column, and a direction in which it is the column's best."""

    energy: int
    latency: int
    column: Column
    direction: Point

    @property
    def point(self) -> Point:
        """Energy and latency."""
        return self.energy, self.latency


@dataclass(frozen=True, slots=True)
class GroupPrices:
    """What is known of a group.

    Parameters
    ----------
    vertices
        The hull of what was priced and is of use, least energy first.
    open_floors
        Hull of the floors of tiles that time did not suffice for; empty where the prices are complete.
    priced, tiles
        Tiles that were priced, and tiles that there are.
    """

    vertices: tuple[Vertex, ...]
    open_floors: tuple[Point, ...]
    priced: int
    tiles: int


@dataclass(frozen=True, slots=True)
class TileSpace:
    """Which tiles are tried.

    Parameters
    ----------
    kind
        ``all`` divisors, ``strips`` (whole rows), or ``listed``.
    listed
        With ``listed``: lengths that are tried for rows and for columns; whole extents always are.
    modes
        What may become of overlaps, and whether pairs of products are sliced.
    max_group
        Most layers of a group of several tiles.
    """

    kind: str = "all"
    listed: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    modes: tuple[Mode, ...] = MODES
    max_group: int = 5

    @property
    def tiled(self) -> tuple[Mode, ...]:
        """The modes of any group."""
        return tuple(mode for mode in self.modes if mode != Mode.SLICED)

    def lengths(self, group: Group) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """Return the tile lengths of batch, rows and columns, each with the whole extent."""
        batch, rows, columns = group.sink.extent
        if len(group.layers) > self.max_group:
            return (batch,), (rows,), (columns,)
        if self.kind == "strips":
            return divisors(batch), divisors(rows), (columns,)
        if self.kind == "all":
            return divisors(batch), divisors(rows), divisors(columns)
        down, across = (
            tuple(length for length in divisors(extent) if length in listed or length == extent)
            for extent, listed in zip((rows, columns), self.listed, strict=True)
        )
        return divisors(batch), down, across

    def ways(self, whole_rows: bool, whole_columns: bool) -> tuple[Mode, ...]:
        """Return the modes that differ for a tile: without a second tile along an axis nothing is kept along it."""
        alike: dict[tuple[bool, bool], Mode] = {}
        for mode in self.tiled:
            keeps = (mode == Mode.CACHED and not whole_rows, mode != Mode.RECOMPUTE and not whole_columns)
            alike.setdefault(keeps, mode)
        return tuple(alike.values())


class GroupPricer:
    """Prices groups on one accelerator.

    Parameters
    ----------
    fronts, floors
        Of steps.
    space
        Which tiles are tried.
    prune
        Leave out what a floor shows to be of no use.
    """

    def __init__(self, fronts: StepFronts, floors: StepFloors, space: TileSpace, *, prune: bool = True) -> None:
        self.fronts, self.floors, self.space, self.prune = fronts, floors, space, prune
        self.sliced = SlicedFronts(fronts.machine, fronts.halo)

    def price(self, group: Group, beat: Sequence[Point], clock: Clock) -> GroupPrices:
        """Return the prices of a group that are below what its members cost otherwise.

        Parameters
        ----------
        group
            Two members or more.
        beat
            Hull of what they cost otherwise.
        clock
            When to stop.
        """
        tiles: list[_Candidate | _Sliced] = [*self._candidates(group), *self._slicings(group)]
        tiles.sort(key=lambda one: one.rank)
        hull = lower_hull(beat)
        found: dict[Point, Vertex] = {}
        priced = 0
        for index, candidate in enumerate(tiles):
            if self.prune and covers(hull, candidate.floor):
                continue
            if clock.expired:
                left = [other.floor for other in tiles[index:] if not covers(hull, other.floor)]
                return self._prices(hull, found, lower_hull(left), priced, len(tiles))
            priced += 1
            if isinstance(candidate, _Sliced):
                vertices = list(candidate.vertices(hull))
            else:
                pricer = ColumnPricer(group, self.fronts, candidate.tile, candidate.mode, candidate.ways)
                vertices = list(pricer.vertices(hull, prune=self.prune))
            found |= {vertex.point: vertex for vertex in vertices if vertex.point not in found}
            if vertices:
                hull = lower_hull([*hull, *(vertex.point for vertex in vertices)])
        return self._prices(hull, found, (), priced, len(tiles))

    def _prices(self, hull: Sequence[Point], found: dict[Point, Vertex], left: tuple[Point, ...], priced: int, tiles: int) -> GroupPrices:
        return GroupPrices(tuple(found[point] for point in hull if point in found), left, priced, tiles)

    def _candidates(self, group: Group) -> list[_Candidate]:
        """Return the tiles whose maps may fit, the most promising first."""
        batches, rows, columns = self.space.lengths(group)
        down, across = AxisTable.of(group, 1, rows), AxisTable.of(group, 2, columns)
        found: list[_Candidate] = []
        for mode in self.space.tiled:
            for batch in batches:
                floors = tile_floors(group, self.floors, down, across, mode, batch)
                for r, c in np.argwhere(np.isfinite(floors.total.energy)).tolist():
                    tile = (batch, rows[r], columns[c])
                    if mode in self.space.ways(tile[1] == rows[-1], tile[2] == columns[-1]):
                        found.append(
                            _Candidate((int(floors.total.energy[r, c]), int(floors.total.latency[r, c])), tile, mode, floors, (r, c))
                        )
        return found

    def _slicings(self, group: Group) -> Iterator[_Sliced]:
        """Yield the ways to slice a pair of products whose parts may fit."""
        pair = pair_of(group) if Mode.SLICED in self.space.modes and len(group.layers) <= self.space.max_group else None
        if pair is None:
            return
        for slicing in slicings(pair, self.space.lengths(group)[1], self.fronts.machine):
            column = SlicedColumn(pair, slicing, self.sliced)
            floor = column.floor()
            if floor is not None:
                yield _Sliced(floor, column)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A tile with its floor, and where the floors of its layers stand."""

    floor: Point
    tile: Tile
    mode: Mode
    floors: TileFloors
    place: tuple[int, int]

    @property
    def rank(self) -> tuple[int, Tile, Mode]:
        """The most promising first."""
        return self.floor[0] * self.floor[1], self.tile, self.mode

    @property
    def ways(self) -> dict[int, _Ways]:
        """Floors of each layer, by position."""
        return {position: ways.at(*self.place) for position, ways in self.floors.ways.items()}


@dataclass(frozen=True, slots=True)
class _Sliced:
    """A way to slice a pair, with its floor."""

    floor: Point
    column: SlicedColumn

    @property
    def rank(self) -> tuple[int, Tile, Mode]:
        """The most promising first."""
        rows, features, stays = self.column.slicing
        return self.floor[0] * self.floor[1], (rows, features, int(stays)), Mode.SLICED

    def vertices(self, beat: Sequence[Point]) -> Iterator[Vertex]:
        """Yield the vertices of its hull that lie below another one."""
        slicing = self.column.slicing
        for vertex in _directed(self.column.hull(), Column((1, slicing.rows, 1), Mode.SLICED, (), slicing)):
            if not covers(beat, vertex.point):
                yield vertex


_Ways = tuple[Point | None, Point]
_Priced = tuple[int, StepProblem, tuple[StepPoint, ...]]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A distinct step in all its variants."""

    multiplicity: int
    live: int
    streamed: StepProblem
    resident: StepProblem
    loaded: StepProblem | None


class ColumnPricer:
    """Prices one tile and mode of a group.

    Parameters
    ----------
    group, fronts
        What runs, and its steps' mappings.
    tile, mode
        How.
    floors
        Of each layer, by position: least energy and latency with weights streamed (None where they are made in the group), and resident.
        Without them nothing is left out.
    """

    def __init__(self, group: Group, fronts: StepFronts, tile: Tile, mode: Mode, floors: Mapping[int, _Ways] | None = None) -> None:
        self.group, self.fronts, self.tile, self.mode = group, fronts, tile, mode
        nothing: dict[int, _Ways] = {position: ((0, 0) if position in group.weighted else None, (0, 0)) for position in group.layers}
        self.floors = nothing if floors is None else floors
        self.capacity = int(fronts.machine.scratchpad_bytes)
        expansion = group.expand(tile, mode)
        self._entries: dict[int, list[_Entry]] = {position: [] for position in group.layers}
        self._fixed = [0, 0]
        self._live = 0
        for index, occurrence in enumerate(expansion.occurrences):
            self._live = max(self._live, occurrence.live_bytes)
            if occurrence.position in self._entries:
                loads = index == expansion.loads[occurrence.position]
                self._entries[occurrence.position].append(self._entry(occurrence, loads))
            else:
                inside, outside = group.vector_words(occurrence)
                score = score_vector(fronts.machine, inside, outside, charged=group.problem.charged)
                self._fixed[0] += score.energy_pj * occurrence.multiplicity
                self._fixed[1] += score.latency_cycles * occurrence.multiplicity

    def _entry(self, occurrence: Occurrence, loads: bool) -> _Entry:
        streamed, resident, loaded = (self.group.step_problem(occurrence, weights) for weights in Weights)
        return _Entry(occurrence.multiplicity, occurrence.live_bytes, streamed, resident, loaded if loads else None)

    def vertices(self, beat: Sequence[Point], *, prune: bool = True) -> Iterator[Vertex]:
        """Yield the hulls of all sets of resident weights that get below a hull."""
        known = list(beat)
        for resident in self._sets(known, prune):
            if prune and self._is_covered(resident, known):
                continue
            hull = self.hull(resident)
            vertices = [vertex for vertex in _directed(hull, Column(self.tile, self.mode, resident)) if not covers(known, vertex.point)]
            if vertices:
                known[:] = lower_hull([*known, *(vertex.point for vertex in vertices)])
                yield from vertices

    def _sets(self, known: Sequence[Point], prune: bool) -> Iterator[tuple[int, ...]]:
        """Yield the sets of resident weights that fit beside the maps, and with `prune` only those that may get below a growing hull."""
        ways = [position for position in self.group.weighted if not (prune and self._streams_as_well(position))]
        ways.sort(key=lambda position: -self.group.nodes[position].weight_words)
        start = _sum(self._fixed, (0, 0))
        for position in self.group.layers:
            if position not in ways:
                start = _sum(start, self.floors[position][0] or self.floors[position][1])
        rest = [(0, 0)]
        for position in reversed(ways):
            streamed, stays = self.floors[position]
            either = stays if streamed is None else (min(streamed[0], stays[0]), min(streamed[1], stays[1]))
            rest.append(_sum(rest[-1], either))
        rest.reverse()

        def choose(index: int, floor: Point, kept: int, chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
            if prune and covers(known, _sum(floor, rest[index])):
                return
            if index == len(ways):
                yield tuple(sorted(chosen))
                return
            position = ways[index]
            streamed, stays = self.floors[position]
            larger = kept + self.group.nodes[position].weight_words
            if self._live + larger <= self.capacity:
                yield from choose(index + 1, _sum(floor, stays), larger, (*chosen, position))
            yield from choose(index + 1, _sum(floor, streamed or stays), kept, chosen)

        yield from choose(0, start, 0, ())

    def _streams_as_well(self, position: int) -> bool:
        """Return whether nothing is gained by keeping a layer's weights.

        It runs once, and its input is in the scratchpad: with N, P, Q innermost and all of C, R and S in the tile, streamed weights are
        read once too, whatever the tile of K, and take no more room than all weights would.
        """
        entries = self._entries[position]
        return len(entries) == 1 and entries[0].multiplicity == 1 and entries[0].streamed.input_resident

    def _is_covered(self, resident: Sequence[int], beat: Sequence[Point]) -> bool:
        """Return whether a set of resident weights is of no use: by floors, then layer by layer by what the layer really costs at least."""
        kept = sum(self.group.nodes[position].weight_words for position in resident)
        energy, latency = self._fixed
        floors: dict[int, Point] = {}
        for position in self.group.layers:
            streamed, stays = self.floors[position]
            floors[position] = stays if streamed is None or position in resident else streamed
            energy, latency = energy + floors[position][0], latency + floors[position][1]
        if covers(beat, (energy, latency)):
            return True
        for position in self._cheapest_first():
            least = self._least(position, stays=position in resident, kept=kept)
            if least is None:
                return True
            energy, latency = energy + least[0] - floors[position][0], latency + least[1] - floors[position][1]
            if covers(beat, (energy, latency)):
                return True
        return False

    def _cheapest_first(self) -> list[int]:
        """Return the layers, first those whose steps are quickly mapped: with the input in the scratchpad."""
        return sorted(self.group.layers, key=lambda position: not self._entries[position][0].streamed.input_resident)

    def _least(self, position: int, *, stays: bool, kept: int) -> Point | None:
        """Return least energy and least latency of a layer's steps; None where one does not fit."""
        energy = latency = 0
        for count, _, options in self._steps(position, stays, kept):
            if not options:
                return None
            energy += count * options[0].energy
            latency += count * options[-1].latency
        return energy, latency

    def _steps(self, position: int, stays: bool, kept: int) -> Iterator[_Priced]:
        produced = position not in self.group.weighted
        for entry in self._entries[position]:
            room = self.capacity - entry.live - kept
            count = entry.multiplicity
            if stays and not produced and entry.loaded is not None:
                yield 1, entry.loaded, self.fronts.options(entry.loaded, room)
                count -= 1
            if count:
                step = entry.resident if stays or produced else entry.streamed
                yield count, step, self.fronts.options(step, room)

    def steps(self, resident: Sequence[int]) -> list[_Priced]:
        """Return (multiplicity, problem, options) of every distinct step of the layers, in the order of `group_steps`."""
        kept = sum(self.group.nodes[position].weight_words for position in resident)
        return [step for position in self.group.layers for step in self._steps(position, position in resident, kept)]

    def hull(self, resident: Sequence[int]) -> tuple[Point, ...]:
        """Return the hull of all mappings with some weights resident; empty where a step does not fit."""
        hull: tuple[Point, ...] = ((self._fixed[0], self._fixed[1]),)
        for count, _, options in self.steps(resident):
            if not options:
                return ()
            if len(options) == 1:
                energy, latency = count * options[0].energy, count * options[0].latency
                hull = tuple((point[0] + energy, point[1] + latency) for point in hull)
            else:
                hull = plus(hull, times(lower_hull((point.energy, point.latency) for point in options), count))
        return hull

    def mappings(self, vertex: Vertex) -> list[str]:
        """Return the mapping of every distinct step of the layers at a vertex."""
        a, b = vertex.direction
        chosen = []
        for _, step, options in self.steps(vertex.column.resident):
            best = min(options, key=lambda point: (a * point.energy + b * point.latency, point))
            chosen.append(self.fronts.mapping(step, best))
        return chosen


def _sum(one: Sequence[int], other: Sequence[int]) -> Point:
    return one[0] + other[0], one[1] + other[1]


def _directed(hull: Sequence[Point], column: Column) -> Iterator[Vertex]:
    """Yield the vertices of a hull, each with a direction in which it is the only best one."""
    for place, (energy, latency) in enumerate(hull):
        if place == 0:
            direction = (1, 0)
        elif place == len(hull) - 1:
            direction = (0, 1)
        else:
            direction = (hull[place - 1][1] - hull[place + 1][1], hull[place + 1][0] - hull[place - 1][0])
        yield Vertex(energy, latency, column, direction)
