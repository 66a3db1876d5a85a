"""Execute a fused schedule element by element: what is in the scratchpad, what is fetched and written, whether the result is right.

Nothing here knows the interval arithmetic of the planner. What a tile needs is found by following every tap of every window; what stays
in the scratchpad is what a later tile of the group still reads; weights, external inputs and outputs move as the loops of the mapping
say, tile after tile. Reading an element that is not there is an error, as is writing DRAM words that nobody counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from cosma_sched.mapping.layer import DIMS, Layer
from cosma_sched.mapping.space import LoopNest
from tests.fusion.nets import Net, Node

Values = NDArray[np.int64]
Mask = NDArray[np.bool_]
Span = range
"""Consecutive coordinates along one axis."""


@dataclass(frozen=True)
class Schedule:
    """How a group runs.

    Parameters
    ----------
    members
        In the order in which they run within a tile; the sink last.
    tile
        Extents of the sink's tile in N, P and Q.
    mode
        ``recompute``, ``h-cached`` or ``cached``.
    resident
        Convolutions whose weights stay.
    nest
        Gives the mapping of a step: the member and the step's own dims.
    """

    members: tuple[str, ...]
    tile: tuple[int, int, int]
    mode: str
    resident: frozenset[str]
    nest: Callable[[str, Layer], LoopNest]


@dataclass
class Step:
    """One member in one tile, and what it moved; words are elements of one byte.

    Parameters
    ----------
    tile
        Number of the tile.
    region
        Rows and columns that were computed.
    extents
        Batch, rows and columns of it.
    w, o, psum
        Weights read from DRAM, outputs and partial sums written to it, partial sums read back.
    i, i_real
        Inputs read from DRAM, with and without padding.
    added
        Operands of folded sums read from DRAM, and those read from the scratchpad.
    held_bytes
        Internal tensors and resident weights in the scratchpad during the step.
    working_bytes
        Tiles of streamed weights and inputs.
    """

    member: str
    tile: int
    region: tuple[Span, Span]
    extents: tuple[int, int, int]
    w: int = 0
    i: int = 0
    i_real: int = 0
    o: int = 0
    psum: int = 0
    added: tuple[int, int] = (0, 0)
    held_bytes: int = 0
    working_bytes: int = 0


class Interpreter:
    """Runs groups one after the other on a network with random weights; DRAM holds what was written to it."""

    def __init__(self, net: Net, seed: int = 0) -> None:
        random_ = np.random.default_rng(seed)
        self.net, self.extents = net, net.extents()
        self.layers = {node.name: net.layer(node.name) for node in net.nodes if node.kind == "conv"}
        self.weights = {name: random_.integers(-3, 4, _weight_shape(layer)) for name, layer in self.layers.items()}
        self.dense = {"x": random_.integers(-9, 10, net.size)}
        for node in net.nodes:
            self.dense[node.name] = self._dense(node)
        self.dram: dict[str, Values] = {"x": self.dense["x"]}
        self.written: dict[str, Mask] = {"x": np.ones(net.size, dtype=bool)}

    def _dense(self, node: Node) -> Values:
        rows, cols = self.extents[node.name][2:]
        result = np.zeros(self.extents[node.name], dtype=np.int64)
        for p, q in itertools.product(range(rows), range(cols)):
            result[:, :, p, q] = self._element(node, p, q, self.dense)
        return result

    def _element(self, node: Node, p: int, q: int, values: dict[str, Values]) -> Values:
        """Return all channels of one output position."""
        source = values[node.reads[0]]
        taps = self.taps(node, p, q)
        if node.kind == "pool":
            made = np.max([source[:, :, y, x] for y, x, _, _ in taps], axis=0) if taps else np.zeros(source.shape[:2], dtype=np.int64)
        else:
            made = sum((self._product(node, source[:, :, y, x], r, s) for y, x, r, s in taps), start=np.int64(0))
        return np.asarray(made + sum(values[other][:, :, p, q] for other in node.reads[1:]))

    def taps(self, node: Node, p: int, q: int) -> list[tuple[int, int, int, int]]:
        """Return the input positions that an output position reads, each with its place in the kernel; padding is left out."""
        rows, cols = self.extents[node.reads[0]][2:]
        down, across = (enumerate(node.window.rows(axis, at)) for axis, at in ((0, p), (1, q)))
        pairs = itertools.product([(r, y) for r, y in down if 0 <= y < rows], [(s, x) for s, x in across if 0 <= x < cols])
        return [(y, x, r, s) for (r, y), (s, x) in pairs]

    def _product(self, node: Node, column: Values, r: int, s: int) -> Values:
        weights = self.weights[node.name][:, :, :, r, s]  # weights[group, k, c, r, s]
        groups, outputs, inputs = weights.shape
        split = column.reshape(len(column), groups, inputs)
        return np.einsum("gkc,ngc->ngk", weights, split).reshape(len(column), groups * outputs)

    def run(self, schedule: Schedule) -> list[Step]:
        """Execute a group; its outputs are in DRAM afterwards and have been compared with the dense network."""
        steps = Group(self, schedule).run()
        for name in schedule.members:
            if self.goes_out(name, schedule.members):
                assert self.written[name].all(), f"{name} has not been written whole"
                assert (self.dram[name] == self.dense[name]).all(), f"{name} differs from the dense network"
        return steps

    def goes_out(self, name: str, members: Sequence[str]) -> bool:
        """Whether a member's result reaches DRAM."""
        return self.net.is_output(name) or any(reader.name not in members for reader in self.net.readers(name))


def _weight_shape(layer: Layer) -> tuple[int, ...]:
    return (layer.repeat, layer["K"], layer["C"], layer["R"], layer["S"])


# Which rows and columns a tile needs


def spans(net: Net, members: Sequence[str], axis: int, size: int) -> dict[str, list[Span]]:
    """Return for each member the coordinates along an axis that each tile holds: all that its readers' windows touch, and what they skip.

    A tile begins no later than the tile before ended, the first one at 0; the last one ends with the tensor.
    """
    extents = net.extents()
    found: dict[str, list[Span]] = {}
    for name in reversed(members):
        extent = extents[name][2 + axis]
        inside = [reader for reader in net.readers(name) if reader.name in members]
        if not inside:
            found[name] = [range(start, start + size) for start in range(0, extent, size)]
            continue
        tiles = len(next(iter(found.values())))
        needs = [_needed(inside, name, axis, found, tile, extent) for tile in range(tiles)]
        found[name] = list(_without_holes(needs, extent))
    return found


def _needed(readers: Sequence[Node], name: str, axis: int, found: dict[str, list[Span]], tile: int, extent: int) -> set[int]:
    needed: set[int] = set()
    for reader in readers:
        for position in found[reader.name][tile]:
            if reader.reads[0] == name:
                needed |= {at for at in reader.window.rows(axis, position) if 0 <= at < extent}
            if name in reader.reads[1:] or reader.kind == "join":
                needed.add(position)
    return needed


def _without_holes(needs: Sequence[set[int]], extent: int) -> Iterator[Span]:
    before = 0
    for tile, needed in enumerate(needs):
        end = extent if tile == len(needs) - 1 else max(needed, default=before - 1) + 1
        yield range(min(needed | {before}), end)
        before = end


# One group


@dataclass
class Group:
    """One group while it runs."""

    world: Interpreter
    schedule: Schedule
    held: dict[str, Mask] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)

    def run(self) -> list[Step]:
        net, members = self.world.net, self.schedule.members
        size_n, size_p, size_q = self.schedule.tile
        self.rows, self.cols = (spans(net, members, axis, size) for axis, size in ((0, size_p), (1, size_q)))
        sink = members[-1]
        self.bands, self.columns = len(self.rows[sink]), len(self.cols[sink])
        for name in members:
            self.held[name] = np.zeros(self.world.extents[name], dtype=bool)
            self.values[name] = np.zeros(self.world.extents[name], dtype=np.int64)
        tile = 0
        for first in range(0, self.world.extents[sink][0], size_n):
            for p, q in itertools.product(range(self.bands), range(self.columns)):
                self._tile(tile, slice(first, first + size_n), p, q)
                tile += 1
            assert not any(mask.any() for mask in self.held.values()), "something is left in the scratchpad"
        return self.steps

    def _tile(self, tile: int, batch: slice, p: int, q: int) -> None:
        for index, name in enumerate(self.schedule.members):
            fresh = self._fresh(name, batch, p, q)
            if fresh is not None:
                self._step(name, tile, batch, fresh)
            for other in self.schedule.members:
                if self._last_reader(other) == index:
                    self._forget(other, batch, p, q)

    def _internal(self, name: str) -> bool:
        return any(reader.name in self.schedule.members for reader in self.world.net.readers(name))

    def _last_reader(self, name: str) -> int:
        members = self.schedule.members
        return max((members.index(reader.name) for reader in self.world.net.readers(name) if reader.name in members), default=-1)

    def _hull(self, name: str, batch: slice, p: int, q: int) -> Mask:
        mask = np.zeros(self.world.extents[name], dtype=bool)
        rows, cols = self.rows[name][p], self.cols[name][q]
        mask[batch, :, rows.start : rows.stop, cols.start : cols.stop] = True
        return mask

    def _fresh(self, name: str, batch: slice, p: int, q: int) -> tuple[Span, Span] | None:
        """Return the rows and columns that this tile computes: those of its hull that are not there; they form a box."""
        missing = self._hull(name, batch, p, q) & ~self.held[name]
        if not missing.any():
            return None
        _, _, rows, cols = (np.unique(index) for index in np.nonzero(missing))
        fresh = range(rows[0], rows[-1] + 1), range(cols[0], cols[-1] + 1)
        assert missing.sum() == missing[batch].shape[0] * missing.shape[1] * len(fresh[0]) * len(fresh[1]), "what is missing is no box"
        return fresh

    def _forget(self, name: str, batch: slice, p: int, q: int) -> None:
        """Drop what no later tile of the mode reads."""
        kept = np.zeros_like(self.held[name])
        later = {
            "recompute": [],
            "h-cached": [(p, at) for at in range(q + 1, self.columns)],
            "cached": [(p, at) for at in range(q + 1, self.columns)]
            + list(itertools.product(range(p + 1, self.bands), range(self.columns))),
        }[self.schedule.mode]
        for place in later:
            kept |= self._hull(name, batch, *place)
        self.held[name] &= kept

    # One step

    def _step(self, name: str, tile: int, batch: slice, fresh: tuple[Span, Span]) -> None:
        node, (rows, cols) = self.world.net.node(name), fresh
        step = Step(name, tile, fresh, (batch.stop - batch.start, len(rows), len(cols)))
        if self._internal(name):
            self.held[name][batch, :, rows.start : rows.stop, cols.start : cols.stop] = True
        step.held_bytes = int(sum(mask.sum() for mask in self.held.values()))
        step.held_bytes += sum(self.world.layers[other].size("W") * self.world.layers[other].repeat for other in self.schedule.resident)
        if node.kind == "conv":
            _Convolution(self, node, step, batch, fresh).run()
        else:
            self._vector(node, step, batch, fresh)
        for p, q in itertools.product(rows, cols):
            for other in node.reads[1:] if node.kind == "conv" else ():
                self.values[name][batch, :, p, q] += self.read(other, batch, p, q)
        step.added = self._added(node, step)
        if self.world.goes_out(name, self.schedule.members):
            self._write(name, step, batch, fresh)
        self.steps.append(step)

    def _vector(self, node: Node, step: Step, batch: slice, fresh: tuple[Span, Span]) -> None:
        seen: set[tuple[int, int]] = set()
        for p, q in itertools.product(*fresh):
            if node.kind == "join":
                made = sum(self.read(other, batch, p, q) for other in node.reads)
            else:
                taps = self.world.taps(node, p, q)
                seen |= {(y, x) for y, x, _, _ in taps}
                made = np.max([self.read(node.reads[0], batch, y, x) for y, x, _, _ in taps], axis=0) if taps else 0
            self.values[node.name][batch, :, p, q] = made
        if node.kind == "pool" and node.reads[0] not in self.schedule.members:
            step.i_real = len(seen) * self.world.extents[node.reads[0]][1] * step.extents[0]

    def _added(self, node: Node, step: Step) -> tuple[int, int]:
        others = node.reads[1:] if node.kind == "conv" else node.reads if node.kind == "join" else ()
        words = int(np.prod(step.extents)) * self.world.extents[node.name][1]
        inside = sum(words for other in others if other in self.schedule.members)
        return words * len(others) - inside, inside

    def _write(self, name: str, step: Step, batch: slice, fresh: tuple[Span, Span]) -> None:
        rows, cols = fresh
        box = (batch, slice(None), slice(rows.start, rows.stop), slice(cols.start, cols.stop))
        if name not in self.world.dram:
            self.world.dram[name] = np.zeros(self.world.extents[name], dtype=np.int64)
            self.world.written[name] = np.zeros(self.world.extents[name], dtype=bool)
        assert self.schedule.mode == "recompute" or not self.world.written[name][box].any() or self.schedule.mode == "h-cached"
        self.world.dram[name][box] = self.values[name][box]
        self.world.written[name][box] = True
        if self._internal(name) or self.world.net.node(name).kind != "conv":
            step.o += int(self.values[name][box].size)

    def read(self, name: str, batch: slice, y: int, x: int) -> Values:
        """Return all channels of a position: from the scratchpad if a member makes it, else from DRAM; it must be there."""
        inside = name in self.schedule.members
        there = self.held[name] if inside else self.world.written.get(name)
        assert there is not None, f"{name} is read before it is written"
        assert there[batch, :, y, x].all(), f"{name}[{y}, {x}] is not there"
        source = self.values[name] if inside else self.world.dram[name]
        return source[batch, :, y, x]


@dataclass
class _Convolution:
    """A convolution's step, loop by loop."""

    group: Group
    node: Node
    step: Step
    batch: slice
    fresh: tuple[Span, Span]

    def run(self) -> None:
        layer = self.group.world.layers[self.node.name]
        _, k, c, _, _, r, s = layer.dims
        size_n, rows, cols = self.step.extents
        own = replace(layer, dims=(size_n, k, c, rows, cols, r, s))
        nest = self.group.schedule.nest(self.node.name, own)
        assert nest.products() == own.dims, f"{nest} is no mapping of {own}"
        values = self.group.values[self.node.name]
        values[self.batch, :, self.fresh[0].start : self.fresh[0].stop, self.fresh[1].start : self.fresh[1].stop] = 0
        for repetition in range(layer.repeat):
            self._repetition(own, nest, repetition)

    def _repetition(self, layer: Layer, nest: LoopNest, repetition: int) -> None:
        resident_w = self.node.name in self.group.schedule.resident
        inside_i = self.node.reads[0] in self.group.schedule.members
        inside_o = self.group._internal(self.node.name)
        if resident_w and self.node.name not in self.group.loaded:
            self.step.w += layer.size("W")
            if repetition == layer.repeat - 1:
                self.group.loaded.add(self.node.name)
        tile = dict(zip(DIMS, (a // b for a, b in zip(nest.products(), nest.temporal(3), strict=True)), strict=True))
        before: dict[str, object] = {"W": None, "I": set(), "O": None}
        drained: set[object] = set()
        for start in _positions(nest, tile):
            boxes = {tensor: tuple((start[d], start[d] + tile[d]) for d in dims) for tensor, dims in (("W", "KCRS"), ("O", "NKPQ"))}
            window = self._window(start, tile)
            if not resident_w and boxes["W"] != before["W"]:
                self.step.w += _volume(boxes["W"])
            if not inside_i:
                new = window - before["I"]  # type: ignore[operator]
                self._fetch(new, tile)
            if boxes["O"] != before["O"]:
                again = boxes["O"] in drained
                assert not (again and inside_o), "a resident output is left unfinished and taken up again"
                self.step.o += 0 if inside_o else _volume(boxes["O"])
                self.step.psum += _volume(boxes["O"]) if again else 0
                drained.add(boxes["O"])
            before = {"W": boxes["W"], "I": window, "O": boxes["O"]}
            working = (0 if resident_w else _volume(boxes["W"])) + (0 if inside_i else len(window) * tile["N"] * tile["C"])
            self.step.working_bytes = max(self.step.working_bytes, working)
            self._multiply(layer, repetition, start, tile)

    def _window(self, start: dict[str, int], tile: dict[str, int]) -> set[tuple[int, ...]]:
        """Return the input positions under the tile's windows, padding and skipped rows included, with what else tells inputs apart."""
        ys, xs = (
            range(min(touched), max(touched) + 1)
            for touched in (
                [first + taps for first in self._tops(axis, start, tile) for taps in self._kernel(axis, start, tile)] for axis in (0, 1)
            )
        )
        return {(start["N"], start["C"], y, x) for y in ys for x in xs}

    def _tops(self, axis: int, start: dict[str, int], tile: dict[str, int]) -> list[int]:
        window, dim = self.node.window, "PQ"[axis]
        return [(self.fresh[axis].start + at) * window.stride[axis] - window.pad[axis] for at in range(start[dim], start[dim] + tile[dim])]

    def _kernel(self, axis: int, start: dict[str, int], tile: dict[str, int]) -> range:
        dim = "RS"[axis]
        return range(start[dim], start[dim] + tile[dim])

    def _fetch(self, new: set[tuple[int, ...]], tile: dict[str, int]) -> None:
        rows, cols = self.group.world.extents[self.node.reads[0]][2:]
        words = tile["N"] * tile["C"]
        self.step.i += len(new) * words
        self.step.i_real += sum(words for _, _, y, x in new if 0 <= y < rows and 0 <= x < cols)

    def _multiply(self, layer: Layer, repetition: int, start: dict[str, int], tile: dict[str, int]) -> None:
        source, name = self.node.reads[0], self.node.name
        rows, cols = self.group.world.extents[source][2:]
        n0 = self.batch.start + start["N"]
        batch = slice(n0, n0 + tile["N"])
        k0, c0 = start["K"], start["C"]
        channels = slice(repetition * layer["C"] + c0, repetition * layer["C"] + c0 + tile["C"])
        results = slice(repetition * layer["K"] + k0, repetition * layer["K"] + k0 + tile["K"])
        weights = self.group.world.weights[name][repetition, k0 : k0 + tile["K"], c0 : c0 + tile["C"]]
        tops, lefts = self._tops(0, start, tile), self._tops(1, start, tile)
        for (p, top), (q, left) in itertools.product(enumerate(tops, start["P"]), enumerate(lefts, start["Q"])):
            for r, s in itertools.product(self._kernel(0, start, tile), self._kernel(1, start, tile)):
                y, x = top + r, left + s
                if 0 <= y < rows and 0 <= x < cols:
                    column = self.group.read(source, batch, y, x)[:, channels]
                    place = (batch, results, self.fresh[0].start + p, self.fresh[1].start + q)
                    self.group.values[name][place] += column @ weights[:, :, r, s].T


def _positions(nest: LoopNest, tile: dict[str, int]) -> Iterator[dict[str, int]]:
    """Yield where the scratchpad tile begins in each dim, as the L3 loops run."""
    loops = [(DIMS[loop.dim], loop.factor) for loop in nest.at(3)]
    for indices in itertools.product(*(range(factor) for _, factor in loops)):
        start = dict.fromkeys(DIMS, 0)
        for (dim, _), index in zip(loops, indices, strict=True):
            start[dim] += index * tile[dim]
        yield start


def _volume(box: Sequence[tuple[int, int]]) -> int:
    return int(np.prod([end - start for start, end in box]))
