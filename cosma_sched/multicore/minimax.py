"""Least peak memory on one core: bottleneck shortest paths over how many nodes of each group have run.

The value of the relaxed search bounds ``peak_total_bytes`` of every schedule without spills on any number of cores: its nodes in the order
of their starts are a valid order for one core, and no instant of the schedule holds less than that order does (copies, fetched inputs and
weights only add). With inputs counted from the start (``resident``) or not at all, outputs as the semantics say.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from cosma_sched.multicore.counts import CountModel, Tensor, groups_of, index_model, is_resident, relaxed_model
from cosma_sched.multicore.problem import ScheduleProblem, TileKind
from cosma_sched.progress import Clock

MOST_STATES = 1_000_000
"""States after which a search stops with what it has proven; about ten seconds."""

_LOOK = 512
"""States between two looks at the clock."""

_FIRST, _STEP = 20_000, 4_000
"""States that a first search, and each step of a bisection, may visit."""


@dataclass(frozen=True, slots=True)
class Minimax:
    """What a search found and proved.

    Parameters
    ----------
    peak_bytes
        Peak of `order` on one core; None where the search found none: it stopped early, or at a peak that was not to be passed.
    bound_bytes
        No order of the nodes has a lower peak, and no schedule without spills a lower ``peak_total_bytes``.
    order
        Positions of the nodes; empty where there is none.
    states
        States visited.
    """

    peak_bytes: int | None
    bound_bytes: int
    order: tuple[int, ...]
    states: int

    @property
    def is_optimal(self) -> bool:
        """True where the order's peak is proven to be the least."""
        return self.peak_bytes == self.bound_bytes

    @property
    def priority(self) -> tuple[int, ...]:
        """Rank of each node, by which a list scheduler repeats the order."""
        ranks = [0] * len(self.order)
        for rank, position in enumerate(self.order):
            ranks[position] = rank
        return tuple(ranks)


def minimax(problem: ScheduleProblem, *, most_states: int = MOST_STATES, at_most: int | None = None, clock: Clock | None = None) -> Minimax:
    """Find an order of least peak among those that keep index order inside every layer, and a bound for all orders.

    Where the tiles of a layer have one size and every relation between layers is one-to-one or all-to-all, as when all layers cut a
    dimension into the same parts, index order loses nothing, the bound is the peak and one search gives both.

    Parameters
    ----------
    problem
        Nodes, tiles and semantics; platform and costs play no part.
    most_states
        States after which each search stops.
    at_most
        Stop as soon as it is proven that the least peak is higher.
    clock
        Stop with it, with what is proven by then.
    """
    groups = groups_of(problem)
    exact, relaxed = index_model(problem, groups), relaxed_model(problem, groups)
    found = search(exact, most_states, at_most, clock)
    order = _positions(groups, found.path) if found.path is not None else ()
    peak = peak_of(problem, order) if found.path is not None else None
    if exact == relaxed:
        return Minimax(peak, found.bound, order, found.states)
    bound = search(relaxed, most_states, at_most, clock)
    return Minimax(peak, bound.bound, order, found.states + bound.states)


def peak_of(problem: ScheduleProblem, order: Sequence[int]) -> int:
    """Return the peak of an order on one core: most bytes while a node runs, or after one has ended.

    Raises
    ------
    ValueError
        If the order is not a topological order of all nodes.
    """
    semantics = problem.semantics
    factor = semantics.partial_sum_factor
    pending_writers, pending = [len(writers) for writers in problem.writers], [len(readers) for readers in problem.readers]
    resident = [is_resident(problem, position) for position in range(len(problem.tiles))]
    live = peak = sum(tile.size_bytes for tile, counts in zip(problem.tiles, resident, strict=True) if counts)
    counted = [tile.kind is TileKind.ACTIVATION or counts for tile, counts in zip(problem.tiles, resident, strict=True)]
    done: set[int] = set()

    def release(position: int) -> int:
        tile = problem.tiles[position]
        is_kept = tile.is_output and semantics.outputs == "kept"
        unused = not pending[position] and not pending_writers[position]
        return tile.size_bytes if counted[position] and unused and not is_kept else 0

    for position in order:
        node = problem.nodes[position]
        if position in done or not done.issuperset(node.needs):
            raise ValueError(f"node {node.name} stands in the order twice or before what it needs")
        tile, writers = problem.tiles[node.writes], len(problem.writers[node.writes])
        partial = tile.size_bytes * (factor - 1) if writers > 1 else 0
        if pending_writers[node.writes] == writers:
            live += tile.size_bytes + partial
        peak = max(peak, live)
        done.add(position)
        pending_writers[node.writes] -= 1
        if not pending_writers[node.writes]:
            live -= partial
        for read in node.reads:
            pending[read] -= 1
            live -= release(read)
        live -= release(node.writes) if node.writes not in node.reads else 0
    if len(done) < len(problem.nodes):
        raise ValueError("the order leaves nodes out")
    return peak


@dataclass(frozen=True, slots=True)
class Found:
    """What a search over counts found: the best path of groups and its peak, if any, and a bound on every path's peak."""

    bound: int
    peak: int | None
    path: tuple[int, ...] | None
    states: int


def search(model: CountModel, most_states: int = MOST_STATES, at_most: int | None = None, clock: Clock | None = None) -> Found:
    """Return a path from nothing to everything whose highest point is lowest.

    States are visited in the order of the peak that reaches them, deepest first where it does not grow. A step that fits under the peak
    reached so far and frees at least what it keeps is taken without looking at others: whatever path leads on from here still fits after
    it, since what it frees later it frees now, and what it allocates it must allocate once.

    The higher the peak to stay under, the more steps are forced. So with `at_most`, ask first whether any path stays under that; and where
    there are many states, look for a low path by bisection and then ask whether any is lower.
    """
    tables = _Search(model, clock)
    if at_most is not None:
        possible = tables.run(most_states, at_most, at_most)
        if possible.bound > at_most:
            return possible
    first = tables.run(min(most_states, _FIRST), 0, at_most)
    if first.path is not None or most_states <= _FIRST:
        return first
    return _by_bisection(tables, max(_STEP, 2 * sum(model.sizes)), most_states, first.bound)


def _by_bisection(tables: _Search, step: int, most_states: int, bound: int) -> Found:
    """Find a low path by short searches under halved peaks, then prove that none is lower, or find it."""
    best = tables.run(step, tables.most_bytes, None)
    states, low = best.states, bound
    while best.peak is not None and low < best.peak:
        middle = (low + best.peak) // 2
        tried = tables.run(step, middle, middle)
        states += tried.states
        if tried.peak is not None:
            best = tried
        elif tried.bound > middle:
            bound = low = tried.bound
        else:
            low = middle + 1  # not proven, only not found
    while best.peak is not None and best.peak > bound:
        under = best.peak - 1
        lower = tables.run(most_states, under, under)
        states += lower.states
        if lower.peak is not None:
            best = lower
        elif lower.bound > under:
            bound = under + 1
        else:
            last = tables.run(most_states // 2, 0, None)
            return Found(max(bound, last.bound), best.peak, best.path, states + last.states)
    return Found(bound, best.peak, best.path, states)


_Place = tuple[tuple[int, ...], int]
"""A state and the bytes that are live in it."""


class _Search:
    """The state of a search; tables in the form that the inner loop reads."""

    def __init__(self, model: CountModel, clock: Clock | None = None) -> None:
        self.clock = Clock(None) if clock is None else clock
        self.sizes = model.sizes
        self.waits = model.waits
        self.tensors = (*model.tensors, *model.inputs)
        self.own = [(t.opened, t.starting, t.complete, t.closed, t.done) for t in model.tensors]
        self.read: list[list[tuple[int, tuple[int, ...], Tensor, tuple[tuple[int, tuple[int, ...]], ...]]]] = [[] for _ in model.sizes]
        for index, tensor in enumerate(self.tensors):
            for group, by_count in tensor.done:
                others = tuple(entry for entry in tensor.done if entry[0] != group)
                self.read[group].append((index, by_count, tensor, others))
        self.most_bytes = sum(max(*tensor.opened, *tensor.starting) for tensor in self.tensors)
        self.came: dict[tuple[int, ...], int] = {}
        self.stack: list[_Place] = []
        self.heap: list[tuple[int, int, tuple[int, ...], int, int]] = []

    def run(self, most_states: int, floor: int, at_most: int | None) -> Found:
        """Search from the start; peaks under `floor` are not told apart."""
        state = (0,) * len(self.sizes)
        live = sum(tensor.opened[0] for tensor in self.tensors)
        threshold = max(live, floor)
        self.came, self.stack, self.heap = {state: -1}, [(state, live)], []
        states = 0
        while self.stack or self.heap:
            if self.stack:
                state, live = self.stack.pop()
            else:
                threshold, _, state, live, group = heapq.heappop(self.heap)
                if state in self.came:
                    continue
                self.came[state] = group
            states += 1
            if at_most is not None and threshold > at_most:
                return Found(threshold, None, None, states)
            if states > most_states or (states % _LOOK == 0 and self.clock.expired):
                return Found(threshold if floor == 0 else 0, None, None, states)
            if state == self.sizes:
                path = self._path()
                return Found(threshold if floor == 0 else 0, self._peak(path), path, states)
            self._expand(state, live, threshold)
        raise ValueError("the groups wait for each other in a circle")

    def _expand(self, state: tuple[int, ...], live: int, threshold: int) -> None:
        """Push the states one node further; only one where a step is forced."""
        moves = []
        for group, size in enumerate(self.sizes):
            count = state[group]
            if count == size:
                continue
            for other, needed in self.waits[group]:
                if state[other] < needed[count]:
                    break
            else:
                opened, starting, *_ = self.own[group]
                during = live - opened[count] + starting[count]
                after = live + self._change(group, state)
                if during <= threshold and after <= live:
                    moves = [(during, group, after)]
                    break
                moves.append((during, group, after))
        for during, group, after in moves:
            further = (*state[:group], state[group] + 1, *state[group + 1 :])
            if further in self.came:
                continue
            if during <= threshold:
                self.came[further] = group
                self.stack.append((further, after))
            else:
                heapq.heappush(self.heap, (during, -sum(further), further, after, group))

    def _change(self, group: int, state: tuple[int, ...]) -> int:
        """Return by how many bytes the next node of a group changes what is live once it has ended."""
        count = state[group]
        opened, _, complete, closed, done = self.own[group]
        change = opened[count + 1] - opened[count]
        before, after = complete[count], complete[count + 1]
        if before != after:
            for other, by_count in done:
                before, after = min(before, by_count[state[other]]), min(after, by_count[state[other]])
            change += closed[before] - closed[after]
        for index, by_count, tensor, others in self.read[group]:
            before, after = by_count[count], by_count[count + 1]
            if before == after:
                continue
            most = tensor.complete[state[index] if index < len(state) else 0]
            for other, counts in others:
                most = min(most, counts[state[other]])
            change += tensor.closed[min(before, most)] - tensor.closed[min(after, most)]
        return change

    def _peak(self, path: Sequence[int]) -> int:
        """Return the highest point of a path."""
        state = [0] * len(self.sizes)
        live = peak = sum(tensor.opened[0] for tensor in self.tensors)
        for group in path:
            opened, starting, *_ = self.own[group]
            peak = max(peak, live - opened[state[group]] + starting[state[group]])
            live += self._change(group, tuple(state))
            state[group] += 1
        return peak

    def _path(self) -> tuple[int, ...]:
        path, state = [], self.sizes
        while (group := self.came[state]) >= 0:
            path.append(group)
            state = (*state[:group], state[group] - 1, *state[group + 1 :])
        return tuple(reversed(path))


def _positions(groups: Sequence[Sequence[int]], path: Sequence[int]) -> tuple[int, ...]:
    """Return the nodes that a path of groups runs."""
    counts = [0] * len(groups)
    order = []
    for group in path:
        order.append(groups[group][counts[group]])
        counts[group] += 1
    return tuple(order)
