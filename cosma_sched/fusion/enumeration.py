"""The groups of the declared space: connected convex sets of nodes with one sink, grown backwards from the sink.

From the sink on, nodes are taken up or left out in the order opposite to that in which they run. A node that is left out although a member
reads it bars all nodes before it that lead to it, since the group would leave and re-enter through it. So each set is met once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.cost import Machine
from cosma_sched.progress import Clock

MOST_GROUPS = 8_000
"""Beyond it the length of one-tile groups is limited, and the declared space says so."""
_LENGTHS = (None, 24, 16, 12, 8, 0)


@dataclass(frozen=True, slots=True)
class Candidates:
    """Groups that may be formed.

    Parameters
    ----------
    groups
        Members of each, in the order in which they run; two or more.
    longest
        Most layers of a one-tile group that were tried; None for no limit.
    complete
        False where time did not suffice to find them all.
    """

    groups: tuple[tuple[int, ...], ...]
    longest: int | None
    complete: bool = True


def candidates(problem: FusionProblem, machine: Machine, max_group: int, clock: Clock | None = None) -> Candidates:
    """Return all groups of the declared space.

    Parameters
    ----------
    problem, machine
        Network and accelerator.
    max_group
        Most layers of a group of several tiles; longer ones run as one tile if their maps fit.
    clock
        When to stop.
    """
    clock = clock or Clock(None)
    found: list[tuple[int, ...]] = []
    for longest in _LENGTHS:
        found.clear()
        limit = None if longest is None else max(longest, max_group)
        for members in _grown(problem, machine, max_group, limit):
            found.append(members)
            if clock.expired:
                return Candidates(tuple(found), limit, complete=False)
            if len(found) > MOST_GROUPS and longest != 0:
                break
        else:
            return Candidates(tuple(found), limit)
    return Candidates(tuple(found), 0)


def _grown(problem: FusionProblem, machine: Machine, max_group: int, longest: int | None) -> Iterator[tuple[int, ...]]:
    ancestors = _ancestors(problem)
    for sink, node in enumerate(problem.nodes):
        if node.barrier is None:
            growth = _Growth(problem, machine, max_group, longest, ancestors)
            yield from growth.grow((sink,), sink - 1, 0)


def _ancestors(problem: FusionProblem) -> list[int]:
    found: list[int] = []
    for node in problem.nodes:
        mask = 0
        for producer in node.producers:
            mask |= found[producer] | 1 << producer
        found.append(mask)
    return found


@dataclass(frozen=True, slots=True)
class _Growth:
    problem: FusionProblem
    machine: Machine
    max_group: int
    longest: int | None
    ancestors: list[int]

    def grow(self, members: tuple[int, ...], place: int, barred: int) -> Iterator[tuple[int, ...]]:
        """Yield all sets that extend some members by nodes up to a place."""
        inside = set(members)
        while place >= 0:
            if not barred >> place & 1 and inside.intersection(self.problem.consumers[place]):
                larger = (place, *members)
                if self._may_join(place, inside) and self._may_run(larger):
                    yield larger
                    yield from self.grow(larger, place - 1, barred)
                barred |= self.ancestors[place] | 1 << place
            place -= 1

    def _may_join(self, place: int, inside: set[int]) -> bool:
        if self.problem.nodes[place].barrier is not None:
            return False
        readers = inside.intersection(self.problem.consumers[place])
        operands = [operand for reader in readers for operand in self.problem.nodes[reader].operands if operand.producer == place]
        return all(operand.barrier is None for operand in operands)

    def _may_run(self, members: tuple[int, ...]) -> bool:
        """Return whether a set is short enough to be tiled, or its maps fit whole; more members never need less."""
        layers = sum(self.problem.nodes[index].layer is not None for index in members)
        if layers <= self.max_group:
            return True
        if self.longest is not None and layers > self.longest:
            return False
        return self._most_whole(members) <= int(self.machine.scratchpad_bytes)

    def _most_whole(self, members: tuple[int, ...]) -> int:
        """Return the most bytes that whole maps take at any step."""
        nodes = self.problem.nodes
        inside = set(members)
        most = live = 0
        last = {index: max(inside.intersection(self.problem.consumers[index]), default=index) for index in members}
        ends: dict[int, int] = {}
        for index in members[:-1]:
            ends[last[index]] = ends.get(last[index], 0) + nodes[index].words
        for index in members:
            live += nodes[index].words if index != members[-1] else 0
            most = max(most, live)
            live -= ends.get(index, 0)
        return most
