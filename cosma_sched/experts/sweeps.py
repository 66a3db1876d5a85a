"""GPU-disjoint exchange sweeps: the hot loop of the joint method, in array expressions.

One step pairs up the GPUs at random, the same pairs in every row (a row is one layer of one restart), evaluates for every pair all K x K
exchanges of a replica against another, picks one or none per pair by heat bath, and applies all picks at once. That is exact and not an
approximation of one-at-a-time moves, because

- a GPU is in at most one pair, so the load terms separate;
- dispatch-combine: an exchange between g and h changes who is together on g and on h only, and layers are independent;
- token-stays: with both neighbours fixed the traffic is linear in a layer, so even layers move in one step and odd ones in the next;
- two levels under dispatch-combine: a step has pairs inside nodes (nodes keep their experts) or one pair of GPUs per pair of nodes.

The gain of exchanging i (on g) and j (on h), with C' the pairs of a layer divided by both replica counts and a zero diagonal, is

    A(h,i) - A(g,i) + A(g,j) - A(h,j) - 2 C'(i,j)         A(g,a) = sum over the copies b on g of C'(a,b)

and without the last term under token-stays, where A sums over the copies in the neighbouring layers. ``docs/experts.md`` has the proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cosma_sched.experts.load import replica_counts
from cosma_sched.experts.problem import PlacementProblem, Topology, TrafficModel
from cosma_sched.experts.statistics import Numbers

Floats = npt.NDArray[np.float32]
PENALTY = 20.0
"""Price of load above the cap, in layer traffic per GPU mean; an exchange is worth some 1e-4 of a layer's traffic."""
REBUILD = 2_000
"""Steps after which the tables are summed anew, against the drift of float32."""
_FORBIDDEN = np.float32(1e9)
_POOL = 1 << 20


class Tables(Protocol):
    """What exchanges gain: one for each traffic model."""

    def rebuild(self, slots: Numbers) -> None:
        """Sum the tables anew for slots [N, G, K]."""

    def phases(self) -> int:
        """Number of groups of rows that must not move in one step."""

    def gains(self, group: int, first: Numbers, second: Numbers, left: Numbers, right: Numbers) -> Floats:
        """Return the gains [n, P, K, K] of exchanging `first` on GPUs `left` with `second` on GPUs `right`."""

    def apply(self, rows: Numbers, left: Numbers, right: Numbers, first: Numbers, second: Numbers) -> None:
        """Follow accepted exchanges, one per entry."""


def normalised_pairs(pairs: Numbers, counts: Numbers) -> Floats:
    """Return C' [L, E, E]: unordered pairs of a layer sum to 1 without replicas; divided by both replica counts, zero diagonal."""
    off = pairs.astype(np.float64)
    np.einsum("laa->la", off)[:] = 0
    off /= np.maximum(off.sum(axis=(1, 2), keepdims=True) / 2, 1e-300)
    off /= counts[:, :, None] * counts[:, None, :]
    return off.astype(np.float32)


class Coactivation:
    """Dispatch-combine: pairs of one layer on one GPU, and on one node where the topology has two levels."""

    def __init__(self, pairs: Floats, layer_of: Numbers, topology: Topology) -> None:
        self._pairs = pairs
        self._flat = pairs.reshape(-1)
        self._layer_of = layer_of
        self._experts = pairs.shape[1]
        self._topology = topology
        self._premium = np.float32(topology.node_premium if topology.forwarding else 0.0)
        self.table: Floats = np.empty((0, 0, 0), np.float32)

    def rebuild(self, slots: Numbers) -> None:
        """Sum the tables anew."""
        table = self._pairs[self._layer_of[:, None], slots[:, :, 0]]
        for k in range(1, slots.shape[2]):
            table += self._pairs[self._layer_of[:, None], slots[:, :, k]]
        self.table = table

    def phases(self) -> int:
        """All rows move together."""
        return 1

    def gains(self, group: int, first: Numbers, second: Numbers, left: Numbers, right: Numbers) -> Floats:
        """Return the gains; where the pairs cross nodes, the nodes' part is added."""
        del group
        rows = np.arange(len(first))[:, None, None]
        per_node = self._topology.per_node
        here, there = self._toward(rows, first, left, right), self._toward(rows, second, right, left)
        weight = np.float32(2)
        if self._premium and (left[0] // per_node != right[0] // per_node):
            here += self._premium * self._toward_node(rows, first, left, right)
            there += self._premium * self._toward_node(rows, second, right, left)
            weight += 2 * self._premium
        index = (self._layer_of[:, None, None] * self._experts + first) * self._experts
        gain: Floats = np.take(self._flat, index[:, :, :, None] + second[:, :, None, :])
        gain *= -weight
        gain += here[:, :, :, None]
        gain += there[:, :, None, :]
        return gain

    def _toward(self, rows: Numbers, ids: Numbers, source: Numbers, target: Numbers) -> Floats:
        found: Floats = self.table[rows, target[:, None], ids] - self.table[rows, source[:, None], ids]
        return found

    def _toward_node(self, rows: Numbers, ids: Numbers, source: Numbers, target: Numbers) -> Floats:
        per_node = self._topology.per_node
        members = np.arange(per_node)
        of = [((gpus // per_node) * per_node)[:, None, None] + members for gpus in (target, source)]
        there, here = (self.table[rows[..., None], gpus, ids[..., None]].sum(axis=3) for gpus in of)
        found: Floats = there - here
        return found

    def apply(self, rows: Numbers, left: Numbers, right: Numbers, first: Numbers, second: Numbers) -> None:
        """Follow accepted exchanges."""
        layers = self._layer_of[rows]
        change = self._pairs[layers, second] - self._pairs[layers, first]
        self.table[rows, left] += change
        self.table[rows, right] -= change


class Transitions:
    """Token-stays: transitions to and from the neighbouring layers, under any cost matrix."""

    def __init__(self, matrix: Numbers, counts: Numbers, restarts: int, topology: Topology) -> None:
        scaled = matrix.astype(np.float64) / matrix.sum(axis=(1, 2), keepdims=True)
        scaled /= counts[:-1, :, None] * counts[1:, None, :]
        self._forward = scaled.astype(np.float32)  # [l, a, b]
        self._backward = np.ascontiguousarray(self._forward.transpose(0, 2, 1))  # [l, b, a]
        self._layers = len(matrix) + 1
        self._restarts = restarts
        rows = np.arange(restarts * self._layers)
        self._groups = [rows[(rows % self._layers) % 2 == parity] for parity in range(2)]
        costs = topology.costs()
        self._uniform = topology.is_uniform
        self._costs = (costs / costs.max()).astype(np.float32) if costs.max() > 0 else costs.astype(np.float32)
        self._before: Floats = np.empty((0, 0, 0), np.float32)
        self._after: Floats = np.empty((0, 0, 0), np.float32)

    def rebuild(self, slots: Numbers) -> None:
        """Sum the tables anew."""
        shaped = slots.reshape(self._restarts, self._layers, *slots.shape[1:])
        experts = self._forward.shape[1]
        shape = (self._restarts, self._layers, slots.shape[1], experts)
        before, after = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        boundaries = np.arange(self._layers - 1)[None, :, None]
        for k in range(slots.shape[2]):
            before[:, 1:] += self._forward[boundaries, shaped[:, :-1, :, k]]
            after[:, :-1] += self._backward[boundaries, shaped[:, 1:, :, k]]
        self._before, self._after = before.reshape(-1, *shape[2:]), after.reshape(-1, *shape[2:])

    def phases(self) -> int:
        """Even and odd layers in turn."""
        return 2

    def toward(self, group: int) -> Floats:
        """Return how well each GPU suits each expert [n, G, E] for the rows of a group, neighbours fixed."""
        rows = self._groups[group]
        if self._uniform:
            near: Floats = self._before[rows] + self._after[rows]
            return near
        priced: Floats = -(self._costs.T @ self._before[rows] + self._costs @ self._after[rows])
        return priced

    def gains(self, group: int, first: Numbers, second: Numbers, left: Numbers, right: Numbers) -> Floats:
        """Return the gains."""
        table = self.toward(group)
        rows = np.arange(len(first))[:, None, None]
        g, h = left[:, None], right[:, None]
        here = table[rows, h, first] - table[rows, g, first]
        there = table[rows, g, second] - table[rows, h, second]
        gain: Floats = here[:, :, :, None] + there[:, :, None, :]
        return gain

    def apply(self, rows: Numbers, left: Numbers, right: Numbers, first: Numbers, second: Numbers) -> None:
        """Follow accepted exchanges in the tables of the layers before and after."""
        layer = rows % self._layers
        inner = layer < self._layers - 1
        change = self._forward[layer[inner], second[inner]] - self._forward[layer[inner], first[inner]]
        self._before[rows[inner] + 1, left[inner]] += change
        self._before[rows[inner] + 1, right[inner]] -= change
        inner = layer > 0
        change = self._backward[layer[inner] - 1, second[inner]] - self._backward[layer[inner] - 1, first[inner]]
        self._after[rows[inner] - 1, left[inner]] += change
        self._after[rows[inner] - 1, right[inner]] -= change


@dataclass(slots=True)
class Counter:
    """How much was evaluated."""

    steps: int = 0
    exchanges: int = 0


class Sweeper:
    """Placements of all layers, perhaps of several restarts, that exchange replicas between GPUs.

    Parameters
    ----------
    problem
        The problem; its topology shapes the pairs.
    slots
        [N, S], N = restarts x L, rows of one restart in a block. Replica counts stay what they are.
    tables
        The traffic model; None where only the load matters.
    caps
        [L]: the load each layer may have; infinite for none.
    seed
        Of the pairs and of the noise.
    """

    def __init__(self, problem: PlacementProblem, slots: Numbers, tables: Tables | None, caps: Numbers, seed: int) -> None:
        layers, experts, gpus = problem.num_layers, problem.num_experts, problem.gpus
        self.slots = np.ascontiguousarray(slots.reshape(len(slots), gpus, problem.slots_per_gpu).astype(np.int64))
        self.layer_of = np.arange(len(slots)) % layers
        self.tables = tables
        self.caps = caps[self.layer_of].astype(np.float32)
        self.counter = Counter()
        counts = replica_counts(slots[:layers], experts)
        self._work = (problem.weights_of_experts() / counts).astype(np.float32)  # [s, L, E], of one replica
        self._topology = problem.topology
        self._random = np.random.default_rng(seed)
        self._noise = self._random.gumbel(size=_POOL).astype(np.float32)
        self._mask_copies = bool((counts > 1).any())
        self._capped = bool(np.isfinite(self.caps).any())
        self.loads: Floats = np.empty((0, 0, 0), np.float32)
        self._on: npt.NDArray[np.bool_] = np.zeros((0, 0, 0), bool)
        self._groups = [np.arange(len(slots))]
        if tables is not None and tables.phases() == 2:
            self._groups = [np.flatnonzero(self.layer_of % 2 == parity) for parity in range(2)]
        self._num_experts = experts
        self.rebuild()

    def rebuild(self) -> None:
        """Sum all tables anew from the slots."""
        rows = self.layer_of[:, None, None]
        self.loads = np.stack([work[rows, self.slots].sum(axis=2) for work in self._work])
        if self._mask_copies:
            self._on = np.zeros((len(self.slots), self.slots.shape[1], self._num_experts), bool)
            self._on[np.arange(len(self.slots))[:, None, None], np.arange(self.slots.shape[1])[:, None], self.slots] = True
        if self.tables is not None:
            self.tables.rebuild(self.slots)

    def step(self, temperature: float, *, penalty: float = PENALTY) -> int:
        """Make one step of every group of rows and return how many exchanges were applied; temperature 0 only takes improvements."""
        if self.counter.steps % REBUILD == REBUILD - 1:
            self.rebuild()
        self.counter.steps += 1
        return sum(self._half_step(group, *self._matching(), temperature, penalty) for group in range(len(self._groups)))

    def _half_step(self, group: int, left: Numbers, right: Numbers, temperature: float, penalty: float) -> int:
        rows = self._groups[group]
        first, second = self.slots[rows[:, None], left], self.slots[rows[:, None], right]
        cost = self._costs(group, rows, first, second, left, right, penalty)
        self.counter.exchanges += cost.size
        flat = cost.reshape(*cost.shape[:2], -1)
        none: Any = np.float32(0)
        if temperature > 0:
            heat = np.float32(temperature)
            flat -= heat * self._gumbel(flat.size).reshape(flat.shape)
            none = -heat * self._gumbel(flat.shape[0] * flat.shape[1]).reshape(flat.shape[:2])
        chosen = flat.argmin(axis=2)
        value = np.take_along_axis(flat, chosen[:, :, None], axis=2)[:, :, 0]
        at, pair = np.nonzero(value < none - (0 if temperature > 0 else np.float32(1e-9)))
        if len(at):
            k = self.slots.shape[2]
            pick = chosen[at, pair]
            self._exchange(rows[at], left[pair], right[pair], pick // k, pick % k)
        return len(at)

    def _costs(self, group: int, rows: Numbers, first: Numbers, second: Numbers, left: Numbers, right: Numbers, penalty: float) -> Floats:
        if self.tables is not None:
            cost = self.tables.gains(group, first, second, left, right)
            np.negative(cost, out=cost)
        else:
            cost = np.zeros((*first.shape, second.shape[2]), np.float32)
        if self._capped and penalty:
            cost += np.float32(penalty) * self._excess(rows, first, second, left, right)
        if self._mask_copies:
            index = rows[:, None, None]
            cost += (_FORBIDDEN * self._on[index, right[:, None], first])[:, :, :, None]
            cost += (_FORBIDDEN * self._on[index, left[:, None], second])[:, :, None, :]
        return cost

    def _excess(self, rows: Numbers, first: Numbers, second: Numbers, left: Numbers, right: Numbers) -> Floats:
        """Return by how much each exchange changes the load above the cap, summed over both GPUs and all scenarios."""
        layers = self.layer_of[rows][:, None, None]
        cap = self.caps[rows][:, None]
        total: Floats = np.zeros((*first.shape, second.shape[2]), np.float32)
        zero = np.float32(0)
        for work, loads in zip(self._work, self.loads, strict=True):
            gain = work[layers, second][:, :, None, :] - work[layers, first][:, :, :, None]
            over_left, over_right = loads[rows[:, None], left] - cap, loads[rows[:, None], right] - cap
            after = np.maximum(gain + over_left[:, :, None, None], zero)
            after += np.maximum(over_right[:, :, None, None] - gain, zero)
            after -= (np.maximum(over_left, zero) + np.maximum(over_right, zero))[:, :, None, None]
            total += after
        return total

    def _exchange(self, rows: Numbers, left: Numbers, right: Numbers, at_left: Numbers, at_right: Numbers) -> None:
        first, second = self.slots[rows, left, at_left], self.slots[rows, right, at_right]
        self.slots[rows, left, at_left] = second
        self.slots[rows, right, at_right] = first
        layers = self.layer_of[rows]
        for s, work in enumerate(self._work):
            change = work[layers, second] - work[layers, first]
            self.loads[s, rows, left] += change
            self.loads[s, rows, right] -= change
        if self._mask_copies:
            self._on[rows, left, first] = False
            self._on[rows, right, second] = False
            self._on[rows, left, second] = True
            self._on[rows, right, first] = True
        if self.tables is not None:
            self.tables.apply(rows, left, right, first, second)

    def best_exchanges(self, group: int, left: Numbers, right: Numbers, most: int) -> int:
        """Apply the best improving exchange of each row of a group over all the given GPU pairs, at most `most` of them; return how many.

        The largest gains come first; a row moves at most once, so that the pairs need not be disjoint.
        """
        rows = self._groups[group]
        best_gain, best_at = np.zeros(len(rows), np.float32), np.zeros((len(rows), 2), np.int64)
        for start in range(0, len(left), 64):
            g, h = left[start : start + 64], right[start : start + 64]
            first, second = self.slots[rows[:, None], g], self.slots[rows[:, None], h]
            cost = self._costs(group, rows, first, second, g, h, PENALTY)
            if self._capped:
                cost[self._excess(rows, first, second, g, h) > 1e-6] = _FORBIDDEN
            flat = cost.reshape(len(rows), -1)
            at = flat.argmin(axis=1)
            gain = -flat[np.arange(len(rows)), at]
            better = gain > best_gain
            best_gain[better] = gain[better]
            width = first.shape[2] * second.shape[2]
            best_at[better, 0], best_at[better, 1] = start + at[better] // width, at[better] % width
        chosen = np.argsort(-best_gain, kind="stable")[:most]
        chosen = chosen[best_gain[chosen] > 1e-9]
        if len(chosen):
            k = self.slots.shape[2]
            pair, pick = best_at[chosen, 0], best_at[chosen, 1]
            self._exchange(rows[chosen], left[pair], right[pair], pick // k, pick % k)
        return len(chosen)

    def typical_gain(self) -> float:
        """Return the median absolute gain of random exchanges: where a temperature is hot."""
        if self.tables is None:
            return 0.0
        found = []
        for group, rows in enumerate(self._groups):
            left, right = self._matching()
            first, second = self.slots[rows[:, None], left], self.slots[rows[:, None], right]
            found.append(np.abs(self.tables.gains(group, first, second, left, right)).ravel())
        gains = np.concatenate(found)
        gains = gains[gains > 0]
        return float(np.median(gains)) if gains.size else 0.0

    def _gumbel(self, size: int) -> Floats:
        if size > _POOL // 2:
            return self._random.gumbel(size=size).astype(np.float32)
        start = int(self._random.integers(_POOL - size))
        return self._noise[start : start + size]

    def _matching(self) -> tuple[Numbers, Numbers]:
        """Return the left and right GPU of every pair of this step."""
        gpus, per_node = self._topology.gpus, self._topology.per_node
        levels = isinstance(self.tables, Coactivation) and self._topology.has_levels and self._topology.forwarding
        if not levels:
            order = self._random.permutation(gpus)
            half = gpus // 2
            return order[:half], order[half : 2 * half]
        nodes = self._random.permutation(self._topology.nodes)
        if per_node < 2 or self._random.random() < 0.5:
            half = len(nodes) // 2
            inside = self._random.integers(per_node, size=2 * half)
            order = nodes[: 2 * half] * per_node + inside
            return order[:half], order[half:]
        half = per_node // 2
        members = self._random.permuted(np.tile(np.arange(per_node), (len(nodes), 1)), axis=1) + nodes[:, None] * per_node
        return members[:, :half].ravel(), members[:, half : 2 * half].ravel()


def tables_for(problem: PlacementProblem, slots: Numbers, restarts: int, matrix: Numbers) -> Tables:
    """Return the tables of the traffic model of a problem for slots of one replica count; `matrix` is C or R."""
    counts = replica_counts(slots[: problem.num_layers], problem.num_experts)
    if problem.traffic == TrafficModel.TOKEN_STAYS:
        return Transitions(matrix, counts, restarts, problem.topology)
    layer_of = np.arange(len(slots)) % problem.num_layers
    return Coactivation(normalised_pairs(matrix, counts), layer_of, problem.topology)


def anneal(sweeper: Sweeper, hot: float, cold: float, fraction: Callable[[], float]) -> None:
    """Sweep while the temperature falls geometrically from hot to cold; `fraction` says how much of the budget is spent."""
    spent = fraction()
    while spent < 1.0:
        sweeper.step(hot * (cold / hot) ** spent)
        spent = fraction()


def quench(sweeper: Sweeper, steps: int, *, penalty: float = PENALTY) -> None:
    """Take improvements only, until a while passes without one."""
    idle = 0
    for _ in range(steps):
        idle = idle + 1 if not sweeper.step(0.0, penalty=penalty) else 0
        if idle > 8 + sweeper.slots.shape[1]:
            return
