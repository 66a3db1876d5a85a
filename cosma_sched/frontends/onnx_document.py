"""An ONNX file as a checked document: decoded without its weights, its names and order sound, no control flow, dead nodes left out.

The ONNX library decodes files that are empty, cut short, cyclic or define a name twice; what is wrong with them is said here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from cosma_sched.errors import Defect, InputError, shown

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto

MAX_MODEL_BYTES = 2**31 - 1
"""No protobuf file is larger."""

MAX_VALUES = 1024
"""Elements of the largest constant whose values matter (shapes, axes, indices); larger ones are weights and are never read."""

_CONTROL_FLOW = {"If", "Loop", "Scan", "SequenceMap"}
_DATA_FIELDS = ("raw_data", "float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the file under a name that is unique and never empty; `domain` is empty for ONNX's own operators."""

    name: str
    type: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    proto: NodeProto

    @property
    def place(self) -> str:
        """How error messages name the node."""
        return f"node {shown(self.name)} ({self.type})"


@dataclass(frozen=True, slots=True)
class Document:
    """What the reader needs of a file.

    Parameters
    ----------
    nodes
        Nodes that some graph output depends on, in the order of the file.
    opsets
        Version of each operator set by domain.
    inputs
        Declared types of the graph inputs that are no initializers, by name.
    outputs
        Names of the graph outputs.
    initializers
        Initializers by name; large ones hold dimensions and type only.
    declared
        Types that the file states for outputs and intermediate tensors, by name.
    stored_at
        Other files in which it keeps initializers, as it names them.
    without_values
        Initializers whose values are nowhere.
    """

    nodes: tuple[Node, ...]
    opsets: Mapping[str, int]
    inputs: Mapping[str, TypeProto]
    outputs: tuple[str, ...]
    initializers: Mapping[str, TensorProto]
    declared: Mapping[str, TypeProto]
    stored_at: tuple[str, ...] = ()
    without_values: tuple[str, ...] = ()


def read_document(path: str, content: bytes, *, kept_functions: frozenset[str] = frozenset()) -> Document:
    """Decode and check an ONNX file.

    Parameters
    ----------
    path, content
        The file.
    kept_functions
        Names of functions whose calls stay operators; all others that the file defines are written out.

    Raises
    ------
    InputError
        If the content is no ONNX model, or with every unsound name, order and control flow node.
    """
    model = _decode(path, content)
    stored_at, without_values = _missing_values(model)
    for tensor in _weights(model):
        _forget(tensor)
    if model.functions:
        model = _without_functions(path, model, kept_functions)
    opsets = {_domain(entry.domain): entry.version for entry in model.opset_import}
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    initializers |= {tensor.values.name: _dense(tensor) for tensor in graph.sparse_initializer}
    nodes = _nodes(graph)
    defects = [*_form_defects(opsets, graph), *_control_flow_defects(nodes), *_name_defects(graph, nodes, initializers)]
    if defects:
        raise InputError(path, defects)
    outputs = tuple(value.name for value in graph.output)
    return Document(
        nodes=_live(nodes, outputs),
        opsets=opsets,
        inputs={value.name: value.type for value in graph.input if value.name not in initializers},
        outputs=outputs,
        initializers=initializers,
        declared={value.name: value.type for value in (*graph.value_info, *graph.output) if value.type.WhichOneof("value")},
        stored_at=stored_at,
        without_values=without_values,
    )


def _decode(path: str, content: bytes) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    if not content:
        raise InputError(path, "is empty")
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise InputError(path, "is no ONNX file, or is truncated or damaged: it cannot be decoded") from error
    if not model.graph.node and not model.graph.output:
        raise InputError(path, "holds no network; it is no ONNX file, or is truncated or damaged")
    if any(isinstance(word, bytes) for word in _words(model)):  # what the library makes of names that are no UTF-8
        raise InputError(path, "holds names that are not UTF-8; it is damaged")
    return model


def _words(model: ModelProto) -> Iterator[str | bytes]:
    """Yield every name of the file."""
    graph = model.graph
    for node in (*graph.node, *(node for function in model.functions for node in function.node)):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for value in (*graph.input, *graph.output, *graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in graph.initializer)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)
    yield from (entry.domain for entry in model.opset_import)


def _weights(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor that the file may carry values for."""
    yield from model.graph.initializer
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        for node in nodes:
            if node.op_type == "Constant":
                yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _forget(tensor: TensorProto) -> None:
    if math.prod(tensor.dims) > MAX_VALUES:
        for field in _DATA_FIELDS:
            tensor.ClearField(field)


def _missing_values(model: ModelProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the files in which initializers are stored, and the initializers that hold no values."""
    from onnx import TensorProto

    places: dict[str, None] = {}
    empty = []
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            places.update((entry.value, None) for entry in tensor.external_data if entry.key == "location")
        elif math.prod(tensor.dims) and not any(len(getattr(tensor, field)) for field in _DATA_FIELDS):
            empty.append(tensor.name)
    return tuple(places), tuple(empty)


def _without_functions(path: str, model: ModelProto, kept: frozenset[str]) -> ModelProto:
    """Write the bodies of the file's own functions in place of their calls."""
    from onnx import checker, inliner, shape_inference

    try:
        ids = [(function.domain, function.name) for function in model.functions if function.name in kept]
        return inliner.inline_selected_functions(model, ids, exclude=True) if ids else inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, checker.ValidationError, shape_inference.InferenceError) as error:
        raise InputError(path, f"its local functions cannot be inlined: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _dense(sparse: object) -> TensorProto:
    """Return the tensor that a sparse initializer stands for, without values."""
    from onnx import TensorProto

    return TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)  # type: ignore[attr-defined]


def _nodes(graph: GraphProto) -> tuple[Node, ...]:
    """Give every node a unique name: its own, else that of its first output; a name that is taken gets the output's added."""
    taken: set[str] = {node.name for node in graph.node}
    used: set[str] = set()
    nodes = []
    for proto in graph.node:
        output = next((name for name in proto.output if name), "node")
        name = proto.name
        if not name or name in used:
            stem = candidate = f"{name}:{output}" if name else output
            number = 2
            while candidate in used or candidate in taken:
                candidate, number = f"{stem}:{number}", number + 1
            name = candidate
        used.add(name)
        nodes.append(Node(name, proto.op_type, _domain(proto.domain), tuple(proto.input), tuple(proto.output), proto))
    return tuple(nodes)


def _live(nodes: Sequence[Node], outputs: Sequence[str]) -> tuple[Node, ...]:
    """Keep the nodes that some graph output depends on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if any(name in wanted for name in node.outputs if name):
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


def _form_defects(opsets: Mapping[str, int], graph: GraphProto) -> Iterator[Defect]:
    if not graph.output:
        yield Defect("", "has no graph outputs; it is truncated or damaged")
    if not opsets:
        yield Defect("opset_import", "names no operator set version; the file is truncated or damaged")


def _control_flow_defects(nodes: Sequence[Node]) -> Iterator[Defect]:
    for node in nodes:
        has_body = any(attribute.HasField("g") or len(attribute.graphs) for attribute in node.proto.attribute)
        if has_body or (not node.domain and node.type in _CONTROL_FLOW):
            yield Defect(node.place, "is control flow, which has no fixed list of operators; export the network without it")


def _name_defects(graph: GraphProto, nodes: Sequence[Node], initializers: Mapping[str, TensorProto]) -> Iterator[Defect]:
    """Yield what is defined twice, read but never defined, or read before it is written."""
    yield from _repeated("input", [value.name for value in graph.input])
    yield from _repeated("initializer", [tensor.name for tensor in graph.initializer])
    given = {value.name for value in graph.input} | set(initializers)
    producers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.outputs):
            if name in given:
                yield Defect(node.place, f"writes {shown(name)}, which is an input or initializer of the graph")
            if name in producers:
                yield Defect(node.place, f"writes {shown(name)}, which {nodes[producers[name]].place} writes too")
            producers.setdefault(name, index)
    yield from _order_defects(nodes, given, producers)
    for value in graph.output:
        if value.name not in producers and value.name not in given:
            yield Defect(f"output {shown(value.name)}", "no node writes it")


def _repeated(what: str, names: Sequence[str]) -> Iterator[Defect]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield Defect(f"{what} {shown(name)}", "stands twice; names must be unique")
        seen.add(name)


def _order_defects(nodes: Sequence[Node], given: set[str], producers: Mapping[str, int]) -> Iterator[Defect]:
    """Yield what no node writes, and a cycle if there is one, else every node that reads what a later one writes."""
    late: list[Defect] = []
    edges: nx.DiGraph[int] = nx.DiGraph()
    for index, node in enumerate(nodes):
        for name in dict.fromkeys(filter(None, node.inputs)):
            source = producers.get(name)
            if source is None:
                if name not in given:
                    yield Defect(node.place, f"reads {shown(name)}, which nothing in the file defines")
                continue
            edges.add_edge(source, index)
            if source >= index and name not in given:
                problem = f"reads {shown(name)}, which {nodes[source].place} writes later; nodes must stand in topological order"
                late.append(Defect(node.place, problem))
    if not late:
        return
    try:
        cycle = [nodes[edge[0]].name for edge in nx.find_cycle(edges)]
    except nx.NetworkXNoCycle:
        yield from late
    else:
        yield Defect("nodes", f"form a cycle: {' -> '.join(shown(name) for name in [*cycle, cycle[0]])}")
