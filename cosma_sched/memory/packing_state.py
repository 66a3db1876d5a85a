"""What the canonical search works on: flat sequences of whole numbers, lists in plain Python and arrays where it is compiled."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

Ints = MutableSequence[int]

NONE = -1
FAR = 1 << 61

# What `search` returns.
PACKED, REFUTED, UNFINISHED = 1, 0, -1

# Registers of a state: what a search needs to go on where it stopped.
DEPTH, NEXT_STEP, TRAIL_LENGTH, NUM_PLACED, NUM_PARTS, NUM_RANKS, BLAME_FIRST, BLAME_LAST, MOST_PLACED, NODES = range(10)
NUM_REGISTERS = 10

# Steps of the search at the part on top of the stack; the first is that of a new run.
BEGIN, TRY, ADVANCE, SOLVED, FAILED = range(5)


class Instance(NamedTuple):
    """What is to be packed; all rows are by buffer unless they say otherwise.

    Rows of lists are flat: those of buffer i are at ``start[i]`` to ``start[i + 1] - 1``.
    """

    capacity: int
    sizes: Ints
    alignments: Ints
    pins: Ints
    """Offset that a buffer must have, or NONE."""
    lower: Ints
    upper: Ints
    """First section and last section + 1."""
    section_start: Ints
    sections: Ints
    """Sections in which it lives."""
    member_start: Ints
    members: Ints
    """By section: the buffers that live in it."""
    rival_start: Ints
    rivals: Ints
    """Buffers that live with it."""
    twin: Ints
    """The equal buffer that is placed before it, or NONE."""
    stack: Ints
    """A number that buffers with the same sections share if they may be exchanged."""
    order: Ints
    """Position in the fixed order of the run."""
    is_dynamic: int
    """1 where a part ranks its buffers by the load left in it, then by order; 0 where by order alone."""


class State(NamedTuple):
    """Everything that changes: by buffer, by section, by level of the stack, by entry of a trail."""

    registers: Ints
    # by buffer
    lowest: Ints
    """Least offset: highest end of the placed buffers that live with it, rounded up; its pin where it has one."""
    bound: Ints
    """Lower bound on its final offset, valid while one part looks for its next buffer."""
    offset: Ints
    is_placed: Ints
    rank: Ints
    key: Ints
    items: Ints
    """All buffers; a part is a range of it, and only that part rearranges the range."""
    spare: Ints
    # by section
    total: Ints
    """Units of the unplaced buffers that live in it."""
    crossing: Ints
    """Unplaced buffers that live in it and in the section before."""
    witness: Ints
    """The member that last proved that its section fits; looked at first."""
    heat: Ints
    """How often it was too full for what was tried; orders of later runs learn from it."""
    # by stack number
    stack_top: Ints
    """The last placed buffer of those that may be exchanged, or NONE."""
    # by level
    begin: Ints
    end: Ints
    first: Ints
    last: Ints
    """The part: its range of `items` and of sections."""
    after_offset: Ints
    after_rank: Ints
    """What comes next has a larger (offset, rank)."""
    chosen: Ints
    """The buffer that was placed last at this level."""
    touched_first: Ints
    touched_last: Ints
    """Sections whose buffers that placement may have changed."""
    blame_first: Ints
    blame_last: Ints
    """Sections that suffice to refute what was tried at this level."""
    trail_mark: Ints
    placed_mark: Ints
    part_mark: Ints
    rank_mark: Ints
    part_next: Ints
    part_end: Ints
    # trails
    trail_item: Ints
    trail_value: Ints
    rank_item: Ints
    rank_value: Ints
    placed: Ints
    placed_on: Ints
    # parts that wait
    part_begin: Ints
    part_stop: Ints
    part_first: Ints
    part_last: Ints
    part_is_cut: Ints
    """1 where the part was cut off from others, so that it may start from the bottom again."""
