"""Computation nodes and tiles: a network, cut, with exact dependencies.

A layer is an operator that computes; views, and a softmax in place, only say where data comes from. Each piece of a layer is a computation
node (CN). It writes one tile, a box of what the layer writes; the parts of a contraction accumulate in one tile, in index order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.graph import Graph, Operator, TensorKind
from cosma_sched.multicore.boxes import Box, Range, volume, whole
from cosma_sched.multicore.costs import NodeCost, Piece, by_core
from cosma_sched.multicore.grids import Grid, box_name, refined
from cosma_sched.multicore.loops import Loops, loops_of
from cosma_sched.multicore.operands import operand_defects
from cosma_sched.multicore.platform import Platform
from cosma_sched.multicore.problem import Node, Objective, ScheduleProblem, Semantics, Tile, TileKind
from cosma_sched.multicore.softmax import expanded_softmax
from cosma_sched.multicore.sources import SOFTMAX, Part, Sources
from cosma_sched.multicore.splits import Cut, Split

_KINDS = {TensorKind.INPUT: TileKind.INPUT, TensorKind.PARAMETER: TileKind.PARAMETER}


class Costs(Protocol):
    """What a node costs on every core that it may run on; see `costs`."""

    def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
        """Return cycles and energy by core id."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """What a computation node computes, in terms of the graph.

    Parameters
    ----------
    operator
        Name of the operator.
    box
        What of its first output it writes or adds to.
    summed
        The range of the contraction it sums over; (0, 1) where there is none.
    is_reduction
        Whether it adds up the partial sums of other nodes.
    """

    operator: str
    box: Box
    summed: Range = (0, 1)
    is_reduction: bool = False


@dataclass(frozen=True)
class Expansion:
    """A network as nodes and tiles.

    Parameters
    ----------
    graph
        The network; with ``softmax=expanded`` the one in which it is expanded.
    nodes, works
        Nodes in a topological order, and what each computes.
    tiles, boxes
        Tiles, and the box of its tensor that each holds.
    layers
        Extents of the dimensions of each layer.
    split
        The cuts made.
    assumptions
        One sentence for each kind of operator that is read as one piece because no rule says more.
    """

    graph: Graph
    nodes: tuple[Node, ...]
    works: tuple[Work, ...]
    tiles: tuple[Tile, ...]
    boxes: tuple[Box, ...]
    layers: Mapping[str, Mapping[str, int]]
    split: Split
    assumptions: tuple[str, ...] = ()

    def problem(self, platform: Platform, semantics: Semantics, objective: Objective = Objective.LATENCY) -> ScheduleProblem:
        """Return what the scheduler is asked."""
        return ScheduleProblem(self.graph.name, self.nodes, self.tiles, platform, semantics, objective)


def layer_extents(graph: Graph, softmax: str = "inplace") -> dict[str, dict[str, int]]:
    """Return the layers of a network and the extents of the dimensions along which each can be cut.

    Raises
    ------
    InputError
        If an operator reads or writes a tensor without a shape.
    """
    return {layer.name: layer.loops.extents for layer in _Network(graph, softmax).layers}


def assumptions_of(graph: Graph, softmax: str = "inplace") -> tuple[str, ...]:
    """Return what is assumed of operators that no rule covers, one sentence for each type."""
    return _Network(graph, softmax).assumptions()


def expand(graph: Graph, split: Split, semantics: Semantics, costs: Costs) -> Expansion:
    """Cut a network into computation nodes and tiles.

    Parameters
    ----------
    graph
        The network; every tensor needs a shape.
    split
        How its layers are cut.
    semantics
        ``softmax`` says what a softmax is; ``partial_sum_factor`` what partial sums of a spread contraction weigh.
    costs
        Cycles and energy of each node.

    Raises
    ------
    InputError
        With every part of the split that does not fit, or every tensor without a shape.
    """
    network = _Network(graph, semantics.softmax)
    extents = {layer.name: layer.loops.extents for layer in network.layers}
    defects = list(split.defects(extents))
    if defects:
        raise InputError("split", defects)
    for layer in network.layers:
        layer.cut(split.of(layer.name, layer.loops.extents))
    builder = _Builder(network, semantics, costs)
    builder.run()
    return Expansion(
        network.graph,
        tuple(builder.nodes),
        tuple(builder.works),
        tuple(builder.tiles),
        tuple(builder.boxes),
        extents,
        Split(layers={layer.name: layer.cuts for layer in network.layers if layer.cuts}),
        network.assumptions(),
    )


@dataclass(slots=True)
class _Layer:
    """A layer and its cuts."""

    operator: Operator
    loops: Loops
    cuts: tuple[Cut, ...] = ()
    pieces: list[tuple[tuple[int, ...], Box, Range]] = field(default_factory=list)
    axis_bounds: tuple[tuple[int, ...], ...] = ()

    @property
    def name(self) -> str:
        return self.operator.name

    @property
    def is_spread(self) -> bool:
        """True where each part of the contraction makes its own partial sums."""
        return any(cut.spread for cut in self.cuts) and self.parts("contraction") > 1

    def parts(self, dim: str) -> int:
        """Return how many parts a dimension has."""
        extents = self.loops.extents
        return next((len(cut.bounds(extents[dim])) - 1 for cut in self.cuts if cut.dim == dim), 1)

    def cut(self, cuts: Sequence[Cut]) -> None:
        """Enumerate the pieces, the first cut outermost."""
        self.cuts = tuple(cut for cut in cuts if len(cut.bounds(self.loops.extents[cut.dim])) > 2)
        bounds = [cut.bounds(self.loops.extents[cut.dim]) for cut in self.cuts]
        axes = {self.loops.axes[cut.dim]: limits for cut, limits in zip(self.cuts, bounds, strict=True) if cut.dim != "contraction"}
        self.axis_bounds = tuple(axes.get(axis, (0, size)) for axis, size in enumerate(self.loops.output))
        for index in itertools.product(*(range(len(limits) - 1) for limits in bounds)):
            box, summed = list(whole(self.loops.output)), (0, max(1, self.loops.contraction))
            for cut, limits, part in zip(self.cuts, bounds, index, strict=True):
                piece = limits[part], limits[part + 1]
                if cut.dim == "contraction":
                    summed = piece
                else:
                    box[self.loops.axes[cut.dim]] = piece
            self.pieces.append((index, tuple(box), summed))


class _Network:
    """The layers of a graph, and where what they read comes from."""

    def __init__(self, graph: Graph, softmax: str) -> None:
        self.graph = expanded_softmax(graph) if softmax == "expanded" else graph
        self.sources = Sources(self.graph, inplace=softmax == "inplace")
        self._refuse_misfits()
        self.layers = [self._layer(operator) for operator in self.graph if operator.name not in self.sources.views]
        self.second_outputs = {name: layer.operator.outputs[0] for layer in self.layers for name in layer.operator.outputs[1:]}

    def _refuse_misfits(self) -> None:
        """Refuse a network with operators that nobody can compute, all of them at once.

        Raises
        ------
        InputError
            With every one.
        """
        defects: list[Defect] = []
        for index, operator in enumerate(self.graph):
            shapes = [self.sources.seen(operator, position) for position in range(len(operator.inputs))]
            defects += operand_defects(f"operators[{index}] {shown(operator.name)}", operator, shapes)
        if defects:
            raise InputError(self.graph.name, defects)

    def _layer(self, operator: Operator) -> _Layer:
        shapes = [self.sources.seen(operator, position) for position in range(len(operator.inputs))]
        loops = loops_of(operator, shapes, self.sources.shape(operator.outputs[0]))
        if len(operator.outputs) > 1:  # one tile holds all of its outputs
            loops = Loops(loops.output, {}, loops.reads, 0, loops.nest, loops.strides, loops.dilations, loops.work, loops.is_known)
        return _Layer(operator, loops)

    def assumptions(self) -> tuple[str, ...]:
        """Return one sentence for each type of operator that is not cut because no rule says what its pieces read."""
        unknown = sorted({layer.operator.type for layer in self.layers if not layer.loops.is_known})
        return tuple(f"{kind}: what its pieces read is not known; it is not cut and reads its operands whole" for kind in unknown)

    def parts(self, layer: _Layer, box: Box, summed: Range) -> Iterator[Part]:
        """Yield what a piece of a layer reads and needs of tensors that hold data."""
        for position, wanted in enumerate(layer.loops.reads(box, summed)):
            if wanted is not None:
                yield from self._resolved(self.sources.trace(layer.operator, position, wanted, wanted))

    def output_parts(self) -> Iterator[Part]:
        """Yield the parts of tensors that belong to outputs of the network."""
        for name, tensor in self.graph.tensors.items():
            if tensor.kind is TensorKind.OUTPUT:
                everything = whole(self.sources.shape(name))
                yield from self._resolved(self.sources.of(name, everything, everything))

    def _resolved(self, parts: Sequence[Part]) -> Iterator[Part]:
        """Let the outputs of an operator beyond the first stand for all of it."""
        for part in parts:
            first = self.second_outputs.get(part.tensor)
            if first is None:
                yield part
            else:
                everything = whole(self.sources.shape(first))
                yield Part(first, everything if part.reads is not None else None, everything)


class _Builder:
    """Nodes and tiles so far."""

    def __init__(self, network: _Network, semantics: Semantics, costs: Costs) -> None:
        self.network, self.semantics, self.costs = network, semantics, costs
        self.nodes: list[Node] = []
        self.works: list[Work] = []
        self.tiles: list[Tile] = []
        self.boxes: list[Box] = []
        self._writers: list[list[int]] = []
        self._grids: dict[str, Grid] = {}
        self._parts: dict[tuple[int, int], tuple[Part, ...]] = {}
        self._outputs: dict[str, list[Box]] = {}

    def run(self) -> None:
        """Make the tiles of what exists from the start, then each layer's nodes and tiles."""
        for part in self.network.output_parts():
            if part.reads is not None:
                self._outputs.setdefault(part.tensor, []).append(part.reads)
        self._given_tiles()
        for index, layer in enumerate(self.network.layers):
            self._layer(index, layer)
        self._refuse_equal_names()

    # Tiles

    def _given_tiles(self) -> None:
        """Cut parameters wherever a reader's box begins or ends, and inputs into rows likewise."""
        read: dict[str, dict[Box, None]] = {}
        tensors = self.network.graph.tensors
        for index, layer in enumerate(self.network.layers):
            for number, (_, box, summed) in enumerate(layer.pieces):
                parts = tuple(self.network.parts(layer, box, summed))
                self._parts[index, number] = parts
                for part in parts:
                    if part.reads is not None and tensors[part.tensor].kind in _KINDS:
                        read.setdefault(part.tensor, {})[part.reads] = None
        for name, boxes in read.items():
            shape, kind = self.network.sources.shape(name), tensors[name].kind
            axes = range(len(shape)) if kind is TensorKind.PARAMETER else [max(0, len(shape) - 2)]
            self._add_grid(name, refined(shape, boxes, axes if shape else ()), _KINDS[kind])

    def _add_grid(self, tensor: str, bounds: tuple[tuple[int, ...], ...], kind: TileKind, size_bytes: int | None = None) -> Grid:
        grid = Grid(len(self.tiles), bounds)
        self._grids[tensor] = grid
        shape = self.network.sources.shape(tensor)
        total = size_bytes or self.network.graph.tensors[tensor].size_bytes
        elements = math.prod(shape)
        outputs = self._outputs.get(tensor, ())
        for box in grid.boxes():
            size = -(-total * volume(box) // elements)
            is_output = any(all(a < d and c < b for (a, b), (c, d) in zip(box, other, strict=True)) for other in outputs)
            self._add_tile(Tile(box_name(tensor, box, shape), size, kind, is_output, tensor), box)
        return grid

    def _add_tile(self, tile: Tile, box: Box) -> int:
        self.tiles.append(tile)
        self.boxes.append(box)
        self._writers.append([])
        return len(self.tiles) - 1

    # Nodes

    def _layer(self, index: int, layer: _Layer) -> None:
        tensor = layer.operator.outputs[0]
        total = sum(self.network.graph.tensors[name].size_bytes for name in layer.operator.outputs)
        over = self._overwritten(index, layer)
        grid = over or self._add_grid(tensor, layer.axis_bounds, TileKind.ACTIVATION, total)
        self._grids[tensor] = grid
        partial: dict[int, list[int]] = {}
        for number, (place, box, summed) in enumerate(layer.pieces):
            (target,) = grid.positions(box)
            piece = self._piece(layer, place, box, summed)
            writes = target
            if layer.is_spread:
                tile, addend = self.tiles[target], len(partial.setdefault(target, []))
                size = tile.size_bytes * self.semantics.partial_sum_factor
                writes = self._add_tile(Tile(f"{tile.name}+{addend}", size, TileKind.ACTIVATION, tensor=tensor), box)
                partial[target].append(writes)
            self._add_node(piece, Work(layer.name, box, summed), self._parts[index, number], writes)
        for target, addends in partial.items():
            self._add_reduction(layer, target, addends)

    def _overwritten(self, index: int, layer: _Layer) -> Grid | None:
        """Return the tiles that a softmax node takes over from its scores: whole rows, the same pieces, nobody else reads them.

        All writers of a tile run on one core. So a softmax is in place only where every core that made the scores may run it, and a tile
        with partial sums of another size is not taken over; otherwise it writes a tile of its own.
        """
        parts = self._parts[index, 0]
        if layer.operator.type not in SOFTMAX or len(parts) != 1 or self.semantics.partial_sum_factor != 1:
            return None
        scores = parts[0].tensor
        tensor = self.network.graph.tensors[scores]
        grid = self._grids[scores]
        fits = tensor.kind is TensorKind.ACTIVATION and grid.bounds == layer.axis_bounds
        if not fits or len(self.network.graph.consumers(scores)) > 1 or scores != layer.operator.inputs[0]:
            return None
        for number, (place, box, summed) in enumerate(layer.pieces):
            if self._parts[index, number][0].reads != box:
                return None
            makers = [set(self.nodes[position].cycles) for position in self._writers[grid.positions(box)[0]]]
            if not set.union(*makers) <= set(self.costs.costs(self._piece(layer, place, box, summed))):
                return None
        return grid

    def _add_node(self, piece: Piece, work: Work, parts: Sequence[Part], writes: int) -> None:
        reads: dict[int, None] = {}
        needs: dict[int, None] = {}
        for part in parts:
            grid = self._grids[part.tensor]
            if part.reads is not None:
                reads.update(dict.fromkeys(grid.positions(part.reads)))
            needs.update(dict.fromkeys(grid.positions(part.needs)))
        self._append(piece, work, reads.keys() - {writes}, [*needs, writes], writes)

    def _add_reduction(self, layer: _Layer, target: int, addends: Sequence[int]) -> None:
        """Add the node that sums up the partial tiles of one box."""
        box = self.boxes[target]
        number = "" if len(layer.pieces) == len(addends) else f"[{self.tiles[target].name.removeprefix(layer.operator.outputs[0])[1:-1]}]"
        elements = volume(box)
        piece = Piece(
            f"{layer.name}.sum{number}",
            layer.name,
            "Add",
            elements * len(addends),
            input_bits=tuple(8 * self.tiles[tile].size_bytes for tile in addends),
            output_bits=8 * self.tiles[target].size_bytes,
        )
        self._append(piece, Work(layer.name, box, is_reduction=True), addends, addends, target)

    def _append(self, piece: Piece, work: Work, reads: Sequence[int] | set[int], needed: Sequence[int], writes: int) -> None:
        cycles, energy = by_core(self.costs.costs(piece))
        needs = {position for tile in needed for position in self._writers[tile]}
        self._writers[writes].append(len(self.nodes))
        self.nodes.append(Node(piece.node, piece.layer, cycles, energy, tuple(sorted(reads)), tuple(sorted(needs)), writes))
        self.works.append(work)

    def _piece(self, layer: _Layer, place: tuple[int, ...], box: Box, summed: Range) -> Piece:
        """Describe a node to whoever tells its cost."""
        loops, operator = layer.loops, layer.operator
        name = f"{layer.name}[{','.join(map(str, place))}]" if len(layer.pieces) > 1 else layer.name
        everything, full = whole(loops.output), (0, max(1, loops.contraction))
        if loops.nest is not None:
            dims, repeat = loops.nest(box, summed)
            total, times = loops.nest(everything, full)
            work = math.prod(total) * times
        else:
            dims, repeat, work = (), 1, loops.elements(everything)
        reads = loops.reads(box, summed)
        return Piece(
            name,
            layer.name,
            operator.type,
            loops.elements(box),
            dims,
            loops.strides,
            loops.dilations,
            repeat,
            tuple(self._bits(name, volume(read)) for name, read in zip(operator.inputs, reads, strict=True) if read is not None),
            self._bits(operator.outputs[0], volume(box)),
            self._element_bytes(operator),
            work,
        )

    def _bits(self, tensor: str, elements: int) -> int:
        """Return the bits of so many elements of a tensor."""
        return -(-8 * self.network.graph.tensors[tensor].size_bytes * elements // math.prod(self.network.sources.shape(tensor)))

    def _element_bytes(self, operator: Operator) -> tuple[int, int, int]:
        """Return the bytes of an element of the second operand, of the first and of the output."""
        operands = [*operator.inputs, *operator.inputs[-1:], *operator.outputs][:2] if operator.inputs else operator.outputs * 2
        data, weight, output = (-(-self._bits(name, 1) // 8) for name in (*operands, operator.outputs[0]))
        return weight, data, output

    def _refuse_equal_names(self) -> None:
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise InputError(self.network.graph.name, [Defect(f"operator {node.layer}", f"its piece {node.name} has another's name")])
            seen.add(node.name)
