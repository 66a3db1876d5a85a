"""Random mappings of the Gemmini space: uniform over divisors and orders, rejected by capacity. The baseline, and a start in no time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.batch import Batch, evaluate_chunks
from cosma_sched.mapping.cost import Machine, shape_of
from cosma_sched.mapping.front import Front
from cosma_sched.mapping.layer import C, K, Layer, N, P, Q, R, S
from cosma_sched.mapping.search import LayerSearch, floor_of
from cosma_sched.mapping.space import L1_ORDER, divisors, gemmini_nest, l3_orders

_MOST_ROWS = 2**14
"""Samples drawn together."""

Integers = NDArray[np.int64]


def sample_layer(layer: Layer, machine: Machine, halo: str, *, samples: int, seed: Sequence[int]) -> LayerSearch:
    """Score random mappings; those that do not fit count as evaluations too.

    Parameters
    ----------
    layer, machine, halo
        What is mapped on what, and the window rule.
    samples
        Mappings to draw.
    seed
        Numbers that make the draw repeatable.
    """
    generator = np.random.default_rng(list(seed))
    front = Front()
    for start in range(0, samples, _MOST_ROWS):
        _absorb(front, layer, machine, halo, min(_MOST_ROWS, samples - start), generator)
    if not front.points:
        front = smallest_tiles(layer, machine, halo)
    return LayerSearch(front.points, floor_of(layer, machine), samples, False)


def smallest_tiles(layer: Layer, machine: Machine, halo: str) -> Front:
    """Return the mapping with every loop at L3: it fits wherever anything fits."""
    front = Front()
    inner = np.ones((7, 1), dtype=np.int64)
    outer = np.array(layer.dims, dtype=np.int64)[:, None]
    _score(front, layer, machine, halo, np.ones((2, 1), dtype=np.int64), inner, outer, np.zeros(1, dtype=np.int64))
    return front


def _absorb(front: Front, layer: Layer, machine: Machine, halo: str, rows: int, generator: np.random.Generator) -> None:
    spatial, inner, outer = draw_tilings(layer, machine, rows, generator)
    order = generator.integers(0, len(l3_orders(halo)), rows)
    _score(front, layer, machine, halo, spatial, inner, outer, order)


def draw_tilings(layer: Layer, machine: Machine, rows: int, generator: np.random.Generator) -> tuple[Integers, Integers, Integers]:
    """Draw tilings: for each dim a divisor, uniformly; for C and K first a spatial factor, then a divisor of what is left.

    Returns
    -------
    tuple
        ``spatial[2, rows]`` over C and K, ``inner[7, rows]``, ``outer[7, rows]``.
    """
    spatial = np.ones((2, rows), dtype=np.int64)
    inner = np.ones((7, rows), dtype=np.int64)
    extents = np.broadcast_to(np.array(layer.dims, dtype=np.int64)[:, None], (7, rows)).copy()
    for index, (dim, limit) in enumerate(((C, machine.rows), (K, machine.cols))):
        allowed = np.array([d for d in divisors(layer.dims[dim]) if d <= limit], dtype=np.int64)
        spatial[index] = allowed[generator.integers(0, len(allowed), rows)]
        extents[dim] //= spatial[index]
    for dim in (N, K, C, P, Q, R, S):
        inner[dim] = _random_divisors(extents[dim], generator)
    return spatial, inner, extents // inner


def _random_divisors(extents: Integers, generator: np.random.Generator) -> Integers:
    result = np.ones_like(extents)
    for extent in np.unique(extents):
        rows = np.flatnonzero(extents == extent)
        choices = np.array(divisors(int(extent)), dtype=np.int64)
        result[rows] = choices[generator.integers(0, len(choices), len(rows))]
    return result


def _score(
    front: Front,
    layer: Layer,
    machine: Machine,
    halo: str,
    spatial: Integers,
    inner: Integers,
    outer: Integers,
    order: Integers,
) -> None:
    orders = tuple(l3_orders(halo).values())
    batch = gemmini_batch(spatial, inner, outer, np.array(orders, dtype=np.int8)[order].T)
    for rows, cost in evaluate_chunks(machine, shape_of(layer), batch, halo=halo):
        fits = (cost.scratchpad_bytes <= machine.scratchpad_bytes) & (cost.accumulator_bytes <= machine.accumulator_bytes)
        energy = np.where(fits, np.rint(cost.energy_pj), np.inf)
        first = rows.start

        def name(row: int, first: int = first) -> str:
            at = first + row
            return str(
                gemmini_nest(int(spatial[0, at]), int(spatial[1, at]), inner[:, at].tolist(), outer[:, at].tolist(), orders[order[at]])
            )

        front.absorb(energy, np.ceil(cost.cycles), cost.scratchpad_bytes, cost.dram_words, name)


def gemmini_batch(spatial: Integers, inner: Integers, outer: Integers, l3: NDArray[np.int8]) -> Batch:
    """Return tilings of the Gemmini space as a batch.

    Parameters
    ----------
    spatial, inner, outer
        As `draw_tilings` returns them.
    l3
        ``l3[position, row]``: dims of the L3 loops from the inside.
    """
    rows = spatial.shape[1]
    ones = np.ones((7, rows), dtype=np.int64)
    l1 = np.broadcast_to(np.array(L1_ORDER, dtype=np.int8)[:, None], (7, rows))
    return Batch(np.stack([ones, inner, ones, outer]), spatial, np.stack([l1, l1, l1, l3]))
