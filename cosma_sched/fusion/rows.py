"""Steps of many groups as rows of arrays, tiled and scored together: what all methods that search by trial share.

The cost is that of `steps`, written so that residency may be an array, or a fraction in a relaxed model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.problem import FusionProblem
from cosma_sched.mapping.cost import Array, Cost, Counts, Machine, Shape, Tiling, access_counts, cost_of
from cosma_sched.mapping.layer import C, K, N, P, Q, R, S
from cosma_sched.mapping.space import L1_ORDER, gemmini_nest, l3_orders
from cosma_sched.mapping.tilings import DivisorTable, Floats, Integers, Mask, Needs, Tilings, tile

_CHUNK = 2**13
"""Rows that are scored together: their intermediate values fit into a core's cache."""
_STAYING = ("CRS|", "RSC|", "SRC|")
"""Orders under which partial sums never leave the accumulator."""


class Stay(NamedTuple):
    """What of a step's operands stays in the scratchpad, 0 for nothing and 1 for all; the last one counts words.

    Parameters
    ----------
    reads
        Of the input.
    streams, loads
        Whether weights come by the step's own mapping, and whether they are loaded to stay; neither where they are there already.
    keeps, writes
        Of the output, and whether what stays is also written to DRAM.
    folded
        Scratchpad words of further operands.
    """

    reads: Array
    streams: Array
    loads: Array
    keeps: Array
    writes: Array
    folded: Array


def stay_cost(
    xp: Any, machine: Machine, shape: Shape, counts: Counts, spatial: Sequence[Array], stay: Stay, *, rounded: bool = True
) -> Cost:
    """Return the cost of mappings of steps whose plain counts are given, as `steps.step_cost` does for a single step.

    Parameters
    ----------
    xp
        Array namespace: ``numpy`` or ``jax.numpy``.
    machine, shape, counts, spatial
        Accelerator, steps, what the mapping model counts, spatial factors over C and K.
    stay
        What is in the scratchpad.
    rounded
        Charge DRAM energy in whole blocks.
    """
    dims = shape.dims
    size_w, size_o = dims[K] * dims[C] * dims[R] * dims[S], dims[N] * dims[K] * dims[P] * dims[Q]
    leaves = 1.0 - stay.keeps
    changed = counts._replace(
        w=counts.w * stay.streams + size_w * stay.loads,
        w_tile=counts.w_tile * stay.streams,
        i=counts.i * (1.0 - stay.reads),
        i_tile=counts.i_tile * (1.0 - stay.reads),
        o=counts.o * leaves + size_o * stay.keeps * stay.writes,
        psum=counts.psum * leaves,
    )
    cost = cost_of(xp, machine, shape, changed, spatial[0], spatial[1], rounded=rounded)
    extra = size_o * stay.keeps * shape.repeat * shape.o_bytes + stay.folded
    words = cost.scratchpad + extra
    roofs = (cost.roofs[0], cost.roofs[1], words / machine.scratchpad_bandwidth, cost.roofs[3])
    cycles = xp.maximum(xp.maximum(roofs[0], roofs[1]), xp.maximum(roofs[2], roofs[3]))
    return cost._replace(scratchpad=words, energy_pj=cost.energy_pj + machine.scratchpad_pj * extra, roofs=roofs, cycles=cycles)


class Field(IntEnum):
    """Rows of a matrix of steps; drained operands follow."""

    NODE = 0
    BATCH = 1
    ROWS = 2
    COLUMNS = 3
    TIMES = 4
    ROOM = 5
    READS = 6
    STREAMS = 7
    LOADS = 8
    KEEPS = 9
    WRITES = 10
    FOLDED = 11
    DRAINS = 12


@dataclass(frozen=True, slots=True)
class Scored:
    """Scored rows.

    Parameters
    ----------
    tilings, orders
        What was scored; orders count those of `l3_orders`.
    fitting
        Rows that fitted, and kept their partial sums where they must, before they were repaired.
    energy, latency
        Of one run of the step, rounded.
    roofs
        ``roofs[unit, row]``.
    """

    tilings: Tilings
    orders: Integers
    fitting: Mask
    energy: Floats
    latency: Floats
    roofs: Floats


class RowScorer:
    """Tiles and scores rows of steps of one network.

    Parameters
    ----------
    problem, machine, halo
        Network, accelerator and window rule.
    """

    def __init__(self, problem: FusionProblem, machine: Machine, halo: str) -> None:
        self.problem, self.machine, self.halo = problem, machine, halo
        self.drains = max((sum(operand.role == "drain" for operand in node.operands) for node in problem.nodes), default=0)
        self.height = Field.DRAINS + self.drains
        self.orders = tuple(l3_orders(halo).values())
        names = tuple(l3_orders(halo))
        self.staying = tuple(names.index(name) for name in _STAYING)
        self._order_table = np.array(self.orders, dtype=np.int8).T
        self._divisors = DivisorTable()
        facts = [_facts(node.layer) for node in problem.nodes]
        self._facts: NDArray[np.int64] = np.array(facts, dtype=np.int64).reshape(len(facts), 15).T

    def needs(self, matrix: Integers) -> Needs:
        """Return what rows are, as the tiling takes them."""
        facts = self._facts[:, matrix[Field.NODE]]
        dims = facts[:7].copy()
        dims[[N, P, Q]] = matrix[[Field.BATCH, Field.ROWS, Field.COLUMNS]]
        w_bytes, i_bytes = facts[12], facts[13]
        takes_w, takes_i = matrix[Field.STREAMS] > 0, matrix[Field.READS] == 0
        return Needs(dims, facts[7], facts[8], facts[9], facts[10], w_bytes, i_bytes, takes_w, takes_i, matrix[Field.ROOM])

    def least_bytes(self, matrix: Integers) -> Integers:
        """Return the bytes that one element of each tile takes."""
        nodes = matrix[Field.NODE]
        return np.asarray(self._facts[12, nodes] * matrix[Field.STREAMS] + self._facts[13, nodes] * (matrix[Field.READS] == 0))

    def score(self, matrix: Integers, wishes: Floats, orders: Integers) -> Scored:
        """Tile rows near some wishes, repair what does not fit, and score.

        Parameters
        ----------
        matrix
            ``matrix[field, row]``.
        wishes
            ``wishes[9, row]``, as `tile` takes them.
        orders
            Of the L3 loops, one for each row.
        """
        needs = self.needs(matrix)
        tilings, fitting = tile(self.machine, self._divisors, needs, wishes)
        spills = (matrix[Field.KEEPS] > 0) & tilings.reduces_outside & ~np.isin(orders, self.staying)
        orders = np.where(spills, self.staying[0], orders)
        energy, latency = np.empty(orders.size), np.empty(orders.size)
        roofs = np.empty((4, orders.size))
        for start in range(0, orders.size, _CHUNK):
            rows = slice(start, start + _CHUNK)
            cost = self._cost(matrix[:, rows], needs.dims[:, rows], tilings, orders[rows], rows)
            energy[rows], latency[rows] = np.rint(cost.energy_pj), np.ceil(cost.cycles)
            for unit, roof in enumerate(cost.roofs):
                roofs[unit, rows] = roof
        return Scored(tilings, orders, fitting & ~spills, energy, latency, roofs)

    def _cost(self, matrix: Integers, dims: Integers, tilings: Tilings, orders: Integers, rows: slice) -> Cost:
        facts = self._facts[:, matrix[Field.NODE]].astype(np.float64)
        values = matrix.astype(np.float64)
        drains = tuple(values[Field.DRAINS + index] for index in range(self.drains))
        strides, repeat, sizes = tuple(facts[7:11]), facts[11], tuple(facts[12:15])
        shape = Shape(list(dims.astype(np.float64)), *strides, repeat, *sizes, drains)  # type: ignore[call-arg]
        inner, outer = tilings.inner[:, rows].astype(np.float64), tilings.outer[:, rows].astype(np.float64)
        spatial = tilings.spatial[:, rows].astype(np.float64)
        l3 = self._order_table[:, orders]
        ones = [1.0] * 7
        ordered = [[], [inner[dim] for dim in L1_ORDER], [], list(np.take_along_axis(outer, l3.astype(np.intp), axis=0))]
        tiling = Tiling([ones, list(inner), ones, list(outer)], spatial[0], spatial[1], [[], L1_ORDER, [], list(l3)], ordered)
        counts = access_counts(np, shape, tiling, self.halo)
        stay = Stay(*(values[field] for field in (Field.READS, Field.STREAMS, Field.LOADS, Field.KEEPS, Field.WRITES, Field.FOLDED)))
        return stay_cost(np, self.machine, shape, counts, (spatial[0], spatial[1]), stay)

    def mapping(self, scored: Scored, row: int) -> str:
        """Return the mapping of a scored row."""
        tilings = scored.tilings
        spatial, inner, outer = (part[:, row].tolist() for part in (tilings.spatial, tilings.inner, tilings.outer))
        return str(gemmini_nest(spatial[0], spatial[1], inner, outer, self.orders[int(scored.orders[row])]))


def _facts(layer: Any) -> list[int]:
    if layer is None:
        return [1] * 15
    strides = (layer.stride_p, layer.stride_q, layer.dilation_p, layer.dilation_q)
    return [*layer.dims, *strides, layer.repeat, *layer.element_bytes]
