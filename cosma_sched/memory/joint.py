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

On large networks a search by f alone visits every interleaving of their parts. If disjoint sets of tensors A_k are known to cause at least
F_k bytes each (`Floor`), a label that has paid p_k for A_k and p for the rest is taken by p + sum max(p_k, F_k) instead: every completion
costs at least that, it never decreases, and at the end it is the traffic. Labels that stay within the floors are then equal, and the
deepest goes first. The traffic that some operator ahead must still cause (`pressure`) is a second bound; the larger one counts.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from cosma_sched.memory.ordering import live_after, ready_after
from cosma_sched.memory.pressure import Pressure
from cosma_sched.memory.problem import Network, Order, bits, mask_of
from cosma_sched.progress import Clock, Progress
from cosma_sched.result import Termination

LABEL_LIMIT = 1_800_000
_CLOCK_INTERVAL = 64
_MOST_DYING_TO_ENUMERATE = 8
_MOST_REACHED = 300_000


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


@dataclass(frozen=True, slots=True)
class Floor:
    """Tensors that are known to cause at least `traffic_bytes` in every plan."""

    tensors: int
    traffic_bytes: int


@dataclass(slots=True)
class _Label:
    done: int
    ready: int
    resident: int
    copied: int
    cost: int
    paid: tuple[int, ...]
    """Traffic of each floor's tensors."""
    least: int
    """What every completion costs at least, by the floors."""
    parent: _Label | None
    ran: Order
    priority: int = 0
    """What every completion costs at least, by all that is known."""
    dominated: bool = False

    def order(self) -> Order:
        parts: list[Order] = []
        node: _Label | None = self
        while node is not None:
            parts.append(node.ran)
            node = node.parent
        return tuple(v for part in reversed(parts) for v in part)


def search(
    network: Network,
    capacity_bytes: int,
    *,
    cutoff_bytes: int | None,
    progress: Progress,
    seed: int = 0,
    floors: Sequence[Floor] = (),
    most_labels: int = LABEL_LIMIT,
) -> Found:
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
    floors
        Proven traffic of disjoint sets of tensors.
    most_labels
        Labels to keep before the search ends with termination ``memory_limit``; about a kilobyte each on a network of 700 operators.
    """
    return _Search(Expansion(network, capacity_bytes, floors), cutoff_bytes, progress, seed, most_labels).run()


def beam(network: Network, capacity_bytes: int, width: int, *, clock: Clock, floors: Sequence[Floor] = ()) -> Order | None:
    """Return a good order from the same labels, at most `width` kept for each number of executed operators; None if time ran out.

    Cost O(n w d) labels for n operators, width w and d ready operators. No guarantee: it may drop every good beginning.
    """
    expansion = Expansion(network, capacity_bytes, floors)
    start = expansion.start()
    layers: dict[int, list[_Label]] = {start.done.bit_count(): [start]}
    for count in range(network.num_operators):
        layer = layers.pop(count, [])
        kept: dict[tuple[int, int, int], _Label] = {}
        for label in sorted(layer, key=lambda label: (label.least, label.cost, network.space_of(label.resident))):
            kept.setdefault((label.done, label.resident, label.copied), label)
            if len(kept) == width:
                break
        for label in kept.values():
            for child in expansion.children(label):
                if clock.expired:
                    return None
                layers.setdefault(child.done.bit_count(), []).append(child)
    goals = layers.get(network.num_operators, [])
    return min(goals, key=lambda label: label.cost).order() if goals else None


class Expansion:
    """What labels follow from a label."""

    def __init__(self, network: Network, capacity_bytes: int, floors: Sequence[Floor] = ()) -> None:
        self.network, self.capacity, self.floors = network, capacity_bytes, tuple(floors)
        operators = range(network.num_operators)
        self._surviving = tuple(mask_of([a for a in bits(network.writes[v]) if network.consumers[a]]) for v in operators)
        self._written = tuple(network.space_of(network.writes[v]) for v in operators)
        self._neighbours = tuple(self._sharing(v) for v in operators)
        self._verdicts: dict[tuple[int, int, int], bool] = {}
        self._reached: set[tuple[int, int, int, int]] = set()

    def _sharing(self, v: int) -> int:
        """Return the operators that share a tensor with operator v."""
        sharing = self.network.successors[v]
        for a in bits(self.network.operands(v)):
            sharing |= self.network.consumers[a]
        return sharing

    def start(self) -> _Label:
        """Return the label with nothing executed, eager operators run."""
        least = sum(floor.traffic_bytes for floor in self.floors)
        ready = self.network.ready(0)
        return self._eager(_Label(0, ready, 0, 0, 0, (0,) * len(self.floors), least, None, ()), ready)

    def children(self, label: _Label) -> Iterator[_Label]:
        """Yield a label for each ready operator and each minimal eviction that makes room for it; the same one at most once."""
        network = self.network
        space = network.space_of(label.resident)
        for v in bits(label.ready):
            during = label.resident | network.reads[v] | network.writes[v]
            excess = network.space_of(during) + network.fixed[v] - self.capacity
            evictions = self._minimal_evictions(label.resident & ~network.reads[v], excess) if excess > 0 else (0,)
            for evicted in evictions:
                after = self._after(label, v, evicted)
                key = (after.done, after.resident, after.copied, after.cost)
                if key in self._reached:
                    continue  # the same operators in another order
                if len(self._reached) < _MOST_REACHED:
                    self._reached.add(key)
                yield self._eager(after, after.ready if network.space_of(after.resident) < space else self._neighbours[v])

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
        operands = network.reads[v] | network.writes[v]
        resident = live_after(network, done, (label.resident & ~evicted) | operands, v)
        copied = (label.copied | evicted | (operands & network.backed)) & ~(operands & ~resident)
        ready = ready_after(network, done, label.ready, v)
        if not evicted:
            return _Label(done, ready, resident, copied, label.cost, label.paid, label.least, label, (v,))
        cost, paid, least = self._pay(label, evicted)
        return _Label(done, ready, resident, copied, cost, paid, least, label, (v,))

    def _price(self, evicted: int, copied: int) -> int:
        return self.network.bytes_of(evicted) + self.network.bytes_of(evicted & ~copied)

    def _pay(self, label: _Label, evicted: int) -> tuple[int, tuple[int, ...], int]:
        """Return traffic so far, traffic by floor, and the least traffic of every completion, after an eviction."""
        price = self._price(evicted, label.copied)
        if not self.floors:
            return label.cost + price, (), label.least + price
        paid, least, rest = list(label.paid), label.least, price
        for k, floor in enumerate(self.floors):
            part = evicted & floor.tensors
            if part:
                share = self._price(part, label.copied)
                least += max(paid[k] + share, floor.traffic_bytes) - max(paid[k], floor.traffic_bytes)
                paid[k] += share
                rest -= share
        return label.cost + price, tuple(paid), least + rest

    def _eager(self, label: _Label, candidates: int) -> _Label:
        """Run every operator that costs nothing to run now; the steps join the label's own.

        Only `candidates` can have become such operators: whether an operator costs nothing changes only with its own tensors, or when bytes
        become free.
        """
        network = self.network
        done, ready, resident, copied = label.done, label.ready, label.resident, label.copied
        space, ran = network.space_of(resident), list(label.ran)
        candidates &= ready
        while candidates:
            low = candidates & -candidates
            v = low.bit_length() - 1
            candidates ^= low
            if not self._costs_nothing_now(done, resident, copied, space, v):
                continue
            done |= low
            operands = network.reads[v] | network.writes[v]
            resident = live_after(network, done, resident | operands, v)
            copied = (copied | (operands & network.backed)) & ~(operands & ~resident)
            ready = ready_after(network, done, ready, v)
            ran.append(v)
            before, space = space, network.space_of(resident)
            candidates = ready if space < before else (candidates | self._neighbours[v]) & ready
        if len(ran) == len(label.ran):
            return label
        return _Label(done, ready, resident, copied, label.cost, label.paid, label.least, label.parent, tuple(ran))

    def _costs_nothing_now(self, done: int, resident: int, copied: int, space: int, v: int) -> bool:
        network = self.network
        reads, writes = network.reads[v], network.writes[v]
        if reads & ~resident or space + self._written[v] + network.fixed[v] > self.capacity:
            return False
        outputs = self._surviving[v]
        if not outputs:
            return True
        done |= 1 << v
        dying = 0
        for bit, consumers in network.operand_pairs[v]:
            if not (bit & writes or consumers & ~done):
                dying |= bit
        surviving, freed = network.space_of(outputs), network.space_of(dying)
        if freed < surviving:
            return False
        key = (v, dying, copied & dying)
        answer = self._verdicts.get(key)
        if answer is None:
            answer = self._never_worse(copied, dying, surviving, 2 * network.bytes_of(outputs))
            self._verdicts[key] = answer
        return answer

    def _never_worse(self, copied: int, dying: int, surviving: int, cost: int) -> bool:
        """Return whether holding outputs in the place of dying inputs is no worse, whichever of those another plan would evict."""
        network, members = self.network, list(bits(dying))
        freed = network.space_of(dying)
        price = {a: network.size[a] * (1 if copied >> a & 1 else 2) for a in members}
        if all(price[a] * (freed - surviving) >= cost * network.space[a] for a in members):
            return True  # whatever part is evicted costs at least its bytes times the least price per byte
        if len(members) > _MOST_DYING_TO_ENUMERATE:
            return False
        return all(
            freed - sum(network.space[a] for a in part) >= surviving or sum(price[a] for a in part) >= cost
            for count in range(1, len(members) + 1)
            for part in combinations(members, count)
        )


class _Search:
    def __init__(self, expansion: Expansion, cutoff_bytes: int | None, progress: Progress, seed: int, most_labels: int) -> None:
        self.expansion, self.network = expansion, expansion.network
        self.cutoff, self.progress, self.most_labels = cutoff_bytes, progress, most_labels
        self.random = random.Random(seed) if seed else None
        self.bound = 0
        self.labels = 0
        self._children = 0
        self._pressure = Pressure(self.network, expansion.capacity)
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
            *_, label = heapq.heappop(self._heap)
            if label.dominated:
                continue
            self.bound = max(self.bound, label.priority)
            if label.done == self.network.everything:
                return Found(label.order(), label.cost, self.bound, self.labels, Termination.PROVED)
            self.labels += 1
            if self.labels % _CLOCK_INTERVAL == 0:
                self.progress.report("search", bound=self.bound, note=f"{self.labels} labels")
            for child in self.expansion.children(label):
                self._push(child)
                self._children += 1
                if self._children % _CLOCK_INTERVAL == 0 and (limit := self._limit()):
                    return self._stopped(limit)
        bound = self.bound if self.cutoff is None else self.cutoff
        return Found(None, None, bound, self.labels, Termination.PROVED)

    def _limit(self) -> Termination | None:
        """Return the limit that has been reached; asked between children, of which one label of a wide network has very many."""
        if self.progress.clock.expired:
            return Termination.TIME_LIMIT
        return Termination.MEMORY_LIMIT if self._pushed >= self.most_labels else None

    def _stopped(self, why: Termination) -> Found:
        return Found(None, None, self.bound, self.labels, why)

    def _push(self, label: _Label) -> None:
        if self.cutoff is not None and label.least >= self.cutoff:
            return
        rivals = self._known.setdefault(label.done, [])
        if any(self._beats(rival, label) for rival in rivals):
            return
        for rival in rivals:
            rival.dominated = rival.dominated or self._beats(label, rival)
        rivals[:] = [rival for rival in rivals if not rival.dominated]
        rivals.append(label)
        ahead = self._pressure.least(label.done, label.resident, label.copied)
        label.priority = max(label.least, label.cost + ahead, label.parent.priority if label.parent else 0)
        if self.cutoff is not None and label.priority >= self.cutoff:
            return
        self._pushed += 1
        tie = self.random.random() if self.random else 0.0
        heapq.heappush(self._heap, (label.priority, -label.done.bit_count(), tie, self._pushed, label))

    def _beats(self, one: _Label, other: _Label) -> bool:
        spare = other.cost - one.cost
        if spare < 0:
            return False
        extra, unsaved = one.resident & ~other.resident, other.copied & ~one.copied
        if not extra and not unsaved:
            return True
        return self.network.bytes_of(extra) + self.network.bytes_of(unsaved) <= spare
