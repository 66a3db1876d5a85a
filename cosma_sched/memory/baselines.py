"""``--method belady`` and ``--method greedy``: what an allocator with replacement does, without looking at the whole problem.

The COSMA paper compares with such baselines and gives no details. The grid here is ours: ``docs/memory-planning.md`` states each choice,
and no single cell of it is "the" baseline.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from cosma_sched.errors import Reason
from cosma_sched.memory.baseline_placement import Addresses, Bytes, Room, arena_offsets
from cosma_sched.memory.bounds import PeakBounds
from cosma_sched.memory.layout import Layout, Stay
from cosma_sched.memory.planner import BY_ZERO, Answer
from cosma_sched.memory.problem import Network, Order, OrderChoice, Problem, Scratchpad, bits
from cosma_sched.result import Bound, Status, Termination


class Policy(StrEnum):
    """Which tensor leaves when there is no room."""

    BELADY = "belady"
    """The one whose next use is furthest away."""
    GREEDY = "greedy"
    """Those that cost the least traffic."""


class Placement(StrEnum):
    """What room is, and where in it a tensor goes."""

    FIRST_FIT = "first-fit"
    BEST_FIT = "best-fit"
    ARENA = "arena"
    """Evictions by bytes; addresses afterwards, by the rule of TensorFlow Lite's arena."""


@dataclass(frozen=True, slots=True)
class Fragmentation:
    """Where a baseline ended: a tensor that found no hole.

    Parameters
    ----------
    step
        The step.
    tensor, space_bytes
        The tensor and the bytes that it occupies.
    holes
        (offset, bytes) of what was free, lowest first.
    """

    step: int
    tensor: int
    space_bytes: int
    holes: tuple[tuple[int, int], ...]


def plan_baseline(problem: Problem, peaks: PeakBounds, policy: Policy, placement: Placement) -> Answer:
    """Plan with a baseline; where fragmentation ends it, the status is ``unknown`` and the reason has the step and the holes.

    Any order is read as the given one.
    """
    order = peaks.min_peak_order if problem.order == OrderChoice.MIN_PEAK else problem.network.given_order
    found = run_baseline(problem.network, order, problem.scratchpad, policy, placement)
    bound = Bound(0, (BY_ZERO,))
    if isinstance(found, Fragmentation):
        return Answer(Status.UNKNOWN, Termination.EXHAUSTED, None, None, bound, peaks, (_failure(problem, order, found),))
    traffic = found.traffic_bytes(problem.network)
    if traffic:
        return Answer(Status.FEASIBLE, Termination.EXHAUSTED, found, traffic, bound, peaks)
    return Answer(Status.OPTIMAL, Termination.PROVED, found, traffic, bound, peaks)


def run_baseline(network: Network, order: Order, scratchpad: Scratchpad, policy: Policy, placement: Placement) -> Layout | Fragmentation:
    """Return the plan of one baseline for one order, or where fragmentation ended it.

    The scratchpad has no pins, and every operator's own tensors fit.
    """
    arena = placement == Placement.ARENA
    capacity, bottom = scratchpad.usable_bytes, scratchpad.bottom_bytes
    room: Room = Bytes(capacity) if arena else Addresses(capacity, best_fit=placement == Placement.BEST_FIT)
    walk = _Walk(network, order, scratchpad, policy, room)
    stuck = walk.run() or (_into_arena(walk, capacity) if arena else None)
    if stuck is not None:
        return replace(stuck, holes=tuple((offset + bottom, size) for offset, size in stuck.holes))
    return Layout(order, tuple(walk.stays), tuple(offset + bottom for offset in walk.offsets))


def _into_arena(walk: _Walk, capacity: int) -> Fragmentation | None:
    """Give the stays their offsets, or return the first one that ends above the capacity."""
    stays, spaces = walk.stays, [walk.network.space[stay.tensor] for stay in walk.stays]
    walk.offsets = arena_offsets(stays, spaces, len(walk.order))
    over = {i for i, offset in enumerate(walk.offsets) if offset + spaces[i] > capacity}
    if not over:
        return None
    first = min(over, key=lambda i: stays[i])
    step, room = stays[first].start, Addresses(capacity, best_fit=True)
    for i, stay in enumerate(stays):
        if i not in over and stay.start <= step < stay.end:
            room.put(i, walk.offsets[i], spaces[i])
    return Fragmentation(step, stays[first].tensor, spaces[first], tuple(room.holes()))


class _Walk:
    """The steps one after the other: what is resident, since when and where, and what has a copy in DRAM."""

    def __init__(self, network: Network, order: Order, scratchpad: Scratchpad, policy: Policy, room: Room) -> None:
        self.network, self.order, self.policy, self.room = network, order, policy, room
        self.allow_relocation = scratchpad.allow_relocation
        self.uses = network.uses(order)
        self.copied = network.backed
        self.stays: list[Stay] = []
        self.offsets: list[int] = []
        self._resident: dict[int, tuple[int, int]] = {}
        """First step of the stay, and offset, of each resident tensor."""

    def run(self) -> Fragmentation | None:
        """Run every step; return where an operator's own tensors block each other for good."""
        for t, v in enumerate(self.order):
            operands = self.network.operands(v)
            missing = sorted((a for a in bits(operands) if a not in self._resident), key=self._larger_first)
            stuck = self._place(t, missing, operands)
            if stuck is not None and not self._rearrange(t, missing, operands):
                return stuck
            for a in bits(operands):
                if self.uses[a][-1] == t:
                    self._leave(a, t + 1)
        return None

    def _place(self, t: int, missing: Sequence[int], operands: int) -> Fragmentation | None:
        """Place an operator's missing tensors, larger first, evicting what it does not need."""
        for a in missing:
            while (offset := self.room.find(self.network.space[a])) is None:
                victims = self._victims(t, self.network.space[a], operands)
                if not victims:
                    return Fragmentation(t, a, self.network.space[a], tuple(self.room.holes()))
                for victim in victims:
                    self._evict(victim, t)
            self._arrive(a, t, offset)
        return None

    def _victims(self, t: int, space: int, operands: int) -> Sequence[int]:
        """Return what the policy evicts next: everything that may leave where no eviction opens a hole, nothing where nothing may leave."""
        others = [a for a in self._resident if not operands >> a & 1]
        if self.policy == Policy.BELADY:
            return sorted(others, key=lambda a: (-self._next_use(a, t), *self._larger_first(a)))[:1]

        def loss(members: Sequence[int]) -> tuple[object, ...]:
            soonest = min(self._next_use(a, t) for a in members)
            return sum(map(self._price, members)), soonest, sorted(map(self._larger_first, members))

        return min(self.room.openings(space, operands), key=loss, default=others)

    def _rearrange(self, t: int, missing: Sequence[int], operands: int) -> bool:
        """Place the missing tensors afresh, and where they still block each other, move operands through DRAM; return whether that helped.

        Operands that were resident before move only if they must: the cheapest that helps, else more and more of them.
        """
        for a in missing:
            if a in self._resident:  # placed at this very step: not there yet
                del self._resident[a]
                self.room.take(a)
        movable = [a for a in bits(operands) if a in self._resident and (self.allow_relocation or self.copied >> a & 1)]
        movable.sort(key=lambda a: (self._price(a), *self._larger_first(a)))
        singles, several = [[a] for a in movable], [movable[:count] for count in range(2, len(movable) + 1)]
        for lifted in ([], *singles, *several):
            offsets = self._packed([*missing, *lifted])
            if offsets is not None:
                for a in lifted:
                    if offsets[a] != self._resident[a][1]:
                        self._evict(a, t)
                for a in (*missing, *lifted):
                    if a not in self._resident:
                        self._arrive(a, t, offsets[a])
                return True
        return False

    def _packed(self, tensors: Sequence[int]) -> dict[int, int] | None:
        """Return offsets of these tensors, larger first, around what else is resident; the room is left as it was."""
        offsets: dict[int, int] = {}
        for a in tensors:
            if a in self._resident:
                self.room.take(a)
        for a in sorted(tensors, key=self._larger_first):
            offset = self.room.find(self.network.space[a])
            if offset is None:
                break
            offsets[a] = offset
            self.room.put(a, offset, self.network.space[a])
        for a in offsets:
            self.room.take(a)
        for a in tensors:
            if a in self._resident:
                self.room.put(a, self._resident[a][1], self.network.space[a])
        return offsets if len(offsets) == len(tensors) else None

    def _arrive(self, a: int, t: int, offset: int) -> None:
        self._resident[a] = t, offset
        self.room.put(a, offset, self.network.space[a])

    def _leave(self, a: int, end: int) -> None:
        start, offset = self._resident.pop(a)
        self.room.take(a)
        self.stays.append(Stay(a, start, end))
        self.offsets.append(offset)

    def _evict(self, a: int, t: int) -> None:
        self._leave(a, t)
        self.copied |= 1 << a

    def _price(self, a: int) -> int:
        """Return what it costs to evict a tensor that is needed again: its retrieve, and its spill where DRAM has no copy."""
        return self.network.size[a] * (1 if self.copied >> a & 1 else 2)

    def _next_use(self, a: int, t: int) -> int:
        return self.uses[a][bisect_right(self.uses[a], t)]

    def _larger_first(self, a: int) -> tuple[int, str]:
        return -self.network.space[a], self.network.tensors[a].name


def _failure(problem: Problem, order: Order, end: Fragmentation) -> Reason:
    """Say at which step a baseline failed, for which tensor, and which holes there were."""
    network = problem.network
    operator = network.graph.operators[order[end.step]]
    longest = max((size for _, size in end.holes), default=0)
    free = sum(size for _, size in end.holes)
    holes = f"{free:,} are free, in holes of at most {longest:,}" if free else "none are free"
    return Reason(
        rule="fragmentation",
        where=f'step {end.step}, {operator.type} "{operator.name}"',
        statement=f'"{network.tensors[end.tensor].name}" needs {end.space_bytes:,} bytes in one piece; {holes}',
        demand=end.space_bytes,
        limit=longest,
        short=end.space_bytes - longest,
        terms=tuple((f"hole {offset} to {offset + size}:", size) for offset, size in end.holes),
    )
