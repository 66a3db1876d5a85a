"""Modulo schedules: one iteration of a loop, started again every II cycles, so that iterations overlap without getting in each other's way.

A task of iteration i starts at ``start + i II``. On the circle of II cycles each resource runs one task at a time, and the bytes of all
iterations that are in flight fit into every memory. II is at least the load of the busiest resource (ResMII) and the length of every
cycle of precedences over the iterations that it spans (RecMII); Rau, "Iterative modulo scheduling", 1994.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

GROWTH = 1.004
"""How much longer the next II is where one was too short."""


@dataclass(frozen=True, slots=True)
class Task:
    """A node's run or a transfer.

    Parameters
    ----------
    name
        Unique in one iteration.
    duration
        Cycles for which it occupies all its resources.
    resources
        Cores, links, buses and ports by name.
    is_fetch
        Whether it brings something that waits off-chip: such a task has no hurry and is started as late as its readers allow.
    """

    name: str
    duration: int
    resources: tuple[str, ...]
    is_fetch: bool = False


@dataclass(frozen=True, slots=True)
class Edge:
    """``start[after] + distance * II >= start[before] + lag``."""

    before: int
    after: int
    lag: int
    distance: int = 0


@dataclass(frozen=True, slots=True)
class Stay:
    """Bytes that lie in a memory from the start of one task to the last end among others of the same iteration."""

    memory: str
    size_bytes: int
    begin: int
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PeriodicSystem:
    """One iteration: tasks in a topological order, precedences, stays, and what each memory has left for them; None is no limit."""

    tasks: tuple[Task, ...]
    edges: tuple[Edge, ...]
    stays: tuple[Stay, ...]
    room: Mapping[str, int | None]

    def res_mii(self) -> int:
        """Return the load of the busiest resource."""
        load: dict[str, int] = defaultdict(int)
        for task in self.tasks:
            for resource in task.resources:
                load[resource] += task.duration
        return max([1, *load.values()])

    def rec_mii(self) -> int:
        """Return the least II that no cycle of precedences forbids."""
        low, high = 1, max(1, sum(edge.lag for edge in self.edges))
        while low < high:
            middle = (low + high) // 2
            if self._has_positive_cycle(middle):
                low = middle + 1
            else:
                high = middle
        return low

    def _has_positive_cycle(self, ii: int) -> bool:
        start = [0] * len(self.tasks)
        for _ in range(len(self.tasks) + 1):
            changed = False
            for edge in self.edges:
                least = start[edge.before] + edge.lag - ii * edge.distance
                if start[edge.after] < least:
                    start[edge.after], changed = least, True
            if not changed:
                return False
        return True

    def least_ii(self) -> int:
        """Return the proven lower bound on II for these tasks on these resources."""
        return max(self.res_mii(), self.rec_mii())

    def broken(self, starts: Sequence[int], ii: int) -> str | None:
        """Return what a modulo schedule breaks, or None; checked by the definition, not by how it was made."""
        for edge in self.edges:
            if starts[edge.after] + edge.distance * ii < starts[edge.before] + edge.lag:
                return f"{self.tasks[edge.after].name} starts too early after {self.tasks[edge.before].name}"
        busy: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for task, start in zip(self.tasks, starts, strict=True):
            for resource in task.resources if task.duration else ():
                busy[resource].append((start % ii, task.duration))
        for resource, spans in busy.items():
            spans.sort()
            for (one, length), (other, _) in zip(spans, [*spans[1:], (spans[0][0] + ii, 0)], strict=True):
                if one + length > other:
                    return f"{resource} is taken twice"
        for memory, peak in peaks(self, starts, ii).items():
            room = self.room.get(memory)
            if room is not None and peak > room:
                return f"{memory} holds {peak} bytes at once and has {room}"
        return None


def peaks(system: PeriodicSystem, starts: Sequence[int], ii: int) -> dict[str, int]:
    """Return the most bytes that the iterations in flight hold at once in each memory."""
    events: dict[str, list[tuple[int, int]]] = defaultdict(list)
    always: dict[str, int] = defaultdict(int)
    for stay in system.stays:
        begin = starts[stay.begin]
        length = max(starts[task] + system.tasks[task].duration for task in stay.ends) - begin
        laps, rest = divmod(length, ii)
        always[stay.memory] += laps * stay.size_bytes
        if rest:
            first, last = begin % ii, begin % ii + rest
            events[stay.memory] += [(first, stay.size_bytes), (min(last, ii), -stay.size_bytes)]
            if last > ii:
                events[stay.memory] += [(0, stay.size_bytes), (last - ii, -stay.size_bytes)]
    found: dict[str, int] = {}
    for memory in {*events, *always}:
        most = live = 0
        for _, size in sorted(events[memory]):
            live += size
            most = max(most, live)
        found[memory] = most + always[memory]
    return found


class _Circle:
    """When a resource is taken, on a circle of II cycles."""

    def __init__(self, ii: int) -> None:
        self._ii = ii
        self._spans: list[tuple[int, int]] = []  # (first, last), sorted, disjoint, within [0, II)

    def late(self, start: int, duration: int) -> int:
        """Return how many cycles a task must wait until whatever is in its way is over; 0 if nothing is."""
        place = start % self._ii
        return max((last - place for _, last in self._in_the_way(place, duration)), default=0)

    def early(self, start: int, duration: int) -> int:
        """Return how many cycles earlier a task must start to end before whatever is in its way; 0 if nothing is."""
        place = start % self._ii
        return max((place + duration - first for first, _ in self._in_the_way(place, duration)), default=0)

    def take(self, start: int, duration: int) -> None:
        """Take the resource from a time on."""
        first = start % self._ii
        bisect.insort(self._spans, (first, min(first + duration, self._ii)))
        if first + duration > self._ii:
            bisect.insort(self._spans, (0, first + duration - self._ii))

    def _in_the_way(self, place: int, duration: int) -> Iterator[tuple[int, int]]:
        """Yield the spans that [place, place + duration) meets, those of the next lap moved there."""
        if duration > self._ii:
            yield place, place + self._ii
        for lap in (0, self._ii):
            position = max(0, bisect.bisect_right(self._spans, (place - lap, self._ii)) - 1)
            while position < len(self._spans) and self._spans[position][0] + lap < place + duration:
                first, last = self._spans[position]
                if last + lap > place:
                    yield first + lap, last + lap
                position += 1


def place(system: PeriodicSystem, ii: int) -> list[int] | None:
    """Place all tasks on a circle, nodes and transfers between cores as early as they can, fetches as late as they can.

    Returns
    -------
    list of int or None
        A start for each task, checked; None where this order of placing finds no way.
    """
    circles: dict[str, _Circle] = defaultdict(lambda: _Circle(ii))
    before: dict[int, list[Edge]] = defaultdict(list)
    after: dict[int, list[Edge]] = defaultdict(list)
    for edge in system.edges:
        before[edge.after].append(edge)
        after[edge.before].append(edge)
    starts: dict[int, int] = {}
    for position, task in enumerate(system.tasks):
        if task.is_fetch:
            continue
        known = [starts[edge.before] + edge.lag - ii * edge.distance for edge in before[position] if edge.before in starts]
        found = _earliest(circles, task, max([0, *known]), ii)
        if found is None or any(
            starts[edge.after] + ii * edge.distance < found + edge.lag for edge in after[position] if edge.after in starts
        ):
            return None
        starts[position] = found
        _take(circles, task, found)
    for position in sorted(_fetches(system), key=lambda position: -_deadline(position, starts, after, ii)):
        task = system.tasks[position]
        latest = _latest(circles, task, _deadline(position, starts, after, ii) - task.duration, ii)
        if latest is None:
            return None
        starts[position] = latest
        _take(circles, task, latest)
    placed = [starts[position] for position in range(len(system.tasks))]
    return None if system.broken(placed, ii) else placed


def _fetches(system: PeriodicSystem) -> list[int]:
    return [position for position, task in enumerate(system.tasks) if task.is_fetch]


def _deadline(position: int, starts: Mapping[int, int], after: Mapping[int, Sequence[Edge]], ii: int) -> int:
    return min(starts[edge.after] + ii * edge.distance for edge in after[position] if edge.after in starts)


def _earliest(circles: Mapping[str, _Circle], task: Task, start: int, ii: int) -> int | None:
    """Return the first time from `start` on at which all its resources are free; None if there is none within a lap."""
    now = start
    while now < start + ii:
        wait = max((circles[resource].late(now, task.duration) for resource in task.resources if task.duration), default=0)
        if wait == 0:
            return now
        now += wait
    return None


def _latest(circles: Mapping[str, _Circle], task: Task, start: int, ii: int) -> int | None:
    """Return the last time up to `start` at which all its resources are free; None if there is none within a lap."""
    now = start
    while now > start - ii:
        step = max((circles[resource].early(now, task.duration) for resource in task.resources if task.duration), default=0)
        if step == 0:
            return now
        now -= step
    return None


def _take(circles: Mapping[str, _Circle], task: Task, start: int) -> None:
    for resource in task.resources if task.duration else ():
        circles[resource].take(start, task.duration)


def search(system: PeriodicSystem, *, most: int | None = None) -> tuple[int, list[int]] | None:
    """Return the shortest II that placing finds, and the starts; None where none up to `most` (twice the least II) does.

    Placing is a heuristic: that a shorter II was not found proves nothing, only `least_ii` does.
    """
    ii = least = system.least_ii()
    limit = 2 * least if most is None else most
    while ii <= limit:
        if (starts := place(system, ii)) is not None:
            return _shorten(system, max(least, round(ii / GROWTH)), ii, starts)
        ii = max(ii + 1, round(ii * GROWTH))
    return None


def _shorten(system: PeriodicSystem, low: int, high: int, starts: list[int]) -> tuple[int, list[int]]:
    """Halve the way between an II that was too short and one that works."""
    while high - low > max(1, high // 10_000):
        middle = (low + high) // 2
        if (found := place(system, middle)) is not None:
            high, starts = middle, found
        else:
            low = middle
    return high, starts
