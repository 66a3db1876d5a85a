"""Many mappings at once: arrays for the cost model, in chunks so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.cost import Cost, Machine, Shape, Tiling, evaluate
from cosma_sched.mapping.space import LoopNest

CHUNK = 2**13
"""Mappings that are scored together: their intermediate values fit into a core's cache."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Batch:
    """Mappings as arrays; the last axis counts mappings.

    Parameters
    ----------
    temporal
        ``temporal[level, dim, row]``, whole numbers.
    spatial
        ``spatial[0, row]`` over C, ``spatial[1, row]`` over K.
    orders
        ``orders[level, position, row]``: dims from the inside.
    """

    temporal: NDArray[Any]
    spatial: NDArray[Any]
    orders: NDArray[np.int8]

    def __len__(self) -> int:
        return int(self.temporal.shape[-1])

    def tiling(self, rows: slice) -> Tiling:
        """Return some of the mappings as the cost model takes them."""
        temporal = self.temporal[:, :, rows].astype(np.float64)
        orders = self.orders[:, :, rows].astype(np.intp)
        ordered = np.take_along_axis(temporal, orders, axis=1)
        spatial = self.spatial[:, rows].astype(np.float64)
        return Tiling(temporal, spatial[0], spatial[1], self.orders[:, :, rows], ordered)


def batch_of(nests: Sequence[LoopNest]) -> Batch:
    """Return mappings as arrays."""
    temporal = np.array([[nest.temporal(level) for level in range(4)] for nest in nests], dtype=np.int64)
    orders = np.array([[nest.order(level) for level in range(4)] for nest in nests], dtype=np.int8)
    spatial = np.array([[nest.spatial(1), nest.spatial(2)] for nest in nests], dtype=np.int64)
    return Batch(np.moveaxis(temporal, 0, -1), spatial.T, np.moveaxis(orders, 0, -1))


def evaluate_chunks(machine: Machine, shape: Shape, batch: Batch, *, halo: str = "parity") -> Iterator[tuple[slice, Cost]]:
    """Score mappings chunk by chunk.

    Parameters
    ----------
    machine, shape
        Their facts may be arrays with one entry for each mapping.
    batch
        The mappings.
    halo
        Window rule.

    Yields
    ------
    tuple
        The rows of a chunk and their cost.
    """
    for start in range(0, len(batch), CHUNK):
        rows = slice(start, min(start + CHUNK, len(batch)))
        yield rows, evaluate(np, _part(machine, rows), _part(shape, rows), batch.tiling(rows), halo=halo)


def _part(facts: Any, rows: slice) -> Any:
    """Return facts with every array cut to some rows; `dims` are cut one by one."""
    return type(facts)(*(_cut(fact, rows) for fact in facts))


def _cut(fact: Any, rows: slice) -> Any:
    if isinstance(fact, np.ndarray):
        return fact[..., rows].astype(np.float64) if fact.ndim else fact
    return fact
