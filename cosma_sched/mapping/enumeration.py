"""Every mapping of a layer in the Gemmini space, in closed form.

A tiling is a row of the weight side (how C, K, R, S are split) and a row of the activation side (how N, P, Q are split). Blocks of pairs
are tested for capacity first; what fits is scored under each order of the L3 loops. With all dims of an order's first run at factor 1 the
loop nest is that of another order, so each order is scored only where its first run moves; that changes no count and no minimum.

With red = c3 r3 s3, out = p3 q3 n3 and T = red out k3 the refetch factors of (W, I, O) are

    P, Q, N first   (T/out, T, T)         weight stationary
    K first         (T, T/k3, T)          input stationary
    C, R, S first   (T, T, T/red)         output stationary
    R, then P       (T, T, T/r3)          S, then Q likewise
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.cost import Counts, Machine, Shape, _Axis, _kernel_then_along, _rows_along, _union, cost_of, shape_of, window
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.space import gemmini_nest, l3_orders, spatial_splits, splits
from cosma_sched.progress import Clock

BLOCK = 2**14
"""Pairs that are tested together; small enough for a core's cache, and the bound on memory."""

Floats = NDArray[np.float64]


class _Weights(NamedTuple):
    """Rows of the weight side."""

    sc: Floats
    c1: Floats
    c3: Floats
    sk: Floats
    k1: Floats
    k3: Floats
    r1: Floats
    r3: Floats
    s1: Floats
    s3: Floats


class _Activations(NamedTuple):
    """Rows of the activation side."""

    n1: Floats
    n3: Floats
    p1: Floats
    p3: Floats
    q1: Floats
    q3: Floats


class _Pairs(NamedTuple):
    """Tilings that fit: factors and what every order needs of them."""

    weights: Any
    activations: Any
    sc: Any
    sk: Any
    c3: Any
    k3: Any
    r3: Any
    s3: Any
    p3: Any
    q3: Any
    p1: Any
    q1: Any
    r1: Any
    s1: Any
    out: Any
    red: Any
    trips: Any
    w_tile: Any
    base: Any
    o_bank: Any
    moves_inside: Any


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far an enumeration has come: (mapping, order) pairs scored so far and whether that was all."""

    evaluations: int
    complete: bool


class LayerSpace:
    """All tilings of a layer that an accelerator can hold.

    Parameters
    ----------
    layer, machine
        What is mapped on what.
    halo
        Window rule.
    """

    def __init__(self, layer: Layer, machine: Machine, halo: str = "parity") -> None:
        self.layer, self.machine, self.halo = layer, machine, halo
        self.shape = shape_of(layer)
        self._float_shape = Shape(tuple(float(extent) for extent in layer.dims), *self.shape[1:])
        self._orders = l3_orders(halo)
        self._accumulator_words = machine.accumulator_bytes // (machine.accumulator_element_bytes * machine.cols)
        self._w = self._weight_rows()
        self._a = self._activation_rows()

    def _weight_rows(self) -> _Weights:
        dims, machine = self.layer.dims, self.machine
        rows = [
            (*c, *k, *r, *s)
            for c in spatial_splits(dims[C], machine.rows)
            for k in spatial_splits(dims[K], machine.cols)
            if k[1] <= self._accumulator_words
            for r in splits(dims[R])
            for s in splits(dims[S])
            if self._fits_alone(c[0] * c[1], k[0] * k[1], r[0], s[0])
        ]
        return _Weights(*np.array(rows, dtype=np.float64).reshape(-1, 10).T.copy())

    def _fits_alone(self, c: int, k: int, r: int, s: int) -> bool:
        """Whether a weight tile leaves room for the input of one output element."""
        w_bytes, i_bytes, _ = self.layer.element_bytes
        i_tile = c * window(1, 1, r, self.layer.dilation_p) * window(1, 1, s, self.layer.dilation_q)
        return bool(r * s * c * k * w_bytes + i_tile * i_bytes <= self.machine.scratchpad_bytes)

    def _activation_rows(self) -> _Activations:
        dims = self.layer.dims
        rows = [
            (*n, *p, *q)
            for n in splits(dims[N])
            for p in splits(dims[P])
            if n[0] * p[0] <= self._accumulator_words
            for q in splits(dims[Q])
            if n[0] * p[0] * q[0] <= self._accumulator_words
        ]
        return _Activations(*np.array(rows, dtype=np.float64).reshape(-1, 6).T.copy())

    @property
    def is_empty(self) -> bool:
        """True where no tile fits, not even one element of each tensor."""
        return not self._w.sc.size or not self._a.n1.size

    @property
    def size(self) -> int:
        """Pairs that are tested for capacity."""
        return int(self._w.sc.size * self._a.n1.size)

    def search(self, front: Front, clock: Clock, sized: Front | None = None) -> Iterator[Progressed]:
        """Score everything, block by block; stop where the clock has run out.

        Parameters
        ----------
        front
            Takes in what is scored.
        clock
            When to stop; the first block is scored in any case.
        sized
            A second front that takes in the same.

        Yields
        ------
        Progressed
            After every block.
        """
        fronts = [front] if sized is None else [front, sized]
        evaluations = 0
        blocks = list(self._blocks())
        for index, (rows, columns) in enumerate(blocks):
            pairs = self._fitting(rows, columns)
            if pairs.sc.size:
                evaluations += self._score(pairs, fronts)
            yield Progressed(evaluations, index == len(blocks) - 1)
            if clock.expired:
                return

    def _blocks(self) -> Iterator[tuple[slice, slice]]:
        wide = min(BLOCK, self._a.n1.size)
        high = max(1, BLOCK // max(wide, 1))
        for start in range(0, self._w.sc.size, high):
            for left in range(0, self._a.n1.size, wide):
                yield slice(start, start + high), slice(left, left + wide)

    def _fitting(self, rows: slice, columns: slice) -> _Pairs:
        """Return the tilings of a block that fit into scratchpad and accumulator."""
        w = _Weights(*(column[rows, None] for column in self._w))
        a = _Activations(*(column[columns] for column in self._a))
        w_tile = w.r1 * w.s1 * w.sc * w.c1 * w.sk * w.k1
        i_tile = (w.sc * w.c1) * a.n1 * self._rows(a.p1, w.r1) * self._columns(a.q1, w.s1)
        w_bytes, i_bytes, _ = self.layer.element_bytes
        fits = w_tile * w_bytes + i_tile * i_bytes <= self.machine.scratchpad_bytes
        fits &= w.k1 * (a.p1 * a.q1 * a.n1) <= self._accumulator_words
        down, across = np.nonzero(fits)
        return self._pairs(down + rows.start, across + columns.start)

    def _rows(self, extent: Floats, kernel: Floats) -> Floats:
        rows: Floats = window(extent, self.layer.stride_p, kernel, self.layer.dilation_p)
        return rows

    def _columns(self, extent: Floats, kernel: Floats) -> Floats:
        columns: Floats = window(extent, self.layer.stride_q, kernel, self.layer.dilation_q)
        return columns

    def _pairs(self, weights: NDArray[np.intp], activations: NDArray[np.intp]) -> _Pairs:
        w = _Weights(*(column[weights] for column in self._w))
        a = _Activations(*(column[activations] for column in self._a))
        red, out = w.c3 * w.r3 * w.s3, a.p3 * a.q3 * a.n3
        inside = w.c1 * w.k1 * w.r1 * w.s1
        return _Pairs(
            weights,
            activations,
            w.sc,
            w.sk,
            w.c3,
            w.k3,
            w.r3,
            w.s3,
            a.p3,
            a.q3,
            a.p1,
            a.q1,
            w.r1,
            w.s1,
            out,
            red,
            out * red * w.k3,
            inside * w.sc * w.sk,
            w.sc * w.c1 * a.n1,
            w.k1 * a.p1 * a.q1 * a.n1,
            inside > 1,
        )

    # Scoring

    def _score(self, pairs: _Pairs, fronts: Sequence[Front]) -> int:
        evaluations = 0
        for name, rows in self._applicable(pairs):
            if rows.all():
                some = pairs
            else:
                chosen = np.flatnonzero(rows)
                if not chosen.size:
                    continue
                some = _Pairs(*(column[chosen] for column in pairs))
            evaluations += int(some.sc.size)
            self._score_order(name, some, fronts)
        return evaluations

    def _applicable(self, t: _Pairs) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Yield for each order the tilings under which it is a loop nest of its own and can be the best."""
        layer, parity = self.layer, self.halo == "parity"
        rest = t.c3 * t.s3 * t.r3
        r_then_p = (t.r3 > 1) & (t.p3 > 1) & (rest > t.r3)
        s_then_q = (t.s3 > 1) & (t.q3 > 1) & (rest > t.s3)
        if parity:  # elsewhere the window rule gives this order nothing over R, S, C first
            r_then_p &= (t.p1 == 2) & (layer.stride_p == 1) & (t.r1 == 1)
            s_then_q &= (t.q1 == 2) & (layer.stride_q == 1) & (t.s1 == 1)
        yield "PQN|", (t.out > 1) | (t.trips == 1)
        yield "QPN|", (t.p3 > 1) & (t.q3 > 1)
        yield "CRS|", t.c3 > 1
        yield "RSC|", t.r3 > 1
        yield "SRC|", t.s3 > 1
        yield "RP|", r_then_p
        yield "SQ|", s_then_q
        moves_k = t.k3 > 1
        if parity:
            yield "K|", moves_k
            return
        yield "KP|", moves_k & (t.out > 1)
        yield "KQ|", moves_k & (t.p3 > 1) & (t.q3 > 1)
        yield "KR|", moves_k & ((t.r3 > 1) | (t.out == 1))
        yield "KS|", moves_k & (t.s3 > 1)
        yield "KRP|", moves_k & r_then_p
        yield "KSQ|", moves_k & s_then_q

    def _score_order(self, name: str, t: _Pairs, fronts: Sequence[Front]) -> None:
        counts = self._counts(name, t)
        cost = cost_of(np, self.machine, self._float_shape, counts, t.sc, t.sk)
        order = self._orders[name]
        energy, cycles = np.rint(cost.energy_pj), np.ceil(cost.cycles)

        def name_of(row: int) -> str:
            return str(self._nest(int(t.weights[row]), int(t.activations[row]), order))

        for front in fronts:
            front.absorb(energy, cycles, cost.scratchpad_bytes, cost.dram_words, name_of)

    def _counts(self, name: str, t: _Pairs) -> Counts:
        """Return the accesses of tilings under one order."""
        first = name.removesuffix("|")
        w, o = t.w_tile * t.trips, t.o_bank * t.sk * t.trips
        fetches = t.trips
        if first.startswith("K"):
            fetches = t.trips / t.k3
            first = first.removeprefix("K")
        elif first in {"PQN", "QPN"}:
            w = w / t.out
        elif first in {"CRS", "RSC", "SRC"}:
            o = o / t.red
        else:
            o = o / (t.r3 if first == "RP" else t.s3)
        p_axis = _Axis(t.p1, t.r1, self.layer.stride_p, self.layer.dilation_p, self._rows(t.p1, t.r1))
        q_axis = _Axis(t.q1, t.s1, self.layer.stride_q, self.layer.dilation_q, self._columns(t.q1, t.s1))
        tile = t.base * p_axis.rows * q_axis.rows
        i = self._input(first, t, p_axis, q_axis, fetches)
        size_o = float(self.layer.size("O"))
        fills = np.where(t.moves_inside, t.w_tile * t.trips, w)
        return Counts(self._macs, w, i, o, o - size_o, fills, self._macs / t.sc, t.w_tile, tile, t.o_bank, 1.0)

    @property
    def _macs(self) -> float:
        return float(np.prod(self._float_shape.dims))

    def _input(self, first: str, t: _Pairs, p_axis: _Axis, q_axis: _Axis, fetches: Floats) -> Floats:
        """Return the input elements fetched, by the two innermost L3 loops that move."""
        plain = t.base * p_axis.rows * q_axis.rows * fetches
        if first in {"PQN", "P"}:
            down = t.base * q_axis.rows * fetches / t.p3 * _rows_along(np, p_axis, t.p3)
            across = t.base * p_axis.rows * fetches / t.q3 * _rows_along(np, q_axis, t.q3)
            return np.asarray(np.where(t.p3 > 1, down, np.where(t.q3 > 1, across, plain)))
        if first in {"QPN", "Q"}:
            return np.asarray(t.base * p_axis.rows * fetches / t.q3 * _rows_along(np, q_axis, t.q3))
        if first in {"RSC", "R", "RP"}:
            return self._kernel_first(p_axis, q_axis, t.base * fetches, (t.r3, t.p3), (t.s3 * t.c3 == 1) | (first == "RP"), plain)
        if first in {"SRC", "S", "SQ"}:
            return self._kernel_first(q_axis, p_axis, t.base * fetches, (t.s3, t.q3), (t.r3 * t.c3 == 1) | (first == "SQ"), plain)
        return np.asarray(plain)

    def _kernel_first(
        self, axis: _Axis, across: _Axis, scale: Floats, factors: tuple[Floats, Floats], reaches: NDArray[np.bool_], plain: Floats
    ) -> Floats:
        """Return the input elements under a kernel loop, then, where nothing stands between them, the loop along the same axis."""
        factor, following = factors
        scale = scale * across.rows / factor
        union = scale * _union(axis, factor)
        both = scale * _kernel_then_along(np, axis, factor, following, self.halo) / following
        return np.where(factor > 1, np.where(reaches & (following > 1), both, union), plain)

    def _nest(self, weights: int, activations: int, order: tuple[int, ...]) -> object:
        sc, c1, c3, sk, k1, k3, r1, r3, s1, s3 = (int(column[weights]) for column in self._w)
        n1, n3, p1, p3, q1, q3 = (int(column[activations]) for column in self._a)
        return gemmini_nest(sc, sk, (n1, k1, c1, p1, q1, r1, s1), (n3, k3, c3, p3, q3, r3, s3), order)
