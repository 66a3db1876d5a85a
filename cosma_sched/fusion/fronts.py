"""The best mappings of single steps: every trade-off of energy, cycles and working bytes, found fast and kept.

Of the Gemmini space only those tilings are scored that can be the best ones:

    widest array     for a tile of C (or K), the largest spatial divisor: all counts but those that fall with it are the same
    one tile of O    where the input is resident its window does not matter, so of all tiles of N, P, Q the largest one that the accumulator
                     holds is the best: fewer tiles of O mean fewer register fills and fewer weight reads, and nothing else changes
    two orders       where the input is resident, N, P, Q innermost (weights stay) or C, R, S innermost (outputs stay)
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.steps import Output, StepProblem, Weights, step_cost, whole_energy
from cosma_sched.mapping.batch import batch_of
from cosma_sched.mapping.cost import Counts, Machine, access_counts, shape_of, window
from cosma_sched.mapping.enumeration import LayerSpace, _Pairs, _Weights
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import C, K, N, P, Q, R, S
from cosma_sched.mapping.space import divisors, gemmini_nest, l3_orders

Floats = NDArray[np.float64]


class StepPoint(NamedTuple):
    """A mapping of a step that no other one beats: energy, cycles, working bytes, and its place among those scored."""

    energy: int
    latency: int
    size: int
    place: int


class _Columns(NamedTuple):
    """Scored mappings of a step, one in each row, and what their strings are made of."""

    energy: Floats
    latency: Floats
    size: Floats
    code: NDArray[Any]


@dataclass(frozen=True)
class StepFront:
    """Mappings of a step that no other one beats in energy, cycles and working bytes, least bytes first, and what gives a row's string."""

    columns: _Columns
    evaluations: int
    name: Callable[[NDArray[Any]], str]


class StepFronts:
    """Fronts of all steps that were asked for.

    Parameters
    ----------
    machine, halo
        Accelerator and window rule.
    """

    def __init__(self, machine: Machine, halo: str) -> None:
        self.machine, self.halo = machine, halo
        self.evaluations = 0
        self._fronts: dict[StepProblem, StepFront] = {}
        self._options: dict[tuple[StepProblem, int], tuple[StepPoint, ...]] = {}

    @property
    def known(self) -> int:
        """Steps that were asked for."""
        return len(self._fronts)

    def front(self, step: StepProblem) -> StepFront:
        """Return the scored mappings of a step."""
        found = self._fronts.get(step)
        if found is None:
            found = _front(step, self.machine, self.halo)
            self.evaluations += found.evaluations
            self._fronts[step] = found
        return found

    def points(self, step: StepProblem) -> tuple[StepPoint, ...]:
        """Return all mappings that no other one beats in energy, cycles and working bytes."""
        columns = self.front(step).columns
        return tuple(_point(columns, row) for row in range(columns.size.size))

    def options(self, step: StepProblem, room: int) -> tuple[StepPoint, ...]:
        """Return what no mapping within some bytes beats in energy and cycles, least energy first; empty where nothing fits."""
        columns = self.front(step).columns
        count = int(np.searchsorted(columns.size, room, side="right"))
        key = (step, count)
        found = self._options.get(key)
        if found is None:
            found = _staircase(columns, count)
            self._options[key] = found
        return found

    def mapping(self, step: StepProblem, point: StepPoint) -> str:
        """Return the string of a point of a step's front."""
        front = self.front(step)
        return front.name(front.columns.code[:, point.place])


def _point(columns: _Columns, row: int) -> StepPoint:
    return StepPoint(int(columns.energy[row]), int(columns.latency[row]), int(columns.size[row]), int(row))


def _staircase(columns: _Columns, count: int) -> tuple[StepPoint, ...]:
    """Return the rows among the first ones, which are the smallest, that no other one beats in energy and latency."""
    energy, latency = columns.energy[:count], columns.latency[:count]
    rows = np.arange(count)
    kept: list[StepPoint] = []
    while rows.size:
        best = rows[energy[rows] == energy[rows].min()]
        row = int(best[np.argmin(latency[best])])
        kept.append(_point(columns, row))
        rows = rows[latency[rows] < latency[row]]
    return tuple(kept)


def _front(step: StepProblem, machine: Machine, halo: str) -> StepFront:
    if step.part is not None and step.part.accumulates:
        columns, name, evaluations = _accumulating(step, machine)
    elif step.input_resident:
        columns, name, evaluations = _resident(step, machine)
    else:
        columns, name, evaluations = _external(step, machine, halo)
    rows = np.array(undominated(columns.energy, columns.latency, columns.size), dtype=np.int64)
    columns = _taken(columns, rows[np.argsort(columns.size[rows], kind="stable")])
    return StepFront(columns._replace(code=columns.code.astype(np.int32)), evaluations, name)


def _taken(columns: _Columns, rows: NDArray[Any]) -> _Columns:
    return _Columns(*(column[..., rows] for column in columns))


def _joined(parts: Sequence[_Columns]) -> _Columns:
    return _Columns(*(np.concatenate([part[index] for part in parts], axis=-1) for index in range(4)))


_FEW = 64
"""Rows that need no thinning."""
_PIVOTS = 10


def thinned(columns: _Columns) -> _Columns:
    """Leave out rows that some few good rows beat."""
    energy, latency, size, _ = columns
    if energy.size <= _FEW:
        return columns
    rows = np.arange(energy.size)
    sizes = np.unique(np.quantile(size, np.linspace(0.0, 1.0, _PIVOTS)))
    product = energy * latency
    for limit in sizes[::-1]:
        for values in (energy, latency, product):
            inside = rows[size[rows] <= limit]
            if not inside.size:
                break
            ties = inside[values[inside] == values[inside].min()]
            best = ties[np.lexsort((size[ties], latency[ties], energy[ties]))[0]]
            worse = (energy[rows] >= energy[best]) & (latency[rows] >= latency[best]) & (size[rows] >= size[best])
            worse &= rows != best
            rows = rows[~worse]
    return _taken(columns, rows)


def undominated(energy: Floats, latency: Floats, size: Floats) -> list[int]:
    """Return the rows that no other row beats in all three values; of equal rows the first."""
    order = np.lexsort((latency, energy, size))
    kept: list[int] = []
    stairs: list[tuple[float, float]] = []  # (energy, -latency) ascending: the staircase of what is no larger
    for row in order.tolist():
        point = (float(energy[row]), -float(latency[row]))
        place = bisect_right(stairs, (point[0], math.inf))
        if place and -stairs[place - 1][1] <= latency[row]:
            continue
        start = bisect_left(stairs, (point[0], -math.inf))
        end = start
        while end < len(stairs) and -stairs[end][1] >= latency[row]:
            end += 1
        stairs[start:end] = [point]
        kept.append(row)
    return kept


# Steps whose input is in the scratchpad


def _resident(step: StepProblem, machine: Machine) -> tuple[_Columns, Any, int]:
    layer = step.layer
    words = int(machine.accumulator_bytes // (machine.accumulator_element_bytes * machine.cols))
    limit = int(machine.scratchpad_bytes) // layer.element_bytes[0] if step.weights == Weights.STREAMED else None
    fixed = _tiles_of_weights(layer.dims[K], layer.dims[C], layer.dims[R], layer.dims[S], int(machine.cols), words, limit)
    banks = fixed[4]
    tiles = np.ones((3, fixed.shape[1]))
    for k1 in np.unique(banks):
        tiles[:, banks == k1] = np.array(largest_tile(layer.dims, words // int(k1)), dtype=np.float64)[:, None]
    table = np.vstack([fixed[:4], tiles])
    xc, xk, r, s, n, p, q = table
    tile, kernel = n * p * q, r * s
    cost, keeps = resident_cost(step, machine, xc, xk, kernel, tile)
    parts = []
    for order, (found, kept) in enumerate(zip(cost, keeps, strict=True)):
        chosen = np.flatnonzero(kept)
        energy, latency = whole_energy(step, found.energy_pj[chosen]), np.ceil(found.cycles[chosen])
        code = np.vstack([table[:, chosen], np.full((1, chosen.size), float(order))])
        size = np.broadcast_to(found.scratchpad_bytes, xc.shape)[chosen]
        parts.append(_Columns(energy, latency, size, code))
    columns = _joined(parts)

    def name(code: NDArray[Any]) -> str:
        xc, xk, r, s, n, p, q, order = (int(value) for value in code)
        sc, sk = _widest(xc, int(machine.rows)), _widest(xk, int(machine.cols))
        inner = (n, xk // sk, xc // sc, p, q, r, s)
        outer = tuple(extent // part for extent, part in zip(layer.dims, (n, xk, xc, p, q, r, s), strict=True))
        return str(gemmini_nest(sc, sk, inner, outer, l3_orders("parity")["CRS|" if order else "PQN|"]))

    evaluations = int(columns.energy.size)
    return thinned(columns), name, evaluations


@lru_cache(maxsize=4096)
def _tiles_of_weights(k: int, c: int, r: int, s: int, cols: int, words: int, limit: int | None) -> Floats:
    """Return (xc, xk, r, s, k1) of the tiles of W that fit, one in each column."""
    rows = [
        (xc, xk, down, across, xk // _widest(xk, cols))
        for xc in divisors(c)
        for xk in divisors(k)
        if xk // _widest(xk, cols) <= words
        for down, across in _kernels(r, s)
        if limit is None or xc * xk * down * across <= limit
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 5).T


def resident_cost(step: StepProblem, machine: Machine, xc: Floats, xk: Floats, kernel: Floats, tile: Floats) -> tuple[Any, Any]:
    """Return the cost of tilings of a step whose input is resident, under both orders, and where each keeps what must stay.

    Parameters
    ----------
    step, machine
        Step and accelerator.
    xc, xk, kernel, tile
        Extents of the tile: input channels, output channels, kernel positions, and positions of the result. A tile of more positions
        than the step has counts as all of them.
    """
    dims = step.layer.dims
    sc, sk = _widest_array(xc, int(machine.rows)), _widest_array(xk, int(machine.cols))
    positions = float(dims[N] * dims[P] * dims[Q])
    size_o = positions * dims[K]
    out = np.maximum(positions / tile, 1.0)
    red, k3 = dims[C] / xc * (dims[R] * dims[S] / kernel), dims[K] / xk
    trips, w_tile, bank = out * red * k3, xc * xk * kernel, xk / sk * np.minimum(tile, positions)
    macs = size_o * dims[C] * dims[R] * dims[S]
    inside = (xc / sc) * (xk / sk) * kernel > 1
    costs, keeps = [], []
    for w, o in ((w_tile * trips / out, size_o * red), (w_tile * trips, size_o + 0.0 * red)):
        fills = np.where(inside, w_tile * trips, w)
        counts = Counts(macs, w, 0.0 * w, o, o - size_o, fills, macs / sc, w_tile, 0.0 * w, bank, 1.0)
        costs.append(step_cost(np, machine, step, counts, sc, sk))
        keeps.append((o <= size_o) if step.output != Output.DRAM else np.ones(xc.shape, dtype=bool))
    return costs, keeps


def _kernels(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Yield one split of the kernel for each number of positions that stay inside."""
    yield from {r * s: (r, s) for r in divisors(rows) for s in divisors(columns)}.values()


@lru_cache(maxsize=65536)
def _widest(extent: int, limit: int) -> int:
    return max(divisor for divisor in divisors(extent) if divisor <= limit)


def _widest_array(extents: Floats, limit: int) -> Floats:
    values, places = np.unique(extents, return_inverse=True)
    widest = np.array([_widest(int(value), limit) for value in values], dtype=np.float64)
    return np.asarray(widest[np.ravel(places)])


def largest_tile(dims: Sequence[int], words: int) -> tuple[int, int, int]:
    """Return the split of N, P and Q with most positions, at most `words`; of several the one with most columns, then rows."""
    best, found = 0, (1, 1, 1)
    for q in reversed(divisors(dims[Q])):
        if q > words:
            continue
        for p in reversed(divisors(dims[P])):
            for n in reversed(divisors(dims[N])):
                if best < n * p * q <= words:
                    best, found = n * p * q, (n, p, q)
    return found


# Steps that add to results in the accumulator


def _accumulating(step: StepProblem, machine: Machine) -> tuple[_Columns, Any, int]:
    """Return the tilings of a product that keeps all its results in the accumulator: only the tile of C is free.

    The widest array for K leaves most of the accumulator and never costs more, so every slice holds the results in the same places.
    """
    dims = step.layer.dims
    sk = _widest(dims[K], int(machine.cols))
    banks, words = dims[K] // sk, int(machine.accumulator_bytes // (machine.accumulator_element_bytes * machine.cols))
    if banks * dims[P] > words:
        return _Columns(np.empty(0), np.empty(0), np.empty(0), np.empty((1, 0))), None, 0
    order = l3_orders("parity")["CRS|"]
    nests = []
    for xc in divisors(dims[C]):
        sc = _widest(xc, int(machine.rows))
        inner, outer = (1, banks, xc // sc, dims[P], 1, 1, 1), (1, 1, dims[C] // xc, 1, 1, 1, 1)
        nests.append(gemmini_nest(sc, sk, inner, outer, order))
    tiling = batch_of(nests).tiling(slice(0, len(nests)))
    counts = access_counts(np, shape_of(step.layer), tiling, "parity")
    cost = step_cost(np, machine, step, counts, tiling.spatial_c, tiling.spatial_k)
    size = np.broadcast_to(cost.scratchpad_bytes, (len(nests),)).astype(np.float64)
    code = np.arange(len(nests), dtype=np.float64)[None, :]
    columns = _Columns(whole_energy(step, cost.energy_pj), np.ceil(cost.cycles), size, code)
    return columns, lambda row: str(nests[int(row[0])]), len(nests)


# Steps whose input comes from DRAM


class _StepSpace(LayerSpace):
    """The tilings of a step with the widest array, scored with what is resident."""

    def __init__(self, step: StepProblem, machine: Machine, halo: str) -> None:
        self.step = step
        self.found: list[_Columns] = []
        super().__init__(step.layer, machine, halo)

    def _weight_rows(self) -> _Weights:
        dims, machine = self.layer.dims, self.machine
        streamed = self.step.weights == Weights.STREAMED
        rows = []
        for xc, r1, s1 in self._reductions():
            sc = _widest(xc, int(machine.rows))
            for xk in divisors(dims[K]):
                sk = _widest(xk, int(machine.cols))
                if xk // sk <= self._accumulator_words and self._fits_alone(xc, xk if streamed else 0, r1, s1):
                    rows.append((sc, xc // sc, dims[C] // xc, sk, xk // sk, dims[K] // xk, r1, dims[R] // r1, s1, dims[S] // s1))
        return _Weights(*np.array(rows, dtype=np.float64).reshape(-1, 10).T.copy())

    def _reductions(self) -> Iterator[tuple[int, int, int]]:
        """Yield the tiles of C, R and S that can be the best ones."""
        dims = self.layer.dims
        if not self._is_lean:
            yield from ((xc, r, s) for xc in divisors(dims[C]) for r in divisors(dims[R]) for s in divisors(dims[S]))
            return
        yield dims[C], dims[R], dims[S]
        least = {_widest(xc, int(self.machine.rows)): xc for xc in reversed(divisors(dims[C]))}
        kernels = dict.fromkeys([*((1, s) for s in divisors(dims[S])), *((r, 1) for r in divisors(dims[R]))])
        outside = dims[R] * dims[S] > 1
        for xc in dict.fromkeys([*least.values(), dims[C]]):
            for r, s in kernels:
                if (r, s) != (dims[R], dims[S]) or (not outside and xc < dims[C]):
                    yield xc, r, s

    @property
    def _is_lean(self) -> bool:
        """True where partial sums must stay, the window rule is that of Timeloop, and windows have no holes.

        Then either nothing is reduced outside, or all reductions run innermost. In the second case counts do not depend on how much of C
        the tile holds, as long as the array is used as widely, nor on how much of R (or of S) it holds where that loop is the innermost:
        the windows of all its positions are read together. So the smallest tiles of C, and of R or of S, are enough.
        """
        without_holes = (self.layer.dilation_p, self.layer.dilation_q) == (1, 1)
        return self.step.output != Output.DRAM and self.halo == "parity" and without_holes

    def _fitting(self, rows: slice, columns: slice) -> _Pairs:
        w = _Weights(*(column[rows, None] for column in self._w))
        a = type(self._a)(*(column[columns] for column in self._a))
        w_bytes, i_bytes, _ = self.layer.element_bytes
        w_tile = w.r1 * w.s1 * w.sc * w.c1 * w.sk * w.k1 * (w_bytes if self.step.weights == Weights.STREAMED else 0)
        down = window(a.p1, self.layer.stride_p, w.r1, self.layer.dilation_p)
        across = window(a.q1, self.layer.stride_q, w.s1, self.layer.dilation_q)
        fits = w_tile + (w.sc * w.c1) * a.n1 * down * across * i_bytes <= self.machine.scratchpad_bytes
        fits &= w.k1 * (a.p1 * a.q1 * a.n1) <= self._accumulator_words
        high, wide = np.nonzero(fits)
        return self._pairs(high + rows.start, wide + columns.start)

    def _applicable(self, t: _Pairs) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield the orders that matter; where partial sums must stay, only those that reduce inside, or reduce first."""
        has_kernel = self.layer.dims[R] * self.layer.dims[S] > 1
        for name, rows in super()._applicable(t):
            if self.step.output == Output.DRAM or name in {"RSC|", "SRC|"}:
                yield name, rows
            elif name == "CRS|":
                if not (self._is_lean and has_kernel):
                    yield name, rows
            elif name not in {"RP|", "SQ|"}:
                yield name, rows & (t.red == 1)

    def _take(self, name: str, t: _Pairs, counts: Counts) -> None:
        keep = slice(None) if self.step.output == Output.DRAM else np.flatnonzero(counts.psum <= 0)
        cost = step_cost(np, self.machine, self.step, counts, t.sc, t.sk)
        order = float(list(self._orders).index(name))
        code = np.vstack([t.weights, t.activations, np.full(t.sc.size, order)]).astype(np.float64)
        found = _Columns(
            whole_energy(self.step, cost.energy_pj)[keep], np.ceil(cost.cycles)[keep], cost.scratchpad_bytes[keep], code[:, keep]
        )
        self.found.append(found)

    def _score_order(self, name: str, t: _Pairs, fronts: Sequence[Front]) -> None:
        del fronts
        self._take(name, t, self._counts(name, t))

    def name(self, code: NDArray[Any]) -> str:
        """Return the string of a scored row."""
        weights, activations, order = (int(value) for value in code)
        return str(self._nest(weights, activations, list(self._orders.values())[order]))


def _external(step: StepProblem, machine: Machine, halo: str) -> tuple[_Columns, Any, int]:
    space = _StepSpace(step, machine, halo)
    evaluations, found = 0, _Columns(np.empty(0), np.empty(0), np.empty(0), np.empty((3, 0)))
    for rows, columns in space._blocks():
        pairs = space._fitting(rows, columns)
        if pairs.sc.size:
            evaluations += space._score(pairs, ())
            found = thinned(_joined([found, *space.found]))
            space.found.clear()
    return found, space.name, evaluations
