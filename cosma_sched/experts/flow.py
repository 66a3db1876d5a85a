"""Assignments and min-cost flows (OR-Tools): relabelling, one layer at a time, and the K-regular subgraph that bounds kept transitions.

With both neighbours fixed the traffic of token-stays is linear in a layer, so the best layer is a min-cost flow: node supply r_e, arcs
e -> g of capacity 1 (no expert twice on a GPU) with cost -gain[g,e] / r_e + lambda_g w_e, GPU capacity K; lambda prices the load.
"""

from __future__ import annotations

import numpy as np

from cosma_sched.errors import BackendError
from cosma_sched.experts.statistics import Numbers

_SCALE = 2**40
"""Fractions become whole numbers of this unit: costs in OR-Tools are integers."""
_PRICE_STEPS = 12


def best_assignment(gain: Numbers) -> Numbers:
    """Return for each row its column in the assignment with the largest total gain [n, n]; exact for whole numbers."""
    from ortools.graph.python import linear_sum_assignment

    size = len(gain)
    solver = linear_sum_assignment.SimpleLinearSumAssignment()
    rows = np.repeat(np.arange(size, dtype=np.int32), size)
    columns = np.tile(np.arange(size, dtype=np.int32), size)
    solver.add_arcs_with_cost(rows, columns, -_whole(gain).ravel())
    if solver.solve() != solver.OPTIMAL:
        raise BackendError("ortools", "the assignment solver refused a complete matrix")
    return np.asarray([solver.right_mate(row) for row in range(size)])


def _whole(values: Numbers) -> Numbers:
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    largest = float(np.abs(values).max(initial=0))
    if largest and not (largest < 2**50 and np.array_equal(values, np.round(values))):
        values = values * (_SCALE / largest)
    return np.round(values).astype(np.int64)


def regular_subgraph(matrix: Numbers, degree: int) -> tuple[int, Numbers]:
    """Return the largest weight of a K-regular subgraph of a complete bipartite graph, and prices [2, E] that prove it.

    Prices u of rows and v of columns prove the bound K (sum u + sum v) + sum max(0, R - u - v); at the optimum it is met.

    Parameters
    ----------
    matrix
        Weights [E, E], whole numbers.
    degree
        K: edges at every row and every column.
    """
    size = len(matrix)
    costs = matrix.astype(np.int64)
    used = _transport(-costs, np.full(size, degree), np.full(size, degree)).astype(bool)
    return int(costs[used].sum()), _prices(costs, used)


def _transport(costs: Numbers, supply: Numbers, capacity: Numbers) -> Numbers:
    """Return the flow [rows, columns] of least cost with unit arcs; every row sends its supply, no column takes more than its capacity."""
    from ortools.graph.python import min_cost_flow

    rows, columns = costs.shape
    solver = min_cost_flow.SimpleMinCostFlow()
    tails = np.repeat(np.arange(rows, dtype=np.int32), columns)
    heads = np.tile(np.arange(rows, rows + columns, dtype=np.int32), rows)
    arcs = solver.add_arcs_with_capacity_and_unit_cost(tails, heads, np.ones(rows * columns, np.int64), costs.ravel())
    nodes = np.arange(rows + columns, dtype=np.int32)
    solver.set_nodes_supplies(nodes, np.concatenate([supply, -capacity]).astype(np.int64))
    if solver.solve() != solver.OPTIMAL:
        raise BackendError("ortools", "the flow solver refused a balanced transport problem")
    flow: Numbers = solver.flows(arcs).reshape(rows, columns)
    return flow


def _prices(weights: Numbers, used: Numbers) -> Numbers:
    """Return prices from shortest distances in the residual graph of an optimal flow; integral, by Bellman and Ford on matrices."""
    size = len(weights)
    left, right = np.zeros(size, np.int64), np.zeros(size, np.int64)
    far = np.int64(2**60)
    forward, back = np.where(used, far, -weights), np.where(used, weights, far)
    for _ in range(2 * size + 2):
        new_right = np.minimum(right, (left[:, None] + forward).min(axis=0))
        new_left = np.minimum(left, (new_right[None, :] + back).min(axis=1))
        if np.array_equal(new_left, left) and np.array_equal(new_right, right):
            break
        left, right = new_left, new_right
    return np.stack([left, -right])


def flow_step(toward: Numbers, counts: Numbers, work: Numbers, room: int, cap: float) -> Numbers | None:
    """Return the best slots [G, K] of one layer for fixed neighbours whose loads stay within the cap, or None where prices find none.

    Parameters
    ----------
    toward
        How well each GPU suits each expert [G, E], already divided by the replica counts of the neighbours and of the layer.
    counts
        Replicas of each expert.
    work
        Load of one replica [s, E] in units of a GPU's mean.
    room
        K.
    cap
        Largest load of a GPU.
    """
    gpus, experts = toward.shape
    largest = float(np.abs(toward).max()) or 1.0
    price = np.zeros(gpus)
    best, best_value = None, -np.inf
    for _ in range(_PRICE_STEPS):
        cost = price[None, :] * work.max(axis=0)[:, None] - toward.T.astype(np.float64) / largest  # [E, G]
        placed = _transport(np.round(cost * 2**30).astype(np.int64), counts, np.full(gpus, room)).astype(bool)
        loads = work @ placed  # [s, G]
        over = loads.max(axis=0) - cap
        value = float((toward.T * placed).sum())
        if over.max() <= 1e-9 and value > best_value:
            best, best_value = placed, value
        if over.max() <= 1e-9 and not price.any():
            break
        price = np.maximum(0.0, price + 0.5 * over)
    if best is None:
        return None
    return np.stack([np.flatnonzero(best[:, g]) for g in range(gpus)]) if experts else None


def matched_pairs(values: Numbers) -> tuple[float, Numbers]:
    """Return the smallest possible largest unmatched entry of a square matrix, and a matching (column of each row) that reaches it.

    Entries are taken in descending order while no two share a row or a column; the first one that does cannot be matched too.
    """
    size = len(values)
    column_of = np.full(size, -1)
    taken = np.zeros(size, bool)
    order = np.argsort(-values, axis=None, kind="stable")
    worst = 0.0
    for flat in order:
        row, column = divmod(int(flat), size)
        if column_of[row] >= 0 or taken[column]:
            worst = float(values[row, column])
            break
        column_of[row], taken[column] = column, True
    free_rows, free_columns = np.flatnonzero(column_of < 0), np.flatnonzero(~taken)
    if len(free_rows):
        column_of[free_rows] = free_columns[best_assignment(values[np.ix_(free_rows, free_columns)])]
    return worst, column_of
