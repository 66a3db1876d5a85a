"""The network as every planner sees it: operators and tensors over one `networkx.DiGraph`.

The digraph is bipartite. Its nodes are ``("operator", name)`` and ``("tensor", name)``; an edge runs from a tensor to each operator that
reads it and from an operator to each tensor it writes. Operators keep the order in which they were given, which must be topological.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from operator import index as exact_int
from types import MappingProxyType
from typing import Any

import networkx as nx

from cosma_sched._buffer import Buffer, BufferGap
from cosma_sched.errors import Defect, InputError, shown, suggestion
from cosma_sched.files import decode_json, encode_json, sha256, validation_defects

__all__ = ["SCHEMA", "Buffer", "BufferGap", "Graph", "Operator", "Origin", "Tensor", "TensorKind"]

SCHEMA = "cosma-sched/graph/1"


class TensorKind(StrEnum):
    """Where a tensor comes from and whether it must reach DRAM."""

    INPUT = "input"
    OUTPUT = "output"
    PARAMETER = "parameter"
    ACTIVATION = "activation"

    @property
    def is_produced(self) -> bool:
        """True where an operator of the graph writes the tensor; inputs and parameters come from DRAM."""
        return self in {TensorKind.OUTPUT, TensorKind.ACTIVATION}


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor: a name, a size and a kind; shape and dtype where they are known.

    Parameters
    ----------
    name
        Unique among the tensors of a graph.
    size_bytes
        Bytes it occupies, > 0.
    kind
        ``input``, ``output``, ``parameter`` or ``activation``.
    shape, dtype
        Dimensions and element type such as ``int8``, or None.
    """

    name: str
    size_bytes: int
    kind: TensorKind = TensorKind.ACTIVATION
    shape: tuple[int, ...] | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.kind in list(TensorKind):
            object.__setattr__(self, "kind", TensorKind(self.kind))  # a plain "input" reads better in user code
        if hasattr(self.size_bytes, "__index__") and not isinstance(self.size_bytes, bool):
            object.__setattr__(self, "size_bytes", exact_int(self.size_bytes))  # numpy integers, as digraphs often hold them

    def to_json(self) -> dict[str, Any]:
        """Return the tensor as one entry of ``tensors`` of a graph document."""
        entry: dict[str, Any] = {"name": self.name, "size_bytes": self.size_bytes, "kind": str(self.kind)}
        if self.shape is not None:
            entry["shape"] = list(self.shape)
        if self.dtype is not None:
            entry["dtype"] = self.dtype
        return entry


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator: what it reads and writes, its ONNX type and attributes.

    Parameters
    ----------
    name
        Unique among the operators of a graph.
    type
        ONNX operator type, or any word.
    inputs, outputs
        Tensor names in the operator's own argument order; an input may stand twice.
    attributes
        ONNX attribute names and JSON values.
    """

    name: str
    type: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))

    def to_json(self) -> dict[str, Any]:
        """Return the operator as one entry of ``operators`` of a graph document."""
        entry = {"name": self.name, "type": self.type, "inputs": list(self.inputs), "outputs": list(self.outputs)}
        return {**entry, "attributes": dict(self.attributes)} if self.attributes else entry


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a graph was read from, so that a saved result can find and check it again.

    Parameters
    ----------
    model
        Path or zoo name as given; ``-`` for standard input.
    sha256
        Digest of the file's content.
    options
        Reading options in effect (``fold``, ``views``, ``dtype``, ``dim``, ``parameters``, ``functions``).
    warnings
        What the file leaves open and was read nevertheless, one sentence each.
    """

    model: str
    sha256: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    warnings: tuple[str, ...] = ()


class Graph:
    """A directed acyclic graph of operators and tensors; immutable, compared by value.

    Parameters
    ----------
    tensors
        Every tensor that an operator reads or writes.
    operators
        Operators in a topological order, which becomes the given order.
    name
        Name for tables and files.
    origin
        Where it was read from, or None; takes no part in comparison.

    Raises
    ------
    InputError
        With every defect at once: a duplicate name, a size that is not positive, an unknown tensor, two producers, a missing producer,
        a cycle, an order that is not topological.

    Examples
    --------
    >>> graph = Graph([Tensor("x", 4, "input"), Tensor("y", 2, "output")], [Operator("relu", "Relu", ("x",), ("y",))])
    >>> [operator.name for operator in graph.operators]
    ['relu']
    """

    def __init__(
        self,
        tensors: Iterable[Tensor],
        operators: Iterable[Operator],
        name: str = "graph",
        origin: Origin | None = None,
    ) -> None:
        ordered_tensors, ordered_operators = tuple(tensors), tuple(operators)
        defects = list(_defects(ordered_tensors, ordered_operators))
        if defects:
            raise InputError(name, defects)
        self.name = name
        self.origin = origin
        self._digraph = _digraph(ordered_tensors, ordered_operators)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle or a deep copy holds: the cached views are made anew."""
        return {"name": self.name, "origin": self.origin, "_digraph": self._digraph}

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        """Tensors by name, in the order given."""
        return MappingProxyType({key[1]: data["value"] for key, data in self._digraph.nodes.items() if key[0] == "tensor"})

    @cached_property
    def operators(self) -> tuple[Operator, ...]:
        """Operators in the given order."""
        return tuple(data["value"] for key, data in self._digraph.nodes.items() if key[0] == "operator")

    @cached_property
    def operator_index(self) -> Mapping[str, int]:
        """Position of each operator in the given order, by name."""
        return MappingProxyType({operator.name: index for index, operator in enumerate(self.operators)})

    def producer(self, tensor: str) -> Operator | None:
        """Return the operator that writes a tensor, or None for an input or parameter."""
        for key in self._digraph.predecessors(("tensor", tensor)):
            return self._operator(key)
        return None

    def consumers(self, tensor: str) -> tuple[Operator, ...]:
        """Return the operators that read a tensor, in the given order."""
        readers = [self._operator(key) for key in self._digraph.successors(("tensor", tensor))]
        return tuple(sorted(readers, key=lambda operator: self.operator_index[operator.name]))

    def _operator(self, key: tuple[str, str]) -> Operator:
        value: Operator = self._digraph.nodes[key]["value"]
        return value

    def with_origin(self, origin: Origin | None) -> Graph:
        """Return the same graph with another origin."""
        copy = object.__new__(Graph)
        copy.name, copy.origin, copy._digraph = self.name, origin, self._digraph
        return copy

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        same_operators = [operator.to_json() for operator in self.operators] == [operator.to_json() for operator in other.operators]
        return self.name == other.name and self.tensors == other.tensors and same_operators

    def __hash__(self) -> int:
        return hash((self.name, self.operators))

    def __iter__(self) -> Iterator[Operator]:
        return iter(self.operators)

    def __len__(self) -> int:
        return len(self.operators)

    def __repr__(self) -> str:
        return f"Graph({self.name!r}, {len(self.operators)} operators, {len(self.tensors)} tensors)"

    # networkx

    def to_networkx(self) -> nx.DiGraph[Any]:
        """Return a copy of the bipartite digraph; node attribute ``value`` holds the `Tensor` or `Operator`."""
        copy = self._digraph.copy()
        copy.graph["name"] = self.name
        return copy

    @classmethod
    def from_networkx(cls, digraph: nx.DiGraph[Any], name: str | None = None) -> Graph:
        """Build a graph from a digraph in one of two forms.

        Parameters
        ----------
        digraph
            Either the form of `to_networkx`, or a plain operator graph: every node is an operator with one output of ``size_bytes``
            (node attribute), edges say who reads it. A node without successors writes an output; node attributes ``type`` (word) and
            ``kind`` (``output`` for a result that is also read inside) are optional.
        name
            Overrides ``digraph.graph["name"]``.

        Raises
        ------
        InputError
            If the digraph has a cycle, a node has no ``size_bytes``, or edges and ``value`` attributes contradict each other.
        """
        if not digraph.is_directed() or digraph.is_multigraph():
            raise InputError(name or "digraph", f"must be a networkx.DiGraph, got a {type(digraph).__name__}")
        name = name or str(digraph.graph.get("name") or "graph")
        if digraph.number_of_nodes() and all("value" in data for _, data in digraph.nodes(data=True)):
            values = [data["value"] for _, data in digraph.nodes(data=True)]
            graph = cls([v for v in values if isinstance(v, Tensor)], [v for v in values if isinstance(v, Operator)], name)
            if digraph.nodes.keys() != graph._digraph.nodes.keys() or digraph.edges.keys() != graph._digraph.edges.keys():
                raise InputError(name, "its nodes and edges are not those that its operators' inputs and outputs say")
            return graph
        return cls(*_from_operator_digraph(digraph, name), name)

    # JSON

    def to_json(self) -> dict[str, Any]:
        """Return the graph as a document ``cosma-sched/graph/1``."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "tensors": [tensor.to_json() for tensor in self.tensors.values()],
            "operators": [operator.to_json() for operator in self.operators],
        }

    @cached_property
    def sha256(self) -> str:
        """Digest of the file the graph was read from, or of its own JSON document."""
        return self.origin.sha256 if self.origin else sha256(encode_json(self.to_json()).encode())

    @classmethod
    def from_json(cls, content: bytes | str | Mapping[str, Any], path: str = "graph") -> Graph:
        """Build a graph from a document ``cosma-sched/graph/1``.

        Parameters
        ----------
        content
            The document, as text or decoded.
        path
            Name of the source for error messages.

        Raises
        ------
        InputError
            With every defect of the document at once.
        """
        if isinstance(content, str):
            content = content.encode()
        document = decode_json(path, content) if isinstance(content, bytes) else content
        tensors, operators, name = _decode(document, path)
        defects = list(_defects(tensors, operators))
        if defects:
            raise InputError(path, defects)
        return cls(tensors, operators, name)


def _digraph(tensors: Sequence[Tensor], operators: Sequence[Operator]) -> nx.DiGraph[Any]:
    digraph: nx.DiGraph[Any] = nx.DiGraph()
    digraph.add_nodes_from((("tensor", tensor.name), {"value": tensor}) for tensor in tensors)
    for operator in operators:
        key = ("operator", operator.name)
        digraph.add_node(key, value=operator)
        digraph.add_edges_from((("tensor", tensor), key) for tensor in operator.inputs)
        digraph.add_edges_from((key, ("tensor", tensor)) for tensor in operator.outputs)
    return digraph


def _from_operator_digraph(digraph: nx.DiGraph[Any], name: str) -> tuple[list[Tensor], list[Operator]]:
    try:
        order = list(nx.lexicographical_topological_sort(digraph, key={n: i for i, n in enumerate(digraph)}.__getitem__))
    except nx.NetworkXUnfeasible:
        cycle = [str(edge[0]) for edge in nx.find_cycle(digraph)]
        raise InputError(name, [Defect("", f"has a cycle: {' -> '.join([*cycle, cycle[0]])}")]) from None
    missing = [
        Defect(f"node {shown(str(node))}", "has no attribute size_bytes") for node in order if "size_bytes" not in digraph.nodes[node]
    ]
    if missing:
        raise InputError(name, missing)
    tensors, operators = [], []
    for node in order:
        data = digraph.nodes[node]
        kind: Any = data.get("kind") or (TensorKind.ACTIVATION if digraph.out_degree(node) else TensorKind.OUTPUT)
        tensors.append(Tensor(str(node), data["size_bytes"], kind))
        reads = tuple(str(source) for source in digraph.predecessors(node))
        operators.append(Operator(str(node), str(data.get("type", "Operator")), reads, (str(node),)))
    return tensors, operators


def _defects(tensors: Sequence[Tensor], operators: Sequence[Operator]) -> Iterator[Defect]:
    """Yield every mistake of a list of tensors and operators; places are those of a graph document."""
    known: dict[str, Tensor] = {}
    for index, tensor in enumerate(tensors):
        yield from _tensor_defects(f"tensors[{index}] {shown(tensor.name)}", tensor, known)
        known.setdefault(tensor.name, tensor)
    if not operators:
        yield Defect("operators", "the graph has no operators")
    producers: dict[str, int] = {}
    names: dict[str, int] = {}
    for index, operator in enumerate(operators):
        where = f"operators[{index}] {shown(operator.name)}"
        if not operator.name or not isinstance(operator.name, str):
            yield Defect(where, "has an empty name")
        if names.setdefault(operator.name, index) != index:
            yield Defect(where, f"has the name of operators[{names[operator.name]}]; names must be unique")
        yield from _output_defects(where, index, operator, operators, known, producers)
        for tensor_name in dict.fromkeys(operator.inputs):
            if tensor_name not in known:
                yield Defect(where, f"reads {shown(tensor_name)}, which is no tensor{suggestion(tensor_name, known)}")
    for tensor_index, tensor in enumerate(tensors):
        if tensor.kind in list(TensorKind) and TensorKind(tensor.kind).is_produced and tensor.name not in producers:
            yield Defect(f"tensors[{tensor_index}] {shown(tensor.name)}", f"is of kind {tensor.kind}, but no operator writes it")
    yield from _order_defects(operators, producers)


def _tensor_defects(where: str, tensor: Tensor, known: Mapping[str, Tensor]) -> Iterator[Defect]:
    if not tensor.name or not isinstance(tensor.name, str):
        yield Defect(where, "has an empty name")
    if tensor.name in known:
        yield Defect(where, "has the name of an earlier tensor; names must be unique")
    if isinstance(tensor.size_bytes, bool) or not isinstance(tensor.size_bytes, int):
        yield Defect(where, f"size_bytes must be a whole number, got {shown(tensor.size_bytes)}")
    elif tensor.size_bytes <= 0:
        yield Defect(where, f"size_bytes must be > 0, got {tensor.size_bytes}")
    if tensor.kind not in list(TensorKind):
        yield Defect(where, f"kind must be one of {', '.join(TensorKind)}, got {shown(tensor.kind)}")


def _output_defects(
    where: str, index: int, operator: Operator, operators: Sequence[Operator], known: Mapping[str, Tensor], producers: dict[str, int]
) -> Iterator[Defect]:
    for tensor_name in operator.outputs:
        if tensor_name not in known:
            yield Defect(where, f"writes {shown(tensor_name)}, which is no tensor{suggestion(tensor_name, known)}")
            continue
        if known[tensor_name].kind in {TensorKind.INPUT, TensorKind.PARAMETER}:
            yield Defect(where, f"writes {shown(tensor_name)}, which is of kind {known[tensor_name].kind}")
        if tensor_name in producers:
            first = producers[tensor_name]
            yield Defect(where, f"writes {shown(tensor_name)}, which operators[{first}] {shown(operators[first].name)} writes too")
        producers.setdefault(tensor_name, index)


def _order_defects(operators: Sequence[Operator], producers: Mapping[str, int]) -> Iterator[Defect]:
    """Yield a cycle if there is one, else every operator that reads what a later one writes."""
    late: list[Defect] = []
    dependencies: nx.DiGraph[int] = nx.DiGraph()
    dependencies.add_nodes_from(range(len(operators)))
    for index, operator in enumerate(operators):
        for tensor_name in dict.fromkeys(operator.inputs):
            source = producers.get(tensor_name)
            if source is None:
                continue
            dependencies.add_edge(source, index)
            if source >= index:
                problem = f"reads {shown(tensor_name)}, which operators[{source}] {shown(operators[source].name)} produces later; "
                late.append(Defect(f"operators[{index}] {shown(operator.name)}", problem + "operators must stand in topological order"))
    if not late:
        return
    try:
        cycle = [operators[edge[0]].name for edge in nx.find_cycle(dependencies)]
    except nx.NetworkXNoCycle:
        yield from late
    else:
        yield Defect("operators", f"form a cycle: {' -> '.join(shown(name) for name in [*cycle, cycle[0]])}")


def _decode(document: Any, path: str) -> tuple[list[Tensor], list[Operator], str]:
    """Check the form of a graph document; pydantic is imported here because most graphs do not come from JSON."""
    from pydantic import ValidationError

    from cosma_sched._graph_document import GraphDocument

    if not isinstance(document, Mapping):
        raise InputError(path, f'must be an object with "schema": "{SCHEMA}", got {shown(document)}')
    if document.get("schema") != SCHEMA:
        raise InputError(path, [Defect("schema", f'must be "{SCHEMA}", got {shown(document.get("schema"))}')])
    try:
        parsed = GraphDocument.model_validate(document)
    except ValidationError as error:
        raise InputError(path, validation_defects(error.errors(include_url=False))) from error
    tensors = [
        Tensor(t.name, t.size_bytes, TensorKind(t.kind), tuple(t.shape) if t.shape is not None else None, t.dtype) for t in parsed.tensors
    ]
    operators = [Operator(o.name, o.type, tuple(o.inputs), tuple(o.outputs), o.attributes) for o in parsed.operators]
    return tensors, operators, parsed.name
