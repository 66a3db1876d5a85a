"""Traffic that some operator still ahead must cause: a bound on what a label of the search has yet to pay.

After a set of operators has run with some tensors resident, an operator v still ahead will see live: its operands, every resident tensor
that is read at or after v in every order, and every tensor that an ancestor of v has yet to create and that is read at or after v. Tensors
that are in DRAM already may stay there. Where this exceeds the capacity, some of those that are no operands of v have to be evicted
first, whole; the cheapest set that frees enough is a knapsack. The largest of these over all v is a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from cosma_sched.memory.problem import Network, bits

_SHARE_OF_CAPACITY = 0.5
"""Operators whose forced-live bytes are below this share of the capacity are not looked at; a bound stays a bound without them."""
_MOST_STATES = 4_000


@dataclass(frozen=True, slots=True)
class _Ahead:
    """An operator: its bit, tensors its ancestors and itself create, tensors read at or after it, its operands, bytes it can use."""

    bit: int
    created: int
    read_later: int
    operands: int
    capacity: int


class Pressure:
    """The bound for one network and capacity; remembers every knapsack."""

    def __init__(self, network: Network, capacity_bytes: int) -> None:
        self.network = network
        self._ahead = tuple(_operators_ahead(network, capacity_bytes))
        self._prices: dict[tuple[int, int, int], int] = {}

    def least(self, done: int, resident: int, copied: int) -> int:
        """Return traffic in bytes that every completion still has to pay.

        Parameters
        ----------
        done
            Operators that have run.
        resident
            Live tensors in the scratchpad.
        copied
            Live tensors with a valid copy in DRAM, those that are only there included.
        """
        network, most = self.network, 0
        absent = copied & ~resident
        cheap = copied | network.backed
        for ahead in self._ahead:
            if ahead.bit & done:
                continue
            live = ((resident | ahead.created) & ahead.read_later & ~absent) | ahead.operands
            excess = network.space_of(live) - ahead.capacity
            if 2 * excess > most:  # a smaller excess rarely gives more
                most = max(most, self._price(live & ~ahead.operands, cheap, excess))
        return most

    def _price(self, evictable: int, cheap: int, excess: int) -> int:
        key = (evictable, evictable & cheap, excess)
        price = self._prices.get(key)
        if price is None:
            network = self.network
            items = [(network.space[a], network.size[a] * (1 if cheap >> a & 1 else 2)) for a in bits(evictable)]
            price = self._prices[key] = cheapest(items, excess)
        return price


def cheapest(items: list[tuple[int, int]], excess: int) -> int:
    """Return a lower bound on the price of a set of (bytes, price) items that has at least `excess` bytes.

    Exact by dynamic programming over the bytes freed; where that has too many states, the fractional optimum rounded down. 0 if all items
    together are not enough, which no label of a feasible problem asks for.
    """
    if sum(size for size, _ in items) < excess:
        return 0
    answer = sum(price for _, price in items)
    states = {0: 0}
    for size, price in sorted(items, reverse=True):
        following = dict(states)
        for freed, paid in states.items():
            if paid + price >= answer:
                continue
            if freed + size >= excess:
                answer = paid + price
            elif following.get(freed + size, answer) > paid + price:
                following[freed + size] = paid + price
        states = following
        if len(states) > _MOST_STATES:
            return _fractional(items, excess)
    return answer


def _fractional(items: list[tuple[int, int]], excess: int) -> int:
    total = 0
    for size, price in sorted(items, key=lambda item: item[1] / item[0]):
        if size >= excess:
            return total + price * excess // size
        total, excess = total + price, excess - size
    return total


def _operators_ahead(network: Network, capacity_bytes: int) -> list[_Ahead]:
    found = []
    for v in range(network.num_operators):
        created = network.writes[v] | network.created_before[v]
        read_later = network.reads[v] | network.read_after[v]
        operands = network.operands(v)
        usable = capacity_bytes - network.fixed[v]
        if network.space_of((created & read_later) | operands) + network.fixed[v] > _SHARE_OF_CAPACITY * capacity_bytes:
            found.append(_Ahead(1 << v, created, read_later, operands, usable))
    return found
