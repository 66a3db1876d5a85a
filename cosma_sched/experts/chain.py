"""Which GPU takes which cluster of experts, clusters fixed: the second stage of MoETuner and the free relabelling under token-stays.

With uniform bandwidth only the relative labels of neighbouring layers matter, so the sum objective is a chain of L-1 linear assignments,
and the objective of the largest pair is read off the sorted flows. With other costs the labels of a layer are the states of a Viterbi
search (G! of them, G <= 6), beyond that coordinate descent: one assignment for each layer in turn.

Clusters are [L, G, K]; a flow between clusters is ``between[l, c, d]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from cosma_sched.experts.flow import best_assignment, matched_pairs
from cosma_sched.experts.problem import Topology
from cosma_sched.experts.statistics import Numbers

MOST_LABELLED = 6
"""Largest number of GPUs whose G! labelings are searched."""
_SWEEPS = 20
_FAR = 1e300


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Which GPU each cluster goes to.

    Parameters
    ----------
    gpu_of
        [L, G]: GPU of each cluster.
    cost
        Sum of flows times costs, or the sum over boundaries of the largest pair.
    bound
        Proven lower bound on that over all labels.
    """

    gpu_of: Numbers
    cost: float
    bound: float

    def apply(self, clusters: Numbers) -> Numbers:
        """Return slots [L, S] of the clusters on their GPUs."""
        placed = np.empty_like(clusters)
        np.put_along_axis(placed, self.gpu_of[:, :, None], clusters, axis=1)
        return placed.reshape(len(clusters), -1)


def label_clusters(between: Numbers, topology: Topology, *, objective: str = "sum") -> Labels:
    """Return the best labels for flows between clusters [L-1, G, G].

    Parameters
    ----------
    objective
        ``sum``: total cost; ``pair-max``: sum over boundaries of the dearest ordered pair of GPUs.
    """
    if topology.is_uniform:
        return _uniform_chain(between, float(topology.costs().max(initial=0.0)), objective)
    if topology.gpus <= MOST_LABELLED:
        return _labelled(between, topology.costs(), objective)
    return _descend(between, topology, objective)


def _uniform_chain(between: Numbers, price: float, objective: str) -> Labels:
    gpus = between.shape[1]
    gpu_of = np.empty((len(between) + 1, gpus), np.int64)
    gpu_of[0] = np.arange(gpus)
    cost = 0.0
    for boundary, flow in enumerate(between):
        if objective == "sum":
            partner = best_assignment(flow)
            cost += float(flow.sum() - flow[np.arange(gpus), partner].sum())
        else:
            worst, partner = matched_pairs(flow)
            cost += worst
        gpu_of[boundary + 1, partner] = gpu_of[boundary]
    return Labels(gpu_of, price * cost, price * cost)


def _labelled(between: Numbers, costs: Numbers, objective: str) -> Labels:
    """Search all labelings of all layers: V[l+1, q] = min over p of V[l, p] + cost of the boundary; exact."""
    gpus = len(costs)
    orders = np.asarray(list(permutations(range(gpus))))
    value = np.zeros(len(orders))
    came_from = []
    for flow in between:
        edge = _label_costs(flow, costs, orders, objective)
        total = value[:, None] + edge
        came_from.append(total.argmin(axis=0))
        value = total.min(axis=0)
    state = int(value.argmin())
    states = [state]
    for back in reversed(came_from):
        state = int(back[state])
        states.append(state)
    cost = float(value.min())
    return Labels(orders[states[::-1]], cost, cost)


def _label_costs(flow: Numbers, costs: Numbers, orders: Numbers, objective: str) -> Numbers:
    """Return [p, q]: the cost of a boundary whose clusters before and after have the labels p and q."""
    gpus = len(costs)
    hot = np.zeros((len(orders), gpus, gpus))
    np.put_along_axis(hot, orders[:, :, None], 1.0, axis=2)  # [p, cluster, gpu]
    if objective == "sum":
        toward = np.einsum("cd,pcg,gh->pdh", flow.astype(np.float64), hot, costs, optimize=True)
        total: Numbers = toward.reshape(len(orders), -1) @ hot.reshape(len(orders), -1).T
        return total
    priced = costs[orders[:, :, None, None], orders.T[None, None, :, :]]  # [p, c, d, q]
    largest: Numbers = (flow[None, :, :, None] * priced).max(axis=(1, 2))
    return largest


def _descend(between: Numbers, topology: Topology, objective: str) -> Labels:
    """Improve the labels of one layer at a time by an assignment; the bound is the cheapest link times the uniform optimum."""
    costs = topology.costs()
    gpus = topology.gpus
    uniform = _uniform_chain(between, 1.0, objective)
    cheapest = float(costs[~np.eye(gpus, dtype=bool)].min())
    best = Labels(uniform.gpu_of, chain_cost(between, uniform.gpu_of, costs, objective), cheapest * uniform.cost)
    gpu_of = uniform.gpu_of.copy()
    for _ in range(_SWEEPS):
        for layer in range(len(gpu_of)):
            price = np.zeros((gpus, gpus))  # [cluster, gpu]
            if layer:
                price += between[layer - 1].T.astype(np.float64) @ costs[gpu_of[layer - 1]]
            if layer < len(between):
                price += between[layer].astype(np.float64) @ costs.T[gpu_of[layer + 1]]
            gpu_of[layer] = best_assignment(-price)
        cost = chain_cost(between, gpu_of, costs, objective)
        if cost >= best.cost - 1e-9 * abs(best.cost):
            break
        best = Labels(gpu_of.copy(), cost, best.bound)
    return best


def chain_cost(between: Numbers, gpu_of: Numbers, costs: Numbers, objective: str) -> float:
    """Return the cost of given labels."""
    priced = [flow * costs[np.ix_(gpu_of[boundary], gpu_of[boundary + 1])] for boundary, flow in enumerate(between)]
    return float(sum(matrix.sum() if objective == "sum" else matrix.max() for matrix in priced))
