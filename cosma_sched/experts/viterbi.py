"""The proven joint optimum for few GPUs: every placement of one layer is a state, and layers are chained by their traffic.

There are E! / (K!^G G!) unlabelled placements of a layer with K = E / G (105 for 8 experts on 4 GPUs). With uniform costs labels do not
matter: an edge between two states is the best of their G! matchings, and the labels follow on the way back. With other costs the states
are labelled, E! / K!^G of them. A load cap only deletes states. Under dispatch-combine layers are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, permutations

import numpy as np

from cosma_sched.experts.problem import PlacementProblem, TrafficModel
from cosma_sched.experts.statistics import Numbers

MOST_EDGES = 5e7
"""States squared, per boundary, up to which the search is worth its time."""
_MOST_MATCHINGS = 2e8
_MOST_STATES = 100_000
_BLOCK = 2_000_000
"""Numbers of an edge table held at once."""
_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Optimum:
    """A proven optimum.

    Parameters
    ----------
    slots
        [L, S].
    objective
        The least value of what was minimised: transition cost, copies, or the weighted sum.
    best_loads
        [L]: the least load of each layer over all placements, which the cap refers to.
    """

    slots: Numbers
    objective: float
    best_loads: Numbers


def num_states(experts: int, gpus: int, *, labelled: bool) -> int:
    """Return how many placements a layer has."""
    room = experts // gpus
    labels = 1 if labelled else math.factorial(gpus)
    return int(math.factorial(experts) // (math.factorial(room) ** gpus * labels))


def fits(problem: PlacementProblem) -> bool:
    """Return whether the proven search applies: no replicas, statistics that give the exact traffic, and few enough states."""
    if problem.has_replicas or problem.gpus == 1 or problem.num_experts > 30:
        return False
    if problem.traffic == TrafficModel.TOKEN_STAYS:
        if problem.profile.num_layers < 2 or problem.profile.pooled_transitions() is None:
            return False
        states = num_states(problem.num_experts, problem.gpus, labelled=not problem.topology.is_uniform)
        matchings = states**2 * math.factorial(problem.gpus) if problem.topology.is_uniform else 0
        return states**2 <= MOST_EDGES and matchings <= _MOST_MATCHINGS
    if problem.topology.matrix is not None:
        return False
    exact = problem.profile.has_tokens or (problem.profile.top_k == 2 and problem.profile.pooled_coactivation() is not None)
    levels = problem.topology.has_levels and problem.topology.forwarding
    return exact and num_states(problem.num_experts, problem.gpus, labelled=levels) <= _MOST_STATES


def layer_states(experts: int, gpus: int, *, labelled: bool) -> Numbers:
    """Return all placements of a layer [n, G, K]; unlabelled ones once, with their clusters ordered by their smallest expert."""
    room = experts // gpus
    found: list[list[tuple[int, ...]]] = []

    def extend(rest: tuple[int, ...], clusters: list[tuple[int, ...]]) -> None:
        if not rest:
            found.append(clusters)
            return
        for others in combinations(rest[1:], room - 1):
            taken = {rest[0], *others}
            extend(tuple(e for e in rest if e not in taken), [*clusters, (rest[0], *others)])

    extend(tuple(range(experts)), [])
    states = np.asarray(found)
    if not labelled:
        return states
    return np.concatenate([states[:, list(order)] for order in permutations(range(gpus))])


def joint_optimum(problem: PlacementProblem) -> Optimum:
    """Return the placement with the least traffic under the load cap, or the least weighted sum; `fits` must hold."""
    stays = problem.traffic == TrafficModel.TOKEN_STAYS
    labelled = not problem.topology.is_uniform if stays else problem.topology.has_levels and problem.topology.forwarding
    states = layer_states(problem.num_experts, problem.gpus, labelled=labelled)
    work = problem.weights_of_experts()
    peaks = np.stack([work[:, layer][:, states].sum(axis=3).max(axis=(0, 2)) for layer in range(problem.num_layers)])  # [L, n]
    least = peaks.min(axis=1)
    if problem.weights is None:
        cap = np.inf if problem.max_load is None else problem.max_load
        allowed = [np.flatnonzero(row <= cap * low * (1 + _TOLERANCE)) for row, low in zip(peaks, least, strict=True)]
    else:
        allowed = [np.arange(len(states))] * problem.num_layers
    if not stays:
        return _layer_by_layer(problem, states, peaks, allowed, least)
    chain = _labelled_chain if labelled else _unlabelled_chain
    slots, objective = chain(problem, states, peaks, allowed)
    return Optimum(slots, objective, least)


def _loads_priced(problem: PlacementProblem, peaks: Numbers, layer: int, allowed: Numbers) -> Numbers:
    alpha = 0.0 if problem.weights is None else problem.weights[0]
    priced: Numbers = alpha * peaks[layer, allowed]
    return priced


def _boundary_price(problem: PlacementProblem, matrix: Numbers) -> float:
    """Return what one unit of transition cost of a boundary is worth: 1 under a cap, beta over the boundary's total when weighted."""
    return 1.0 if problem.weights is None else problem.weights[1] / float(matrix.sum())


def _transitions(problem: PlacementProblem) -> Numbers:
    matrix = problem.profile.pooled_transitions()
    return np.zeros((0, 0, 0)) if matrix is None else matrix.astype(np.float64)


def _unlabelled_chain(problem: PlacementProblem, states: Numbers, peaks: Numbers, allowed: list[Numbers]) -> tuple[Numbers, float]:
    experts = problem.num_experts
    hot = np.zeros((*states.shape[:2], experts))
    np.put_along_axis(hot, states, 1.0, axis=2)  # [n, G, E]
    price = float(problem.topology.costs().max())
    orders = np.asarray(list(permutations(range(problem.gpus))))
    value = _loads_priced(problem, peaks, 0, allowed[0])
    back = []
    matrices = _transitions(problem)
    for boundary, matrix in enumerate(matrices):
        here, there = allowed[boundary], allowed[boundary + 1]
        unit = price * _boundary_price(problem, matrix)
        toward = hot[here].reshape(-1, experts) @ matrix  # [n G, E]
        new, came = np.empty(len(there)), np.empty(len(there), np.int64)
        block = max(1, _BLOCK // max(1, len(here) * problem.gpus**2))
        for start in range(0, len(there), block):
            some = there[start : start + block]
            kept = _best_kept(toward, hot[some], orders, len(here))
            total = value[:, None] + unit * (matrix.sum() - kept)
            came[start : start + block] = total.argmin(axis=0)
            new[start : start + block] = total.min(axis=0)
        value = new + _loads_priced(problem, peaks, boundary + 1, there)
        back.append(came)
    chosen = _trace(value, back, allowed)
    return _relabelled(states, chosen, hot, matrices, orders), float(value.min())


def _best_kept(toward: Numbers, hot: Numbers, orders: Numbers, num_before: int) -> Numbers:
    """Return [before, after]: the most transitions that stay on a GPU over all matchings of the clusters."""
    after, gpus, experts = hot.shape
    kept = (toward @ hot.reshape(-1, experts).T).reshape(num_before, gpus, after, gpus)
    best = np.full((num_before, after), -np.inf)
    for order in orders:
        total = kept[:, 0, :, order[0]].copy()
        for g in range(1, gpus):
            total += kept[:, g, :, order[g]]
        np.maximum(best, total, out=best)
    return best


def _trace(value: Numbers, back: list[Numbers], allowed: list[Numbers]) -> list[int]:
    at = int(value.argmin())
    chosen = [int(allowed[-1][at])]
    for boundary in range(len(back) - 1, -1, -1):
        at = int(back[boundary][at])
        chosen.append(int(allowed[boundary][at]))
    return chosen[::-1]


def _relabelled(states: Numbers, chosen: list[int], hot: Numbers, matrices: Numbers, orders: Numbers) -> Numbers:
    """Return slots [L, S] with the clusters of every layer on the GPUs where the matchings put them."""
    placed = [states[chosen[0]]]
    label = np.arange(states.shape[1])  # GPU of each cluster of the layer before
    for boundary, matrix in enumerate(matrices):
        kept = hot[chosen[boundary]] @ matrix @ hot[chosen[boundary + 1]].T
        totals = [sum(kept[g, order[g]] for g in range(len(order))) for order in orders]
        partner = orders[int(np.argmax(totals))]  # cluster g before stays with cluster partner[g]
        following = np.empty_like(label)
        following[partner] = label
        label = following
        layer = np.empty_like(placed[0])
        layer[label] = states[chosen[boundary + 1]]
        placed.append(layer)
    return np.stack(placed).reshape(len(placed), -1)


def _labelled_chain(problem: PlacementProblem, states: Numbers, peaks: Numbers, allowed: list[Numbers]) -> tuple[Numbers, float]:
    experts, gpus = problem.num_experts, problem.gpus
    gpu_of = np.empty((len(states), experts), np.int64)
    np.put_along_axis(gpu_of, states.reshape(len(states), -1), np.arange(experts)[None, :] // (experts // gpus), axis=1)
    costs = problem.topology.costs()
    priced = costs[gpu_of].transpose(0, 2, 1)  # [n, h, a]: cost from expert a's GPU to h
    hot = np.zeros((len(states), gpus, experts))
    np.put_along_axis(hot, gpu_of[:, None, :], 1.0, axis=1)
    value = _loads_priced(problem, peaks, 0, allowed[0])
    back = []
    for boundary, matrix in enumerate(_transitions(problem)):
        here, there = allowed[boundary], allowed[boundary + 1]
        toward = (priced[here] @ (matrix * _boundary_price(problem, matrix))).reshape(len(here), -1)
        new, came = np.empty(len(there)), np.empty(len(there), np.int64)
        block = max(1, _BLOCK // max(1, len(here)))
        for start in range(0, len(there), block):
            some = there[start : start + block]
            total = hot[some].reshape(len(some), -1) @ toward.T + value  # [after, before]
            came[start : start + block] = total.argmin(axis=1)
            new[start : start + block] = np.take_along_axis(total, came[start : start + block, None], axis=1)[:, 0]
        value = new + _loads_priced(problem, peaks, boundary + 1, there)
        back.append(came)
    chosen = _trace(value, back, allowed)
    return states[chosen].reshape(problem.num_layers, -1), float(value.min())


def _layer_by_layer(problem: PlacementProblem, states: Numbers, peaks: Numbers, allowed: list[Numbers], least: Numbers) -> Optimum:
    """Dispatch-combine: the best state of every layer by itself."""
    alpha, beta = (0.0, 1.0) if problem.weights is None else problem.weights
    chosen, objective = [], 0.0
    for layer in range(problem.num_layers):
        some = allowed[layer]
        cost = alpha * peaks[layer, some] + beta * _copies(problem, layer, states[some])
        best = int(cost.argmin())
        chosen.append(int(some[best]))
        objective += float(cost[best])
    return Optimum(states[chosen].reshape(problem.num_layers, -1), objective, least)


def _copies(problem: PlacementProblem, layer: int, states: Numbers) -> Numbers:
    """Return copies per token of a layer for each state; with two levels plus theta times the nodes per token."""
    experts, topology = problem.num_experts, problem.topology
    hot = np.zeros((*states.shape[:2], experts), np.float32)
    np.put_along_axis(hot, states, 1.0, axis=2)
    premium = topology.node_premium if topology.forwarding else 0.0
    copies = _visited(problem, layer, hot)
    if premium:
        copies = copies + premium * _visited(problem, layer, hot.reshape(len(hot), topology.nodes, -1, experts).sum(axis=2))
    return copies


def _visited(problem: PlacementProblem, layer: int, hot: Numbers) -> Numbers:
    """Return the mean number of places [n] that a token visits for places given as sets [n, X, E]."""
    profile = problem.profile
    if profile.top_k == 2 and (pairs := profile.pooled_coactivation()) is not None:
        off = pairs[layer].astype(np.float64) * (1 - np.eye(problem.num_experts))
        located = 0.5 * ((hot.reshape(-1, problem.num_experts) @ off).reshape(hot.shape) * hot).sum(axis=(1, 2))
        exact: Numbers = 2 - located / (float(profile.pooled_loads()[layer].sum()) / 2)
        return exact
    tokens = np.concatenate([np.sort(s.tokens[:, layer], axis=1) for s in profile.scenarios if s.tokens is not None])
    sets, times = np.unique(tokens, axis=0, return_counts=True)
    chosen = np.zeros((len(sets), problem.num_experts), np.float32)
    np.put_along_axis(chosen, sets.astype(np.int64), 1.0, axis=1)
    share = times / times.sum()
    found = np.empty(len(hot))
    block = max(1, _BLOCK // (len(sets) * hot.shape[1]))
    for start in range(0, len(hot), block):
        some = hot[start : start + block]
        touched = (some.reshape(-1, problem.num_experts) @ chosen.T) > 0
        found[start : start + block] = (touched @ share).reshape(len(some), -1).sum(axis=1)
    return found
