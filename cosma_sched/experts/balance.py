"""The load phase: exchange sweeps on the load alone, until the most loaded GPU of every layer is as near to the mean as it gets.

The cost of a layer is the sum over scenarios and GPUs of T^p with a large p, a smooth stand-in for the maximum; exchanges only descend.
Steps are those of `sweeps`: random GPU pairs, all exchanges evaluated, the best one applied in every pair.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cosma_sched.experts.load import layer_peaks, replica_counts
from cosma_sched.experts.problem import PlacementProblem
from cosma_sched.experts.statistics import Numbers

_EXPONENTS = (4, 5, 6, 7)
"""Powers of two of p: 16, 32, 64, 128; a larger one where the smaller finds nothing more."""
_PATIENCE = 60
"""Steps without an exchange, per exponent, after which every pair of GPUs has very likely been tried."""
_MOST_STEPS = 20_000
_NOISE = np.float32(1e-5)
"""Relative change below which float32 cannot tell better from worse, and exchanges could go round in circles."""


def balance(
    problem: PlacementProblem, slots: Numbers, seed: int, fraction: Callable[[], float], *, targets: Numbers | None = None
) -> tuple[Numbers, Numbers]:
    """Return slots [L, S] and their T_l [L], each layer no worse than the given one.

    Parameters
    ----------
    slots
        Where to start; replica counts stay what they are.
    fraction
        How much of the budget is spent.
    targets
        A lower bound on T_l [L]; layers that have reached it rest.
    """
    phase = _LoadPhase(problem, slots, seed)
    floor = np.ones(problem.num_layers) if targets is None else targets
    start = layer_peaks(problem.weights_of_experts(), slots, problem.gpus)
    best, best_peaks = phase.slots.copy(), start.copy()
    for exponent in _EXPONENTS:
        phase.exponent = exponent
        phase.idle[:] = 0
        for _ in range(_MOST_STEPS):
            if fraction() >= 1:
                break
            phase.active = np.flatnonzero((phase.idle < _PATIENCE) & (phase.peaks() > floor * (1 + 1e-6)))
            if not len(phase.active):
                break
            phase.step()
        peaks = phase.peaks()
        better = peaks < best_peaks
        best[better], best_peaks[better] = phase.slots[better], peaks[better]
        phase.rebuild()
    flat = best.reshape(slots.shape)
    exact = layer_peaks(problem.weights_of_experts(), flat, problem.gpus)
    worse = exact > start
    flat[worse], exact[worse] = slots[worse], start[worse]
    return flat, exact


class _LoadPhase:
    def __init__(self, problem: PlacementProblem, slots: Numbers, seed: int) -> None:
        layers, gpus = problem.num_layers, problem.gpus
        self.slots = slots.reshape(layers, gpus, problem.slots_per_gpu).astype(np.int64)
        counts = replica_counts(slots, problem.num_experts)
        self._work = problem.weights_of_experts() / counts
        heaviest = np.maximum(1.0, self._work.max(axis=(0, 2)))
        self._scale = 1 / heaviest[:, None]  # powers of T stay in range
        self._apart = bool((counts > 1).any())
        self._random = np.random.default_rng(seed)
        self._num_experts = problem.num_experts
        self.exponent = _EXPONENTS[0]
        self.idle = np.zeros(layers, np.int64)
        self.active = np.arange(layers)
        self.rebuild()

    def rebuild(self) -> None:
        """Sum loads and presence anew."""
        layers, gpus, _ = self.slots.shape
        rows = np.arange(layers)[:, None, None]
        self.loads = np.stack([work[rows, self.slots].sum(axis=2) for work in self._work])
        if self._apart:
            self._on = np.zeros((layers, gpus, self._num_experts), bool)
            self._on[rows, np.arange(gpus)[:, None], self.slots] = True

    def peaks(self) -> Numbers:
        """Return T_l [L]."""
        highest: Numbers = self.loads.max(axis=(0, 2))
        return highest

    def step(self) -> None:
        """Try one random matching of the GPUs on the active layers."""
        gpus = self.slots.shape[1]
        order = self._random.permutation(gpus)
        left, right = order[: gpus // 2], order[gpus // 2 : 2 * (gpus // 2)]
        rows = self.active
        first, second = self.slots[rows[:, None], left], self.slots[rows[:, None], right]
        change, before = self._change(rows, first, second, left, right)
        flat = change.reshape(len(rows), len(left), -1)
        chosen = flat.argmin(axis=2)
        at, pair = np.nonzero(np.take_along_axis(flat, chosen[:, :, None], axis=2)[:, :, 0] < -_NOISE * before)
        self.idle[rows] += 1
        if not len(at):
            return
        self.idle[rows[at]] = 0
        k = self.slots.shape[2]
        pick = chosen[at, pair]
        self._exchange(rows[at], left[pair], right[pair], pick // k, pick % k)

    def _change(self, rows: Numbers, first: Numbers, second: Numbers, left: Numbers, right: Numbers) -> tuple[Numbers, Numbers]:
        """Return by how much each exchange changes the cost [n, P, K, K], and the cost of every pair of GPUs before [n, P]."""
        index = rows[:, None, None]
        scale = self._scale[rows][:, :, None]
        total = np.zeros((*first.shape, second.shape[2]), np.float32)
        before = np.zeros(first.shape[:2], np.float32)
        for work, loads in zip(self._work, self.loads, strict=True):
            mine, theirs = (work[index, first] * scale).astype(np.float32), (work[index, second] * scale).astype(np.float32)
            moved = theirs[:, :, None, :] - mine[:, :, :, None]
            here = (loads[rows[:, None], left] * scale[:, :, 0]).astype(np.float32)
            there = (loads[rows[:, None], right] * scale[:, :, 0]).astype(np.float32)
            total += self._power(here[:, :, None, None] + moved)
            total += self._power(there[:, :, None, None] - moved)
            before += self._power(here) + self._power(there)
        if self._apart:
            total += (np.float32(1e30) * self._on[index, right[:, None], first])[:, :, :, None]
            total += (np.float32(1e30) * self._on[index, left[:, None], second])[:, :, None, :]
        return total - before[:, :, None, None], before

    def _power(self, loads: Numbers) -> Numbers:
        result = np.minimum(np.maximum(loads, np.float32(0)), np.float32(1e36 ** (0.5**self.exponent)))  # float32 ends at 3e38
        for _ in range(self.exponent):
            result = result * result
        return result

    def _exchange(self, rows: Numbers, left: Numbers, right: Numbers, at_left: Numbers, at_right: Numbers) -> None:
        first, second = self.slots[rows, left, at_left], self.slots[rows, right, at_right]
        self.slots[rows, left, at_left], self.slots[rows, right, at_right] = second, first
        for s, work in enumerate(self._work):
            change = work[rows, second] - work[rows, first]
            self.loads[s, rows, left] += change
            self.loads[s, rows, right] -= change
        if self._apart:
            self._on[rows, left, first] = False
            self._on[rows, right, second] = False
            self._on[rows, left, second] = True
            self._on[rows, right, first] = True
