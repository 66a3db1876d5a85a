"""Divide a large network: exact traffic of parts adds up to a bound, and guides the search of the whole.

The tensors of a network are laid out by the position of the operator that creates them (an input: of its first reader). An interval of
positions stands for its tensors; `Network.part` is its sub-problem. What an interval must cost whatever the rest does is found by the
label-setting search of `joint`, guided in turn by what smaller intervals are known to cost (`Floor`). Disjoint intervals add up, since
each byte of traffic belongs to one tensor.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from cosma_sched.memory.joint import Floor, search
from cosma_sched.memory.problem import Network, Order, bits, mask_of
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Termination

STEP = 10
"""Operators by which an interval grows."""
STALE_STEPS = 3
"""Steps without gain after which a chain of growing intervals ends."""
SEQUENCES_TO_TRY = 4
LABELS_OF_A_QUICK_STEP = 20_000
"""Labels from which on a chain grows by three steps at a time."""
LABELS_OF_A_CHAIN = 500_000
"""Labels after which a chain ends: a larger interval would take longer than the whole network guided by this one."""


class Division:
    """What is known about intervals of a network, and the best partition into disjoint ones.

    Parameters
    ----------
    network, capacity_bytes
        What is planned.
    """

    def __init__(self, network: Network, capacity_bytes: int) -> None:
        self.network, self.capacity = network, capacity_bytes
        self.interrupted = False
        self.labels = 0
        self._known: dict[tuple[int, int], int] = {}
        self._orders: dict[tuple[int, int], Order] = {}
        positions = [self._position(a) for a in range(len(network.size))]
        self._by_position = sorted(range(len(network.size)), key=positions.__getitem__)
        self._positions = sorted(positions)

    def _position(self, a: int) -> int:
        producer = self.network.producer[a]
        return next(bits(self.network.consumers[a])) if producer is None else producer

    def tensors(self, low: int, high: int) -> int:
        """Return the tensors of positions `low` to `high` - 1."""
        return mask_of(self._by_position[bisect_left(self._positions, low) : bisect_left(self._positions, high)])

    def floors(self, low: int = 0, high: int | None = None) -> list[Floor]:
        """Return disjoint intervals within `low` to `high` whose traffic adds up to the most."""
        return [Floor(self.tensors(a, b), self._known[a, b]) for a, b in self._partition(low, high)[1]]

    def bound(self, low: int = 0, high: int | None = None) -> int:
        """Return the traffic that the tensors of an interval cause at least."""
        return self._partition(low, high)[0]

    def _partition(self, low: int, high: int | None) -> tuple[int, list[tuple[int, int]]]:
        """Return the best sum of disjoint known intervals and the intervals, by dynamic programming over their ends."""
        high = self.network.num_operators if high is None else high
        inside = {key: value for key, value in self._known.items() if low <= key[0] and key[1] <= high and value}
        ends = sorted({low, high, *(point for key in inside for point in key)})
        best: dict[int, tuple[int, list[tuple[int, int]]]] = {low: (0, [])}
        for before, point in pairwise(ends):
            best[point] = best[before]
            for (start, end), value in inside.items():
                if end == point and best[start][0] + value > best[point][0]:
                    best[point] = (best[start][0] + value, [*best[start][1], (start, end)])
        return best[high]

    def sequences(self) -> list[Order]:
        """Return orders of operators, each optimal for the tensors of one interval alone: of the costliest intervals, narrow ones first.

        One of them, kept fixed, makes the rest of a network easy to plan; which one is best is not known beforehand.
        """
        solved = [key for key in self._orders if self._known[key]]
        costliest = sorted(solved, key=lambda key: (-self._known[key], key[1] - key[0]))[:SEQUENCES_TO_TRY]
        return [self._orders[key] for key in costliest]

    def solve(self, low: int, high: int, progress: Progress) -> bool:
        """Find what an interval costs, as far as time allows; return whether it was found exactly."""
        part = self.network.part(self.tensors(low, high))
        found = search(part, self.capacity, cutoff_bytes=None, progress=progress, floors=self.floors(low, high))
        self.labels += found.labels
        self.interrupted = self.interrupted or found.termination == Termination.INTERRUPTED
        self._known[low, high] = max(found.bound_bytes, self.bound(low, high))
        if found.order is not None:
            self._orders[low, high] = tuple(part.members[i] for i in found.order)
        progress.report("divide", bound=self.bound(), note=f"operators {low} to {high - 1}")
        return found.termination == Termination.PROVED

    def grow(self, progress: Progress) -> None:
        """Solve short intervals everywhere, then chains of growing intervals from left to right, until the clock ends."""
        n = self.network.num_operators
        starts = range(0, n, STEP)
        for low in starts:
            if not self._goes_on(progress.clock) or not self.solve(low, min(low + STEP, n), progress):
                return
        low = 0
        while low < n:
            gained = self._chain(low, progress)
            if not self._goes_on(progress.clock):
                return
            low = gained or low + STEP

    def _chain(self, low: int, progress: Progress) -> int | None:
        """Grow an interval from `low`; return where the last gain over the sum of its parts ended, None if there was none."""
        n, gained, stale, before = self.network.num_operators, None, 0, self.labels
        end, stride = low + STEP, STEP
        while end < n:
            end = min(end + stride, n)
            parts, labels = self.bound(low, end), self.labels
            exact = self.solve(low, end, progress)
            stride = STEP if self.labels - labels < LABELS_OF_A_QUICK_STEP else 3 * STEP
            gained, stale = (end, 0) if self._known[low, end] > parts else (gained, stale + 1)
            if not exact or stale > STALE_STEPS or self.labels - before > LABELS_OF_A_CHAIN or not self._goes_on(progress.clock):
                break
        return gained

    def _goes_on(self, clock: Clock) -> bool:
        return not (self.interrupted or clock.expired)


def divide(network: Network, capacity_bytes: int, *, clock: Clock, progress: Progress) -> Division:
    """Return a division grown until it stops gaining or the clock ends."""
    division = Division(network, capacity_bytes)
    division.grow(Progress(clock, progress.observers))
    return division


def additive_bound(floors: Sequence[Floor]) -> int:
    """Return the traffic that disjoint floors prove together."""
    return sum(floor.traffic_bytes for floor in floors)
