"""A fused group: its members, how a tile runs through them, what is alive at each step, and what the whole costs.

Steps of one member with equal extents are one problem with a multiplicity; the tile in which least room is left decides the room that the
problem has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from cosma_sched.fusion.problem import FusionProblem, Node, Operand, Window
from cosma_sched.fusion.steps import Output, StepProblem, Weights
from cosma_sched.fusion.tiles import Bands, Ints, Reader, bands, need
from cosma_sched.mapping.layer import N, P, Q

Tile = tuple[int, int, int]


class Mode(StrEnum):
    """What becomes of rows and columns that two tiles need: computed twice, or kept."""

    RECOMPUTE = "recompute"
    H_CACHED = "h-cached"
    CACHED = "cached"
    SLICED = "sliced"
    """Two products, whose intermediate runs slice by slice of its features (`sliced`)."""


MODES = (Mode.RECOMPUTE, Mode.H_CACHED, Mode.CACHED)
"""The modes of any group."""


class Slicing(NamedTuple):
    """How two products run in slices.

    Parameters
    ----------
    rows
        Of a row tile.
    features
        Of a slice of the intermediate.
    stays
        Whether the row tile of the first one's input is loaded once and stays for all slices; else each slice streams it.
    """

    rows: int
    features: int
    stays: bool


@dataclass(frozen=True, slots=True)
class AxisClasses:
    """The tiles of one axis, equal ones together: members (or vector operands) in the first axis, classes in the second.

    Parameters
    ----------
    hull, new, before, after
        Of `tiles.Bands`.
    read_hull, read_new
        Lengths that vector operands need for the hull of their reader, and for its new part.
    low
        Where the band begins in the first tile of each class, and in the last one.
    count
        Tiles of each class.
    first
        For each member, the class of the first tile in which it runs.
    """

    hull: Ints
    new: Ints
    before: Ints
    after: Ints
    read_hull: Ints
    read_new: Ints
    low: tuple[Ints, Ints]
    count: Ints
    first: Ints


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A step of one member on certain extents.

    Parameters
    ----------
    position
        Of the member in the group.
    extent
        Batch, rows and columns that are computed.
    reads
        Of a vector operator, the words of each operand.
    multiplicity
        Tiles in which it runs.
    live_bytes
        Maps and retained strips beside it, in the tile that holds most.
    """

    position: int
    extent: Tile
    reads: tuple[int, ...]
    multiplicity: int
    live_bytes: int


@dataclass(frozen=True)
class Expansion:
    """A group's steps for one tile and mode.

    Parameters
    ----------
    occurrences
        All steps.
    live
        Bytes of maps and strips at each member's step: member, row class, column class; -1 where the member does not run.
    """

    occurrences: tuple[Occurrence, ...]
    live: Ints
    loads: tuple[int, ...]
    """For each member, the occurrence of the first tile, in which resident weights are loaded."""


@dataclass(frozen=True)
class Group:
    """Members of a network that run tile by tile.

    Parameters
    ----------
    problem
        The network.
    members
        Nodes in the order in which they run; connected, convex, the last one the only sink.
    """

    problem: FusionProblem
    members: tuple[int, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """The members."""
        return tuple(self.problem.nodes[index] for index in self.members)

    @property
    def sink(self) -> Node:
        """The member whose result leaves the group tile by tile."""
        return self.nodes[-1]

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """Positions of the members that are layers."""
        return tuple(position for position, node in enumerate(self.nodes) if node.layer is not None)

    @cached_property
    def place(self) -> Mapping[int, int]:
        """Position of each member by its node."""
        return {index: position for position, index in enumerate(self.members)}

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        """Where each member's result goes."""
        return tuple(self._output(index) for index in self.members)

    def _output(self, index: int) -> Output:
        readers = self.problem.consumers[index]
        inside = [reader for reader in readers if reader in self.place]
        if not inside or index == self.members[-1]:
            return Output.DRAM
        return Output.BOTH if self.problem.nodes[index].is_output or len(inside) < len(readers) else Output.RESIDENT

    def inside(self, operand: Operand) -> bool:
        """Return whether an operand is made in the group."""
        return operand.producer is not None and operand.producer in self.place

    @cached_property
    def last_use(self) -> tuple[int, ...]:
        """For each member, the position of its last reader in the group; its own for the sink."""
        last = list(range(len(self.members)))
        for position, node in enumerate(self.nodes):
            for producer in node.producers:
                if producer in self.place:
                    last[self.place[producer]] = position
        return tuple(last)

    @cached_property
    def weighted(self) -> tuple[int, ...]:
        """Positions of the layers whose weights come from DRAM, and so may be streamed or resident."""
        return tuple(
            position
            for position in self.layers
            if not any(operand.role == "weight" and self.inside(operand) for operand in self.nodes[position].operands)
        )

    @cached_property
    def vector_operands(self) -> tuple[tuple[int, int], ...]:
        """(position, operand) of all operands of vector operators."""
        return tuple(
            (position, index) for position, node in enumerate(self.nodes) if node.layer is None for index in range(len(node.operands))
        )

    # Tiles

    def _readers(self, axis: int) -> list[list[Reader]]:
        readers: list[list[Reader]] = [[] for _ in self.members]
        for position, node in enumerate(self.nodes):
            for operand in node.operands:
                if operand.producer is not None and operand.producer in self.place:
                    window = operand.rows if axis == 1 else operand.columns
                    readers[self.place[operand.producer]].append(Reader(position, window))
        return readers

    def axis_bands(self, axis: int, tile: int) -> Bands:
        """Return the bands of all members along rows (axis 1) or columns (axis 2)."""
        return bands([node.extent[axis] for node in self.nodes], self._readers(axis), tile)

    @cached_property
    def _axes(self) -> dict[tuple[int, int], AxisClasses]:
        return {}

    def axis_classes(self, axis: int, tile: int) -> AxisClasses:
        """Return the distinct tiles along one axis."""
        key = (axis, tile)
        if key not in self._axes:
            self._axes[key] = self._classify(axis, self.axis_bands(axis, tile))
        return self._axes[key]

    def _classify(self, axis: int, found: Bands) -> AxisClasses:
        reads_hull: list[Ints] = []
        reads_new: list[Ints] = []
        for position, index in self.vector_operands:
            operand = self.nodes[position].operands[index]
            window = operand.rows if axis == 1 else operand.columns
            extent = self._read_extent(operand, axis, window, self.nodes[position].extent[axis])
            for reads, low in ((reads_hull, found.low[position]), (reads_new, found.fresh[position])):
                start, end = need(window, low, found.high[position], extent)
                reads.append(end - start)
        parts = [found.hull, found.new, found.before, found.after]
        parts += [np.array(reads, dtype=np.int64).reshape(len(reads), found.low.shape[1]) for reads in (reads_hull, reads_new)]
        _, chosen, inverse, count = np.unique(np.concatenate(parts), axis=1, return_index=True, return_inverse=True, return_counts=True)
        first = np.argmax(found.hull > 0, axis=1)
        hull, new, before, after, read_hull, read_new = (part[:, chosen] for part in parts)
        last = np.zeros(count.size, dtype=np.int64)
        last[np.ravel(inverse)] = np.arange(found.low.shape[1])
        low = (found.low[:, chosen], found.low[:, last])
        return AxisClasses(hull, new, before, after, read_hull, read_new, low, count, np.ravel(inverse)[first])

    def _read_extent(self, operand: Operand, axis: int, window: Window | None, result: int) -> int:
        if operand.producer is not None:
            return self.problem.nodes[operand.producer].extent[axis]
        return result if window is None else (result - 1) * window.stride + window.reach  # from outside, unpadded

    # Steps

    def expand(self, tile: Tile, mode: Mode) -> Expansion:
        """Return the steps of all tiles of one size.

        Parameters
        ----------
        tile
            Divisors of the sink's batch, rows and columns.
        mode
            What becomes of overlaps.
        """
        rows, columns = self.axis_classes(1, tile[1]), self.axis_classes(2, tile[2])
        down, across = self.computed(rows, columns, mode)
        runs = (down[:, :, None] > 0) & (across[:, None, :] > 0)
        live = np.where(runs, self.live_words(rows, columns, mode) * tile[0], -1)
        times = rows.count[:, None] * columns.count[None, :] * (self.sink.extent[0] // tile[0])
        found: list[Occurrence] = []
        loads = []
        for position in range(len(self.members)):
            keys: dict[Any, list[int]] = {}
            for r, c in np.argwhere(runs[position]):
                reads = self._reads(position, (tile[0], int(r), int(c)), rows, columns, mode)
                key = ((tile[0], int(down[position, r]), int(across[position, c])), reads)
                entry = keys.setdefault(key, [0, 0, 0])
                entry[0] += int(times[r, c])
                entry[1] = max(entry[1], int(live[position, r, c]))
                entry[2] |= int(r == rows.first[position] and c == columns.first[position])
            loads.append(len(found) + next((place for place, entry in enumerate(keys.values()) if entry[2]), 0))
            found += [Occurrence(position, key[0], key[1], entry[0], entry[1]) for key, entry in keys.items()]
        return Expansion(tuple(found), live, tuple(loads))

    def computed(self, rows: AxisClasses, columns: AxisClasses, mode: Mode) -> tuple[Ints, Ints]:
        """Return the rows and the columns that each member computes in the tiles of each class."""
        return rows.new if mode == Mode.CACHED else rows.hull, columns.hull if mode == Mode.RECOMPUTE else columns.new

    def _reads(self, position: int, at: tuple[int, int, int], rows: AxisClasses, columns: AxisClasses, mode: Mode) -> tuple[int, ...]:
        """Return the words of each operand that a step of a vector operator reads."""
        node = self.nodes[position]
        if node.layer is not None:
            return ()
        down = rows.read_new if mode == Mode.CACHED else rows.read_hull
        across = columns.read_hull if mode == Mode.RECOMPUTE else columns.read_new
        words = []
        for place, (owner, index) in enumerate(self.vector_operands):
            if owner != position:
                continue
            operand = node.operands[index]
            if not operand.regional:
                words.append(operand.words)
                continue
            per_position = self._operand_position_words(operand, node)
            words.append(at[0] * int(down[place, at[1]]) * int(across[place, at[2]]) * per_position)
        return tuple(words)

    def _operand_position_words(self, operand: Operand, node: Node) -> int:
        source = self.problem.nodes[operand.producer] if operand.producer is not None else node
        n, p, q = source.extent
        return operand.words // (n * p * q)

    def live_words(self, rows: AxisClasses, columns: AxisClasses, mode: Mode) -> Ints:
        """Return the words per batch element that maps and strips take at each member's step, by row and column class.

        In `cached`, rows kept from the band above lie right of what a tile has reached, rows kept for the band below left of it. What they
        take grows or shrinks evenly along a band, so of the tiles of a class the first or the last one holds most.
        """
        ends = columns.low if mode == Mode.CACHED else columns.low[:1]
        found: Ints = np.maximum.reduce([self._live_at(rows, columns, low, mode) for low in ends])
        return found

    def _live_at(self, rows: AxisClasses, columns: AxisClasses, low: Ints, mode: Mode) -> Ints:
        total = np.zeros((len(self.members), rows.count.size, columns.count.size), dtype=np.int64)
        for position, node in enumerate(self.nodes[:-1]):
            last, width, words = self.last_use[position], node.extent[2], node.position_words
            down, across, start = rows.hull[position][:, None], columns.hull[position][None, :], low[position][None, :]
            above, below = rows.before[position][:, None], rows.after[position][:, None]

            def rest(taken: Ints, begin: Ints, above: Ints = above, below: Ints = below, width: int = width) -> Ints:
                return above * (width - taken - begin) + below * begin if mode == Mode.CACHED else 0 * begin

            total[position : last + 1] += words * (down * across + rest(across, start))
            if mode == Mode.RECOMPUTE:
                continue
            kept = columns.before[position][None, :]
            total[:position] += words * (kept * down + rest(kept, start))
            kept = columns.after[position][None, :]
            total[last + 1 :] += words * (kept * down + rest(kept, start + across - kept))
        return total

    def step_problem(self, occurrence: Occurrence, weights: Weights) -> StepProblem:
        """Return what is to be mapped in a step of a layer."""
        node = self.nodes[occurrence.position]
        layer = node.layer
        if layer is None:
            raise ValueError(f"{node.name} is a vector operator; it has no mapping")
        dims = list(layer.dims)
        dims[N], dims[P], dims[Q] = occurrence.extent
        drained, folded = [], 0
        if self.problem.charged:
            positions = math.prod(occurrence.extent)
            for operand in node.operands:
                if operand.role == "drain":
                    words = operand.words * positions // math.prod(node.extent) if operand.regional else operand.words
                    if self.inside(operand):
                        folded += words
                    else:
                        drained.append(words)
        shape = replace(layer, name="", count=1, dims=tuple(dims), drain_words=tuple(drained), pad_p=None, pad_q=None)
        resident = any(operand.role == "input" and self.inside(operand) for operand in node.operands)
        return StepProblem(shape, resident, self.outputs[occurrence.position], weights, folded)

    def vector_words(self, occurrence: Occurrence) -> tuple[int, tuple[int, ...]]:
        """Return the scratchpad words of a vector operator's step, and the DRAM words of each operand and result at the group's border."""
        node = self.nodes[occurrence.position]
        n, p, q = occurrence.extent
        result = n * p * q * node.position_words
        output = self.outputs[occurrence.position]
        inside = 0 if output == Output.DRAM else result
        outside = [] if output == Output.RESIDENT else [result]
        for operand, words in zip(node.operands, occurrence.reads, strict=True):
            if self.inside(operand):
                inside += words
            else:
                outside.append(words)
        return inside, tuple(outside)
