"""Who reads whose result, and through which windows: derived from the graph for the checker, apart from the planner's own reading.

Only what can be followed element by element has a rule. Everything else is `apart`: two operators with such a connection must not stand in
one group.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import networkx as nx

from cosma_sched.fusion.regions import Window
from cosma_sched.graph import Graph, Operator, TensorKind
from cosma_sched.mapping.extract import ELEMENTWISE, VIEWS, workload_of
from cosma_sched.mapping.layer import Layer, VectorOperator, Workload

Extent = tuple[int, int, int]
"""Batch, rows and columns."""

_SAME, _WHOLE = Window(), Window(whole=True)
_GLOBAL = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"})
_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_ROW_BY_ROW = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "SkipLayerNormalization"})


@dataclass(frozen=True, slots=True)
class Read:
    """An operand.

    Parameters
    ----------
    source
        The member that makes it, or None.
    role
        ``input`` and ``weight`` of a layer, ``drain`` of a folded element-wise operator, ``vector``.
    rows, cols
        Windows over the source's result.
    words
        Of the whole operand.
    by_region
        True where a step reads the words of its region, False where it reads the whole operand.
    apart
        Why source and reader cannot run in one group; empty where they can.
    source_extent
        Of the source's result, or of what a convolution reads from outside the network.
    """

    source: str | None
    role: str
    rows: Window
    cols: Window
    words: int
    by_region: bool = True
    apart: str = ""
    source_extent: Extent | None = None


@dataclass(slots=True)
class Member:
    """A layer with what drains with it, or a vector operator of its own.

    Parameters
    ----------
    name
        Of the operator.
    extent
        Of its result.
    words
        Of its result, all channels.
    layer, vector
        One of the two; neither for an operator that nobody can express.
    reads
        Its operands, parameters of layers left out.
    is_output
        Whether its result leaves the network.
    apart
        Why it runs alone; empty where it need not.
    channels_first
        How its result lies.
    normalised
        Of a softmax, how many elements it takes together.
    """

    name: str
    extent: Extent
    words: int
    layer: Layer | None = None
    vector: VectorOperator | None = None
    reads: tuple[Read, ...] = ()
    is_output: bool = False
    apart: str = ""
    channels_first: bool = True
    normalised: int = 0

    @property
    def words_per_position(self) -> int:
        """Words of all channels at one position."""
        return self.words // math.prod(self.extent)

    @property
    def weight_words(self) -> int:
        """Words of a layer's weights."""
        return self.layer.size("W") * self.layer.repeat * self.layer.element_bytes[0] if self.layer is not None else 0


def members_of(network: Graph | Workload, *, chain: bool = True) -> dict[str, Member]:
    """Return the members of a network by name, in the order in which they run.

    Parameters
    ----------
    network
        A graph, or the rows of a layer table.
    chain
        Whether each row of a table reads the one before it.
    """
    found = _table(network.layers, chain=chain) if isinstance(network, Workload) else _in_order(_Derivation(network).run())
    for member in found.values():
        member.reads = tuple(
            read if read.source is None else replace(read, source_extent=found[read.source].extent) for read in member.reads
        )
    return found


def readers_of(members: Mapping[str, Member]) -> dict[str, tuple[str, ...]]:
    """Return for each member the names of all who read it."""
    found: dict[str, dict[str, None]] = {name: {} for name in members}
    for member in members.values():
        for read in member.reads:
            if read.source is not None:
                found[read.source][member.name] = None
    return {name: tuple(readers) for name, readers in found.items()}


def _in_order(members: Mapping[str, Member]) -> dict[str, Member]:
    """Return members so that each stands behind all it reads: what drains with a layer may read what is made after the layer began."""
    digraph: nx.DiGraph[str] = nx.DiGraph()
    digraph.add_nodes_from(members)
    digraph.add_edges_from((read.source, member.name) for member in members.values() for read in member.reads if read.source is not None)
    place = {name: index for index, name in enumerate(members)}
    return {name: members[name] for name in nx.lexicographical_topological_sort(digraph, key=place.__getitem__)}


# Layer tables


def _table(layers: Sequence[Layer], *, chain: bool) -> dict[str, Member]:
    found: dict[str, Member] = {}
    before: Member | None = None
    for layer in layers:
        read = _table_input(layer)
        if chain and before is not None:
            words = layer["N"] * layer["C"] * layer.repeat * layer.element_bytes[1] * math.prod(before.extent[1:])
            read = Read(before.name, "input", *_conv_windows(layer), words, apart=_chain_gap(before, layer, words))
        apart = "it stands several times in the table" if layer.count > 1 else ""
        member = Member(layer.name, (layer["N"], layer["P"], layer["Q"]), _result_words(layer), layer, None, (read,), not chain, apart)
        found[layer.name] = before = member
    if before is not None:
        before.is_output = True
    return found


def _table_input(layer: Layer) -> Read:
    """Return what the first row reads; a table does not say how far its input goes, so as little as its windows allow."""
    windows = _conv_windows(layer)
    rows, cols = (max(1, reach - 2 * window.pad) for reach, window in zip(layer.input_extent, windows, strict=True))
    words = layer["N"] * layer["C"] * layer.repeat * layer.element_bytes[1] * rows * cols
    return Read(None, "input", *windows, words, source_extent=(layer["N"], rows, cols))


def _chain_gap(before: Member, layer: Layer, words: int) -> str:
    if before.words != words or before.extent[0] != layer["N"]:
        return "the next row reads other extents than this one makes"
    for window, have, results in zip(_conv_windows(layer), before.extent[1:], (layer["P"], layer["Q"]), strict=True):
        if (have + 2 * window.pad - window.reach) // window.stride + 1 != results:
            return "the next row reads other extents than this one makes"
    return ""


def _conv_windows(layer: Layer) -> tuple[Window, Window]:
    reach = [(kernel - 1) * dilation + 1 for kernel, dilation in ((layer["R"], layer.dilation_p), (layer["S"], layer.dilation_q))]
    return Window(layer.stride_p, layer.pad_p or 0, reach[0]), Window(layer.stride_q, layer.pad_q or 0, reach[1])


def _result_words(layer: Layer) -> int:
    return layer.size("O") * layer.repeat * layer.element_bytes[2]


# Graphs


@dataclass(slots=True)
class _Derivation:
    graph: Graph
    members: dict[str, Member] = field(default_factory=dict)
    maker: dict[str, str] = field(default_factory=dict)
    """Tensor -> the member whose result it is."""

    def run(self) -> dict[str, Member]:
        workload = workload_of(self.graph)
        layers = {layer.name: layer for layer in workload.layers}
        vectors = {vector.name: vector for vector in workload.vector_operators}
        unknown = {operator.name: operator.reason for operator in workload.unsupported}
        for operator in self.graph:
            if operator.name in unknown:
                reads = tuple(self._apart(operator, position, unknown[operator.name]) for position in range(len(operator.inputs)))
                self._take(operator, Member(operator.name, (1, 1, 1), 1, reads=reads, apart=unknown[operator.name]))
            elif operator.name in layers:
                self._take(operator, self._layer(operator, layers[operator.name]))
            elif f"{operator.name}.scores" in layers:
                self._attention(operator, layers, vectors)
            elif operator.type in VIEWS:
                self._pass_on(operator, self.maker.get(operator.inputs[0]))
            elif vectors[operator.name].folded_into is not None:
                self._fold(operator, vectors[operator.name])
            else:
                self._take(operator, self._vector(operator, vectors[operator.name]))
        return self.members

    def _take(self, operator: Operator, member: Member) -> None:
        self.members[member.name] = member
        self._pass_on(operator, member.name)

    def _pass_on(self, operator: Operator, name: str | None) -> None:
        if name is not None:
            self.maker.update(dict.fromkeys(operator.outputs, name))
            self.members[name].is_output |= any(self.graph.tensors[tensor].kind == TensorKind.OUTPUT for tensor in operator.outputs)

    def _source(self, operator: Operator, position: int) -> Member | None:
        name = self.maker.get(operator.inputs[position]) if position < len(operator.inputs) else None
        return self.members[name] if name is not None else None

    def _seen(self, operator: Operator, position: int) -> tuple[int, ...]:
        shapes: Sequence[Sequence[int]] = operator.attributes.get("input_shapes") or ()
        if position < len(shapes):
            return tuple(int(size) for size in shapes[position])
        return self.graph.tensors[operator.inputs[position]].shape or ()

    def _apart(self, operator: Operator, position: int, reason: str) -> Read:
        source = self._source(operator, position)
        return Read(source.name if source is not None else None, "vector", _WHOLE, _WHOLE, 0, by_region=False, apart=reason)

    # Layers

    def _layer(self, operator: Operator, layer: Layer) -> Member:
        is_conv = operator.type in {"Conv", "ConvTranspose"}
        reads = [self._conv_input(operator, layer) if is_conv else self._left(operator, layer)]
        reads += self._right(operator, layer, 1)
        reads += [
            self._apart(operator, position, "a computed bias has no region")
            for position in range(2, len(operator.inputs))
            if self._source(operator, position) is not None
        ]
        extent = (layer["N"], layer["P"], layer["Q"])
        apart = "its kernel moves along three dims" if is_conv and len(self._seen(operator, 0)) == 5 else ""
        return Member(layer.name, extent, _result_words(layer), layer, None, tuple(reads), False, apart, is_conv)

    def _conv_input(self, operator: Operator, layer: Layer) -> Read:
        seen, source = self._seen(operator, 0), self._source(operator, 0)
        size = (1, *seen[2:]) if len(seen) == 3 else seen[2:]
        words = math.prod(seen) * layer.element_bytes[1]
        windows, apart = _conv_windows(layer), ""
        if operator.type == "ConvTranspose":
            windows, apart = _transposed(operator, layer)
        if source is not None and not apart:
            apart = _differs(source, (seen[0], *size), words, channels_first=True)
        extent = (seen[0], size[0], size[1]) if len(size) == 2 else None
        return Read(source.name if source is not None else None, "input", *windows, words, apart=apart, source_extent=extent)

    def _left(self, operator: Operator, layer: Layer) -> Read:
        source, seen = self._source(operator, 0), self._seen(operator, 0)
        words = layer["C"] * layer["P"] * layer.repeat * layer.element_bytes[1]
        apart = _differs(source, (1, layer["P"], 1), words, channels_first=False) if source is not None else ""
        if operator.attributes.get("transA"):
            apart = apart or "the left operand is transposed"
        if "input_shapes" in operator.attributes and len(seen) > 1 and seen[-1] == seen[-2] > 1:
            apart = apart or "the left operand may be transposed by the view it is seen through"
        return Read(source.name if source is not None else None, "input", _SAME, _SAME, words, apart=apart)

    def _right(self, operator: Operator, layer: Layer, position: int) -> list[Read]:
        source = self._source(operator, position)
        words = layer.size("W") * layer.repeat * layer.element_bytes[0]
        return [] if source is None else [Read(source.name, "weight", _WHOLE, _WHOLE, words, by_region=False)]

    def _attention(self, operator: Operator, layers: Mapping[str, Layer], vectors: Mapping[str, VectorOperator]) -> None:
        scores, values = layers[f"{operator.name}.scores"], layers[f"{operator.name}.values"]
        softmax = vectors[f"{operator.name}.softmax"]
        extent = (1, scores["P"], 1)
        words = _result_words(scores)
        reads = (self._left(operator, scores), *self._right(operator, scores, 1))
        self.members[scores.name] = Member(scores.name, extent, words, scores, None, reads, channels_first=False)
        reads = (Read(scores.name, "vector", _SAME, _SAME, words),)
        masks = [position for position in range(3, len(operator.inputs)) if self._source(operator, position) is not None]
        reads += tuple(self._apart(operator, position, "a computed mask has no region") for position in masks)
        self.members[softmax.name] = Member(softmax.name, extent, words, None, softmax, reads, channels_first=False, normalised=scores["K"])
        reads = (Read(softmax.name, "input", _SAME, _SAME, words), *self._right(operator, values, 2))
        extent = (1, values["P"], 1)
        self._take(operator, Member(values.name, extent, _result_words(values), values, None, reads, channels_first=False))

    def _fold(self, operator: Operator, vector: VectorOperator) -> None:
        host = self.members[str(vector.folded_into)]
        makers = [self.maker.get(name) for name in operator.inputs]
        own = makers.index(host.name)
        others = [position for position in range(len(makers)) if position != own]
        reads = []
        for position, words in zip(others, vector.words, strict=True):
            source = self._source(operator, position)
            by_region = words == host.words
            window = _SAME if by_region else _WHOLE
            apart = "its operands lie differently" if source is not None and by_region and source.extent != host.extent else ""
            reads.append(Read(source.name if source is not None else None, "drain", window, window, words, by_region, apart))
        host.reads += tuple(reads)
        self._pass_on(operator, host.name)

    # Vector operators

    def _vector(self, operator: Operator, vector: VectorOperator) -> Member:
        words = sum(vector.words[len(operator.inputs) :])
        shape = self.graph.tensors[operator.outputs[0]].shape if operator.outputs else None
        sources = [source for position in range(len(operator.inputs)) if (source := self._source(operator, position)) is not None]
        like = next((s for s in sources if operator.type in ELEMENTWISE | _ROW_BY_ROW and s.words == words), None)
        first = sources[0].channels_first if sources else len(shape or ()) >= 4
        extent = like.extent if like is not None else _extent(shape or (), channels_first=first)
        first = like.channels_first if like is not None else first
        member = Member(operator.name, extent, words, None, vector, channels_first=first)
        seen, axis = self._seen(operator, 0), int(operator.attributes.get("axis", -1))
        if operator.type == "Softmax" and -len(seen) <= axis < len(seen):
            member.normalised = seen[axis]
        if len(operator.outputs) != 1:
            member.apart = "it has several results"
        if words % math.prod(extent):
            member.extent, member.apart = (1, 1, 1), "its result is no map of positions"
        member.reads = tuple(
            self._vector_read(operator, member, position, words) for position, words in enumerate(self._operands(operator, vector))
        )
        return member

    def _operands(self, operator: Operator, vector: VectorOperator) -> tuple[int, ...]:
        return vector.words[: len(operator.inputs)]

    def _vector_read(self, operator: Operator, member: Member, position: int, words: int) -> Read:
        source = self._source(operator, position)
        if source is None:
            same = operator.type in ELEMENTWISE and words == member.words
            window = _SAME if same else _WHOLE
            follows = position == 0 and words and self.graph.tensors[operator.inputs[0]].kind != TensorKind.PARAMETER
            if follows and not same and self._windows(operator, member, None) != (_SAME, _SAME):
                member.apart = member.apart or "it reads the network's input by windows"
            elif follows and not same:
                return Read(None, "vector", _SAME, _SAME, words)
            return Read(None, "vector", window, window, words, same)
        windows = self._windows(operator, member, source)
        if windows is None:
            member.apart = member.apart or f"{operator.type} has no rule for regions"
            return Read(source.name, "vector", _WHOLE, _WHOLE, words, by_region=False, apart=member.apart)
        apart = ""
        if source.extent[0] != member.extent[0] or source.words != words or source.channels_first != member.channels_first:
            apart = "the operand is seen in another shape than it is made in"
        if windows == (_SAME, _SAME) and source.extent != member.extent:
            apart = "the operand is seen in another shape than it is made in"
        return Read(source.name, "vector", *windows, words, windows != (_WHOLE, _WHOLE), apart)

    def _windows(self, operator: Operator, member: Member, source: Member | None) -> tuple[Window, Window] | None:
        kind = operator.type
        if kind in _POOLS:
            return _pool(operator) if member.channels_first else None
        if kind in ELEMENTWISE:
            spread = source is not None and source.extent != member.extent and source.extent[1:] == (1, 1)
            return (_WHOLE, _WHOLE) if spread else (_SAME, _SAME)
        if kind == "Concat" or kind in _ROW_BY_ROW:
            return (_SAME, _SAME) if self._keeps_positions(operator, member) else None
        gathers = kind in _REDUCTIONS and member.extent[1:] == (1, 1) and member.channels_first
        return (_WHOLE, _WHOLE) if kind in _GLOBAL or gathers else None

    def _keeps_positions(self, operator: Operator, member: Member) -> bool:
        """Whether an operator works along the channels, or features, of each position by itself."""
        rank = len(self._seen(operator, 0))
        axis = operator.attributes.get("axis", None if operator.type == "Concat" else -1)
        return axis is not None and rank > 0 and int(axis) % rank == (1 if member.channels_first else rank - 1)


def _differs(source: Member, extent: tuple[int, ...], words: int, *, channels_first: bool) -> str:
    if source.extent != extent or source.words != words:
        return "the operand is seen in another shape than it is made in"
    if source.channels_first != channels_first and math.prod(extent) > 1:
        return "one lies channels first, the other features last"
    return ""


def _extent(shape: Sequence[int], *, channels_first: bool) -> Extent:
    if channels_first and len(shape) in {2, 3, 4}:
        rows, cols = {2: (1, 1), 3: (1, shape[-1]), 4: (shape[-2], shape[-1])}[len(shape)]
        return shape[0], rows, cols
    if not channels_first and len(shape) in {2, 3}:
        return 1, math.prod(shape[:-1]), 1
    return 1, 1, 1


def _pool(operator: Operator) -> tuple[Window, Window] | None:
    attributes = operator.attributes
    kernel = attributes.get("kernel_shape") or ()
    if len(kernel) not in {1, 2} or attributes.get("auto_pad") not in {None, "", "NOTSET"}:
        return None
    ones = [1] * len(kernel)
    strides, dilations = attributes.get("strides") or ones, attributes.get("dilations") or ones
    pads = attributes.get("pads") or [0] * 2 * len(kernel)
    windows = [Window(int(s), int(pad), (int(k) - 1) * int(d) + 1) for k, s, d, pad in zip(kernel, strides, dilations, pads, strict=False)]
    if any(window.pad >= window.reach for window in windows):
        return None
    return (windows[0], windows[1]) if len(windows) == 2 else (_SAME, windows[0])


def _transposed(operator: Operator, layer: Layer) -> tuple[tuple[Window, Window], str]:
    """Return the windows of a transposed convolution over its input: what makes the stride * stride results of one input position.

    Result o takes input i where 0 <= o + pad - i * stride < kernel; o runs over one block of `stride` results.
    """
    attributes = operator.attributes
    strides, pads = attributes.get("strides") or (), attributes.get("pads") or (0, 0, 0, 0)
    kernel = attributes.get("kernel_shape") or [taps * int(stride) for taps, stride in zip((layer["R"], layer["S"]), strides, strict=False)]
    if len(strides) != 2 or len(kernel) != 2 or len(pads) != 4 or attributes.get("auto_pad") not in {None, "", "NOTSET"}:
        return (_SAME, _SAME), "the windows of this transposed convolution are not known"
    windows, apart = [], ""
    for axis, taps in enumerate((layer["R"], layer["S"])):
        k, stride, pad = int(kernel[axis]), int(strides[axis]), int(pads[axis])
        first, last = -((k - 1 - pad) // stride), (stride - 1 + pad) // stride
        if last - first + 1 > taps or first > 0:
            apart = "its phases need more taps than are counted"
        windows.append(Window(1, -first, last - first + 1))
    return (windows[0], windows[1]), apart
