"""Traffic of a placement in both models, with replicas in expectation.

dispatch-combine: a token leaves its home for every GPU with one of its experts and returns after each layer,

    q[t,l,g] = 1 - prod over e in S[t,l] of (1 - f[l,e,g])        copies per token = mean over t, l of sum_g q[t,l,g]

token-stays: a token goes from the GPU of its layer-l expert to that of its layer-(l+1) expert,

    M[l] = F[l] R[l] F[l+1]^T        remote fraction = 1 - sum_l tr M[l] / sum_l sum M[l]

For k = 2 copies follow exactly from C; for larger k without token ids C only gives an interval. F is [L, G, E] as in `load`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from cosma_sched.experts.load import copies_on_gpus, served_shares
from cosma_sched.experts.problem import Topology, TrafficModel
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers

_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """Traffic of a placement; None where the profile does not tell.

    Parameters
    ----------
    copies_per_token
        GPUs that a token visits, mean over tokens and layers.
    copies_interval
        What C alone says of it where k > 2 and there are no token ids: (least, most).
    nodes_per_token
        The same with nodes.
    inter_node_copies
        Copies per token and layer that cross between nodes for uniform home ranks, forwarded inside a node or not.
    remote_fraction, inter_node_fraction
        Share of the transitions between GPUs, and between nodes.
    remote_transitions, transitions
        What the fraction is made of.
    transition_cost
        Sum of transitions times the topology's cost.
    pair_max
        Sum over boundaries of the largest flow between two GPUs.
    busiest_port
        The busiest GPU port of the traffic model that is optimised: copies per token, or a share of the boundary's transitions.
    home_cost_bound
        Upper bound on the dispatch cost per token and layer from known home ranks: one copy per token and expert.
    """

    copies_per_token: float | None = None
    copies_interval: tuple[float, float] | None = None
    nodes_per_token: float | None = None
    inter_node_copies: float | None = None
    remote_fraction: float | None = None
    inter_node_fraction: float | None = None
    remote_transitions: float | None = None
    transitions: float | None = None
    transition_cost: float | None = None
    pair_max: float | None = None
    busiest_port: float | None = None
    home_cost_bound: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Which GPUs and nodes tokens use.

    Parameters
    ----------
    visits
        [L, G]: expected share of tokens that visit each GPU.
    node_visits
        [L, N]: the same for nodes.
    """

    visits: Numbers
    node_visits: Numbers


def node_shares(shares: Numbers, topology: Topology) -> Numbers:
    """Return the shares of nodes [L, N, E] of shares of GPUs [L, G, E]."""
    layers, gpus, experts = shares.shape
    summed: Numbers = shares.reshape(layers, topology.nodes, gpus // topology.nodes, experts).sum(axis=2)
    return np.minimum(summed, 1.0)


def usage(profile: Profile, slots: Numbers, topology: Topology, *, static: bool = False) -> Usage | None:
    """Return how tokens spread over GPUs, exactly, or None where the profile does not tell.

    Parameters
    ----------
    static
        A home rank uses its own GPU's replica if there is one; the others are split evenly. Mean over home ranks.
    """
    shares = served_shares(slots, profile.num_experts, topology.gpus)
    if profile.has_tokens:
        tokens = [scenario.tokens for scenario in profile.scenarios if scenario.tokens is not None]
        if static and not (shares == np.round(shares)).all():
            return _static_usage(tokens, slots, profile.num_experts, topology)
        visits = _token_visits(tokens, shares)
        return Usage(visits, visits if topology.per_node == 1 else _token_visits(tokens, node_shares(shares, topology)))
    pairs = profile.pooled_coactivation() if profile.top_k == 2 and not static else None
    if pairs is None:
        return None
    loads = profile.pooled_loads()
    return Usage(_pair_visits(loads, pairs, shares), _pair_visits(loads, pairs, node_shares(shares, topology)))


def _token_visits(tokens: Sequence[Numbers], shares: Numbers) -> Numbers:
    """Return the mean over tokens of q [L, X] for shares [L, X, E]."""
    layers, places, _ = shares.shape
    absent = np.ascontiguousarray(1.0 - shares.transpose(0, 2, 1))  # [L, E, X]
    whole = bool((shares == np.round(shares)).all())
    if whole:
        absent = absent.astype(np.float32)  # zeros and ones: exact
    total = np.zeros((layers, places))
    for ids in tokens:
        for start in range(0, len(ids), _ROWS):
            block = ids[start : start + _ROWS]
            for layer in range(layers):
                missing = absent[layer][block[:, layer, 0]]
                for j in range(1, block.shape[2]):
                    missing *= absent[layer][block[:, layer, j]]
                total[layer] += len(block) - missing.sum(axis=0, dtype=np.float64)
    visits: Numbers = total / sum(len(ids) for ids in tokens)
    return visits


def _pair_visits(loads: Numbers, pairs: Numbers, shares: Numbers) -> Numbers:
    """Return the mean of q for k = 2 by inclusion and exclusion over the pairs."""
    off = pairs.astype(np.float64)
    np.einsum("laa->la", off)[:] = 0
    single = np.einsum("lge,le->lg", shares, loads.astype(np.float64))
    both = 0.5 * np.einsum("lge,lgf,lef->lg", shares, shares, off, optimize=True)
    visits: Numbers = (single - both) / (loads.sum(axis=1)[:, None] / 2)
    return visits


def _static_usage(tokens: Sequence[Numbers], slots: Numbers, num_experts: int, topology: Topology) -> Usage:
    """Return the mean over home ranks of the visits when a rank keeps to its own replica."""
    copies = copies_on_gpus(slots, num_experts, topology.gpus)
    even = copies / copies.sum(axis=1, keepdims=True)
    visits, node_visits = [], []
    for home in range(topology.gpus):
        own = copies[:, home, :] > 0
        shares = np.where(own[:, None, :], 0.0, even)
        shares[:, home, :] = np.where(own, 1.0, shares[:, home, :])
        visits.append(_token_visits(tokens, shares))
        node_visits.append(visits[-1] if topology.per_node == 1 else _token_visits(tokens, node_shares(shares, topology)))
    return Usage(np.mean(visits, axis=0), np.mean(node_visits, axis=0))


def flows(profile: Profile, slots: Numbers, gpus: int) -> Numbers | None:
    """Return M [L-1, G, G]: transitions between GPUs at each boundary, or None where the profile does not tell."""
    if profile.num_layers < 2:
        return None
    shares = served_shares(slots, profile.num_experts, gpus)
    if profile.has_tokens:
        tokens = [scenario.tokens for scenario in profile.scenarios if scenario.tokens is not None]
        return _token_flows(tokens, shares)
    matrix = profile.pooled_transitions()
    if matrix is None:
        return None
    moved: Numbers = shares[:-1] @ matrix.astype(np.float64) @ shares[1:].transpose(0, 2, 1)
    return moved


def _token_flows(tokens: Sequence[Numbers], shares: Numbers) -> Numbers:
    layers, gpus, _ = shares.shape
    by_expert = np.ascontiguousarray(shares.transpose(0, 2, 1))
    total = np.zeros((layers - 1, gpus, gpus))
    for ids in tokens:
        for start in range(0, len(ids), _ROWS):
            block = ids[start : start + _ROWS]
            before = _work(by_expert[0], block[:, 0])
            for layer in range(layers - 1):
                after = _work(by_expert[layer + 1], block[:, layer + 1])
                total[layer] += before.T @ after
                before = after
    return total


def _work(by_expert: Numbers, ids: Numbers) -> Numbers:
    done = by_expert[ids[:, 0]].copy()
    for j in range(1, ids.shape[1]):
        done += by_expert[ids[:, j]]
    return done


def traffic_report(
    profile: Profile, slots: Numbers, topology: Topology, model: TrafficModel, *, static: bool = False
) -> tuple[TrafficReport, Usage | None, Numbers | None]:
    """Return the traffic of a placement on a profile, with the visits and the flows behind it."""
    use = usage(profile, slots, topology, static=static)
    moved = flows(profile, slots, topology.gpus)
    fields: dict[str, float | tuple[float, float] | None] = {}
    if use is not None:
        copies, nodes = float(use.visits.sum(axis=1).mean()), float(use.node_visits.sum(axis=1).mean())
        crossing = (nodes if topology.forwarding else copies) * (1 - 1 / topology.nodes)
        fields |= {"copies_per_token": copies, "nodes_per_token": nodes, "inter_node_copies": crossing}
        if model == TrafficModel.DISPATCH_COMBINE:
            fields["busiest_port"] = float(use.visits.max(axis=1).mean()) * (1 - 1 / topology.gpus)
    elif (pairs := profile.pooled_coactivation()) is not None and profile.top_k is not None and not static:
        fields["copies_interval"] = copies_interval(profile.pooled_loads(), pairs, served_shares(slots, profile.num_experts, topology.gpus))
    if moved is not None:
        fields |= _flow_figures(moved, topology, model)
    fields["home_cost_bound"] = _home_cost(profile, slots, topology)
    return TrafficReport(**fields), use, moved  # type: ignore[arg-type]


def _flow_figures(moved: Numbers, topology: Topology, model: TrafficModel) -> dict[str, float | tuple[float, float] | None]:
    total = float(moved.sum())
    kept = float(np.einsum("lgg->", moved))
    same = topology.node_of[:, None] == topology.node_of[None, :]
    off = moved * (1 - np.eye(topology.gpus))
    fields: dict[str, float | tuple[float, float] | None] = {
        "remote_fraction": 1 - kept / total,
        "inter_node_fraction": float((moved * ~same).sum()) / total,
        "remote_transitions": total - kept,
        "transitions": total,
        "transition_cost": float((moved * topology.costs()).sum()),
        "pair_max": float(off.max(axis=(1, 2)).sum()),
    }
    if model == TrafficModel.TOKEN_STAYS:
        ports = np.maximum(off.sum(axis=2), off.sum(axis=1)).max(axis=1)
        fields["busiest_port"] = float((ports / moved.sum(axis=(1, 2))).mean())
    return fields


def _home_cost(profile: Profile, slots: Numbers, topology: Topology) -> float | None:
    homes = [scenario.homes for scenario in profile.scenarios]
    if any(matrix is None or len(matrix) != topology.gpus for matrix in homes):
        return None
    shares = served_shares(slots, profile.num_experts, topology.gpus)
    total = sum(np.einsum("hle,lge,hg->", matrix.astype(np.float64), shares, topology.costs()) for matrix in homes if matrix is not None)
    routed = float(profile.pooled_loads().sum())
    return float(total) / routed * (profile.top_k or 1)


@cache
def pair_hull(top_k: int) -> tuple[tuple[int, int], ...]:
    """Return the lower convex hull of the reachable points (co-located pairs, GPUs visited) of one token with k experts."""
    points: dict[int, int] = {}

    def partitions(rest: int, largest: int, pairs: int, parts: int) -> None:
        if not rest:
            points[pairs] = min(points.get(pairs, top_k), parts)
            return
        for part in range(min(rest, largest), 0, -1):
            partitions(rest - part, part, pairs + part * (part - 1) // 2, parts + 1)

    partitions(top_k, top_k, 0, 0)
    hull: list[tuple[int, int]] = []
    for x, y in sorted(points.items()):
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (x - hull[-2][0]) >= (y - hull[-2][1]) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((x, y))
    return tuple(hull)


def least_copies(pairs_per_token: float, top_k: int) -> float:
    """Return the fewest GPUs per token, on average, that a mean number of co-located pairs allows."""
    xs, ys = zip(*pair_hull(top_k), strict=True)
    return float(np.interp(pairs_per_token, xs, ys))


def copies_interval(loads: Numbers, pairs: Numbers, shares: Numbers) -> tuple[float, float]:
    """Return (least, most) copies per token that C alone allows: from the hull below, k - 2p/k above, mean over layers."""
    top_k = round(float(pairs[0].sum()) / float(loads[0].sum()))
    off = pairs.astype(np.float64)
    np.einsum("laa->la", off)[:] = 0
    tokens = loads.sum(axis=1) / top_k
    located = 0.5 * np.einsum("lge,lgf,lef->l", shares, shares, off, optimize=True) / tokens
    return float(np.mean([least_copies(p, top_k) for p in located])), float(np.mean(top_k - 2 * located / top_k))


def gpu_matrix(model: TrafficModel, use: Usage | None, moved: Numbers | None) -> Numbers | None:
    """Return the GPU x GPU traffic of all layers: transitions (token-stays), or copies per token for uniform home ranks."""
    if model == TrafficModel.TOKEN_STAYS:
        return None if moved is None else moved.sum(axis=0)
    if use is None:
        return None
    received = use.visits.sum(axis=0)
    spread: Numbers = np.tile(received / len(received), (len(received), 1)) * (1 - np.eye(len(received)))
    return spread
