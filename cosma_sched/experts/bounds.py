"""Proven lower bounds on load and traffic, and what proves them; numpy only, so that the checker can evaluate them too.

Every function returns a value that no placement of the stated kind can be below. ``docs/experts.md`` has the arguments.
"""

from __future__ import annotations

import numpy as np

from cosma_sched.experts.problem import PlacementProblem
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.traffic import least_copies

_SUBGRADIENT_STEPS = 60
_LARGE = 128
"""Experts from which an eigenvalue problem takes tens of milliseconds and the diagonal is improved in a few steps only."""
_SAFE = 1e-9
"""Relative slack that floating-point arithmetic is granted in eigenvalue bounds."""


def replica_floor(loads: Numbers, num_slots: int) -> Numbers:
    """Return [L]: the least possible load of the most loaded replica over all counts with `num_slots` replicas, for loads [L, E].

    Water-filling reaches it; at least (rounded up) load / floor replicas are needed of each expert.
    """
    loads = np.asarray(loads, np.float64)
    counts = np.ones(loads.shape, np.int64)
    rows = np.arange(len(loads))
    for _ in range(num_slots - loads.shape[1]):
        counts[rows, (loads / counts).argmax(axis=1)] += 1
    floor: Numbers = (loads / counts).max(axis=1)
    return floor


def load_bound(loads: Numbers, num_slots: int, gpus: int) -> Numbers:
    """Return [L]: a lower bound on the most loaded GPU over the mean, replica counts free.

    The mean, the least load of the most loaded replica, and without replicas the heaviest expert with the K-1 lightest beside it.
    """
    loads = np.asarray(loads, np.float64)
    scaled = loads * (gpus / loads.sum(axis=1, keepdims=True))
    if num_slots == loads.shape[1]:
        return load_bound_of_counts(loads, np.ones(loads.shape, np.int64), gpus)
    return np.maximum(1.0, replica_floor(scaled, num_slots))


def load_bound_of_counts(loads: Numbers, counts: Numbers, gpus: int) -> Numbers:
    """Return [L]: a lower bound on the most loaded GPU over the mean for given replica counts [L, E]."""
    scaled = np.asarray(loads, np.float64) * (gpus / loads.sum(axis=1, keepdims=True))
    bounds = []
    for layer, row in enumerate(scaled / counts):
        items = np.sort(np.repeat(row, counts[layer]))
        room = len(items) // gpus
        bounds.append(max(1.0, float(items[-1] + items[: room - 1].sum())))
    return np.asarray(bounds)


def group_bound(loads: Numbers, groups: int, nodes: int) -> Numbers:
    """Return [L]: a lower bound on the most loaded node over the mean when whole groups of experts go to nodes (hierarchical EPLB).

    With two groups per node the best pairing is smallest with largest; otherwise the largest group with the smallest others.
    """
    sums = np.sort(np.asarray(loads, np.float64).reshape(len(loads), groups, -1).sum(axis=2), axis=1)
    room = groups // nodes
    paired = room == 2
    heaviest = (sums[:, :nodes] + sums[:, : nodes - 1 : -1]).max(axis=1) if paired else sums[:, -1] + sums[:, : room - 1].sum(axis=1)
    bound: Numbers = np.maximum(1.0, heaviest / sums.sum(axis=1) * nodes)
    return bound


def scenario_load_bound(profile: Profile, num_slots: int, gpus: int) -> Numbers:
    """Return [L]: the largest of the bounds of the single scenarios."""
    highest: Numbers = np.max([load_bound(scenario.loads, num_slots, gpus) for scenario in profile.scenarios], axis=0)
    return highest


# token-stays


def priced_kept(matrix: Numbers, prices: Numbers, degree: int) -> int:
    """Return an upper bound on the transitions [E, E] that a K-regular subgraph keeps, from any whole prices [2, E]; exact integers."""
    left, right = prices[0].astype(np.int64), prices[1].astype(np.int64)
    surplus = np.maximum(0, matrix.astype(np.int64) - left[:, None] - right[None, :])
    return int(degree * (left.sum() + right.sum()) + surplus.sum())


def spectral_kept(matrix: Numbers, gpus: int) -> float:
    """Return an upper bound on the transitions that stay on a GPU: the mean part, and K times the G-1 largest singular values beside it."""
    experts = len(matrix)
    centred = matrix - matrix.mean(axis=0, keepdims=True) - matrix.mean(axis=1, keepdims=True) + matrix.mean()
    values = np.linalg.svd(centred.astype(np.float64), compute_uv=False)
    return float(matrix.sum() / gpus + experts / gpus * values[: gpus - 1].sum()) * (1 + _SAFE)


def kept_bounds(problem: PlacementProblem, prices: Numbers | None) -> Numbers | None:
    """Return [L-1]: upper bounds on the transitions that stay on a GPU without replicas, or None.

    Parameters
    ----------
    prices
        [L-1, 2, E], whole numbers that prove the K-regular bound; None for the spectral bound alone.
    """
    matrices = problem.profile.pooled_transitions()
    if matrices is None or problem.has_replicas or not len(matrices):
        return None
    kept = []
    for boundary, matrix in enumerate(matrices):
        bounds = [float(matrix.sum()), spectral_kept(matrix, problem.gpus)]
        if prices is not None and matrix.dtype.kind in "iu":
            bounds.append(float(priced_kept(matrix, prices[boundary], problem.slots_per_gpu)))
        kept.append(min(bounds))
    return np.asarray(kept)


def remote_bound(problem: PlacementProblem, prices: Numbers | None) -> float | None:
    """Return a lower bound on the remote fraction without replicas, or None; prices as in `kept_bounds`."""
    kept, matrices = kept_bounds(problem, prices), problem.profile.pooled_transitions()
    return None if kept is None or matrices is None else max(0.0, 1 - float(kept.sum()) / float(matrices.sum()))


# dispatch-combine


def spectral_pairs(off: Numbers, diagonal: Numbers, gpus: int) -> tuple[float, Numbers]:
    """Return an upper bound on the co-located pairs for a diagonal d, and the subgradient of the bound in d.

    1/2 [ (1^T C' 1 + 1^T d) / G + K sum of the G-1 largest eigenvalues of V^T (C' + Diag d) V - 1^T d ], V the complement of 1.
    """
    experts = len(off)
    room = experts / gpus
    whole = off + np.diag(diagonal)
    centred = whole - whole.mean(axis=0, keepdims=True) - whole.mean(axis=1, keepdims=True) + whole.mean()
    values, vectors = np.linalg.eigh(centred - np.full((experts, experts), _far(centred)))  # 1 goes to the far end
    top = vectors[:, ::-1][:, : gpus - 1]
    share = (whole.sum() / gpus + room * values[::-1][: gpus - 1].sum() - diagonal.sum()) / 2
    slope = (1 / gpus + room * (top**2).sum(axis=1) - 1) / 2
    return float(share) + _SAFE * abs(float(whole.sum())), slope


def _far(matrix: Numbers) -> float:
    return 2 * float(np.abs(matrix).sum(axis=1).max(initial=0.0)) / len(matrix) + 1.0


def improve_diagonal(off: Numbers, gpus: int) -> Numbers:
    """Return a diagonal that makes the eigenvalue bound small, by a subgradient method with shrinking steps."""
    diagonal = np.zeros(len(off))
    best, (best_value, slope) = diagonal, spectral_pairs(off, diagonal, gpus)
    step = 0.3 * float(off.sum(axis=1).mean())
    for k in range(_SUBGRADIENT_STEPS if len(off) < _LARGE else 2):
        norm = float(np.linalg.norm(slope)) or 1.0
        diagonal = diagonal - step / (1 + k) ** 0.5 * slope / norm
        value, slope = spectral_pairs(off, diagonal, gpus)
        if value < best_value:
            best, best_value = diagonal, value
    return best


def row_pairs(off: Numbers, room: int) -> float:
    """Return an upper bound on the co-located pairs: half the K-1 largest entries of each row."""
    return float(np.sort(off, axis=1)[:, len(off) - room + 1 :].sum() / 2) if room > 1 else 0.0


def off_diagonal(pairs: Numbers) -> Numbers:
    """Return C [L, E, E] as floats without its diagonals."""
    off = pairs.astype(np.float64)
    np.einsum("laa->la", off)[:] = 0
    return off


def copies_bounds(problem: PlacementProblem, diagonals: Numbers | None = None) -> Numbers | None:
    """Return [L]: lower bounds on copies per token without replicas, or None; `diagonals` [L, E] sharpen them."""
    pairs, top_k = problem.profile.pooled_coactivation(), problem.profile.top_k
    if pairs is None or top_k is None or problem.has_replicas:
        return None
    tokens = problem.profile.pooled_loads().sum(axis=1) / top_k
    bounds = []
    for layer, off in enumerate(off_diagonal(pairs)):
        located = row_pairs(off, problem.slots_per_gpu)
        for diagonal in [np.zeros(len(off))] + ([] if diagonals is None else [np.asarray(diagonals[layer], np.float64)]):
            located = min(located, spectral_pairs(off, diagonal, problem.gpus)[0])
        bounds.append(least_copies(min(located / float(tokens[layer]), top_k * (top_k - 1) / 2), top_k))
    return np.maximum(bounds, -(-top_k // problem.slots_per_gpu))


def copies_bound(problem: PlacementProblem, diagonals: Numbers | None = None) -> float | None:
    """Return a lower bound on copies per token without replicas, or None."""
    bounds = copies_bounds(problem, diagonals)
    return None if bounds is None else float(bounds.mean())
