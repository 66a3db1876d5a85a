"""A plan without a solver: what the planner holds before anything exact has run."""

from __future__ import annotations

import heapq

from cosma_sched.memory.layout import Layout, place
from cosma_sched.memory.problem import Network, Order, Scratchpad
from cosma_sched.memory.replacement import Gap, GapModel
from cosma_sched.progress import Clock


def quick_layout(network: Network, order: Order, scratchpad: Scratchpad, *, clock: Clock, seed: int = 0) -> Layout | None:
    """Return a plan for one order by greedy choice of what leaves the scratchpad, or None if its stays could not be placed.

    Two attempts: the gaps that free the most missing bytes per byte of traffic, until every step fits; then every gap there is, which costs
    the most traffic and is the easiest to place. Cost about O(g t log g) for g gaps and t hot steps. No guarantee on the traffic.
    """
    model = GapModel(network, order, scratchpad)
    attempts = [greedy_cover(model)]
    if model.is_hot:
        attempts.append(frozenset(gap for a in range(len(network.tensors)) for gap in model.gaps(a)))
    for dropped in attempts:
        stays = model.stays(dropped, frozenset())
        packing = place(network, stays, scratchpad, clock=clock, seed=seed, explain=False)
        if packing.offsets is not None:
            return Layout(order, stays, packing.offsets)
    return None


def greedy_cover(model: GapModel) -> frozenset[Gap]:
    """Return gaps that, spent in DRAM, bring every step under the capacity; each choice frees the most missing bytes per byte moved."""
    network = model.network
    missing = [excess for _, excess in model.demand]
    rows_of: dict[Gap, list[int]] = {}
    for row, (gaps, _) in enumerate(model.demand):
        for gap in gaps:
            rows_of.setdefault(gap, []).append(row)
    dropped: set[Gap] = set()
    written: set[int] = set()

    def worth(gap: Gap) -> float:
        size, backed = network.size[gap[0]], network.backed >> gap[0] & 1 or gap[0] in written
        useful = sum(min(network.space[gap[0]], missing[row]) for row in rows_of[gap] if missing[row] > 0)
        return useful / (size if backed else 2 * size)

    def entry(gap: Gap) -> tuple[float, int, int, int]:
        known[gap] = worth(gap)
        return -known[gap], -gap[0], -gap[1], -gap[2]

    known: dict[Gap, float] = {}
    heap = [entry(gap) for gap in rows_of]
    heapq.heapify(heap)
    open_rows = sum(excess > 0 for excess in missing)
    while open_rows:
        value, *negated = heapq.heappop(heap)
        best = (-negated[0], -negated[1], -negated[2])
        if best in dropped or known[best] != -value:
            continue  # an older entry of the same gap
        if worth(best) < known[best]:
            heapq.heappush(heap, entry(best))  # others made room where it was useful; every stored worth is at least the true one
            continue
        dropped.add(best)
        for row in rows_of[best]:
            open_rows -= 0 < missing[row] <= network.space[best[0]]
            missing[row] -= network.space[best[0]]
        if best[0] not in written:
            written.add(best[0])
            for gap in model.gaps(best[0]):  # the copy is there: the other gaps of this tensor have become cheaper
                if gap in rows_of and gap not in dropped:
                    heapq.heappush(heap, entry(gap))
    return frozenset(dropped)
