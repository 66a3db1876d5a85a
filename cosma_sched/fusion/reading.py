"""From a graph, or a layer table, to the nodes that are fused: who reads what by which window, and where a rule is missing.

Layers and vector operators are those of the mapping planner; here each gets its operands. Where an operand's extents are not those of its
producer's map (a reshape, a crop, an upsampling), or an operator has no rule for regions, fusion stops, and the reason is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import networkx as nx

from cosma_sched.fusion.problem import CHANNELS_FIRST, FEATURES_LAST, SAME, FusionProblem, Node, Operand, Window
from cosma_sched.graph import Graph, TensorKind
from cosma_sched.graph import Operator as GraphOperator
from cosma_sched.mapping.extract import ELEMENTWISE, VIEWS, workload_of
from cosma_sched.mapping.layer import Layer, Unsupported, VectorOperator, Workload

_POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
_WHOLE = frozenset({"GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "InstanceNormalization", "GroupNormalization"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2"})
_ALONG_FEATURES = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization", "SkipLayerNormalization"})

Extent = tuple[int, int, int]


@dataclass(slots=True)
class _Reading:
    graph: Graph
    layers: dict[str, Layer]
    vectors: dict[str, VectorOperator]
    unsupported: dict[str, Unsupported]
    nodes: list[Node] = field(default_factory=list)
    made: dict[str, int] = field(default_factory=dict)
    """Tensor -> node whose result it is, or looks at."""
    place: dict[str, int] = field(default_factory=dict)
    """Layer or vector operator -> node."""

    def shape(self, operator: GraphOperator, position: int) -> tuple[int, ...]:
        """Return the shape in which an operator sees an operand; empty where it is unknown."""
        seen = operator.attributes.get("input_shapes")
        if seen is not None and position < len(seen):
            return tuple(int(size) for size in seen[position])
        return self.graph.tensors[operator.inputs[position]].shape or ()

    def producer(self, operator: GraphOperator, position: int) -> int | None:
        """Return the node whose result an operand is, if any."""
        return self.made.get(operator.inputs[position]) if position < len(operator.inputs) else None

    def add(self, name: str, node: Node, outputs: Sequence[str]) -> None:
        """Take in a node."""
        self.place[name] = len(self.nodes)
        self.made.update(dict.fromkeys(outputs, len(self.nodes)))
        self.nodes.append(node)

    def is_output(self, names: Sequence[str]) -> bool:
        """Return whether one of some tensors is a result of the network."""
        return any(self.graph.tensors[name].kind == TensorKind.OUTPUT for name in names)


def fusion_problem(graph: Graph, *, charged: bool = False) -> FusionProblem:
    """Read the fusion graph of a network.

    Parameters
    ----------
    graph
        With shapes.
    charged
        Charge vector operators.

    Raises
    ------
    InputError
        As `workload_of`.
    """
    workload = workload_of(graph, charged=True)
    reading = _Reading(
        graph,
        {layer.name: layer for layer in workload.layers},
        {vector.name: vector for vector in workload.vector_operators},
        {operator.name: operator for operator in workload.unsupported},
    )
    for operator in graph:
        _read(reading, operator)
    nodes = [node if charged else _uncharged(node) for node in reading.nodes]
    return FusionProblem(graph.name, _in_order(nodes), charged, workload.remarks, workload.unsupported, workload.origin)


def _in_order(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """Return the nodes in a topological order near the given one: an operand of a drain may be made after the layer that it joins."""
    digraph: nx.DiGraph[int] = nx.DiGraph()
    digraph.add_nodes_from(range(len(nodes)))
    digraph.add_edges_from((producer, index) for index, node in enumerate(nodes) for producer in node.producers)
    order = list(nx.lexicographical_topological_sort(digraph))
    place = {index: position for position, index in enumerate(order)}
    return tuple(replace(nodes[index], operands=tuple(_moved(operand, place) for operand in nodes[index].operands)) for index in order)


def _moved(operand: Operand, place: Mapping[int, int]) -> Operand:
    return operand if operand.producer is None else replace(operand, producer=place[operand.producer])


def _uncharged(node: Node) -> Node:
    return replace(node, layer=replace(node.layer, drain_words=())) if node.layer is not None else node


def _read(reading: _Reading, operator: GraphOperator) -> None:
    name = operator.name
    if name in reading.unsupported:
        operands = tuple(_apart(reading, operator, position, "it has no loops that are known") for position in range(len(operator.inputs)))
        node = Node(name, operator.type, (1, 1, 1), 1, vector=VectorOperator(name, operator.type), operands=operands)
        reading.add(name, replace(node, barrier=reading.unsupported[name].reason), operator.outputs)
    elif name in reading.layers:
        _read_layer(reading, operator, reading.layers[name])
    elif f"{name}.scores" in reading.layers:
        _read_attention(reading, operator)
    elif operator.type in VIEWS:
        source = reading.producer(operator, 0)
        if source is not None:
            reading.made.update(dict.fromkeys(operator.outputs, source))
            if reading.is_output(operator.outputs):
                reading.nodes[source] = replace(reading.nodes[source], is_output=True)
    elif reading.vectors[name].folded_into is not None:
        _fold(reading, operator, reading.vectors[name])
    else:
        _read_vector(reading, operator, reading.vectors[name])


def _apart(reading: _Reading, operator: GraphOperator, position: int, reason: str) -> Operand:
    words = reading.graph.tensors[operator.inputs[position]].size_bytes
    return Operand("vector", reading.producer(operator, position), words, None, None, False, reason)


def _fold(reading: _Reading, operator: GraphOperator, vector: VectorOperator) -> None:
    """Let an element-wise operator's further operands join the layer in whose drain it runs."""
    host = reading.place[str(vector.folded_into)]
    node = reading.nodes[host]
    own = [position for position in range(len(operator.inputs)) if reading.made.get(operator.inputs[position]) == host]
    rest = [position for position in range(len(operator.inputs)) if position not in own[:1]]
    operands = []
    for position, words in zip(rest, vector.words, strict=True):
        producer = reading.producer(operator, position)
        regional = words == node.words
        barrier = None
        if producer is not None and regional and reading.nodes[producer].extent != node.extent:
            barrier = "the operands of the element-wise operator between them lie differently"
        window = SAME if regional else None
        operands.append(Operand("drain", producer, words, window, window, regional, barrier))
    is_output = node.is_output or reading.is_output(operator.outputs)
    reading.nodes[host] = replace(node, operands=(*node.operands, *operands), is_output=is_output)
    reading.made.update(dict.fromkeys(operator.outputs, host))


# Layers


def _read_layer(reading: _Reading, operator: GraphOperator, layer: Layer) -> None:
    is_conv = operator.type in {"Conv", "ConvTranspose"}
    layout = CHANNELS_FIRST if is_conv else FEATURES_LAST
    operand, barrier = _conv_input(reading, operator, layer) if is_conv else _product_input(reading, operator, layer)
    operands = [operand]
    weight = reading.producer(operator, 1)
    if weight is not None:
        operands.append(_right_operand(layer, weight))
    # a computed bias and the like: rare, and read before the layer starts
    others = [position for position in range(2, len(operator.inputs)) if reading.producer(operator, position) is not None]
    operands += [replace(_apart(reading, operator, position, "it is an operand that has no region"), words=0) for position in others]
    reading.add(layer.name, _layer_node(reading, layer, operator, tuple(operands), layout, barrier), operator.outputs)


def _layer_node(
    reading: _Reading, layer: Layer, operator: GraphOperator, operands: tuple[Operand, ...], layout: str, barrier: str | None
) -> Node:
    extent = (layer["N"], layer["P"], layer["Q"])
    words = layer.size("O") * layer.repeat * layer.element_bytes[2]
    is_output = reading.is_output(operator.outputs)
    return Node(layer.name, operator.type, extent, words, layer, None, operands, is_output, barrier, layout)


def _right_operand(layer: Layer, producer: int) -> Operand:
    words = layer.size("W") * layer.repeat * layer.element_bytes[0]
    return Operand("weight", producer, words, None, None, False)


def _conv_input(reading: _Reading, operator: GraphOperator, layer: Layer) -> tuple[Operand, str | None]:
    shape, producer = reading.shape(operator, 0), reading.producer(operator, 0)
    spatial = len(shape) - 2
    size = (1, *shape[2:]) if spatial == 1 else shape[2:]
    barrier = "its kernel moves along three dims" if spatial == 3 else None
    if operator.type == "ConvTranspose":
        rows, columns, problem = _transposed_windows(operator, layer, size)
        barrier = barrier or problem
    else:
        rows = Window(layer["R"], layer.stride_p, layer.pad_p or 0, layer.dilation_p)
        columns = Window(layer["S"], layer.stride_q, layer.pad_q or 0, layer.dilation_q)
    if any(window.pad >= window.reach for window in (rows, columns)):
        barrier = barrier or "its padding covers a whole window"
    words = math.prod(shape) * layer.element_bytes[1]
    apart = _mismatch(reading, producer, (shape[0], *size), words, CHANNELS_FIRST)
    extent = (shape[0], size[0], size[1]) if producer is None and len(size) == 2 else None
    return Operand("input", producer, words, rows, columns, True, apart, extent), barrier


def _transposed_windows(operator: GraphOperator, layer: Layer, size: Sequence[int]) -> tuple[Window, Window, str | None]:
    """Return the windows of a transposed convolution over its input: what the phases of one input position need."""
    kernel, stride = (list(operator.attributes.get(name) or ()) for name in ("kernel_shape", "strides"))
    pads = list(operator.attributes.get("pads") or [0] * 4)
    if operator.attributes.get("auto_pad") not in (None, "", "NOTSET") or len(size) != 2 or len(stride) != 2 or len(pads) != 4:
        return SAME, SAME, "the windows of this transposed convolution are not known"
    windows, problem = [], None
    taps = (layer["R"], layer["S"])
    for axis in range(2):
        k, s, pad = int(kernel[axis]) if kernel else taps[axis] * int(stride[axis]), int(stride[axis]), int(pads[axis])
        before, after = (k - 1 - pad) // s, (s - 1 + pad) // s
        if before + after + 1 > taps[axis] or before < 0:
            problem = "its phases need more taps than are counted"
        windows.append(Window(max(1, before + after + 1), 1, max(0, before)))
    return windows[0], windows[1], problem


def _product_input(reading: _Reading, operator: GraphOperator, layer: Layer) -> tuple[Operand, str | None]:
    producer = reading.producer(operator, 0)
    words = layer["C"] * layer["P"] * layer.repeat * layer.element_bytes[1]
    barrier = _mismatch(reading, producer, (1, layer["P"], 1), words, FEATURES_LAST)
    if operator.attributes.get("transA"):
        barrier = "the left operand is transposed"
    shape = reading.shape(operator, 0)
    if barrier is None and "input_shapes" in operator.attributes and producer is not None:
        if len(shape) > 1 and 1 < shape[-1] == shape[-2]:
            barrier = "a square operand that is seen through a view may be transposed"
        elif layer.repeat == layer["P"] > 1:
            barrier = "repetitions and rows of an operand that is seen through a view may have changed places"
    return Operand("input", producer, words, SAME, SAME, True, barrier), None


def _mismatch(reading: _Reading, producer: int | None, extent: tuple[int, ...], words: int, layout: str) -> str | None:
    """Return why a region of an operand is no region of its producer's map, or None."""
    if producer is None:
        return None
    node = reading.nodes[producer]
    if node.extent != extent or node.words != words:
        return "the operand is seen in another shape than it is made in"
    if node.layout != layout and math.prod(extent) > 1:
        return "one lies channels first, the other features last"
    return None


def _read_attention(reading: _Reading, operator: GraphOperator) -> None:
    """Read one attention as scores, softmax and values."""
    scores, values = (reading.layers[f"{operator.name}.{part}"] for part in ("scores", "values"))
    operand, _ = _product_input(reading, operator, scores)
    operands = [operand, *(_right_operand(scores, key) for key in [reading.producer(operator, 1)] if key is not None)]
    node = replace(_layer_node(reading, scores, operator, tuple(operands), FEATURES_LAST, None), is_output=False)
    reading.add(scores.name, node, ())
    softmax = reading.vectors[f"{operator.name}.softmax"]
    masks = [position for position in range(3, len(operator.inputs)) if reading.producer(operator, position) is not None]
    inside = [Operand("vector", reading.place[scores.name], node.words)]
    inside += [replace(_apart(reading, operator, position, "a computed mask has no region"), words=0) for position in masks]
    reading.add(
        softmax.name,
        Node(softmax.name, "Softmax", node.extent, node.words, None, softmax, tuple(inside), layout=FEATURES_LAST, features=scores["K"]),
        (),
    )
    operands = [Operand("input", reading.place[softmax.name], node.words)]
    operands += [_right_operand(values, value) for value in [reading.producer(operator, 2)] if value is not None]
    reading.add(values.name, _layer_node(reading, values, operator, tuple(operands), FEATURES_LAST, None), operator.outputs)


# Vector operators


def _read_vector(reading: _Reading, operator: GraphOperator, vector: VectorOperator) -> None:
    tensor = reading.graph.tensors[operator.outputs[0]] if operator.outputs else None
    words = vector.words[len(operator.inputs) :]
    layout, extent = _vector_extent(reading, operator, tensor.shape if tensor is not None else None, sum(words))
    barrier = "it has several results" if len(operator.outputs) != 1 else None
    operands = []
    for position, read in enumerate(vector.words[: len(operator.inputs)]):
        operand, problem = _vector_operand(reading, operator, position, read, extent, layout)
        operands.append(operand)
        barrier = barrier or problem
    if sum(words) % math.prod(extent):
        extent, barrier = (1, 1, 1), barrier or "its result is no map of positions"
    is_output = reading.is_output(operator.outputs)
    features = _normalised(reading, operator)
    node = Node(vector.name, operator.type, extent, sum(words), None, vector, tuple(operands), is_output, barrier, layout, features)
    reading.add(vector.name, node, operator.outputs)


def _normalised(reading: _Reading, operator: GraphOperator) -> int | None:
    """Return how many elements a softmax normalises together; None for another operator."""
    shape, axis = reading.shape(operator, 0), int(operator.attributes.get("axis", -1))
    return shape[axis] if operator.type == "Softmax" and -len(shape) <= axis < len(shape) else None


def _vector_extent(reading: _Reading, operator: GraphOperator, shape: tuple[int, ...] | None, words: int) -> tuple[str, Extent]:
    """Return how a vector operator's result lies: as the operand of the same size where that is known, else as its shape says."""
    layouts = []
    for position in range(len(operator.inputs)):
        producer = reading.producer(operator, position)
        if producer is not None:
            node = reading.nodes[producer]
            layouts.append(node.layout)
            if operator.type in ELEMENTWISE | _ALONG_FEATURES and node.words == words:
                return node.layout, node.extent
    layout = layouts[0] if layouts else (CHANNELS_FIRST if len(shape or ()) >= 4 else FEATURES_LAST)
    if not shape or len(shape) < 2 or len(shape) > 4 or (layout == FEATURES_LAST and len(shape) > 3):
        return layout, (1, 1, 1)
    if layout == FEATURES_LAST or len(shape) == 2:
        return layout, ((shape[0], 1, 1) if layout == CHANNELS_FIRST else (1, math.prod(shape[:-1]), 1))
    return layout, (shape[0], 1, shape[2]) if len(shape) == 3 else (shape[0], shape[2], shape[3])


def _vector_operand(
    reading: _Reading, operator: GraphOperator, position: int, words: int, extent: Extent, layout: str
) -> tuple[Operand, str | None]:
    producer = reading.producer(operator, position)
    whole = Operand("vector", producer, words, None, None, False)
    source = reading.nodes[producer] if producer is not None else None
    if source is None and (position > 0 or words == 0 or reading.graph.tensors[operator.inputs[position]].kind == TensorKind.PARAMETER):
        same = operator.type in ELEMENTWISE and words == _result_words(reading, operator)
        return (replace(whole, rows=SAME, columns=SAME, regional=True) if same else whole), None
    windows = _windows(reading, operator, source, extent, layout)
    if windows is None:
        return whole, f"{operator.type} has no rule for regions"
    (rows, columns), regional = windows
    if regional and words % math.prod(source.extent if source is not None else extent):
        return whole, "its operand is no map of positions"
    operand = replace(whole, rows=rows, columns=columns, regional=regional)
    if source is None:
        return operand, None if regional and rows == columns == SAME else "it reads the network's input by windows"
    same_place = rows == SAME and columns == SAME and source.extent != extent
    differs = source.extent[0] != extent[0] or source.words != words or same_place or source.layout != layout
    return replace(operand, barrier="the operand is seen in another shape than it is made in" if differs else None), None


def _result_words(reading: _Reading, operator: GraphOperator) -> int:
    return sum(reading.graph.tensors[name].size_bytes for name in operator.outputs)


def _windows(
    reading: _Reading, operator: GraphOperator, source: Node | None, extent: Extent, layout: str
) -> tuple[tuple[Window | None, Window | None], bool] | None:
    """Return the windows of a vector operator's operand and whether they are regional; None where there is no rule."""
    kind = operator.type
    if kind in _POOLS and layout == CHANNELS_FIRST:
        pools = _pool_windows(operator)
        return None if pools is None else (pools, True)
    if kind in ELEMENTWISE:
        broadcast = source is not None and source.extent != extent and source.extent[1:] == (1, 1)
        return ((None, None), False) if broadcast else ((SAME, SAME), True)
    axis = operator.attributes.get("axis", {"Concat": None}.get(kind, -1))
    rank = len(reading.shape(operator, 0))
    along = axis in {1, 1 - rank} if layout == CHANNELS_FIRST else axis in {-1, rank - 1}
    if kind == "Concat" or kind in _ALONG_FEATURES:
        return ((SAME, SAME), True) if along else None
    is_reduced = extent[1:] == (1, 1) and layout == CHANNELS_FIRST
    if kind in _WHOLE or (kind in _REDUCTIONS and is_reduced):
        return (None, None), False
    return None


def _pool_windows(operator: GraphOperator) -> tuple[Window, Window] | None:
    attributes = operator.attributes
    kernel = [int(size) for size in attributes.get("kernel_shape") or ()]
    strides = [int(size) for size in attributes.get("strides") or [1] * len(kernel)]
    dilations = [int(size) for size in attributes.get("dilations") or [1] * len(kernel)]
    pads = [int(size) for size in attributes.get("pads") or [0] * 2 * len(kernel)]
    if len(kernel) not in {1, 2} or attributes.get("auto_pad") not in (None, "", "NOTSET"):
        return None
    windows = [Window(k, s, pad, d) for k, s, pad, d in zip(kernel, strides, pads, dilations, strict=False)]
    if any(window.pad >= window.reach for window in windows):
        return None
    return (windows[0], windows[1]) if len(windows) == 2 else (SAME, windows[0])


# Tables


def chain_problem(workload: Workload, *, chain: bool = True) -> FusionProblem:
    """Return the fusion graph of a layer table: a chain in row order, or layers without edges.

    Parameters
    ----------
    workload
        The layers.
    chain
        Each layer reads the one before it where the extents agree.
    """
    nodes: list[Node] = []
    for index, layer in enumerate(workload.layers):
        words = layer.size("O") * layer.repeat * layer.element_bytes[2]
        read = layer["N"] * layer["C"] * layer.repeat * layer.element_bytes[1]
        rows = Window(layer["R"], layer.stride_p, layer.pad_p or 0, layer.dilation_p)
        columns = Window(layer["S"], layer.stride_q, layer.pad_q or 0, layer.dilation_q)
        producer = index - 1 if chain and index else None
        problem = None if producer is None else _chain_mismatch(nodes[-1], layer, rows, columns)
        words_read = read * math.prod(nodes[-1].extent[1:]) if producer is not None else read * math.prod(layer.input_extent)
        inner = (layer["N"], layer.input_extent[0] - 2 * rows.pad, layer.input_extent[1] - 2 * columns.pad)
        operand = Operand("input", producer, words_read, rows, columns, True, problem, inner if producer is None else None)
        alone = "it stands several times in the table, so its neighbours are not known" if layer.count > 1 else None
        if any(window.pad >= window.reach for window in (rows, columns)):
            alone = alone or "its padding covers a whole window"
        nodes.append(Node(layer.name, "Layer", (layer["N"], layer["P"], layer["Q"]), words, layer, None, (operand,), False, alone))
    nodes = [replace(node, is_output=not chain or index == len(nodes) - 1) for index, node in enumerate(nodes)]
    return FusionProblem(workload.name, tuple(nodes), False, (*workload.remarks, *_table_remarks(chain)), (), workload.origin)


def _table_remarks(chain: bool) -> Iterator[str]:
    if chain:
        yield "a layer table has no topology: its rows are taken as a chain, and paddings not given as (kernel - 1) // 2"
    else:
        yield "the rows of the layer table are taken as layers without neighbours"


def _chain_mismatch(before: Node, layer: Layer, rows: Window, columns: Window) -> str | None:
    if before.extent[0] != layer["N"]:
        return "their batches differ"
    channels = layer["C"] * layer.repeat * layer.element_bytes[1]
    if before.position_words != channels:
        return f"one makes {before.position_words} words at each position, the other reads {channels}"
    for extent, window, results in ((before.extent[1], rows, layer["P"]), (before.extent[2], columns, layer["Q"])):
        if results != (extent + 2 * window.pad - window.reach) // window.stride + 1:
            return f"{results} results do not come from {extent} rows or columns with this window"
    return None
