"""Tilings of many steps at once: wished factors become the nearest divisors, and tiles shrink until every capacity holds.

Methods that search by trial (random, genetic, Bayesian, gradient) all wish for factors and get tilings from here, so none of them is
helped more than another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.cost import Machine, window
from cosma_sched.mapping.layer import C, K, N, P, Q, R, S
from cosma_sched.mapping.space import divisors

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

SPATIAL_C, SPATIAL_K = 7, 8
"""Rows of wishes after those of the seven inner factors."""
WISHES = 9
_APART = 64.0
"""Distance between the logarithms of two extents' divisors in one sorted table."""


class DivisorTable:
    """Divisors of many extents in one sorted table, which grows as extents are asked for."""

    def __init__(self) -> None:
        self._places = np.zeros(1, dtype=np.int64)
        self._known: list[int] = []
        self._values = np.empty(0, dtype=np.int64)
        self._keys = np.empty(0)

    def _ids(self, extents: Integers) -> Integers:
        most = int(extents.max(initial=0))
        if most >= self._places.size:
            self._places = np.concatenate([self._places, np.zeros(most + 1 - self._places.size, dtype=np.int64)])
        ids = self._places[extents]
        if ids.size and not ids.all():
            for extent in np.unique(extents[ids == 0]).tolist():
                self._known.append(extent)
                self._places[extent] = len(self._known)
                own = np.array(divisors(extent), dtype=np.int64)
                self._values = np.concatenate([self._values, own])
                self._keys = np.concatenate([self._keys, _APART * len(self._known) + np.log(own)])
            ids = self._places[extents]
        return ids

    def nearest(self, extents: Integers, wishes: Any) -> Integers:
        """Return the divisor of each extent whose logarithm is nearest to that of a wish >= 1."""
        ids = self._ids(extents)
        base = _APART * ids
        key = base + np.log(np.clip(wishes, 1.0, extents))
        above = np.searchsorted(self._keys, key - 1e-9)
        below = np.maximum(above - 1, 0)
        # the first divisor, 1, has the least key of its extent, so the place below may belong to another one
        foreign = self._keys[below] < base - 1e-9
        nearer = ~foreign & (key - self._keys[below] < self._keys[above] - key)
        return np.asarray(self._values[np.where(nearer, below, above)])

    def smaller(self, extents: Integers, factors: Integers) -> Integers:
        """Return for each factor > 1 the next smaller divisor of its extent."""
        key = _APART * self._ids(extents) + np.log(factors)
        return np.asarray(self._values[np.searchsorted(self._keys, key - 1e-9) - 1])


@dataclass(frozen=True, slots=True)
class Needs:
    """What many steps are, one entry for each row.

    Parameters
    ----------
    dims
        ``dims[7, row]``.
    stride_p, stride_q, dilation_p, dilation_q, w_bytes, i_bytes
        Of the layers.
    takes_w, takes_i
        Whether a tile of W, or of I, takes room in the scratchpad.
    room
        Bytes that the tiles may take.
    """

    dims: Integers
    stride_p: Integers
    stride_q: Integers
    dilation_p: Integers
    dilation_q: Integers
    w_bytes: Integers
    i_bytes: Integers
    takes_w: Mask
    takes_i: Mask
    room: Integers

    def tiles(self, rows: Any, spatial: Integers, inner: Integers) -> tuple[Integers, Integers, Integers]:
        """Return the bytes of W and of I in the scratchpad, and the elements of O in each column, of tilings of some rows."""
        x_c, x_k = spatial[0] * inner[C], spatial[1] * inner[K]
        down = window(inner[P], self.stride_p[rows], inner[R], self.dilation_p[rows])
        across = window(inner[Q], self.stride_q[rows], inner[S], self.dilation_q[rows])
        w = np.where(self.takes_w[rows], inner[R] * inner[S] * x_c * x_k * self.w_bytes[rows], 0)
        i = np.where(self.takes_i[rows], x_c * inner[N] * down * across * self.i_bytes[rows], 0)
        return w, i, inner[N] * inner[K] * inner[P] * inner[Q]


@dataclass(frozen=True, slots=True)
class Tilings:
    """Tilings of the Gemmini space: ``spatial[2, row]`` over C and K, ``inner[7, row]``, ``outer[7, row]``."""

    spatial: Integers
    inner: Integers
    outer: Integers

    @property
    def reduces_outside(self) -> Mask:
        """Return where partial sums come from several L3 loops."""
        return np.asarray(self.outer[C] * self.outer[R] * self.outer[S] > 1)


def tile(machine: Machine, table: DivisorTable, needs: Needs, wishes: Floats) -> tuple[Tilings, Mask]:
    """Return tilings near some wishes that fit, and which of them fitted before they were shrunk.

    Parameters
    ----------
    machine
        Accelerator.
    table
        Divisors that are known already.
    needs
        Steps; one element of each tensor must fit.
    wishes
        ``wishes[9, row]``: the inner factors in the order of `DIMS`, then the spatial ones over C and K.
    """
    dims = needs.dims
    spatial = np.empty((2, dims.shape[1]), dtype=np.int64)
    inner = np.empty_like(dims)
    rest = dims.copy()
    for index, (dim, limit) in enumerate(((C, machine.rows), (K, machine.cols))):
        spatial[index] = table.nearest(dims[dim], np.minimum(wishes[SPATIAL_C + index], limit))
        wide = np.flatnonzero(spatial[index] > limit)
        while wide.size:
            spatial[index, wide] = table.smaller(dims[dim, wide], spatial[index, wide])
            wide = wide[spatial[index, wide] > limit]
        rest[dim] //= spatial[index]
    for dim in (N, K, C, P, Q, R, S):
        inner[dim] = table.nearest(rest[dim], wishes[dim])
    fitting = _shrink(machine, table, needs, spatial, inner)
    spread = np.ones_like(dims)
    spread[C], spread[K] = spatial
    return Tilings(spatial, inner, dims // (inner * spread)), fitting


def _shrink(machine: Machine, table: DivisorTable, needs: Needs, spatial: Integers, inner: Integers) -> Mask:
    """Shrink tiles in place until they fit; return where that was not necessary."""
    words = int(machine.accumulator_bytes // (machine.accumulator_element_bytes * machine.cols))
    fitting = np.ones(inner.shape[1], dtype=bool)
    rows = np.arange(inner.shape[1])
    first = True
    while rows.size:
        own, parts = spatial[:, rows], inner[:, rows]
        w, i, o = needs.tiles(rows, own, parts)
        full, over = w + i > needs.room[rows], o > words
        wrong = full | over
        if first:
            fitting, first = ~wrong, False
        rows, own, parts, over, heavy = rows[wrong], own[:, wrong], parts[:, wrong], over[wrong], (w > i)[wrong]
        if rows.size:
            _step_down(table, spatial, inner, rows, _victims(own, parts, over, heavy))
    return fitting


def _victims(spatial: Integers, inner: Integers, over: Mask, heavy: Mask) -> Integers:
    """Return for each row the factor that gives way, always the largest of its kind.

    Outputs that overflow the accumulator, or inputs larger than weights: rows, columns and batch, then channels, then the kernel. Weights
    larger than inputs: channels, the kernel, then rows, columns and batch. The array at last.
    """
    kinds, factors = [], []
    for places in ((P, Q, N), (K, C), (R, S), (SPATIAL_C, SPATIAL_K)):
        stack = np.stack([spatial[place - SPATIAL_C] if place >= SPATIAL_C else inner[place] for place in places])
        best = stack.argmax(axis=0)
        kinds.append(np.array(places)[best])
        factors.append(np.take_along_axis(stack, best[None], axis=0)[0])
    weights = heavy & ~over
    chosen, held = np.zeros(over.size, dtype=np.int64), np.ones(over.size, dtype=np.int64)
    for one, other in ((0, 1), (1, 2), (2, 0), (3, 3)):
        kind, factor = np.where(weights, kinds[other], kinds[one]), np.where(weights, factors[other], factors[one])
        chosen, held = np.where(held > 1, chosen, kind), np.where(held > 1, held, factor)
    if (held <= 1).any():
        raise ValueError("a step does not fit with all factors at 1")
    return chosen


def _step_down(table: DivisorTable, spatial: Integers, inner: Integers, rows: Integers, victims: Integers) -> None:
    for place in np.unique(victims).tolist():
        at = rows[victims == place]
        if place >= SPATIAL_C:
            index = place - SPATIAL_C
            spatial[index, at] = table.smaller(spatial[index, at], spatial[index, at])
        else:
            inner[place, at] = table.smaller(inner[place, at], inner[place, at])
