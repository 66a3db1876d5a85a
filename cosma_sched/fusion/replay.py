"""The steps that a fused group must have: derived for the checker from members, tile, mode and resident weights alone.

Steps of a member with equal extents are one step with a multiplicity; beside it stands what the fullest of its tiles holds. The step that
loads resident weights, the first one of its layer, is apart from the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.recount import Place
from cosma_sched.fusion.regions import Along, Integers, Kept, Reading, Window, computed, intervals, kept
from cosma_sched.fusion.topology import Extent, Member, Read

_STREAMED = Place()


@dataclass(frozen=True, slots=True)
class ReplayedStep:
    """A distinct step.

    Parameters
    ----------
    member
        Who runs.
    extents
        Batch, rows and columns that are computed.
    multiplicity
        In how many tiles.
    held_bytes
        Maps, strips and resident weights in the fullest of them.
    place
        Where a layer's tensors are.
    inside, outside
        Of a vector operator: words in the scratchpad, and in DRAM, one number for each tensor.
    """

    member: Member
    extents: Extent
    multiplicity: int
    held_bytes: int
    place: Place = _STREAMED
    inside: tuple[int, ...] = ()
    outside: tuple[int, ...] = ()


@dataclass(frozen=True)
class Replay:
    """A group of at least two members that runs in tiles.

    Parameters
    ----------
    members
        In the order in which they run; connected, convex, the last one the only sink.
    readers
        For every member, the names of all who read it, in the group or not.
    tile
        Divisors of the sink's extent.
    mode
        What becomes of what two tiles need.
    resident
        Members whose weights stay.
    charged
        Whether operands of folded operators cost.
    """

    members: tuple[Member, ...]
    readers: Mapping[str, Sequence[str]]
    tile: Extent
    mode: str
    resident: frozenset[str]
    charged: bool

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(member.name for member in self.members)

    @cached_property
    def _inside(self) -> tuple[Reading, ...]:
        return tuple(
            Reading(member.name, read.source, read.rows, read.cols)
            for member in self.members
            for read in member.reads
            if read.source is not None and read.source in self.names
        )

    @cached_property
    def rows(self) -> dict[str, Along]:
        """Intervals of every member along rows."""
        extents = {member.name: member.extent[1] for member in self.members}
        return intervals(self.names, self._inside, extents, self.tile[1], rows=True)

    @cached_property
    def cols(self) -> dict[str, Along]:
        """Intervals of every member along columns."""
        extents = {member.name: member.extent[2] for member in self.members}
        return intervals(self.names, self._inside, extents, self.tile[2], rows=False)

    @property
    def resident_bytes(self) -> int:
        """Bytes of the weights that stay."""
        return sum(member.weight_words for member in self.members if member.name in self.resident)

    def steps(self) -> Iterator[ReplayedStep]:
        """Yield all distinct steps, member after member."""
        for position, member in enumerate(self.members):
            held = self._held(position)
            sizes = computed(self.rows[member.name], self.cols[member.name], self.mode)
            for index, found in enumerate(self._classes(member, sizes, held)):
                yield from _load_apart(found) if index == 0 and member.name in self.resident else (found,)

    def contents(self, name: str) -> set[tuple[Extent, int]]:
        """Return the extents of a member's steps with the bytes of maps and strips that stand beside them, of every tile."""
        rows, cols = computed(self.rows[name], self.cols[name], self.mode)
        held = self._held(self.names.index(name))
        table = np.stack(np.broadcast_arrays(rows[:, None], cols[None, :], held)).reshape(3, -1)
        found = np.unique(table, axis=1).T.tolist()
        return {((self.tile[0], p, q), maps) for p, q, maps in found if p * q}

    def _held(self, position: int) -> Integers:
        """Return the bytes of maps and strips at a member's step: [row, column] of tiles."""
        held = np.zeros((len(self.rows[self.names[0]].starts), len(self.cols[self.names[0]].starts)), dtype=np.int64)
        for place, member in enumerate(self.members[:-1]):
            parts = self._kept[member.name]
            last = max(self.names.index(reading.reader) for reading in self._inside if reading.source == member.name)
            part = parts.before if place > position else parts.live if position <= last else parts.after
            held += part * (self.tile[0] * member.words_per_position)
        return held

    @cached_property
    def _kept(self) -> dict[str, Kept]:
        return {name: kept(self.rows[name], self.cols[name], self.mode) for name in self.names[:-1]}

    def _classes(self, member: Member, sizes: tuple[Integers, Integers], held: Integers) -> list[ReplayedStep]:
        """Return the steps with equal extents and equal reads, the one of the first tile first; weights are not yet looked at."""
        reads = [] if member.layer is not None else list(member.reads)
        down = [sizes[0], *(self._touched(member, read, sizes[0], rows=True) for read in reads)]
        across = [sizes[1], *(self._touched(member, read, sizes[1], rows=False) for read in reads)]
        merged: dict[tuple[int, ...], list[int]] = {}
        for row_key, row_tiles in _equal(down):
            for col_key, col_tiles in _equal(across):
                if row_key[0] * col_key[0] == 0:
                    continue
                words = [self._words(read, member, a, b) for read, a, b in zip(reads, row_key[1:], col_key[1:], strict=True)]
                most, times = int(held[np.ix_(row_tiles, col_tiles)].max()), len(row_tiles) * len(col_tiles)
                entry = merged.setdefault((row_key[0], col_key[0], *words), [0, 0])
                entry[0], entry[1] = entry[0] + times, max(entry[1], most)
        batches = self.members[-1].extent[0] // self.tile[0]
        return [
            self._step(
                member, (self.tile[0], key[0], key[1]), times * batches, most + self.resident_bytes, list(zip(reads, key[2:], strict=True))
            )
            for key, (times, most) in merged.items()
        ]

    def _touched(self, member: Member, read: Read, sizes: Integers, *, rows: bool) -> Integers:
        """Return how many rows or columns of an operand each tile's new part reads."""
        ends = (self.rows if rows else self.cols)[member.name].ends
        window = read.rows if rows else read.cols
        first, last = window.touched(ends - sizes, ends, self._operand_extent(member, read, window, rows=rows))
        return last - first

    def _operand_extent(self, member: Member, read: Read, window: Window, *, rows: bool) -> int:
        axis = 1 if rows else 2
        source = next((other for other in self.members if other.name == read.source), None)
        if source is not None:
            return source.extent[axis]
        if read.source_extent is not None:
            return read.source_extent[axis]
        return member.extent[axis] if window == Window() else 1

    def _words(self, read: Read, member: Member, rows: int, cols: int) -> int:
        if not read.by_region:
            return read.words
        positions = math.prod(read.source_extent if read.source_extent is not None else member.extent)
        return self.tile[0] * rows * cols * (read.words // positions)

    def _step(self, member: Member, extents: Extent, times: int, held: int, reads: Sequence[tuple[Read, int]]) -> ReplayedStep:
        stays = any(name in self.names for name in self.readers[member.name])
        leaves = not stays or member.is_output or any(name not in self.names for name in self.readers[member.name])
        if member.layer is not None:
            place = self._place(member, extents, stays=stays, leaves=leaves)
            return ReplayedStep(member, extents, times, held, place)
        result = math.prod(extents) * member.words_per_position
        near = [words for read, words in reads if read.source in self.names]
        far = [words for read, words in reads if read.source not in self.names]
        inside, outside = (*near, *([result] if stays else [])), (*far, *([result] if leaves else []))
        return ReplayedStep(member, extents, times, held, _STREAMED, inside, outside)

    def _place(self, member: Member, extents: Extent, *, stays: bool, leaves: bool) -> Place:
        made = {read.role for read in member.reads if read.source in self.names}
        near: list[int] = []
        far: list[int] = []
        for read in member.reads:
            if read.role == "drain" and self.charged:
                share = math.prod(extents) * (read.words // math.prod(member.extent)) if read.by_region else read.words
                (near if read.source in self.names else far).append(share)
        weights = "resident" if member.name in self.resident or "weight" in made else "streamed"
        return Place(weights, "input" in made, stays, leaves, tuple(near), tuple(far))


def _load_apart(found: ReplayedStep) -> Iterator[ReplayedStep]:
    """Yield the first tile, which loads the weights, and the others, which have them."""
    yield replace(found, multiplicity=1, place=replace(found.place, weights="loaded"))
    if found.multiplicity > 1:
        yield replace(found, multiplicity=found.multiplicity - 1)


def _equal(columns: Sequence[Integers]) -> list[tuple[tuple[int, ...], NDArray[np.intp]]]:
    """Return the distinct tuples of some arrays and where each stands, the first one first."""
    table = np.stack(columns)
    _, first, inverse = np.unique(table, axis=1, return_index=True, return_inverse=True)
    inverse = np.ravel(inverse)
    return [(tuple(int(value) for value in table[:, first[group]]), np.flatnonzero(inverse == group)) for group in np.argsort(first)]
