"""The packing problem in its smallest integers: time in sections, sizes in units.

A *section* is a maximal set of buffers that live at one time; only sections matter for packing, so time is replaced by their numbers.
Sizes, pins and alignments are divided by the largest unit in which every pushed-down packing can be written.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosma_sched.graph import Buffer


@dataclass(frozen=True, slots=True)
class Part:
    """A rectangle of a buffer: sections [lower, upper), and units [bottom, top) relative to the buffer's offset."""

    lower: int
    upper: int
    bottom: int
    top: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Where a buffer must not lie because of `other`: strictly between other's offset + `above` and other's offset + `below`."""

    other: int
    above: int
    below: int


@dataclass(frozen=True)
class Strip:
    """Buffers to be packed into a strip of `capacity` units over `num_sections` sections.

    Parameters
    ----------
    unit
        Bytes per unit.
    capacity
        Units, rounded down: no pushed-down packing ends between two units.
    sizes, alignments, pins, hints
        By buffer, in units; an alignment that divides the unit is 1; a hint is rounded down.
    durations
        Time each buffer lives, not compressed; some search orders use it.
    parts
        The rectangles of each buffer; one per buffer without gaps.
    times
        One time point of each section, at which all its buffers live.
    """

    unit: int
    capacity: int
    sizes: tuple[int, ...]
    alignments: tuple[int, ...]
    pins: tuple[int | None, ...]
    hints: tuple[int | None, ...]
    durations: tuple[int, ...]
    parts: tuple[tuple[Part, ...], ...]
    times: tuple[int, ...]

    @classmethod
    def of(cls, buffers: Sequence[Buffer], capacity_bytes: int) -> Strip:
        """Scale sizes and compress time."""
        unit = _unit(buffers)
        pieces = [list(_pieces(buffer)) for buffer in buffers]
        starts, times = _sections([(lower, upper) for own in pieces for lower, upper, _, _ in own])
        parts = []
        for own in pieces:
            in_sections = ((bisect_right(starts, lower) - 1, bisect_left(starts, upper)) for lower, upper, _, _ in own)
            in_units = ((bottom // unit, top // unit) for _, _, bottom, top in own)
            parts.append(tuple(Part(*span, *extent) for span, extent in zip(in_sections, in_units, strict=True)))
        return cls(
            unit,
            capacity_bytes // unit,
            tuple(buffer.size_bytes // unit for buffer in buffers),
            tuple(max(1, buffer.alignment // unit) for buffer in buffers),
            tuple(None if buffer.offset is None else buffer.offset // unit for buffer in buffers),
            tuple(None if buffer.hint is None else buffer.hint // unit for buffer in buffers),
            tuple(sum(upper - lower for lower, upper, _, _ in own) for own in pieces),
            tuple(parts),
            tuple(times),
        )

    def resized(self, capacity_bytes: int) -> Strip:
        """Return the same buffers in a strip of another capacity; what was derived from lifetimes and sizes is kept."""
        other = copy(self)
        object.__setattr__(other, "capacity", capacity_bytes // self.unit)
        return other

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def num_sections(self) -> int:
        """How many sections there are."""
        return len(self.times)

    @cached_property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """First section and last section + 1 of each buffer; (0, 0) for one that never holds a byte."""
        return tuple((own[0].lower, own[-1].upper) if own else (0, 0) for own in self.parts)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """How many sections each buffer lives through."""
        return tuple(sum(part.upper - part.lower for part in own) for own in self.parts)

    @cached_property
    def sections(self) -> tuple[tuple[int, ...], ...]:
        """The sections in which each buffer holds bytes."""
        return tuple(tuple(section for part in own for section in range(part.lower, part.upper)) for own in self.parts)

    @cached_property
    def load(self) -> tuple[int, ...]:
        """Units that are live in each section."""
        change = [0] * (self.num_sections + 1)
        for own in self.parts:
            for part in own:
                change[part.lower] += part.top - part.bottom
                change[part.upper] -= part.top - part.bottom
        return tuple(np.cumsum(change[:-1], dtype=object).tolist()) if self.num_sections else ()

    @cached_property
    def has_windows(self) -> bool:
        """True where some buffer holds only some of its bytes for a while."""
        return any(part.top - part.bottom < size for own, size in zip(self.parts, self.sizes, strict=True) for part in own)

    @cached_property
    def conflicts(self) -> tuple[tuple[Conflict, ...], ...]:
        """For each buffer, what the buffers that live with it forbid."""
        owners = [index for index, own in enumerate(self.parts) for _ in own]
        flat = [part for own in self.parts for part in own]
        lower = np.array([part.lower for part in flat], dtype=np.int64)
        upper = np.array([part.upper for part in flat], dtype=np.int64)
        found: list[list[Conflict]] = [[] for _ in self.parts]
        first, second = np.nonzero((lower[:, None] < upper[None, :]) & (lower[None, :] < upper[:, None]))
        for mine, theirs in zip(first.tolist(), second.tolist(), strict=True):
            if owners[mine] != owners[theirs]:
                part, other = flat[mine], flat[theirs]
                found[owners[mine]].append(Conflict(owners[theirs], other.bottom - part.top, other.top - part.bottom))
        return tuple(tuple(own) for own in found)

    @cached_property
    def twins(self) -> tuple[tuple[int, ...], ...]:
        """Groups of interchangeable buffers: the same full rectangles and alignment, no pin."""
        groups: dict[object, list[int]] = {}
        for index, own in enumerate(self.parts):
            if self.pins[index] is None and own and all(part.top - part.bottom == self.sizes[index] for part in own):
                groups.setdefault((own, self.alignments[index]), []).append(index)
        return tuple(tuple(group) for group in groups.values() if len(group) > 1)

    def violations(self, offsets: Sequence[int]) -> Iterator[int]:
        """Yield each buffer that leaves the strip, misses its pin or alignment, or overlaps another."""
        for index, offset in enumerate(offsets):
            size, pin = self.sizes[index], self.pins[index]
            outside = offset < 0 or offset + size > self.capacity or offset % self.alignments[index] or (pin is not None and pin != offset)
            if outside or any(c.above < offset - offsets[c.other] < c.below for c in self.conflicts[index]):
                yield index

    def height(self, offsets: Sequence[int]) -> int:
        """Units up to the highest end of a buffer."""
        return max((offset + size for offset, size in zip(offsets, self.sizes, strict=True)), default=0)


def partitions(buffers: Sequence[Buffer]) -> list[list[int]]:
    """Split buffers where no lifetime crosses; each list keeps the order given."""
    groups: list[list[int]] = []
    end: int | None = None
    for index in sorted(range(len(buffers)), key=lambda index: buffers[index].lower):
        if end is None or buffers[index].lower >= end:
            groups.append([])
        groups[-1].append(index)
        end = buffers[index].upper if end is None else max(end, buffers[index].upper)
    return [sorted(group) for group in groups]


def _pieces(buffer: Buffer) -> Iterator[tuple[int, int, int, int]]:
    """Yield (lower, upper, bottom, top) of each rectangle of a buffer, in time and bytes; empty ones are left out."""
    begin = buffer.lower
    for gap in sorted(buffer.gaps, key=lambda gap: gap.lower):
        yield from _solid(begin, gap.lower, 0, buffer.size_bytes)
        if gap.window is not None:
            yield from _solid(gap.lower, gap.upper, *gap.window)
        begin = gap.upper
    yield from _solid(begin, buffer.upper, 0, buffer.size_bytes)


def _solid(lower: int, upper: int, bottom: int, top: int) -> Iterator[tuple[int, int, int, int]]:
    if lower < upper and bottom < top:
        yield lower, upper, bottom, top


def _unit(buffers: Sequence[Buffer]) -> int:
    """Return the largest unit that measures every pushed-down packing.

    Such a packing puts each free buffer at 0, or on another's end rounded up to its alignment; so sums of sizes, window ends and pins,
    rounded up to alignments, have to be whole. Rounding to an alignment that divides the unit changes nothing.
    """
    unit = 0
    for buffer in buffers:
        unit = math.gcd(unit, buffer.size_bytes, buffer.offset or 0, *(end for gap in buffer.gaps for end in gap.window or ()))
    unit = unit or 1
    alignments = {buffer.alignment for buffer in buffers}
    while rest := [alignment for alignment in alignments if unit % alignment and alignment % unit]:
        unit = math.gcd(unit, rest[0])
    return unit


def _sections(lifetimes: Iterable[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return the start of each section and a time in it at which all its members live.

    A section ends with the first death after a birth: until then its set only grows, and whatever is born later meets a smaller one.
    """
    births, deaths = set(), set()
    for lower, upper in lifetimes:
        births.add(lower)
        deaths.add(upper)
    starts: list[int] = []
    times: list[int] = []
    someone_died = True
    for time in sorted(births | deaths):
        someone_died = someone_died or time in deaths
        if time not in births:
            continue
        if someone_died:
            starts.append(time)
            times.append(time)
            someone_died = False
        times[-1] = time
    return starts, times
