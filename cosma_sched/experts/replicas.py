"""How many replicas each expert gets.

Water-filling gives one replica at a time to the expert with the largest load per replica, which is optimal for that criterion.
With two slots per GPU counts and packing interact: the best packing of given counts puts the largest with the smallest, so the counts
themselves are searched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from cosma_sched.experts.statistics import Numbers

_MOST_VECTORS = 20_000
"""Count vectors that are enumerated rather than searched."""
_CANDIDATES = 12


def water_fill(loads: Numbers, num_slots: int, gpus: int) -> Numbers:
    """Return counts [L, E] with sum `num_slots` and at most one replica per GPU; the first expert on ties."""
    loads = np.asarray(loads, np.float64)
    layers, experts = loads.shape
    counts = np.ones((layers, experts), np.int64)
    rows = np.arange(layers)
    for _ in range(num_slots - experts):
        height = np.where(counts < gpus, loads / counts, -1.0)
        counts[rows, height.argmax(axis=1)] += 1
    return counts


def place_replicas(work: Numbers, counts: Numbers, gpus: int) -> Numbers:
    """Return slots [L, S]: heaviest replica first, into the lightest GPU with room and without that expert; O(L S G).

    Experts with many replicas leave the fewest choices, so those with a replica on every GPU go first. Where the heaviest-first order runs
    into a corner, the layer is dealt out instead: replicas sorted by expert, one to each GPU in turn.

    Parameters
    ----------
    work
        Load of one replica of each expert [L, E].
    counts
        Replicas of each expert [L, E], each at most the number of GPUs.
    """
    layers = len(work)
    slots = [_place_layer(work[layer], counts[layer], gpus) for layer in range(layers)]
    return np.stack(slots)


def _place_layer(work: Numbers, counts: Numbers, gpus: int) -> Numbers:
    replicas = np.repeat(np.arange(len(counts)), counts)
    room = len(replicas) // gpus
    order = np.lexsort((-work[replicas], counts[replicas] < gpus))
    total, held = np.zeros(gpus), np.zeros(gpus, np.int64)
    on = np.zeros((gpus, len(counts)), bool)
    placed: list[list[int]] = [[] for _ in range(gpus)]
    for expert in replicas[order]:
        closed = (held == room) | on[:, expert]
        if closed.all():
            return np.sort(_dealt(replicas, counts, gpus), axis=1).ravel()
        gpu = int(np.where(closed, np.inf, total).argmin())
        placed[gpu].append(int(expert))
        total[gpu] += work[expert]
        held[gpu] += 1
        on[gpu, expert] = True
    return np.asarray(placed).ravel()


def _dealt(replicas: Numbers, counts: Numbers, gpus: int) -> Numbers:
    del counts
    dealt: Numbers = replicas.reshape(-1, gpus).T  # neighbours of one expert, at most G of them, go to different GPUs
    return dealt


def pair_load(loads: Numbers, counts: Numbers) -> Numbers:
    """Return for counts [..., E] the largest load of a GPU with two slots when the largest replica joins the smallest."""
    experts = loads.shape[-1]
    flat = np.broadcast_to(loads, counts.shape).reshape(-1, experts)
    per = counts.reshape(-1, experts)
    replicas = np.sort(np.repeat((flat / per).ravel(), per.ravel()).reshape(len(flat), -1), axis=1)
    half = replicas.shape[1] // 2
    largest: Numbers = (replicas[:, :half] + replicas[:, : half - 1 : -1]).max(axis=1).reshape(counts.shape[:-1])
    return largest


def count_vectors(experts: int, num_slots: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to share `num_slots` replicas among experts, at least one each."""
    for bars in combinations(range(1, num_slots), experts - 1):
        edges = (0, *bars, num_slots)
        yield tuple(edges[i + 1] - edges[i] for i in range(experts))


def search_counts(loads: Numbers, gpus: int, seed: int, fraction: Callable[[], float]) -> tuple[Numbers, bool]:
    """Return counts [L, E] for two slots per GPU and whether they are the best for pairing (enumerated), else annealed.

    Parameters
    ----------
    loads
        [L, E].
    fraction
        How much of the budget is spent.
    """
    experts, num_slots = loads.shape[1], 2 * gpus
    if math.comb(num_slots - 1, experts - 1) <= _MOST_VECTORS:
        vectors = np.asarray([vector for vector in count_vectors(experts, num_slots) if max(vector) <= gpus])
        best = [vectors[int(pair_load(np.broadcast_to(row, vectors.shape), vectors).argmin())] for row in loads.astype(np.float64)]
        return np.stack(best), True
    return _anneal_counts(loads.astype(np.float64), gpus, seed, fraction), False


def _anneal_counts(loads: Numbers, gpus: int, seed: int, fraction: Callable[[], float]) -> Numbers:
    """Move one replica at a time, in every layer at once: some candidates per step, one or none by heat bath."""
    random = np.random.default_rng(seed)
    loads = loads / loads.mean(axis=1, keepdims=True) * loads.shape[1] / gpus  # in means of a GPU
    layers = len(loads)
    rows = np.arange(layers)[:, None]
    counts = water_fill(loads, 2 * gpus, gpus)
    value = pair_load(loads, counts)
    best, best_value = counts.copy(), value.copy()
    while (spent := fraction()) < 1:
        heat = 3e-3 * 0.01**spent
        giver = _random_where(random, counts > 1)
        taker = _random_where(random, counts < gpus)
        trial = np.repeat(counts[:, None, :], _CANDIDATES, axis=1)
        np.put_along_axis(trial, giver[:, :, None], np.take_along_axis(trial, giver[:, :, None], axis=2) - 1, axis=2)
        np.put_along_axis(trial, taker[:, :, None], np.take_along_axis(trial, taker[:, :, None], axis=2) + 1, axis=2)
        values = pair_load(np.broadcast_to(loads[:, None, :], trial.shape), trial)
        noisy = values - heat * random.gumbel(size=values.shape)
        chosen = noisy.argmin(axis=1)
        accept = np.flatnonzero(noisy[rows[:, 0], chosen] < value - heat * random.gumbel(size=layers))
        counts[accept], value[accept] = trial[accept, chosen[accept]], values[accept, chosen[accept]]
        better = value < best_value
        best[better], best_value[better] = counts[better], value[better]
    return best


def _random_where(random: np.random.Generator, allowed: Numbers) -> Numbers:
    """Return [L, candidates] random indices of allowed entries of each row."""
    keys = random.random(allowed.shape)
    keys[~allowed] = 2.0
    picked: Numbers = (
        np.argpartition(keys, _CANDIDATES, axis=1)[:, :_CANDIDATES] if allowed.shape[1] > _CANDIDATES else keys.argsort(axis=1)
    )
    valid = np.take_along_axis(allowed, picked, axis=1)
    fallback = allowed.argmax(axis=1)[:, None]
    chosen: Numbers = np.where(valid, picked, fallback)
    if chosen.shape[1] < _CANDIDATES:
        chosen = np.resize(chosen.T, (_CANDIDATES, len(chosen))).T
    return random.permuted(chosen, axis=1)


def pack_pairs(loads: Numbers, counts: Numbers, gpus: int) -> Numbers:
    """Return slots [L, 2 G] with the largest replica beside the smallest; partners are exchanged where an expert would meet itself."""
    rows = []
    for layer_loads, layer_counts in zip(np.asarray(loads, np.float64), counts, strict=True):
        replicas = np.repeat(np.arange(len(layer_counts)), layer_counts)
        replicas = replicas[np.argsort(-(layer_loads / layer_counts)[replicas], kind="stable")]
        first, second = replicas[:gpus].copy(), replicas[: gpus - 1 : -1].copy()
        for gpu in np.flatnonzero(first == second):
            fits = np.flatnonzero((second != first[gpu]) & (first != second[gpu]))
            near = fits[np.abs(fits - gpu).argmin()]
            second[gpu], second[near] = second[near], second[gpu]
        rows.append(np.stack([first, second], axis=1).ravel())
    return np.stack(rows)
