"""The least height: a packing as low as can be found, and a bound that says how much lower any could be.

Each partition is squeezed on its own: its height is asked for at the bound first, then in steps below what is held, which shrink where
they fail; after a round in vain each question may take more nodes. A refuted height raises the bound. A search for a lower height starts
with the orders that led to the packing that is held; CP-SAT, which finds few packings but some refutations, is asked at the bound only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cosma_sched.graph import Buffer
from cosma_sched.memory.packing import Packing, in_bytes, max_load, pack
from cosma_sched.memory.packing_heuristics import pack_low
from cosma_sched.memory.packing_intervals import pack_by_intervals
from cosma_sched.memory.packing_orders import Weights
from cosma_sched.memory.packing_search import CanonicalSearch, is_searchable
from cosma_sched.memory.packing_strip import Strip, partitions
from cosma_sched.progress import Clock
from cosma_sched.result import Status, Termination

NODES_PER_BUFFER, FIRST_DETERMINISTIC = 100, 0.01
"""What one question may take in the first round: nodes of the search, and CP-SAT's deterministic seconds."""
NODES_GROWTH, DETERMINISTIC_GROWTH = 2, 1.5
"""How many times as much after a round in vain."""


def least_height(
    buffers: Sequence[Buffer],
    *,
    capacity_bytes: int | None = None,
    clock: Clock | None = None,
    seed: int = 0,
    workers: int = 1,
) -> Packing:
    """Find a packing of least height.

    Parameters
    ----------
    buffers
        What to pack.
    capacity_bytes
        A height that is not to be exceeded; None for no limit.
    clock
        Its limit ends the search with the lowest packing found and the bound proven; None searches to the end.
    seed
        Of everything random; one worker and the same seed give the same answer where no limit ends the search.
    workers
        Threads of the CP-SAT search.

    Returns
    -------
    Packing
        ``optimal`` where the height equals the bound. Where no packing within the capacity exists or was found, the answer of `pack`.
    """
    clock = clock or Clock()
    capacity = capacity_bytes if capacity_bytes is not None else _ample_capacity(buffers)
    first = pack(buffers, capacity, clock=clock, seed=seed, workers=workers)
    if first.offsets is None or first.status is Status.OPTIMAL:
        return first
    groups = partitions(buffers)
    try:
        pieces = [_Partition([buffers[i] for i in group], [first.offsets[i] for i in group], seed, workers) for group in groups]
    except KeyboardInterrupt:
        return replace(first, termination=Termination.INTERRUPTED)
    termination = _squeeze(pieces, clock)
    offsets = [0] * len(buffers)
    for group, piece in zip(groups, pieces, strict=True):
        for index, offset in zip(group, piece.offsets, strict=True):
            offsets[index] = offset
    height, bound = max(piece.height for piece in pieces), max(piece.bound for piece in pieces)
    nodes = first.nodes + sum(piece.nodes for piece in pieces)
    proved_by = max(pieces, key=lambda piece: piece.bound).proved_by if height == bound else ""
    status = Status.OPTIMAL if height == bound else Status.FEASIBLE
    answer = Packing(status, termination, tuple(offsets), height, bound)
    return replace(answer, nodes=nodes, proved_by=proved_by, seconds=clock.seconds)


def _ample_capacity(buffers: Sequence[Buffer]) -> int:
    """Return a capacity at which every order ends with a packing, unless pins overlap."""
    stacked = sum(buffer.size_bytes + buffer.alignment for buffer in buffers)
    return stacked + max((buffer.offset + buffer.size_bytes for buffer in buffers if buffer.offset is not None), default=0)


class _Partition:
    """A partition with its lowest packing, its bound, and the searches that were begun, one per height asked for."""

    def __init__(self, buffers: Sequence[Buffer], offsets: Sequence[int], seed: int, workers: int) -> None:
        self.buffers, self.offsets, self._seed, self._workers = buffers, tuple(offsets), seed, workers
        self.height = max(offset + buffer.size_bytes for offset, buffer in zip(offsets, buffers, strict=True))
        self._strip = strip = Strip.of(buffers, self.height)
        self.unit, self.proved_by = strip.unit, "load"
        lowest = max([max_load(buffers)[0], *(buffer.size_bytes + (buffer.offset or 0) for buffer in buffers)])
        self.bound = -(-lowest // self.unit) * self.unit
        self.nodes = 0
        self._searches: dict[int, CanonicalSearch] = {}
        self._parents: tuple[Weights, ...] = ()
        if (offsets_low := pack_low(strip)) is not None:
            self._keep(strip, offsets_low)

    def _keep(self, strip: Strip, offsets: Sequence[int]) -> None:
        height = strip.height(offsets) * strip.unit
        if height < self.height or strip.capacity * strip.unit < self.height:
            self.offsets, self.height = in_bytes(strip, offsets), height

    def ask(self, target: int, clock: Clock, nodes: int, deterministic: float, *, is_lowest: bool) -> Termination:
        """Try to pack into a height; take a packing as the lowest, a refutation as the bound."""
        strip = self._strip.resized(target)
        if is_searchable(strip):
            termination = self._search(strip, target, clock, nodes)
            if termination is not Termination.EXHAUSTED or not is_lowest:
                return termination
        limit = deterministic if self._workers == 1 else None
        within = clock if limit is not None else Clock(min(clock.remaining or 60.0, 60.0 * deterministic))
        answer = pack_by_intervals(strip, within, self._seed, workers=self._workers, deterministic_limit=limit)
        return self._learn(strip, target, answer.offsets, answer.is_infeasible, "cpsat", answer.termination)

    def _search(self, strip: Strip, target: int, clock: Clock, nodes: int) -> Termination:
        """Go on with the search for a height; once it has packed, the searches for less start again from what led there."""
        search = self._searches.get(target) or CanonicalSearch(strip, self._seed, parents=self._parents)
        self._searches[target] = search
        before = search.nodes
        outcome = search.advance(clock, nodes)
        self.nodes += search.nodes - before
        if outcome.offsets is not None:
            self._parents = search.best
            self._searches.clear()
        return self._learn(strip, target, outcome.offsets, outcome.is_infeasible, "search", outcome.termination)

    def _learn(
        self, strip: Strip, target: int, offsets: Sequence[int] | None, is_infeasible: bool, method: str, termination: Termination
    ) -> Termination:
        if offsets is not None:
            self._keep(strip, offsets)
        elif is_infeasible:
            self.bound, self.proved_by = target + self.unit, method
        return termination


def _squeeze(pieces: Sequence[_Partition], clock: Clock) -> Termination:
    """Lower the highest partition until it meets the highest bound; return what stopped it."""
    rounds = dict.fromkeys(range(len(pieces)), 0)
    try:
        while True:
            number = max(range(len(pieces)), key=lambda i: pieces[i].height)
            piece, bound = pieces[number], max(piece.bound for piece in pieces)
            if piece.height <= bound:
                return Termination.PROVED
            if clock.expired:
                return Termination.TIME_LIMIT
            before = piece.height
            if _one_round(piece, bound, rounds[number], clock) is Termination.INTERRUPTED:
                return Termination.INTERRUPTED
            rounds[number] += piece.height == before
    except KeyboardInterrupt:
        return Termination.INTERRUPTED


def _one_round(piece: _Partition, bound: int, number: int, clock: Clock) -> Termination:
    """Ask for the bound, then for less and less below what is held; the later the round, the smaller its first step."""
    nodes = NODES_PER_BUFFER * len(piece.buffers) * NODES_GROWTH**number
    deterministic = FIRST_DETERMINISTIC * DETERMINISTIC_GROWTH**number
    lowest = bound // piece.unit * piece.unit
    termination = piece.ask(lowest, clock, nodes, deterministic, is_lowest=True)
    step = max(1, (piece.height - lowest) // piece.unit >> number + 1)
    while step and termination is not Termination.INTERRUPTED and not clock.expired:
        target, before = max(piece.height - step * piece.unit, lowest + piece.unit, piece.bound), piece.height
        if target >= before:
            break
        termination = piece.ask(target, clock, nodes, deterministic, is_lowest=False)
        if piece.height == before:
            step //= 2
    return termination
