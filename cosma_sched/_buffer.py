"""Buffers: a lifetime and a size, the input of packing. Public as `cosma_sched.graph.Buffer` and `cosma_sched.graph.BufferGap`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cosma_sched.errors import Defect, InputError, shown


@dataclass(frozen=True, slots=True)
class BufferGap:
    """A part of a buffer's lifetime in which it is empty, or holds only some of its bytes.

    Parameters
    ----------
    lower, upper
        The part, half-open, inside the lifetime.
    window
        The bytes held meanwhile, half-open and relative to the buffer's offset; None where nothing is held.
    """

    lower: int
    upper: int
    window: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Buffer:
    """A lifetime and a size: what packing needs to know of a tensor.

    Parameters
    ----------
    name
        Unique among the buffers that are packed together.
    lower, upper
        Lifetime, half-open: the buffer occupies its bytes at times lower, lower + 1, ..., upper - 1.
    size_bytes
        Bytes it occupies, >= 0.
    alignment
        Its offset is a multiple of this.
    offset
        The offset it must have (a pin), or None.
    hint
        An offset that is worth trying first, or None.
    gaps
        Parts of the lifetime in which it needs fewer bytes or none.

    Raises
    ------
    InputError
        With every defect at once: an empty lifetime, a negative size, an alignment below 1, a pin that is negative or off its alignment,
        a gap that is empty, leaves the lifetime, overlaps another, or whose window leaves the buffer.
    """

    name: str
    lower: int
    upper: int
    size_bytes: int
    alignment: int = 1
    offset: int | None = None
    hint: int | None = None
    gaps: tuple[BufferGap, ...] = ()

    def __post_init__(self) -> None:
        defects = [*self._own_defects(), *self._gap_defects()]
        if defects:
            raise InputError(f"buffer {shown(self.name)}", defects)

    def _own_defects(self) -> Iterator[Defect]:
        if self.upper <= self.lower:
            yield Defect("upper", f"must be > lower {self.lower}, got {self.upper}")
        if self.size_bytes < 0:
            yield Defect("size_bytes", f"must be >= 0, got {self.size_bytes}")
        if self.alignment < 1:
            yield Defect("alignment", f"must be >= 1, got {self.alignment}")
        elif self.offset is not None and (self.offset < 0 or self.offset % self.alignment):
            yield Defect("offset", f"must be a multiple of the alignment {self.alignment} and >= 0, got {self.offset}")

    def _gap_defects(self) -> Iterator[Defect]:
        end = self.lower
        for index, gap in enumerate(sorted(self.gaps, key=lambda gap: gap.lower)):
            if not end <= gap.lower < gap.upper <= self.upper:
                lifetime = f"[{self.lower}, {self.upper})"
                yield Defect(
                    f"gaps[{index}]", f"must lie inside the lifetime {lifetime} and overlap no other gap, got [{gap.lower}, {gap.upper})"
                )
            if gap.window is not None and not 0 <= gap.window[0] <= gap.window[1] <= self.size_bytes:
                yield Defect(f"gaps[{index}].window", f"must lie inside [0, {self.size_bytes}), got {list(gap.window)}")
            end = max(end, gap.upper)
