"""Shapes and element types of every tensor of an ONNX file: one walk in the order of the file.

Each node's outputs follow from ONNX's own rule for it (`onnx_inference`), fed with the types of its inputs and with the values known so
far (`onnx_values`); what a rule leaves open, the types declared in the file fill in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cosma_sched.errors import Defect, shown
from cosma_sched.frontends.onnx_attributes import attribute
from cosma_sched.frontends.onnx_dimensions import Dimensions
from cosma_sched.frontends.onnx_document import MAX_VALUES, Document, Node
from cosma_sched.frontends.onnx_inference import ShapeRules
from cosma_sched.frontends.onnx_values import Array, constant_values, evaluate, tensor_values

if TYPE_CHECKING:
    from onnx import TensorProto, TypeProto


@dataclass(frozen=True, slots=True)
class TensorType:
    """Shape of a tensor, and its element type as the number that ONNX gives it."""

    shape: tuple[int, ...]
    number: int

    @property
    def elements(self) -> int:
        """How many elements the tensor has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Types:
    """What is known of the tensors of a document: complete types, values of small constants, and what is wrong."""

    types: Mapping[str, TensorType]
    values: Mapping[str, Array]
    defects: tuple[Defect, ...]


def infer_types(document: Document, dims: Mapping[str, int]) -> Types:
    """Find the type of every tensor.

    Parameters
    ----------
    document
        The checked file.
    dims
        Sizes of symbolic dimensions by name.
    """
    walk = _Walk(document, dims)
    walk.run()
    return Types(walk.types, walk.values, tuple(walk.all_defects()))


class _Walk:
    """The state of the walk: types as far as known, values, and defects at the place where they begin."""

    def __init__(self, document: Document, dims: Mapping[str, int]) -> None:
        self.document = document
        self.dimensions = Dimensions(document, dims)
        self.types: dict[str, TensorType] = {}
        self.values: dict[str, Array] = {}
        self.defects: list[Defect] = []
        self.unknown_types: dict[str, list[str]] = {}
        self._partial: dict[str, TypeProto] = {}
        self._data: dict[str, TensorProto] = {}
        self._pieces: dict[str, list[TensorType]] = {}
        self._rules = ShapeRules(document.opsets)
        self._read = {name for node in document.nodes for name in node.inputs} | set(document.outputs)

    def run(self) -> None:
        """Visit inputs, initializers and nodes."""
        from onnx import helper

        for name, proto in self.document.inputs.items():
            if name in self._read:
                self.defects += self.dimensions.resolve_input(name, proto)
                self._note(name, proto)
        for name, tensor in self.document.initializers.items():
            self._note(name, helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)))
            if name in self._read and (values := tensor_values(tensor)) is not None:
                self.values[name] = values
        for node in self.document.nodes:
            self._visit(node)

    def all_defects(self) -> Iterator[Defect]:
        """Yield the defects in the order of the file, then the operator types without a rule, then mistyped dimension names."""
        yield from self.defects
        if self.unknown_types:
            listed = [f"{kind} ({len(names)}: {_few(names)})" for kind, names in self.unknown_types.items()]
            count = f"{len(listed)} operator type{'s' if len(listed) > 1 else ''}"
            yield Defect("", f"no shape rule for {count}: {', '.join(listed)}; state the shapes of their outputs in the file's value_info")
        yield from self.dimensions.unknown_names()

    def _note(self, name: str, proto: TypeProto) -> None:
        """Take down the type of a tensor; it is complete once every dimension is a number."""
        if proto.WhichOneof("value") is None:
            return  # a name without a type
        self._partial[name] = proto
        if not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
            return
        dims = proto.tensor_type.shape.dim
        if all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
            self.types[name] = TensorType(tuple(dim.dim_value for dim in dims), proto.tensor_type.elem_type)

    def _visit(self, node: Node) -> None:
        inferred, failure = self._inferred(node)
        for name in node.outputs:
            if name and (name in inferred or name in self.document.declared):
                self._note(name, self._merged(name, inferred.get(name)))
        self._follow_sequence(node)
        open_outputs = [name for name in node.outputs if name in self._read and not self._is_complete(name)]
        if open_outputs or (failure and not self._rules.may_be_outdated(node)):
            self._blame(node, open_outputs, failure)
        else:
            self._evaluate(node)

    def _is_complete(self, name: str) -> bool:
        return name in self.types or (name in self._partial and not self._partial[name].HasField("tensor_type"))

    def _inferred(self, node: Node) -> tuple[Mapping[str, TypeProto], str]:
        """Return the types of a node's outputs by ONNX's rule, and the rule's complaint where it fails."""
        types = {name: self._partial[name] for name in node.inputs if name in self._partial}
        if any(name not in types for name in node.inputs if name):
            return {}, ""
        data = {name: values for name in types if (values := self._tensor(name)) is not None}
        return self._rules.infer(node, types, data)

    def _tensor(self, name: str) -> TensorProto | None:
        from onnx import numpy_helper

        if name in self.values and name not in self._data:
            self._data[name] = numpy_helper.from_array(np.asarray(self.values[name], order="C"), name)
        return self._data.get(name)

    def _merged(self, name: str, inferred: TypeProto | None) -> TypeProto:
        """Complete an inferred type by the declared one, and both by the sizes given for symbolic dimensions."""
        declared = self.document.declared.get(name)
        if inferred is None or not (inferred.HasField("tensor_type") or inferred.HasField("sequence_type")):
            merged = declared if declared is not None else inferred
        else:
            merged = inferred
            if declared is not None and merged.HasField("tensor_type"):
                _complete(merged, declared)
        self.dimensions.resolve(name, merged, declared)
        return merged

    def _follow_sequence(self, node: Node) -> None:
        """Find the types of the pieces that ``SequenceAt`` takes out of ``SplitToSequence``: ONNX knows only what all pieces share."""
        from onnx import helper

        if node.domain:
            return
        if node.type == "SplitToSequence" and node.inputs[0] in self.types:
            self._pieces[node.outputs[0]] = _pieces(node, self.types[node.inputs[0]], self.values)
        if node.type == "SequenceAt" and node.outputs[0] not in self.types:
            pieces, index = self._pieces.get(node.inputs[0], []), self.values.get(node.inputs[1])
            if index is not None and -len(pieces) <= int(index) < len(pieces):
                piece = pieces[int(index)]
                self._note(node.outputs[0], helper.make_tensor_type_proto(piece.number, list(piece.shape)))

    def _evaluate(self, node: Node) -> None:
        """Take down the values of small outputs where they are known before the network runs."""
        if node.domain or not all(name in self.types and self.types[name].elements <= MAX_VALUES for name in node.outputs):
            return
        outputs: list[Array] | None = None
        if node.type == "Constant":
            values = constant_values(node)
            outputs = None if values is None else [values]
        elif node.type in {"Shape", "Size"}:
            outputs = self._measured(node)
        else:
            data = node.inputs[:1] if node.type == "CastLike" else node.inputs
            if data and all(name in self.values for name in data if name):
                outputs = evaluate(node, [self.values.get(name) for name in data], self.types[node.outputs[0]].number)
        for name, value in zip(node.outputs, outputs or (), strict=False):
            if value.shape == self.types[name].shape:
                self.values[name] = value

    def _measured(self, node: Node) -> list[Array] | None:
        if node.inputs[0] not in self.types:
            return None
        measured = self.types[node.inputs[0]]
        if node.type == "Size":
            return [np.asarray(measured.elements, dtype=np.int64)]
        start, end = attribute(node.proto, "start", 0), attribute(node.proto, "end")
        return [np.asarray(measured.shape[start:end], dtype=np.int64)]

    # What is wrong

    def _blame(self, node: Node, outputs: list[str], failure: str) -> None:
        """Say why outputs have no complete type, unless an input has none either: the place where it began says it."""
        if not self._rules.knows(node):
            self.unknown_types.setdefault(node.type, []).append(node.name)
        elif not all(self._is_complete(name) for name in node.inputs if name):
            return
        elif failure:
            self.defects.append(Defect(node.place, f"its shapes do not fit together: {failure}"))
        else:
            for name in outputs:
                self.defects += self.dimensions.open_dimensions(name, node.place, self._partial.get(name))


def _complete(inferred: TypeProto, declared: TypeProto) -> None:
    """Fill what an inferred tensor type leaves open from the declared one."""
    if not declared.HasField("tensor_type"):
        return
    target, source = inferred.tensor_type, declared.tensor_type
    if not target.elem_type:
        target.elem_type = source.elem_type
    if not target.HasField("shape"):
        if source.HasField("shape"):
            target.shape.CopyFrom(source.shape)
        return
    if len(target.shape.dim) == len(source.shape.dim):
        for mine, theirs in zip(target.shape.dim, source.shape.dim, strict=True):
            if not mine.HasField("dim_value") and theirs.HasField("dim_value"):
                mine.dim_value = theirs.dim_value


def _pieces(node: Node, whole: TensorType, values: Mapping[str, Array]) -> list[TensorType]:
    """Return the types of the tensors that ``SplitToSequence`` makes, or nothing where the sizes are not known."""
    axis = attribute(node.proto, "axis", 0)
    split: Array | None = np.asarray(1)
    if len(node.inputs) > 1 and node.inputs[1]:
        split = values.get(node.inputs[1])
    if split is None or not -len(whole.shape) <= axis < len(whole.shape):
        return []
    axis %= len(whole.shape)
    length = whole.shape[axis]
    if split.ndim == 0:
        step = int(split)
        sizes = [min(step, length - start) for start in range(0, length, step)] if step > 0 else []
    else:
        sizes = [int(size) for size in split]
    drops_axis = len(node.inputs) < 2 and not attribute(node.proto, "keepdims", 1)
    tail = whole.shape[axis + 1 :]
    return [TensorType(whole.shape[:axis] + (() if drops_axis else (size,)) + tail, whole.number) for size in sizes]


def _few(names: list[str]) -> str:
    few = ", ".join(shown(name) for name in names[:3])
    return few if len(names) <= 3 else f"{few}, ..."
