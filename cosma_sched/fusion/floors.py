"""What no tile of a group goes below, for all tiles at once: cheap, and near enough to leave few tiles to be priced.

A step's floor takes each operand's words once, the accumulator filled to the brim whatever divides it, and no capacity of the scratchpad.
Floors of energy and of latency are taken apart, so a tile's floor is a point that all its prices lie above and to the right of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cosma_sched.fusion.fronts import _kernels, _widest
from cosma_sched.fusion.group import AxisClasses, Group, Mode
from cosma_sched.fusion.hull import Point
from cosma_sched.fusion.steps import Output
from cosma_sched.mapping.cost import Machine
from cosma_sched.mapping.layer import C, K, Layer, R, S
from cosma_sched.mapping.space import divisors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_SLACK = 1e-11
"""Relative error that floating-point sums may have."""


class Floor(NamedTuple):
    """Least energy and least cycles of steps, one entry for each."""

    energy: Floats
    latency: Floats


class StepFloors:
    """Floors of a layer's steps by the number of positions, kept for all that were asked for.

    Parameters
    ----------
    machine
        The accelerator.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def of(self, layer: Layer, output: Output, *, streamed: bool, positions: Floats, read: Floats) -> Floor:
        """Return floors of steps.

        Parameters
        ----------
        layer, output
            Layer, and where its result goes.
        streamed
            Whether each step reads all weights from DRAM; else the scratchpad has them.
        positions, read
            For each step, positions of the result, and input words from DRAM.
        """
        shape = positions.shape
        pairs = np.stack([np.ravel(positions), np.ravel(read)])
        distinct, places = np.unique(pairs, axis=1, return_inverse=True)
        energy, latency = self._floors(layer, output, streamed, distinct[0], distinct[1])
        places = np.ravel(places)
        return Floor(energy[places].reshape(shape), latency[places].reshape(shape))

    def _floors(self, layer: Layer, output: Output, streamed: bool, positions: Floats, read: Floats) -> tuple[Floats, Floats]:
        rows = _tilings(layer, output, self.machine)
        energy, latency = np.empty(positions.size), np.empty(positions.size)
        chunk = max(1, 2**18 // rows.shape[1])
        for start in range(0, positions.size, chunk):
            part = slice(start, start + chunk)
            energy[part], latency[part] = _floor(layer, output, streamed, self.machine, rows, positions[part], read[part])
        return energy, latency


def _tilings(layer: Layer, output: Output, machine: Machine) -> Floats:
    """Return (xc, xk, kernel, order) of the tilings that matter where no capacity but the accumulator's binds."""
    words = int(machine.accumulator_bytes // (machine.accumulator_element_bytes * machine.cols))
    xks = [xk for xk in divisors(layer.dims[K]) if xk // _widest(xk, int(machine.cols)) <= words]
    inside = [(layer.dims[C], xk, layer.dims[R] * layer.dims[S], 0) for xk in xks]
    if output == Output.DRAM:  # partial sums may leave
        inside += [
            (xc, xk, r * s, order)
            for order in (0, 1)
            for xc in divisors(layer.dims[C])
            for xk in xks
            for r, s in _kernels(layer.dims[R], layer.dims[S])
        ]
    return np.array(inside, dtype=np.float64).reshape(-1, 4).T


def _floor(
    layer: Layer, output: Output, streamed: bool, machine: Machine, rows: Floats, positions: Floats, read: Floats
) -> tuple[Floats, Floats]:
    dims, repeat, (w_bytes, i_bytes, o_bytes) = layer.dims, layer.repeat, layer.element_bytes
    xc, xk, kernel, order = (column[:, None] for column in rows)
    widest = {extent: float(_widest(int(extent), int(machine.rows))) for extent in np.unique(rows[0])}
    sc = np.array([widest[extent] for extent in rows[0]])[:, None]
    sk = np.array([float(_widest(int(extent), int(machine.cols))) for extent in rows[1]])[:, None]
    words = machine.accumulator_bytes // (machine.accumulator_element_bytes * machine.cols)
    m = positions[None, :]
    size_o, size_w = m * dims[K], float(layer.size("W"))
    out = np.maximum(m / np.maximum(words // (xk / sk), 1), 1.0)
    red = dims[C] / xc * (dims[R] * dims[S] / kernel)
    macs = size_o * (dims[C] * dims[R] * dims[S])
    o = np.where(order == 0, size_o * red, size_o)
    moved = size_w * np.where(order == 0, 1.0, out)
    fills = np.where((xc / sc) * (xk / sk) * kernel > 1, size_w * out, moved) * repeat
    w = moved * (repeat * w_bytes) if streamed else 0.0 * moved
    i = read[None, :] * (repeat * i_bytes)
    psum = (o - size_o) * repeat
    spilled = psum * max(float(machine.psum_words), float(o_bytes))
    result = size_o * (repeat * o_bytes)
    written = 0.0 * result if output == Output.RESIDENT else result + spilled
    stored = 0.0 * result if output == Output.DRAM else result
    macs = macs * repeat
    updates = 2 * macs / sc + psum
    scratchpad = w + i + fills * w_bytes + macs / sk * i_bytes + stored
    block = machine.block_words
    blocks = sum(block * np.ceil(part / block) for part in (w, i, written, spilled))
    energy = machine.mac_pj * macs + machine.register_pj * (macs + fills) + machine.accumulator_pj * updates
    energy = energy + machine.scratchpad_pj * scratchpad + machine.dram_pj * blocks
    cycles = np.maximum(
        np.maximum(macs / (sc * sk), updates / (machine.accumulator_bandwidth * sk)),
        np.maximum(scratchpad / machine.scratchpad_bandwidth, (w + i + written + spilled) / machine.dram_bandwidth),
    )
    least = np.maximum(np.floor(energy.min(axis=0) * (1 - _SLACK)), 0.0)
    return least, np.ceil(cycles.min(axis=0) * (1 - _SLACK))


# Groups


@dataclass(frozen=True)
class AxisTable:
    """The tiles of one axis for all tile lengths, one after the other.

    Parameters
    ----------
    classes
        All classes, those of the first tile length first.
    starts
        Where each length begins.
    """

    classes: AxisClasses
    starts: Ints

    @classmethod
    def of(cls, group: Group, axis: int, lengths: Sequence[int]) -> AxisTable:
        """Put the classes of all tile lengths side by side."""
        found = [group.axis_classes(axis, length) for length in lengths]
        joined = AxisClasses(
            hull=np.concatenate([one.hull for one in found], axis=1),
            new=np.concatenate([one.new for one in found], axis=1),
            before=np.concatenate([one.before for one in found], axis=1),
            after=np.concatenate([one.after for one in found], axis=1),
            read_hull=np.concatenate([one.read_hull for one in found], axis=1),
            read_new=np.concatenate([one.read_new for one in found], axis=1),
            low=(np.concatenate([one.low[0] for one in found], axis=1), np.concatenate([one.low[1] for one in found], axis=1)),
            count=np.concatenate([one.count for one in found]),
            first=np.zeros((len(group.members), 0), dtype=np.int64),
        )
        return cls(joined, np.cumsum([0, *(one.count.size for one in found)])[:-1])


class Ways(NamedTuple):
    """Floors of one layer's steps in every tile: weights streamed by each step, and resident (or made in the group)."""

    streamed: Floor | None
    resident: Floor

    def at(self, row: int, column: int) -> tuple[Point | None, Point]:
        """Return the floors of one tile."""
        streamed = None if self.streamed is None else _point(self.streamed, row, column)
        return streamed, _point(self.resident, row, column)


def _point(floor: Floor, row: int, column: int) -> Point:
    return int(floor.energy[row, column]), int(floor.latency[row, column])


@dataclass(frozen=True)
class TileFloors:
    """Floors of all tiles of a group in one mode: rows of the arrays are tile rows, columns tile columns.

    Parameters
    ----------
    total
        No price of the tile is below; infinite where the maps alone do not fit.
    ways
        Of each layer, by its position.
    live
        Most bytes of maps and strips at any step, at least.
    """

    total: Floor
    ways: Mapping[int, Ways]
    live: Floats


def tile_floors(group: Group, floors: StepFloors, rows: AxisTable, columns: AxisTable, mode: Mode, batch: int) -> TileFloors:
    """Return the floors of all tiles.

    Parameters
    ----------
    group, mode
        What runs, and what becomes of overlaps.
    floors
        Of single steps.
    rows, columns
        All tile lengths.
    batch
        Batch elements of a tile.
    """
    machine = floors.machine
    r, c = rows.classes, columns.classes
    down, across = group.computed(r, c, mode)
    runs = (down[:, :, None] > 0) & (across[:, None, :] > 0)
    live = _by_tile(np.maximum, np.where(runs, group.live_words(r, c, mode), 0).max(axis=0) * float(batch), rows, columns)
    times = r.count[:, None] * c.count[None, :] * float(group.sink.extent[0] // batch)
    energy, latency = np.zeros_like(live), np.zeros_like(live)
    ways: dict[int, Ways] = {}
    for position, node in enumerate(group.nodes):
        weights = np.where(runs[position], times, 0.0)
        at = (down[position][:, None], across[position][None, :])
        if node.layer is None:
            energy += _by_tile(np.add, weights * _vector_floor(group, position, batch, at, machine), rows, columns)
            continue
        found = [
            Floor(*(_by_tile(np.add, weights * value, rows, columns) * (1 - _SLACK) for value in one))
            for one in _layer_floor(group, position, floors, batch, at)
        ]
        if position in group.weighted:
            load = node.weight_words * (machine.scratchpad_pj + machine.dram_pj)
            resident = Floor(found[1].energy + max(load - 1, 0), found[1].latency)
            ways[position] = Ways(found[0], resident)
            keeps = live + node.weight_words <= machine.scratchpad_bytes
            energy += np.where(keeps, np.minimum(found[0].energy, resident.energy), found[0].energy)
            latency += np.where(keeps, np.minimum(found[0].latency, resident.latency), found[0].latency)
        else:
            ways[position] = Ways(None, found[0])
            energy, latency = energy + found[0].energy, latency + found[0].latency
    fits = live <= machine.scratchpad_bytes
    total = Floor(np.where(fits, energy * (1 - _SLACK), np.inf), np.where(fits, latency * (1 - _SLACK), np.inf))
    return TileFloors(total, ways, live)


def _by_tile(reduce: np.ufunc, values: Any, rows: AxisTable, columns: AxisTable) -> Floats:
    found: Floats = reduce.reduceat(reduce.reduceat(values, rows.starts, axis=0), columns.starts, axis=1)
    return found


def _vector_floor(group: Group, position: int, batch: int, at: tuple[Ints, Ints], machine: Machine) -> Any:
    """Return the energy of the words that a vector operator's step writes; what it reads is left out."""
    words = batch * at[0] * at[1] * float(group.nodes[position].position_words)
    output = group.outputs[position]
    scratchpad = words * machine.scratchpad_pj if group.problem.charged and output != Output.DRAM else 0.0
    dram = words * machine.dram_pj if output != Output.RESIDENT else 0.0
    return np.maximum(scratchpad + dram - 1.0, 0.0)


def _layer_floor(group: Group, position: int, floors: StepFloors, batch: int, at: tuple[Ints, Ints]) -> list[Floor]:
    """Return the floors of a layer's steps, weights streamed and resident; resident alone where they are made in the group."""
    node = group.nodes[position]
    layer = node.layer
    if layer is None:
        raise ValueError(f"{node.name} is a vector operator")
    positions: Floats = np.asarray(batch * at[0] * at[1], dtype=np.float64)
    resident = any(operand.role == "input" and group.inside(operand) for operand in node.operands)
    read: Floats = 0.0 * positions if resident else np.asarray(batch * layer.dims[C] * touched(layer, at))
    ways = (True, False) if position in group.weighted else (False,)
    return [floors.of(layer, group.outputs[position], streamed=way, positions=positions, read=read) for way in ways]


def touched(layer: Layer, at: tuple[Any, Any]) -> Any:
    """Return the least input positions that any mapping of a step reads from DRAM."""
    if (layer.dilation_p, layer.dilation_q) != (1, 1):
        return at[0] * at[1] * 1.0
    down = np.where(at[0] > 0, (at[0] - 1) * min(layer.stride_p, layer.dims[R]) + layer.dims[R], 0)
    across = np.where(at[1] > 0, (at[1] - 1) * min(layer.stride_q, layer.dims[S]) + layer.dims[S], 0)
    return down * across * 1.0
