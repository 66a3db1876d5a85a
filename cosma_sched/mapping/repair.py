"""Make tilings fit: smaller tiles until every capacity holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.cost import Machine, window
from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.space import divisors

Integers = NDArray[np.int64]


def fits(layer: Layer, machine: Machine, spatial: Integers, inner: Integers) -> NDArray[np.bool_]:
    """Return which tilings fit into scratchpad and accumulator.

    Parameters
    ----------
    layer, machine
        What is mapped on what.
    spatial
        ``spatial[2, row]`` over C and K.
    inner
        ``inner[7, row]``.
    """
    w_bytes, i_bytes, _ = layer.element_bytes
    x_c, x_k = spatial[0] * inner[C], spatial[1] * inner[K]
    rows = window(inner[P], layer.stride_p, inner[R], layer.dilation_p)
    cols = window(inner[Q], layer.stride_q, inner[S], layer.dilation_q)
    scratchpad = inner[R] * inner[S] * x_c * x_k * w_bytes + x_c * inner[N] * rows * cols * i_bytes
    accumulator = inner[N] * inner[K] * inner[P] * inner[Q] * machine.accumulator_element_bytes * machine.cols
    fitting: NDArray[np.bool_] = (scratchpad <= machine.scratchpad_bytes) & (accumulator <= machine.accumulator_bytes)
    return fitting


def shrink(layer: Layer, machine: Machine, spatial: Integers, inner: Integers, outer: Integers, row: int) -> None:
    """Shrink the tile of one row in place until it fits: rows, columns and batch first, then channels, then the kernel, then the array."""
    while not fits(layer, machine, spatial[:, row : row + 1], inner[:, row : row + 1])[0]:
        for dims in ((P, Q, N), (K, C), (R, S)):
            largest = max(dims, key=lambda dim: int(inner[dim, row]))
            if inner[largest, row] > 1:
                _next_smaller(inner, outer, largest, row)
                break
        else:
            widest = int(spatial[1, row] > spatial[0, row])
            if spatial[widest, row] == 1:
                return
            factor = int(spatial[widest, row])
            smaller = divisors(factor)[-2]
            outer[(C, K)[widest], row] *= factor // smaller
            spatial[widest, row] = smaller


def _next_smaller(inner: Integers, outer: Integers, dim: int, row: int) -> None:
    factor = int(inner[dim, row])
    smaller = divisors(factor)[-2]
    inner[dim, row] = smaller
    outer[dim, row] *= factor // smaller
