"""Exhaustive answers for tiny graphs, written from the rules alone: nothing here is shared with the planner.

`least_traffic_by_capacity` and `least_traffic_with_addresses` are shortest paths over everything that can be resident, in every order.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cosma_sched.graph import Graph, Operator, TensorKind
from cosma_sched.memory.replacement import GapModel

Placement = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Rules:
    """What else a valid plan obeys: alignment, reserved bytes at the bottom, fixed offsets, relocation between adjacent steps."""

    align: int = 1
    reserve: int = 0
    pins: Mapping[str, int] = field(default_factory=dict)
    relocation: bool = False

    def space(self, size: int) -> int:
        return -(-size // self.align) * self.align

    def offsets(self, name: str, size: int, capacity: int) -> list[int]:
        bottom = self.space(self.reserve)
        every = range(bottom, capacity - self.space(size) + 1, self.align)
        return [offset for offset in every if self.pins.get(name, offset) == offset]


class _Facts:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.size = {t.name: t.size_bytes for t in graph.tensors.values() if t.kind != TensorKind.PARAMETER}
        self.kind = {t.name: t.kind for t in graph.tensors.values()}
        self.readers = {name: frozenset(op.name for op in graph.consumers(name)) for name in self.size}

    def operands(self, operator: Operator) -> list[str]:
        return [name for name in dict.fromkeys((*operator.inputs, *operator.outputs)) if name in self.size]

    def ready(self, done: frozenset[str]) -> Iterator[Operator]:
        for operator in self.graph:
            producers = (self.graph.producer(name) for name in operator.inputs)
            if operator.name not in done and all(p is None or p.name in done for p in producers):
                yield operator

    def is_dead(self, name: str, done: frozenset[str]) -> bool:
        producer = self.graph.producer(name)
        return self.readers[name] <= done and (producer is None or producer.name in done)

    def seen(self, name: str, done: frozenset[str]) -> bool:
        """Return whether an input has been loaded, or a tensor created, once these operators have run."""
        producer = self.graph.producer(name)
        return producer.name in done if producer else bool(self.readers[name] & done)


def min_peak(graph: Graph) -> int:
    """Return M_P: the least peak of live bytes over all orders, by dynamic programming over sets of executed operators."""
    facts = _Facts(graph)
    peaks = {frozenset[str](): 0}
    for _ in graph:
        following: dict[frozenset[str], int] = {}
        for done, peak in peaks.items():
            for operator in facts.ready(done):
                live = {n for n in facts.size if facts.seen(n, done) and not facts.is_dead(n, done)} | set(facts.operands(operator))
                after = done | {operator.name}
                reached = max(peak, sum(facts.size[name] for name in live))
                following[after] = min(following.get(after, reached), reached)
        peaks = following
    return next(iter(peaks.values()))


def least_traffic_by_capacity(graph: Graph, capacity: int) -> int:
    """Return the least spilled plus retrieved bytes over all orders when only bytes are counted."""
    facts = _Facts(graph)
    start = (frozenset[str](), frozenset[str](), frozenset[str]())
    heap: list[tuple[int, int, tuple[frozenset[str], frozenset[str], frozenset[str]]]] = [(0, 0, start)]
    best = {start: 0}
    counter = itertools.count(1)
    while heap:
        cost, _, state = heapq.heappop(heap)
        done, resident, copied = state
        if len(done) == len(graph):
            return cost
        if best[state] < cost:
            continue
        for operator in facts.ready(done):
            operands = set(facts.operands(operator))
            others = sorted(resident - operands)
            for count in range(len(others) + 1):
                for evicted in itertools.combinations(others, count):
                    during = (resident - set(evicted)) | operands
                    if sum(facts.size[name] for name in during) > capacity:
                        continue
                    paid = sum(facts.size[n] for n in evicted if n not in copied)
                    paid += sum(facts.size[n] for n in operands - resident if facts.seen(n, done))
                    after = done | {operator.name}
                    backed = {n for n in operands if facts.kind[n] != TensorKind.ACTIVATION}
                    dead = {n for n in facts.size if facts.is_dead(n, after)}
                    child = (after, frozenset(during - dead), frozenset((copied | set(evicted) | backed) - dead))
                    if cost + paid < best.get(child, cost + paid + 1):
                        best[child] = cost + paid
                        heapq.heappush(heap, (cost + paid, next(counter), child))
    raise AssertionError("every operator fits, so some plan exists by capacity")


def least_traffic_with_addresses(graph: Graph, capacity: int, order: Sequence[str] | None = None, rules: Rules | None = None) -> int | None:
    """Return the least traffic with an address for every stay, over all orders or for one; None where nothing can be placed."""
    facts = _Facts(graph)
    start = (frozenset[str](), Placement(), frozenset[str]())
    heap: list[tuple[int, int, tuple[frozenset[str], Placement, frozenset[str]]]] = [(0, 0, start)]
    best = {start: 0}
    counter = itertools.count(1)
    while heap:
        cost, _, state = heapq.heappop(heap)
        done, placed, copied = state
        if len(done) == len(graph):
            return cost
        if best[state] < cost:
            continue
        for operator in facts.ready(done):
            if order is not None and operator.name != order[len(done)]:
                continue
            for paid, during, written in _steps(facts, operator, done, placed, copied, capacity, rules or Rules()):
                after = done | {operator.name}
                dead = {n for n in facts.size if facts.is_dead(n, after)}
                backed = {n for n in facts.operands(operator) if facts.kind[n] != TensorKind.ACTIVATION}
                child = (
                    after,
                    frozenset((n, at) for n, at in during if n not in dead),
                    frozenset((copied | written | backed) - dead),
                )
                if cost + paid < best.get(child, cost + paid + 1):
                    best[child] = cost + paid
                    heapq.heappush(heap, (cost + paid, next(counter), child))
    return None


def _steps(
    facts: _Facts, operator: Operator, done: frozenset[str], placed: Placement, copied: frozenset[str], capacity: int, rules: Rules
) -> Iterator[tuple[int, Placement, set[str]]]:
    """Yield (bytes paid, placement during the step, tensors newly written to DRAM) for every way to run an operator now."""
    operands = set(facts.operands(operator))
    resident = {name for name, _ in placed}
    others = sorted(resident - operands)
    movable = sorted(resident) if rules.relocation else sorted(resident & copied)
    for evicted in _subsets(others):
        for moved in _subsets([name for name in movable if name not in evicted]):
            staying = [(n, at) for n, at in placed if n not in evicted and n not in moved]
            arriving = sorted((operands - resident) | set(moved))
            retrieved = [n for n in arriving if n in moved or facts.seen(n, done)]
            written = {n for n in (*evicted, *moved) if n not in copied}
            paid = sum(facts.size[n] for n in (*retrieved, *written))
            for during in _placements(facts, arriving, staying, capacity, rules):
                yield paid, frozenset(during), written


def _placements(
    facts: _Facts, arriving: Sequence[str], placed: list[tuple[str, int]], capacity: int, rules: Rules
) -> Iterator[list[tuple[str, int]]]:
    if not arriving:
        yield placed
        return
    name, rest = arriving[0], arriving[1:]
    for offset in rules.offsets(name, facts.size[name], capacity):
        if all(offset + facts.size[name] <= at or at + facts.size[other] <= offset for other, at in placed):
            yield from _placements(facts, rest, [*placed, (name, offset)], capacity, rules)


def _subsets(members: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for count in range(len(members) + 1):
        yield from itertools.combinations(members, count)


def least_gap_traffic(model: GapModel) -> int:
    """Return the optimum of a gap model without cuts, by trying every set of gaps."""
    network = model.network
    gaps = sorted({gap for row, _ in model.demand for gap in row})
    best: int | None = None
    stack: list[tuple[int, int, frozenset[tuple[int, int, int]]]] = [(0, 0, frozenset())]
    while stack:
        index, cost, dropped = stack.pop()
        if best is not None and cost >= best:
            continue
        if all(sum(network.size[gap[0]] for gap in row if gap in dropped) >= excess for row, excess in model.demand):
            best = cost
            continue
        if index < len(gaps):
            gap = gaps[index]
            new = not network.backed >> gap[0] & 1 and all(other[0] != gap[0] for other in dropped)
            stack.append((index + 1, cost, dropped))
            stack.append((index + 1, cost + network.size[gap[0]] * (2 if new else 1), dropped | {gap}))
    if best is None:
        raise AssertionError("dropping every gap leaves each operator's own tensors, which fit")
    return best
