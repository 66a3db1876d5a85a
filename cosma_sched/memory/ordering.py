"""The order with the least peak of live bytes, by best-first search over sets of executed operators.

The set E of executed operators determines which tensors are live, so a state is E. The search keeps, for each E, the least peak on the way
to it, and always expands the state with the least peak: the first time all operators are executed, the peak is M_P.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace

from cosma_sched.memory.problem import Network, Order, bits
from cosma_sched.progress import Clock

STATE_LIMIT = 3_000_000
_CLOCK_INTERVAL = 16


@dataclass(frozen=True, slots=True)
class PeakOrder:
    """An order, its peak of live bytes, and a proven lower bound on the peak of every order.

    Parameters
    ----------
    order
        Positions in the given order.
    peak_bytes
        Peak of `order`.
    bound_bytes
        No order has a lower peak; equal to `peak_bytes` when proven.
    states
        Sets of executed operators that were expanded.
    interrupted
        True if the user stopped the search.
    """

    order: Order
    peak_bytes: int
    bound_bytes: int
    states: int
    interrupted: bool = False


@dataclass(slots=True)
class _State:
    """A set of executed operators with what follows from it, and how it was reached."""

    done: int
    ready: int
    live: int
    live_bytes: int
    peak: int
    parent: _State | None
    ran: Order


def live_after(network: Network, done: int, live: int, v: int) -> int:
    """Return the live tensors after v has run: its unread outputs and what was read for the last time are gone.

    Parameters
    ----------
    done
        Operators executed, v among them.
    live
        Live tensors during v, its operands among them.
    """
    for bit, consumers in network.operand_pairs[v]:
        if not consumers & ~done:
            live &= ~bit
    return live


def ready_after(network: Network, done: int, ready: int, v: int) -> int:
    """Return the ready operators after v has run, `done` including it."""
    ready &= ~(1 << v)
    for bit, predecessors in network.successor_pairs[v]:
        if not predecessors & ~done:
            ready |= bit
    return ready


def min_peak_order(network: Network, floor_bytes: int, *, clock: Clock | None = None) -> PeakOrder:
    """Return the order with the least peak of live bytes (M_P); deterministic.

    Parameters
    ----------
    network
        The indexed graph.
    floor_bytes
        A proven lower bound on the peak, such as the forced-live bound; states below it are not told apart.
    clock
        When it expires, or on Ctrl-C, the best order known and the bound proven so far are returned.

    Notes
    -----
    A ready operator that fits under the current threshold and after which live bytes have not grown is run at once and alone: in any
    completion it can be moved to the front. Its effect on live bytes only shrinks as more operators run (more of its inputs die with it, an
    input it loads may already be live), so every later step needs no more than before.
    """
    clock = clock or Clock()
    given = network.given_order
    held = PeakOrder(given, max(network.live_bytes(given)), floor_bytes, 0)
    if held.peak_bytes <= floor_bytes:
        return held
    search = _PeakSearch(network, floor_bytes)
    try:
        goal = search.run(clock)
        if goal is None:
            held = _better(network, held, greedy_order(network))
    except KeyboardInterrupt:
        return replace(held, bound_bytes=search.bound, states=search.states, interrupted=True)
    if goal is None:
        return replace(held, bound_bytes=min(search.bound, held.peak_bytes), states=search.states)
    order = _path(goal)
    peak = max(network.live_bytes(order))
    return PeakOrder(order, peak, peak, search.states)


def greedy_order(network: Network) -> Order:
    """Return an order that always runs the ready operator after which the fewest bytes are live, the first of several.

    Cost O(n r) for n operators of which r are ready at a time. No guarantee; it follows a branch to its end where that frees bytes.
    """
    done, ready, live, order = 0, network.ready(0), 0, []
    while ready:

        def bytes_after(v: int, done: int = done, live: int = live) -> int:
            return network.space_of(live_after(network, done | 1 << v, live | network.operands(v), v)) - network.space_of(live)

        v = min(bits(ready), key=bytes_after)
        done |= 1 << v
        live = live_after(network, done, live | network.operands(v), v)
        ready = ready_after(network, done, ready, v)
        order.append(v)
    return tuple(order)


def _better(network: Network, held: PeakOrder, order: Order) -> PeakOrder:
    peak = max(network.live_bytes(order))
    return replace(held, order=order, peak_bytes=peak) if peak < held.peak_bytes else held


def _path(state: _State) -> Order:
    parts: list[Order] = []
    node: _State | None = state
    while node is not None:
        parts.append(node.ran)
        node = node.parent
    return tuple(v for part in reversed(parts) for v in part)


class _PeakSearch:
    def __init__(self, network: Network, floor_bytes: int) -> None:
        self.network = network
        self.bound = floor_bytes
        self.states = 0
        self._tried = 0
        self._closed: set[int] = set()
        self._reached: dict[int, int] = {}
        self._heap: list[tuple[int, int, int, int, _State]] = []
        self._pushed = 0

    def run(self, clock: Clock) -> _State | None:
        """Return the goal state, or None when the clock or the state limit ended the search."""
        start = _State(0, self.network.ready(0), 0, 0, self.bound, None, ())
        self._push(self._eager(start))
        while self._heap:
            *_, state = heapq.heappop(self._heap)
            self.bound = max(self.bound, state.peak)
            if state.done == self.network.everything:
                return state
            if state.done in self._closed:
                continue
            self._closed.add(state.done)
            self.states += 1
            if self.states >= STATE_LIMIT:
                return None
            for v in bits(state.ready):
                self._tried += 1
                if self._tried % _CLOCK_INTERVAL == 0 and clock.expired:
                    return None  # between two successors: a state of a wide network has hundreds
                after = self._run(state, v)
                if self._reached.get(after.done, after.peak + 1) > after.peak:  # else the same set was reached as well before
                    self._reached[after.done] = after.peak
                    self._push(self._eager(after))
        return None

    def _push(self, state: _State) -> None:
        if state.done not in self._closed:
            self._pushed += 1
            heapq.heappush(self._heap, (state.peak, -state.done.bit_count(), state.live_bytes, self._pushed, state))

    def _run(self, state: _State, v: int) -> _State:
        network = self.network
        done = state.done | 1 << v
        during = state.live | network.operands(v)
        during_bytes = state.live_bytes + network.space_of(during & ~state.live)
        live = live_after(network, done, during, v)
        live_bytes = during_bytes - network.space_of(during & ~live)
        return _State(done, ready_after(network, done, state.ready, v), live, live_bytes, max(state.peak, during_bytes), state, (v,))

    def _eager(self, state: _State) -> _State:
        """Run every operator that costs nothing to run now; the steps become part of the state's own path."""
        network, ran = self.network, []
        done, ready, live, live_bytes = state.done, state.ready, state.live, state.live_bytes
        threshold = max(state.peak, self.bound)
        again = True
        while again:
            again = False
            for v in bits(ready):
                arriving = network.operands(v) & ~live
                during = live_bytes + (network.space_of(arriving) if arriving else 0)
                if during > threshold:
                    continue
                after = live_after(network, done | 1 << v, live | arriving, v)
                after_bytes = during - network.space_of((live | arriving) & ~after)  # of few tensors, where the sum over all is long
                if after_bytes <= live_bytes:
                    done |= 1 << v
                    ready = ready_after(network, done, ready, v)
                    live, live_bytes, again = after, after_bytes, True
                    ran.append(v)
                    break
        if not ran:
            return state
        return _State(done, ready, live, live_bytes, state.peak, state.parent, (*state.ran, *ran))
