"""Definitions of the expert planner once more, in plain loops, and small profiles to try them on."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np

from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.profile import Profile, profile_from_tokens


def draw_tokens(seed: int, num: int = 40, layers: int = 3, experts: int = 6, top_k: int = 2) -> np.ndarray:
    """Return token ids with a popular expert and some dependence between layers."""
    random = np.random.default_rng(seed)
    bias = random.normal(size=(layers, experts))
    state = random.normal(size=(num, experts))
    tokens = np.empty((num, layers, top_k), np.int64)
    for layer in range(layers):
        tokens[:, layer] = np.argsort(-(state + bias[layer] + 0.5 * random.normal(size=state.shape)), axis=1)[:, :top_k]
    return tokens


def draw_profile(seed: int, **shape: int) -> Profile:
    """Return the profile of such tokens."""
    tokens = draw_tokens(seed, **shape)
    return profile_from_tokens(tokens, shape.get("experts", 6), name=f"drawn{seed}")


def problem_of(
    profile: Profile, gpus: int, room: int, traffic: str = "dispatch-combine", nodes: int = 1, max_load: float | None = 1.05
) -> PlacementProblem:
    """Return a problem with default costs."""
    return PlacementProblem(profile, Topology(gpus, nodes), room, TrafficModel(traffic), max_load)


def random_slots(seed: int, layers: int, experts: int, gpus: int, room: int) -> np.ndarray:
    """Return slots with every expert present and no expert twice on a GPU; one replica count for each layer."""
    random = np.random.default_rng(seed)
    rows = []
    while len(rows) < layers:
        extra = random.integers(experts, size=gpus * room - experts)
        row = random.permutation(np.concatenate([np.arange(experts), extra])).reshape(gpus, room)
        if all(len(set(gpu)) == room for gpu in row.tolist()):
            rows.append(row.ravel())
    return np.asarray(rows)


def share(slots: np.ndarray, layer: int, expert: int, gpu: int, gpus: int) -> float:
    """Return f[l,e,g]."""
    row = slots[layer].tolist()
    room = len(row) // gpus
    return row[gpu * room : (gpu + 1) * room].count(expert) / row.count(expert)


def load(loads: np.ndarray, slots: np.ndarray, gpus: int) -> float:
    """Return max_over_mean by its definition."""
    total = 0.0
    for layer, row in enumerate(loads):
        work = [sum(row[e] * share(slots, layer, e, g, gpus) for e in range(len(row))) for g in range(gpus)]
        total += max(work) / (sum(work) / gpus)
    return total / len(loads)


def copies(tokens: np.ndarray, slots: np.ndarray, gpus: int, nodes: int | None = None) -> float:
    """Return GPUs (or nodes) per token and layer by the definition."""
    places = nodes or gpus
    each = gpus // places
    total = 0.0
    for layers in tokens.tolist():
        for layer, chosen in enumerate(layers):
            for place in range(places):
                absent = 1.0
                for e in chosen:
                    here = sum(share(slots, layer, e, g, gpus) for g in range(place * each, (place + 1) * each))
                    absent *= 1 - min(1.0, here)
                total += 1 - absent
    return total / tokens.shape[0] / tokens.shape[1]


def remote(tokens: np.ndarray, slots: np.ndarray, gpus: int) -> float:
    """Return the remote fraction by the definition."""
    kept = total = 0.0
    for layers in tokens.tolist():
        for layer in range(len(layers) - 1):
            for a in layers[layer]:
                for b in layers[layer + 1]:
                    total += 1
                    kept += sum(share(slots, layer, a, g, gpus) * share(slots, layer + 1, b, g, gpus) for g in range(gpus))
    return 1 - kept / total


def placements(experts: int, gpus: int) -> list[tuple[tuple[int, ...], ...]]:
    """Return all placements of one layer without replicas, GPUs told apart."""
    room = experts // gpus
    found: list[tuple[tuple[int, ...], ...]] = []

    def fill(rest: frozenset[int], done: tuple[tuple[int, ...], ...]) -> None:
        if not rest:
            found.append(done)
            return
        for chosen in combinations(sorted(rest), room):
            fill(rest - set(chosen), (*done, chosen))

    fill(frozenset(range(experts)), ())
    return found


def best_matching(flow: np.ndarray) -> float:
    """Return the largest total of a perfect matching."""
    return max(sum(flow[i, order[i]] for i in range(len(flow))) for order in permutations(range(len(flow))))
