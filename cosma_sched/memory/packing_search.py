"""The canonical search as a method: runs of the kernel in many orders, plain or compiled.

A run that ends below its limit of nodes is a proof, whatever its order. Nodes and answers depend on the seed alone: neither on the speed
of the machine nor on whether the kernel is compiled.
"""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from cosma_sched.memory import packing_kernel as kernel
from cosma_sched.memory.packing_orders import Attempt, Orders, Weights
from cosma_sched.memory.packing_state import MOST_PLACED, NODES, NONE, NUM_REGISTERS, PACKED, REFUTED, Instance, State
from cosma_sched.memory.packing_strip import Strip
from cosma_sched.progress import Clock
from cosma_sched.result import Termination

NODES_BEFORE_COMPILED = 4_000
"""Plain Python searches this many nodes in about the time that loading the compiled kernel takes."""
PLAIN_SLICE, COMPILED_SLICE = 500, 10_000
"""Nodes between two looks at the clock: some 0.1 seconds."""
SECONDS_TO_COMPILE = 60.0
"""The compiled kernel is compiled once per machine, some ten seconds; only for a search that may take longer than this."""
LARGEST_TOTAL = 1 << 59
"""The compiled kernel computes in 64 bits; sums of sizes stay below this, or plain Python does the search."""
RANK_TRAIL_PER_BUFFER = 16
"""How many ranks a run remembers per buffer; where that is used up, deeper parts keep the ranks they have."""

Run = Callable[[Instance, State, int], int]
ToSequence = Callable[[Iterable[int]], Any]


@dataclass(frozen=True, slots=True)
class SearchOutcome:
    """Offsets in units, or a proof that there are none, or neither."""

    offsets: tuple[int, ...] | None
    is_infeasible: bool
    termination: Termination


def is_searchable(strip: Strip) -> bool:
    """Whether the canonical search can decide a strip: a buffer that holds only some of its bytes for a while is beyond it."""
    return not strip.has_windows


class CanonicalSearch:
    """A search that can be continued.

    Parameters
    ----------
    strip
        A strip without windows.
    seed
        Of the random orders.
    compiled
        True and False force the compiled and the plain kernel; None takes the compiled one, where it is installed, once the search has
        proven to be long.
    parents
        What `best` of a search for a higher packing of the same buffers returned: where this one starts.

    Raises
    ------
    MissingError
        If the compiled kernel is forced and Numba is not installed.
    """

    def __init__(self, strip: Strip, seed: int = 0, *, compiled: bool | None = None, parents: Sequence[Weights] = ()) -> None:
        self.nodes = 0
        self._strip = strip
        self._orders = Orders(strip, seed, parents)
        self._compiled = compiled
        self._run: Run = kernel.search
        self._slice = PLAIN_SLICE
        self._views = Views(strip, list)
        if compiled or (compiled is None and is_loaded() and can_compile(strip)):
            self._switch(compiled_search())
        self._attempt: Attempt | None = None
        self._instance, self._state = self._views.instance, self._views.state

    @property
    def best(self) -> tuple[Weights, ...]:
        """What made the orders that got furthest."""
        return self._orders.best

    def advance(self, clock: Clock, max_nodes: int | None = None) -> SearchOutcome:
        """Go on until the answer is known, the clock has expired, or about `max_nodes` more nodes were searched."""
        end = None if max_nodes is None else self.nodes + max_nodes
        while True:
            attempt = self._attempt or self._begin(clock)
            left = attempt.node_limit - int(self._state.registers[NODES])
            left = min(left, self._slice) if end is None else min(left, self._slice, end - self.nodes)
            if clock.expired:
                return SearchOutcome(None, False, Termination.TIME_LIMIT)
            if end is not None and self.nodes >= end:
                return SearchOutcome(None, False, Termination.EXHAUSTED)
            before = int(self._state.registers[NODES])
            result = self._run(self._instance, self._state, left)
            used = int(self._state.registers[NODES])
            self.nodes += used - before
            if result == PACKED:
                return SearchOutcome(tuple(int(offset) for offset in self._state.offset), False, Termination.PROVED)
            if result == REFUTED:
                return SearchOutcome(None, True, Termination.PROVED)
            if used >= attempt.node_limit:
                self._orders.learn(int(self._state.registers[MOST_PLACED]), self._state.heat)
                self._attempt = None

    def _begin(self, clock: Clock) -> Attempt:
        """Start the next run, with the compiled kernel from when it is worth it."""
        is_plain = self._run is kernel.search
        if is_plain and self._compiled is None and self.nodes >= NODES_BEFORE_COMPILED and can_compile(self._strip):
            run = compiled_search_if_soon(clock)
            if run is not None:
                self._switch(run)
        self._attempt = self._orders.next_attempt()
        self._instance, self._state = self._views.start(self._attempt)
        return self._attempt

    def _switch(self, run: Run) -> None:
        self._run, self._slice, self._views = run, COMPILED_SLICE, Views(self._strip, _int64)


class Views:
    """The kernel's view of a strip, made once; each run starts from a copy.

    Parameters
    ----------
    strip
        The problem.
    to_sequence
        Makes the sequences the kernel works on: lists or arrays.
    """

    def __init__(self, strip: Strip, to_sequence: ToSequence) -> None:
        self._strip, self._to = strip, to_sequence
        n = len(strip)
        members: list[list[int]] = [[] for _ in range(strip.num_sections)]
        for index, own in enumerate(strip.sections):
            for section in own:
                members[section].append(index)
        rows = {
            "section": strip.sections,
            "member": members,
            "rival": [sorted({conflict.other for conflict in own}) for own in strip.conflicts],
        }
        flat = {name: _flat(lists) for name, lists in rows.items()}
        self.instance = Instance(
            capacity=strip.capacity,
            sizes=to_sequence(strip.sizes),
            alignments=to_sequence(strip.alignments),
            pins=to_sequence([NONE if pin is None else pin for pin in strip.pins]),
            lower=to_sequence([lower for lower, _ in strip.spans]),
            upper=to_sequence([upper for _, upper in strip.spans]),
            section_start=to_sequence(flat["section"][0]),
            sections=to_sequence(flat["section"][1]),
            member_start=to_sequence(flat["member"][0]),
            members=to_sequence(flat["member"][1]),
            rival_start=to_sequence(flat["rival"][0]),
            rivals=to_sequence(flat["rival"][1]),
            stack=to_sequence(_stacks(strip)),
            twin=to_sequence([NONE] * n),
            order=to_sequence(range(n)),
            is_dynamic=0,
        )
        self.state = self._empty_state(members, len(flat["rival"][1]))

    def _empty_state(self, members: Sequence[Sequence[int]], num_conflicts: int) -> State:
        """Return a state in which nothing is placed, but for the order."""
        strip, to = self._strip, self._to
        n, num_sections, levels = len(strip), strip.num_sections, len(strip) + 2
        crossing = [0] * (num_sections + 1)
        for lower, upper in strip.spans:
            for section in range(lower + 1, upper):
                crossing[section] += 1
        lengths = {
            "registers": NUM_REGISTERS,
            **dict.fromkeys(("bound", "offset", "is_placed", "rank", "key", "items", "spare", "placed", "placed_on"), n),
            "heat": num_sections,
            **dict.fromkeys(("begin", "end", "first", "last", "after_offset", "after_rank", "chosen", "touched_first"), levels),
            **dict.fromkeys(("touched_last", "blame_first", "blame_last", "trail_mark", "placed_mark", "part_mark"), levels),
            **dict.fromkeys(("rank_mark", "part_next", "part_end"), levels),
            **dict.fromkeys(("trail_item", "trail_value"), num_conflicts + 1),
            **dict.fromkeys(("rank_item", "rank_value"), RANK_TRAIL_PER_BUFFER * n),
            **dict.fromkeys(("part_begin", "part_stop", "part_first", "part_last", "part_is_cut"), 2 * n + 2),
        }
        state = State(
            lowest=to([pin or 0 for pin in strip.pins]),
            total=to(strip.load),
            crossing=to(crossing),
            witness=to([own[0] if own else 0 for own in members]),
            stack_top=to([NONE] * n),
            **{name: to([0] * length) for name, length in lengths.items()},
        )
        state.end[0], state.last[0], state.blame_first[0] = n, num_sections, num_sections
        state.after_offset[0] = state.after_rank[0] = NONE
        return state

    def start(self, attempt: Attempt) -> tuple[Instance, State]:
        """Return what the kernel needs for one run."""
        position = [0] * len(self._strip)
        for place, index in enumerate(attempt.order):
            position[index] = place
        twins = self._to(_twins(self._strip, position))
        instance = self.instance._replace(order=self._to(position), twin=twins, is_dynamic=int(attempt.is_dynamic))
        fresh = State(*(values.copy() for values in self.state))  # type: ignore[attr-defined]
        return instance, fresh._replace(rank=self._to(position), items=self._to(attempt.order))


def _stacks(strip: Strip) -> list[int]:
    """Return a number per buffer that those with the same sections share, if they are neither aligned nor pinned."""
    numbers: dict[object, int] = {}
    stacks = []
    for index, own in enumerate(strip.sections):
        is_free = strip.alignments[index] == 1 and strip.pins[index] is None
        stacks.append(numbers.setdefault(own if is_free else index, len(numbers)))
    return stacks


def _twins(strip: Strip, position: Sequence[int]) -> list[int]:
    """Return for each buffer the equal one next before it in the order, or NONE."""
    twins = [NONE] * len(strip)
    for equal in strip.twins:
        for first, second in pairwise(sorted(equal, key=lambda index: position[index])):
            twins[second] = first
    return twins


def _flat(rows: Iterable[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return where each row starts, and the rows one after the other."""
    starts: list[int] = [0]
    flat: list[int] = []
    for row in rows:
        flat.extend(row)
        starts.append(len(flat))
    return starts, flat


def _int64(values: Iterable[int]) -> Any:
    import numpy as np

    return np.array(list(values), dtype=np.int64)


def can_compile(strip: Strip) -> bool:
    """Whether Numba is installed and the numbers of a strip are small enough for it."""
    keys = (max(strip.load, default=0) + 1) * len(strip)
    return importlib.util.find_spec("numba") is not None and max(keys, strip.capacity + sum(strip.sizes)) < LARGEST_TOTAL


def compiled_search() -> Run:
    """Return the compiled kernel; the first call in a process loads it, the first on a machine compiles it.

    Raises
    ------
    MissingError
        If Numba is not installed.
    """
    from cosma_sched.memory import packing_compiled

    run: Run = packing_compiled.search()
    return run


def is_loaded() -> bool:
    """Whether the compiled kernel has been called in this process, so that taking it costs nothing."""
    module = sys.modules.get("cosma_sched.memory.packing_compiled")
    return module is not None and module.is_loaded()


def compiled_search_if_soon(clock: Clock) -> Run | None:
    """Return the compiled kernel, or None where compiling it first would take too much of the time left or fails."""
    from cosma_sched.memory import packing_compiled

    try:
        if clock.remaining is None or clock.remaining > SECONDS_TO_COMPILE or packing_compiled.is_compiled():
            run: Run = packing_compiled.search()
            return run
    except ImportError as error:  # installed, but for another Python or numpy
        logging.getLogger(__name__).warning("the compiled packing search is not usable, plain Python goes on: %s", error)
    return None
