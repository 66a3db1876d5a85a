"""The load balancer of DeepSeek (deepseek-ai/EPLB) and the contiguous placement of Megatron: what others do.

`rebalance` gives the original's result slot by slot, ties included. It looks at the load alone: not at traffic, not at where the experts
are now, and it may put two replicas of one expert on one GPU.
"""

from __future__ import annotations

import numpy as np

from cosma_sched.errors import InfeasibleError, Lever, Reason, UsageError
from cosma_sched.experts.statistics import Numbers


def contiguous(num_layers: int, num_experts: int, num_slots: int) -> Numbers:
    """Return slots [L, S] with expert s % E in slot s."""
    return np.tile(np.arange(num_slots) % num_experts, (num_layers, 1))


def balanced_packing(weights: Numbers, packs: int) -> tuple[Numbers, Numbers]:
    """Return (pack, rank inside the pack) of each item [L, n]: heaviest first, each into the lightest pack with room; O(L n packs)."""
    layers, items = weights.shape
    room = items // packs
    if room == 1:
        return np.tile(np.arange(items), (layers, 1)), np.zeros((layers, items), np.int64)
    order = np.argsort(-weights, axis=1, kind="stable")
    pack_of, rank = np.empty((layers, items), np.int64), np.empty((layers, items), np.int64)
    total = np.zeros((layers, packs), weights.dtype)
    held = np.zeros((layers, packs), np.int64)
    full = np.zeros((layers, packs), bool)
    rows = np.arange(layers)
    highest = np.inf if weights.dtype.kind == "f" else np.iinfo(weights.dtype).max
    for step in range(items):
        item = order[:, step]
        pack = np.where(full, highest, total).argmin(axis=1)  # the first on ties
        pack_of[rows, item], rank[rows, item] = pack, held[rows, pack]
        total[rows, pack] += weights[rows, item]
        held[rows, pack] += 1
        full[rows, pack] = held[rows, pack] == room
    return pack_of, rank


def replicate_experts(weights: Numbers, num_slots: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return (expert, rank among its replicas, counts): one replica at a time to the expert with the largest weight per replica."""
    layers, experts = weights.shape
    expert_of = np.empty((layers, num_slots), np.int64)
    expert_of[:, :experts] = np.arange(experts)
    rank = np.zeros((layers, num_slots), np.int64)
    counts = np.ones((layers, experts), np.int64)
    rows = np.arange(layers)
    for slot in range(experts, num_slots):
        chosen = (weights / counts).argmax(axis=1)  # the first on ties
        expert_of[:, slot], rank[:, slot] = chosen, counts[rows, chosen]
        counts[rows, chosen] += 1
    return expert_of, rank, counts


def rebalance(weights: Numbers, num_slots: int, groups: int, nodes: int, gpus: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return EPLB's three arrays: slot -> expert [L, S], expert -> slots [L, E, X] padded with -1, replicas per expert [L, E].

    Parameters
    ----------
    weights
        Load of every expert [L, E].
    groups
        Expert groups; where they do not divide by the nodes, groups and nodes count as one (the global policy).

    Raises
    ------
    InfeasibleError
        If experts, groups, nodes or slots do not divide as the method needs.
    """
    layers, experts = weights.shape
    _check_divisible(experts, num_slots, groups, nodes, gpus)
    if groups % nodes:
        groups = nodes = 1
    size = experts // groups
    per_node = groups // nodes
    node_of, rank = balanced_packing(weights.reshape(layers, groups, size).sum(axis=2), nodes)
    position = ((node_of * per_node + rank) * size)[:, :, None] + np.arange(size)
    renumbered = position.reshape(layers, experts)  # expert -> place node by node
    original = _inverse(renumbered)
    local = np.take_along_axis(weights, original, axis=1).reshape(layers * nodes, experts // nodes)
    expert_of, replica, counts = replicate_experts(local, num_slots // nodes)
    share = np.take_along_axis(local / counts, expert_of, axis=1)
    pack, place = balanced_packing(share, gpus // nodes)
    slot_of = pack * (num_slots // gpus) + place
    by_slot = _inverse(slot_of)
    placed = np.take_along_axis(expert_of, by_slot, axis=1).reshape(layers, nodes, -1)
    placed = (placed + np.arange(nodes)[None, :, None] * (experts // nodes)).reshape(layers, -1)
    slots = np.take_along_axis(original, placed, axis=1)
    ranks = np.take_along_axis(replica, by_slot, axis=1).reshape(layers, -1)
    logical_counts = np.take_along_axis(counts.reshape(layers, -1), renumbered, axis=1)
    places = np.full((layers, experts, int(logical_counts.max())), -1, np.int64)
    places[np.arange(layers)[:, None], slots, ranks] = np.arange(num_slots)
    return slots, places, logical_counts


def eplb_arrays(slots: Numbers, num_experts: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return any placement as EPLB's three arrays; the replicas of an expert are ranked by slot."""
    layers, num_slots = slots.shape
    counts = np.stack([np.bincount(row, minlength=num_experts) for row in slots])
    places = np.full((layers, num_experts, int(counts.max())), -1, np.int64)
    seen = np.zeros((layers, num_experts), np.int64)
    rows = np.arange(layers)
    for slot in range(num_slots):
        expert = slots[:, slot]
        places[rows, expert, seen[rows, expert]] = slot
        seen[rows, expert] += 1
    return slots.copy(), places, counts


def _inverse(permutation: Numbers) -> Numbers:
    inverse = np.empty_like(permutation)
    np.put_along_axis(inverse, permutation, np.broadcast_to(np.arange(permutation.shape[1]), permutation.shape), axis=1)
    return inverse


def _check_divisible(experts: int, num_slots: int, groups: int, nodes: int, gpus: int) -> None:
    if groups < 1:
        raise UsageError(f"--expert-groups must be >= 1, got {groups}")
    rules = (("--expert-groups", experts, groups, "experts"), ("--nodes", gpus, nodes, "GPUs"), ("--gpus", num_slots, gpus, "slots"))
    for option, total, parts, what in rules:
        if total % parts:
            fits = min((n for n in range(1, total + 1) if total % n == 0), key=lambda n: abs(n - parts))
            statement = f"{total} {what} cannot be shared out into {parts} equal parts, as eplb needs"
            raise InfeasibleError([Reason("divides", "every layer", statement, unit=what, levers=(Lever(option, fits, "the nearest"),))])
