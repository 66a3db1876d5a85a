"""Order and replacement together: a label-setting search that proves the least traffic by capacity, over all orders.

A label is a way to have executed a set E of operators: which live tensors are resident (R), which live tensors have a valid copy in
DRAM (B), and the traffic so far (f). Each retrieve is paid when the tensor is evicted, since a live tensor is needed again; so evicting
costs the size of a tensor in B, twice the size of any other, and retrieves are free. Labels are taken by least f; the first one with all
operators executed is optimal when addresses are left out, and at any time the least f among open labels bounds every plan from below.

Two reductions keep the number of labels small, both proven in ``docs/memory-planning.md``:

dominance
    Of two labels with the same E, (R1, B1, f1) beats (R, B, f) if f1 + |R1 - R| + |B - B1| <= f: it can drop what only it holds, then do
    what the other does; what only the other holds it has already paid for.
eager operators
    A ready operator with all inputs resident that fits without eviction is run at once and alone if holding its surviving outputs instead
    of the inputs that die with it can never cost more, whatever part of those inputs the rest of a plan would have evicted.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from cosma_sched.memory.ordering import live_after, ready_after
from cosma_sched.memory.problem import Network, Order, bits
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Termination

LABEL_LIMIT = 1_500_000
_CLOCK_INTERVAL = 64
_MOST_DYING_TO_ENUMERATE = 8


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Parameters
    ----------
    order
        An order with traffic `traffic_bytes` by capacity, or None.
    traffic_bytes
        Its traffic; None without an order.
    bound_bytes
        No plan has less traffic, whatever its order.
    labels
        Labels expanded.
    termination
        ``proved`` where the search ended by itself, else what stopped it.
    """

    order: Order | None
    traffic_bytes: int | None
    bound_bytes: int
    labels: int
    termination: Termination


@dataclass(slots=True)
class _Label:
    done: int
    ready: int
    resident: int
    copied: int
    cost: int
    parent: _Label | None
    ran: Order
    dominated: bool = False

    def order(self) -> Order:
        parts: list[Order] = []
        node: _Label | None = self
        while node is not None:
            parts.append(node.ran)
            node = node.parent
        return tuple(v for part in reversed(parts) for v in part)


def search(network: Network, capacity_bytes: int, *, cutoff_bytes: int | None, progress: Progress, seed: int = 0) -> Found:
    """Return the least traffic over all orders, addresses left out.

    Parameters
    ----------
    network, capacity_bytes
        What to plan; every operator's own tensors fit into the capacity.
    cutoff_bytes
        Traffic of a known plan. Labels that reach it are dropped; if nothing better exists the bound becomes this value and no order
        is returned.
    progress
        Its clock ends the search; events carry the bound.
    seed
        Breaks ties between labels of equal traffic and depth: another seed may find another order with the same traffic. 0 takes the
        operators in the given order.
    """
    return _Search(Expansion(network, capacity_bytes), cutoff_bytes, progress, seed).run()


def beam(network: Network, capacity_bytes: int, width: int, *, clock: Clock) -> Order | None:
    """Return a good order from the same labels, at most `width` kept for each number of executed operators; None if time ran out.

    Cost O(n w d) labels for n operators, width w and d ready operators. No guarantee: it may drop every good beginning.
    """
    expansion = Expansion(network, capacity_bytes)
    start = expansion.start()
    layers: dict[int, list[_Label]] = {start.done.bit_count(): [start]}
    for count in range(network.num_operators):
        layer = layers.pop(count, [])
        kept: dict[tuple[int, int, int], _Label] = {}
        for label in sorted(layer, key=lambda label: (label.cost, network.bytes_of(label.resident))):
            kept.setdefault((label.done, label.resident, label.copied), label)
            if len(kept) == width:
                break
        for label in kept.values():
            if clock.expired:
                return None
            for child in expansion.children(label):
                layers.setdefault(child.done.bit_count(), []).append(child)
    goals = layers.get(network.num_operators, [])
    return min(goals, key=lambda label: label.cost).order() if goals else None


class Expansion:
    """What labels follow from a label."""

    def __init__(self, network: Network, capacity_bytes: int) -> None:
        self.network, self.capacity = network, capacity_bytes

    def start(self) -> _Label:
        """Return the label with nothing executed, eager operators run."""
        return self._eager(_Label(0, self.network.ready(0), 0, 0, 0, None, ()))

    def children(self, label: _Label) -> Iterator[_Label]:
        """Yield a label for each ready operator and each minimal eviction that makes room for it."""
        network = self.network
        for v in bits(label.ready):
            during = label.resident | network.operands(v)
            excess = network.space_of(during) - self.capacity
            if excess <= 0:
                yield self._eager(self._after(label, v, 0))
                continue
            for evicted in self._minimal_evictions(label.resident & ~network.reads[v], excess):
                yield self._eager(self._after(label, v, evicted))

    def _minimal_evictions(self, candidates: int, excess: int) -> Iterator[int]:
        """Yield every set of candidates that frees at least `excess` bytes and none of whose parts does."""
        size = self.network.space
        members = sorted(bits(candidates), key=lambda a: -size[a])
        rest = [0] * (len(members) + 1)
        for i in reversed(range(len(members))):
            rest[i] = rest[i + 1] + size[members[i]]
        stack = [(0, 0, excess)]
        while stack:
            i, chosen, missing = stack.pop()
            if rest[i] < missing:
                continue
            with_i = chosen | 1 << members[i]
            stack.append((i + 1, chosen, missing))
            if size[members[i]] >= missing:
                yield with_i  # descending sizes: without any one of the larger members the last would not be enough
            else:
                stack.append((i + 1, with_i, missing - size[members[i]]))

    def _after(self, label: _Label, v: int, evicted: int) -> _Label:
        network = self.network
        done = label.done | 1 << v
        operands = network.operands(v)
        resident = live_after(network, done, (label.resident & ~evicted) | operands, v)
        dead = operands & ~resident
        copied = (label.copied | evicted | (operands & network.backed)) & ~dead
        cost = label.cost + network.bytes_of(evicted) + network.bytes_of(evicted & ~label.copied) if evicted else label.cost
        return _Label(done, ready_after(network, done, label.ready, v), resident, copied, cost, label, (v,))

    def _eager(self, label: _Label) -> _Label:
        """Run every operator that costs nothing to run now; the steps join the label's own."""
        again = True
        while again:
            again = False
            for v in bits(label.ready):
                if self._costs_nothing_now(label, v):
                    after = self._after(label, v, 0)
                    after.parent, after.ran = label.parent, (*label.ran, v)
                    label, again = after, True
                    break
        return label

    def _costs_nothing_now(self, label: _Label, v: int) -> bool:
        network = self.network
        reads = network.reads[v]
        if reads & ~label.resident or network.space_of(label.resident | network.writes[v]) > self.capacity:
            return False
        done = label.done | 1 << v
        outputs = [a for a in bits(network.writes[v]) if network.consumers[a]]
        if not outputs:
            return True
        surviving, cost = sum(network.space[a] for a in outputs), 2 * sum(network.size[a] for a in outputs)
        dying = [a for a in bits(reads) if not network.consumers[a] & ~done]
        freed = sum(network.space[a] for a in dying)
        if freed < surviving:
            return False
        price = {a: network.size[a] * (1 if label.copied >> a & 1 else 2) for a in dying}
        if len(dying) > _MOST_DYING_TO_ENUMERATE:
            # enough for every part S: what it costs is at least its bytes times the least price per byte
            return all(price[a] * (freed - surviving) >= cost * network.space[a] for a in dying)
        return all(
            freed - sum(network.space[a] for a in part) >= surviving or sum(price[a] for a in part) >= cost
            for count in range(1, len(dying) + 1)
            for part in combinations(dying, count)
        )


class _Search:
    def __init__(self, expansion: Expansion, cutoff_bytes: int | None, progress: Progress, seed: int) -> None:
        self.expansion, self.network = expansion, expansion.network
        self.cutoff, self.progress = cutoff_bytes, progress
        self.random = random.Random(seed) if seed else None
        self.bound = 0
        self.labels = 0
        self._heap: list[tuple[int, int, float, int, _Label]] = []
        self._known: dict[int, list[_Label]] = {}
        self._pushed = 0

    def run(self) -> Found:
        try:
            return self._run()
        except KeyboardInterrupt:
            return self._stopped(Termination.INTERRUPTED)

    def _run(self) -> Found:
        self._push(self.expansion.start())
        while self._heap:
            cost, *_, label = heapq.heappop(self._heap)
            if label.dominated:
                continue
            self.bound = max(self.bound, cost)
            if label.done == self.network.everything:
                return Found(label.order(), cost, cost, self.labels, Termination.PROVED)
            self.labels += 1
            if self.labels % _CLOCK_INTERVAL == 0:
                self.progress.report("search", bound=self.bound, note=f"{self.labels} labels")
                if self.progress.clock.expired:
                    return self._stopped(Termination.TIME_LIMIT)
                if self._pushed >= LABEL_LIMIT:
                    return self._stopped(Termination.MEMORY_LIMIT)
            for child in self.expansion.children(label):
                self._push(child)
        bound = self.bound if self.cutoff is None else self.cutoff
        return Found(None, None, bound, self.labels, Termination.PROVED)

    def _stopped(self, why: Termination) -> Found:
        return Found(None, None, self.bound, self.labels, why)

    def _push(self, label: _Label) -> None:
        if self.cutoff is not None and label.cost >= self.cutoff:
            return
        rivals = self._known.setdefault(label.done, [])
        if any(self._beats(rival, label) for rival in rivals):
            return
        for rival in rivals:
            rival.dominated = rival.dominated or self._beats(label, rival)
        rivals[:] = [rival for rival in rivals if not rival.dominated]
        rivals.append(label)
        self._pushed += 1
        tie = self.random.random() if self.random else 0.0
        heapq.heappush(self._heap, (label.cost, -label.done.bit_count(), tie, self._pushed, label))

    def _beats(self, one: _Label, other: _Label) -> bool:
        spare = other.cost - one.cost
        if spare < 0:
            return False
        extra, unsaved = one.resident & ~other.resident, other.copied & ~one.copied
        return self.network.bytes_of(extra) + self.network.bytes_of(unsaved) <= spare
