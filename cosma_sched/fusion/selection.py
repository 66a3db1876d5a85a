"""Which groups: each node in exactly one, no cycle among them, the least a E + b L.

Two exact ways. Paths: the nodes that have run form an ideal of the network's order, a group leads from one ideal to a larger one, and the
cheapest path from nothing to everything is the best partition; acyclic by construction, in whole numbers of any size, and on a chain a
shortest path over its positions. It is taken where the ideals are few. Programs: set partitioning on a back end, with a cut for every
cycle that comes up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from cosma_sched.backends.linear import Program
from cosma_sched.backends.options import SolverOptions
from cosma_sched.backends.solve import solve_linear
from cosma_sched.fusion.hull import Point, least
from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.network import Support
from cosma_sched.result import Status

MOST_IDEALS = 30_000
_MOST_TRIALS = 10_000_000
"""(ideal, option) pairs that are tried before the paths are given up."""
_LARGEST = {"cpsat": 2**58, "cbc": 2**30, "highs": 2**30}
"""Sum of costs that a back end is given; larger ones are scaled down, and bounds carry what that takes off."""


@dataclass(frozen=True, slots=True)
class Option:
    """A group that may be chosen.

    Parameters
    ----------
    members
        Nodes.
    hull
        Its (energy, latency) vertices.
    """

    members: tuple[int, ...]
    hull: tuple[Point, ...]


Chosen = tuple[tuple[int, int], ...]
"""(option, vertex) of every group that was chosen."""


class SelectionError(Exception):
    """A back end ended without an answer."""


class Paths:
    """Selection by cheapest paths through ideals.

    Parameters
    ----------
    problem, options
        Network, and the groups that may be chosen; every node alone among them.
    """

    def __init__(self, problem: FusionProblem, options: Sequence[Option]) -> None:
        self.options = options
        self._masks = [sum(1 << member for member in option.members) for option in options]
        before = [sum(1 << producer for producer in node.producers) for node in problem.nodes]
        self._needs = [
            _union(before[member] for member in option.members) & ~mask for option, mask in zip(options, self._masks, strict=True)
        ]
        self._everything = (1 << len(problem.nodes)) - 1
        self._last = -2
        self.is_complete, self._steps = self._reach()

    def _reach(self) -> tuple[bool, list[tuple[int, int, int, tuple[int, ...]]]]:
        """Return whether all ideals were met, and (from, to, option, single nodes that follow at no choice), earlier ideals first."""
        free, choices = self._free(), self._choices()
        start, alone = self._closed(0, free)
        places = {start: 0}
        steps: list[tuple[int, int, int, tuple[int, ...]]] = [(-1, 0, -1, alone)]
        queue = [start]
        for ideal in queue:
            if len(places) * len(choices) > _MOST_TRIALS:
                return False, []
            for option in choices:
                mask = self._masks[option]
                if mask & ideal or self._needs[option] & ~ideal:
                    continue
                larger, alone = self._closed(ideal | mask, free)
                if larger not in places:
                    if len(places) >= MOST_IDEALS:
                        return False, []
                    places[larger] = len(places)
                    queue.append(larger)
                steps.append((places[ideal], places[larger], option, alone))
        self._last = len(queue) - 1 if self._everything in places else -2
        order = sorted(range(len(queue)), key=lambda place: queue[place].bit_count())
        rank = {place: position for position, place in enumerate(order)}
        ranked = [(rank[one] if one >= 0 else -1, rank[other], option, alone) for one, other, option, alone in steps]
        return True, sorted(ranked, key=lambda step: step[0])

    def _free(self) -> dict[int, int]:
        """Return the option of each node that is in no group but its own."""
        met: dict[int, list[int]] = {}
        for index, option in enumerate(self.options):
            for member in option.members:
                met.setdefault(member, []).append(index)
        return {member: indices[0] for member, indices in met.items() if len(indices) == 1 and len(self.options[indices[0]].members) == 1}

    def _choices(self) -> list[int]:
        free = set(self._free().values())
        return [index for index in range(len(self.options)) if index not in free]

    def _closed(self, ideal: int, free: dict[int, int]) -> tuple[int, tuple[int, ...]]:
        """Return an ideal with every node that can only run alone and has what it needs."""
        alone: list[int] = []
        for member, option in free.items():  # nodes stand in topological order
            if not ideal >> member & 1 and not self._needs[option] & ~ideal:
                ideal |= 1 << member
                alone.append(option)
        return ideal, tuple(alone)

    def solve(self, a: int, b: int) -> Support[Chosen]:
        """Return the best partition."""
        prices = [least(option.hull, a, b) for option in self.options]
        costs = [(a * energy + b * latency, energy, latency) for energy, latency in prices]
        best: dict[int, tuple[tuple[int, int, int], int, int, tuple[int, ...]]] = {}
        for one, other, option, alone in self._steps:
            total = (0, 0, 0) if one < 0 else _plus(best[one][0], costs[option])
            for index in alone:
                total = _plus(total, costs[index])
            if other not in best or total < best[other][0]:
                best[other] = (total, one, option, alone)
        place = max(best)
        if place != self._last:
            raise SelectionError("some node is in no group that can run")
        (value, energy, latency), chosen = best[place][0], []
        while place >= 0:
            _, place, option, alone = best[place]
            chosen += [*([option] if option >= 0 else []), *alone]
        vertices = tuple((index, self.options[index].hull.index(prices[index])) for index in sorted(chosen))
        return Support(energy, latency, value, vertices)


def _plus(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    return one[0] + other[0], one[1] + other[1], one[2] + other[2]


def _union(masks: Any) -> int:
    found = 0
    for mask in masks:
        found |= mask
    return found


@dataclass
class Programs:
    """Selection by set partitioning on a back end.

    Parameters
    ----------
    problem, options
        Network, and the groups that may be chosen; every node alone among them.
    solver
        Back end and limits of one solve.
    """

    problem: FusionProblem
    options: Sequence[Option]
    solver: SolverOptions
    cuts: list[tuple[int, ...]] = field(default_factory=list)
    """Sets of options that may not be chosen together, found so far."""

    def solve(self, a: int, b: int) -> Support[Chosen]:
        """Return the best partition and what the back end has proven.

        Raises
        ------
        SelectionError
            If the back end found nothing within its limits.
        """
        prices = [least(option.hull, a, b) for option in self.options]
        costs = [a * energy + b * latency for energy, latency in prices]
        alone = {option.members[0]: cost for option, cost in zip(self.options, costs, strict=True) if len(option.members) == 1}
        base = sum(alone.values())
        savings = [cost - sum(alone.get(member, 0) for member in option.members) for option, cost in zip(self.options, costs, strict=True)]
        shift = max(0, (sum(map(abs, savings)) // _LARGEST[self.solver.solver]).bit_length())
        scaled = [saving >> shift for saving in savings]  # rounded down, so that bounds stay bounds
        everything_alone = sum(len(option.members) == 1 for option in self.options) == len(self.problem.nodes)
        alone_start = [index for index, option in enumerate(self.options) if len(option.members) == 1] if everything_alone else None
        chosen, bound = self._choose(scaled, (), alone_start)
        if not a or not b:  # of equal ones, that with least of the other value, if the back end finds it
            others = [price[1] if not b else price[0] for price in prices]
            rival, _ = self._choose(others, ((scaled, sum(scaled[index] for index in chosen)),), chosen)
            if sum(costs[index] for index in rival) == sum(costs[index] for index in chosen):
                chosen = rival
        energy = sum(prices[index][0] for index in chosen)
        latency = sum(prices[index][1] for index in chosen)
        value = a * energy + b * latency
        if bound is None and not shift:
            proven = value
        else:
            proven = base + ((bound if bound is not None else sum(scaled[index] for index in chosen)) << shift)
        vertices = tuple((index, self.options[index].hull.index(prices[index])) for index in chosen)
        # below 0 a bound says nothing, and the product of two such bounds would be taken for one
        return Support(energy, latency, max(0, min(value, proven)), vertices)

    def _choose(
        self, costs: Sequence[int], limits: Sequence[tuple[Sequence[int], int]], held: Sequence[int] | None
    ) -> tuple[list[int], int | None]:
        """Return the best options that form no cycle, and what is proven where that is less; None where they are proven to be the best."""
        start: dict[Any, int] | None = None
        if held is not None:
            start = {index: int(index in set(held)) for index in range(len(self.options))}
        while True:
            outcome = solve_linear(self._program(costs, limits), options=self.solver, start=start)
            if outcome.values is None:
                raise SelectionError(str(outcome.termination))
            chosen = [index for index in range(len(self.options)) if outcome.values[index]]
            cycle = self._cycle(chosen)
            if cycle is None:
                break
            self.cuts.append(cycle)
        if outcome.status == Status.OPTIMAL:
            return chosen, None
        return chosen, outcome.bound if outcome.bound is not None else -sum(map(abs, costs))

    def _program(self, costs: Sequence[int], limits: Sequence[tuple[Sequence[int], int]]) -> Program:
        program = Program("groups of a network")
        variables = [program.binary(index) for index in range(len(self.options))]
        holding: list[list[Any]] = [[] for _ in self.problem.nodes]
        for variable, option in zip(variables, self.options, strict=True):
            for member in option.members:
                holding[member].append((variable, 1))
        for terms in holding:
            program.equal(terms, 1, "each node in one group")
        for cut in self.cuts:
            program.at_most([(variables[index], 1) for index in cut], len(cut) - 1, "no cycle of groups")
        for weights, most in limits:
            program.at_most(list(zip(variables, weights, strict=True)), most, "not worse in the first value")
        program.minimise(list(zip(variables, costs, strict=True)))
        return program

    def _cycle(self, chosen: Sequence[int]) -> tuple[int, ...] | None:
        """Return the options of a cycle of groups, or None."""
        owner = {member: index for index in chosen for member in self.options[index].members}
        quotient: nx.DiGraph[int] = nx.DiGraph()
        for place, node in enumerate(self.problem.nodes):
            quotient.add_edges_from((owner[producer], owner[place]) for producer in node.producers if owner[producer] != owner[place])
        try:
            return tuple(edge[0] for edge in nx.find_cycle(quotient))
        except nx.NetworkXNoCycle:
            return None
