"""Machines, layers and published figures that several tests share, and a slow search to compare with."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from hypothesis import strategies as st

from cosma_sched.accelerator import load_accelerator
from cosma_sched.mapping.batch import batch_of, evaluate_chunks
from cosma_sched.mapping.cost import Machine, machine_of, shape_of
from cosma_sched.mapping.front import Front, Point
from cosma_sched.mapping.layer import DIMS, Layer
from cosma_sched.mapping.space import LoopNest, gemmini_nest, spatial_splits, splits
from tests.mapping.published import benchmark_module

SMALL = machine_of(load_accelerator("gemmini_small"))


def layer(stride: int = 1, repeat: int = 1, dilation: int = 1, count: int = 1, **dims: int) -> Layer:
    """Return a layer by its dims; those left out are 1."""
    extents = tuple(dims.get(dim, 1) for dim in DIMS)
    return Layer("layer", extents, stride, stride, dilation, dilation, repeat, count)


def machine(side: int = 2, scratchpad: int = 64, accumulator: int = 64) -> Machine:
    """Return a small machine, so that capacities bind on small layers."""
    return SMALL._replace(
        rows=side, cols=side, scratchpad_bytes=scratchpad, accumulator_bytes=accumulator, scratchpad_bandwidth=2 * side, block_words=4
    )


HAND_CASES, l2_l1 = benchmark_module("hand_cases").HAND_CASES, benchmark_module("hand_cases").nest_text


# Strategies


@st.composite
def small_layers(draw: st.DrawFn, kernels: bool = True, most: int = 6) -> Layer:
    """Draw a layer with extents of a few elements."""
    extent = st.integers(1, most)
    kernel = st.sampled_from([1, 2, 3, 4, 5, 6]) if kernels else st.just(1)
    dims = (draw(st.integers(1, 2)), draw(extent), draw(extent), draw(extent), draw(extent), draw(kernel), draw(kernel))
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return Layer("drawn", dims, *strides, dilation_p=draw(st.integers(1, 2)), repeat=draw(st.sampled_from([1, 1, 3])))


@st.composite
def nests_of(draw: st.DrawFn, mapped: Layer) -> LoopNest:
    """Draw a mapping of the Gemmini space, with any order of the L3 loops."""
    spatial_c, c1, c3 = draw(st.sampled_from(list(spatial_splits(mapped["C"], 4))))
    spatial_k, k1, k3 = draw(st.sampled_from(list(spatial_splits(mapped["K"], 4))))
    pairs = [draw(st.sampled_from(list(splits(mapped[dim])))) for dim in ("N", "P", "Q", "R", "S")]
    (n1, n3), (p1, p3), (q1, q3), (r1, r3), (s1, s3) = pairs
    order = draw(st.permutations(range(7)))
    return gemmini_nest(spatial_c, spatial_k, (n1, k1, c1, p1, q1, r1, s1), (n3, k3, c3, p3, q3, r3, s3), order)


# A search that assumes nothing


def all_nests(mapped: Layer, device: Machine, orders: Sequence[Sequence[int]] | None) -> Iterator[LoopNest]:
    """Yield every mapping of the Gemmini space, under the given orders or under all that differ."""
    dims = mapped.dims
    sides = [list(spatial_splits(dims[2], device.rows)), list(spatial_splits(dims[1], device.cols))]
    rest = [list(splits(dims[dim])) for dim in (0, 3, 4, 5, 6)]
    for (sc, c1, c3), (sk, k1, k3), *pairs in itertools.product(*sides, *rest):
        (n1, n3), (p1, p3), (q1, q3), (r1, r3), (s1, s3) = pairs
        outer = (n3, k3, c3, p3, q3, r3, s3)
        moving = [dim for dim in range(7) if outer[dim] > 1]
        for order in orders if orders is not None else itertools.permutations(moving):
            yield gemmini_nest(sc, sk, (n1, k1, c1, p1, q1, r1, s1), outer, order)


def slow_front(
    mapped: Layer, device: Machine, halo: str, orders: Sequence[Sequence[int]] | None = None, *, with_bytes: bool = False
) -> tuple[Point, ...]:
    """Return the Pareto set by scoring every mapping with the general evaluator."""
    nests = list(all_nests(mapped, device, orders))
    front = Front(with_bytes=with_bytes)
    for rows, cost in evaluate_chunks(device, shape_of(mapped), batch_of(nests), halo=halo):
        fits = (cost.scratchpad_bytes <= device.scratchpad_bytes) & (cost.accumulator_bytes <= device.accumulator_bytes)
        energy = np.where(fits, np.rint(cost.energy_pj), np.inf)
        part = nests[rows]
        front.absorb(energy, np.ceil(cost.cycles), cost.scratchpad_bytes, cost.dram_words, lambda row, part=part: str(part[row]))
    return front.points


def values(points: Sequence[Point], *, with_bytes: bool = False) -> list[tuple[int, ...]]:
    """Return what points are worth, without their mappings."""
    return [(p.energy_pj, p.latency_cycles, *((p.scratchpad_bytes,) if with_bytes else ())) for p in points]
