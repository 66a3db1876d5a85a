"""From the placement that runs now to the new one: free relabelling, and the best placement within a number of moves.

GPU names are free: under dispatch-combine with uniform costs in every layer by itself, with two levels nodes first and GPUs inside them,
under token-stays one permutation for all layers. An expert is moved where a GPU holds it afterwards and did not before.
"""

from __future__ import annotations

import numpy as np

from cosma_sched.errors import InfeasibleError, Lever, Reason
from cosma_sched.experts.flow import best_assignment
from cosma_sched.experts.load import copies_on_gpus, replica_counts
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.statistics import Numbers
from cosma_sched.experts.sweeps import Sweeper, tables_for

_MOST_EXCHANGES = 400
_ROUNDS = 400


def moved_experts(slots: Numbers, current: Numbers, num_experts: int, gpus: int) -> int:
    """Return how many (layer, GPU, expert) are in `slots` and not in `current`."""
    return int(moved_per_layer(slots, current, num_experts, gpus).sum())


def moved_per_layer(slots: Numbers, current: Numbers, num_experts: int, gpus: int) -> Numbers:
    """Return [L]: how many (GPU, expert) of each layer are in `slots` and not in `current`."""
    after, before = (copies_on_gpus(which, num_experts, gpus) > 0 for which in (slots, current))
    moved: Numbers = (after & ~before).sum(axis=(1, 2))
    return moved


def relabel(slots: Numbers, current: Numbers, num_experts: int, topology: Topology, model: TrafficModel) -> Numbers:
    """Return the same placement with GPUs renamed, and slots reordered inside them, so that the fewest experts move."""
    layers, gpus = len(slots), topology.gpus
    after, before = (copies_on_gpus(which, num_experts, gpus) > 0 for which in (slots, current))
    overlap = np.einsum("lge,lhe->lgh", after.astype(np.int64), before.astype(np.int64))
    if topology.matrix is not None and not topology.is_uniform:
        renamed = np.tile(np.arange(gpus), (layers, 1))
    elif model == TrafficModel.TOKEN_STAYS:
        renamed = np.tile(_best_names(overlap.sum(axis=0), topology), (layers, 1))
    else:
        renamed = np.stack([_best_names(matrix, topology) for matrix in overlap])
    shaped = slots.reshape(layers, gpus, -1)
    placed = np.empty_like(shaped)
    np.put_along_axis(placed, renamed[:, :, None], shaped, axis=1)
    if current.shape == slots.shape:
        placed = _same_slots(placed, current.reshape(shaped.shape))
    return placed.reshape(slots.shape)


def _best_names(overlap: Numbers, topology: Topology) -> Numbers:
    """Return the new GPU of each GPU with the largest overlap; whole nodes change places where the topology has levels."""
    if not topology.has_levels:
        return best_assignment(overlap)
    nodes, per_node = topology.nodes, topology.per_node
    value, names = np.zeros((nodes, nodes), np.int64), {}
    for n in range(nodes):
        for m in range(nodes):
            block = overlap[n * per_node : (n + 1) * per_node, m * per_node : (m + 1) * per_node]
            names[n, m] = best_assignment(block)
            value[n, m] = block[np.arange(per_node), names[n, m]].sum()
    target = best_assignment(value)
    return np.concatenate([target[n] * per_node + names[n, int(target[n])] for n in range(nodes)])


def _same_slots(placed: Numbers, current: Numbers) -> Numbers:
    """Return every GPU's experts with those that stay in the slots they are in."""
    result = np.full_like(placed, -1)
    for layer, gpu in np.ndindex(placed.shape[:2]):
        rest = list(placed[layer, gpu])
        for slot, expert in enumerate(current[layer, gpu]):
            if expert in rest:
                rest.remove(expert)
                result[layer, gpu, slot] = expert
        free = np.flatnonzero(result[layer, gpu] < 0)
        result[layer, gpu, free] = rest
    return result


def limited_migration(
    problem: PlacementProblem, current: Numbers, most_moved: int, caps: Numbers, matrix: Numbers | None, seed: int
) -> Numbers:
    """Return the best placement [L, S] found with at most `most_moved` moves from the current one.

    Replica counts stay, but for slots that hold an expert their GPU has already: those take another expert first.

    First the load: in every layer the best exchange of the most loaded GPU, again and again; how far each layer follows its path is
    chosen for the least sum of T_l within the budget, exactly. Then, where C or R is given as `matrix`, what is left goes into the
    exchanges that save the most traffic within the load caps [L].
    """
    start = without_duplicates(problem, current)
    needed = moved_experts(start, current, problem.num_experts, problem.gpus)
    if needed > most_moved:
        statement = f"the current placement holds {needed} experts twice on a GPU, and each of those slots has to take another expert"
        lever = Lever("--max-moved", needed, "no expert twice on a GPU")
        raise InfeasibleError([Reason("replicas-apart", "", statement, needed, most_moved, needed - most_moved, "moves", (), (lever,))])
    targets = caps if matrix is not None else np.zeros(problem.num_layers)
    slots = _spend(_load_paths(problem, start, current, targets, most_moved), current, most_moved)
    if matrix is None:
        return slots
    sweeper = Sweeper(problem, slots, tables_for(problem, slots, 1, matrix), caps, seed)
    _save_traffic(problem, sweeper, current, most_moved)
    return sweeper.slots.reshape(slots.shape)


class _Paths:
    """For every layer, exchange after exchange: the slots, how many experts have moved, and T_l."""

    def __init__(self, layers: int) -> None:
        self.slots: list[list[Numbers]] = [[] for _ in range(layers)]
        self.moved: list[list[int]] = [[] for _ in range(layers)]
        self.peak: list[list[float]] = [[] for _ in range(layers)]


def without_duplicates(problem: PlacementProblem, current: Numbers) -> Numbers:
    """Return the placement with the second copy of an expert on a GPU replaced by the expert that gains most from a replica."""
    slots, gpus, room = current.copy(), problem.gpus, problem.slots_per_gpu
    loads = problem.weights_of_experts().mean(axis=0)
    for layer, gpu in np.argwhere((copies_on_gpus(slots, problem.num_experts, gpus) > 1).any(axis=2)):
        own = slots[layer, gpu * room : (gpu + 1) * room]  # a view
        for slot in range(room):
            if own[slot] in own[:slot]:
                height = loads[layer] / np.bincount(slots[layer], minlength=problem.num_experts)
                height[own] = -1.0
                own[slot] = int(height.argmax())
    return slots


def _load_paths(problem: PlacementProblem, start: Numbers, current: Numbers, targets: Numbers, most_moved: int) -> _Paths:
    layers, gpus, room = problem.num_layers, problem.gpus, problem.slots_per_gpu
    slots = start.copy()
    work = problem.weights_of_experts() / replica_counts(start, problem.num_experts)
    paths = _Paths(layers)
    active = np.ones(layers, bool)
    for _ in range(_MOST_EXCHANGES):
        loads = np.take_along_axis(work, slots[None], axis=2).reshape(len(work), layers, gpus, room).sum(axis=3)
        peaks = loads.max(axis=(0, 2))
        moved = moved_per_layer(slots, current, problem.num_experts, gpus)
        for layer in np.flatnonzero(active):
            if paths.peak[layer] and peaks[layer] >= paths.peak[layer][-1] - 1e-9:
                active[layer] = False
                continue
            paths.slots[layer].append(slots[layer].copy())
            paths.moved[layer].append(int(moved[layer]))
            paths.peak[layer].append(float(peaks[layer]))
        active &= (peaks > targets) & (moved < most_moved)
        if not active.any():
            break
        _exchange_best(problem, slots, work, loads, np.flatnonzero(active))
    return paths


def _exchange_best(problem: PlacementProblem, slots: Numbers, work: Numbers, loads: Numbers, rows: Numbers) -> None:
    """Apply to each row the exchange of its most loaded GPU that leaves both GPUs lowest, worst scenario."""
    gpus, room = problem.gpus, problem.slots_per_gpu
    hot = loads[:, rows].max(axis=0).argmax(axis=1)
    mine = slots[rows].reshape(len(rows), gpus, room)[np.arange(len(rows)), hot]  # [n, K]
    other = slots[rows]  # [n, S]
    own = np.take_along_axis(work[:, rows], mine[None], axis=2)
    their = np.take_along_axis(work[:, rows], other[None], axis=2)
    change = their[:, :, None, :] - own[:, :, :, None]  # [s, n, K, S]
    here = loads[:, rows, hot][:, :, None, None] + change
    there = np.repeat(loads[:, rows], room, axis=2)[:, :, None, :] - change
    value = np.maximum(here, there).max(axis=0)
    on = copies_on_gpus(slots[rows], problem.num_experts, gpus) > 0
    owner = np.arange(problem.num_slots) // room
    index = np.arange(len(rows))
    value[np.broadcast_to((owner[None, :] == hot[:, None])[:, None, :], value.shape)] = np.inf
    value[np.broadcast_to(on[index[:, None], hot[:, None], other][:, None, :], value.shape)] = np.inf
    value[on[index[:, None, None], owner[None, None, :], mine[:, :, None]]] = np.inf
    flat = value.reshape(len(rows), -1).argmin(axis=1)
    at, slot = flat // problem.num_slots, flat % problem.num_slots
    usable = np.isfinite(value.reshape(len(rows), -1)[index, flat])
    source = hot * room + at
    chosen = rows[usable]
    first, second = slots[chosen, source[usable]], slots[chosen, slot[usable]]
    slots[chosen, source[usable]], slots[chosen, slot[usable]] = second, first


def _spend(paths: _Paths, current: Numbers, most_moved: int) -> Numbers:
    """Choose for each layer how far to follow its path: the least sum of T_l within the budget, by dynamic programming."""
    layers = len(current)
    value = np.zeros(most_moved + 1)
    choices = np.zeros((layers, most_moved + 1), np.int64)
    for layer in range(layers):
        best = np.full(most_moved + 1, np.inf)
        for option, (moved, peak) in enumerate(zip(paths.moved[layer], paths.peak[layer], strict=True)):
            if moved > most_moved:
                continue
            total = np.full(most_moved + 1, np.inf)
            total[moved:] = value[: most_moved + 1 - moved] + peak
            better = total < best - 1e-12
            best[better], choices[layer, better] = total[better], option
        value = best
    slots, left = current.copy(), most_moved
    for layer in range(layers - 1, -1, -1):
        option = int(choices[layer, left])
        slots[layer] = paths.slots[layer][option]
        left -= paths.moved[layer][option]
    return slots


def _save_traffic(problem: PlacementProblem, sweeper: Sweeper, current: Numbers, most_moved: int) -> None:
    """Spend the rest of the budget on the exchanges with the largest gain, at most one per layer and round."""
    tables = sweeper.tables
    left, right = np.triu_indices(problem.gpus, 1)
    for _ in range(_ROUNDS):
        applied = 0
        for group in range(1 if tables is None else tables.phases()):
            budget = most_moved - moved_experts(sweeper.slots.reshape(current.shape), current, problem.num_experts, problem.gpus)
            if budget >= 2:
                applied += sweeper.best_exchanges(group, left, right, budget // 2)
        if not applied:
            return
