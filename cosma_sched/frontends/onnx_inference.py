"""ONNX's own shape inference rules, asked node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cosma_sched.frontends.onnx_document import Node

if TYPE_CHECKING:
    from onnx import NodeProto, OperatorSetIdProto, TensorProto, TypeProto
    from onnx.defs import OpSchema

_HARMLESS = ("unsupported type", "Unrecognized attribute")
"""What ONNX says of nodes that are wrong in a way that has nothing to do with shapes, such as a type that a later version allows."""

ACTIVATIONS = frozenset({"Silu", "SiLU", "Swish", "QuickGelu", "FastGelu", "Gelu", "Mish", "Relu6", "HardSwish"})
"""Element-wise operators of any domain that keep shape and type; the file need not say so."""

_LIKE_FIRST_INPUT = {"GroupNormalization"}
"""Operators whose rule is missing in some versions of ONNX (operator set 18): their output has the type of their first input."""


def is_activation(node: Node) -> bool:
    """Return whether a node of a domain other than ONNX's own is one of `ACTIVATIONS`."""
    return bool(node.domain) and node.type in ACTIVATIONS and bool(node.inputs) and bool(node.inputs[0])


class ShapeRules:
    """The rules of the operator sets that a file names.

    Parameters
    ----------
    opsets
        Version of each operator set by domain.
    """

    def __init__(self, opsets: Mapping[str, int]) -> None:
        self._versions = opsets
        self._schemas: dict[tuple[str, str], OpSchema | None] = {}

    def knows(self, node: Node) -> bool:
        """True for operators that ONNX defines, and activations that others do."""
        return self._schema(node) is not None or is_activation(node)

    def may_be_outdated(self, node: Node) -> bool:
        """True for operators of a version that the installed library does not know: its complaints may be wrong."""
        from onnx import defs

        return not node.domain and self._versions.get("", 1) > int(defs.onnx_opset_version())

    def infer(self, node: Node, types: Mapping[str, TypeProto], data: Mapping[str, TensorProto]) -> tuple[Mapping[str, TypeProto], str]:
        """Return the types of a node's outputs as far as its rule tells, and the rule's complaint where it fails.

        Parameters
        ----------
        node
            The node.
        types
            Types of its inputs by name, perhaps with open dimensions.
        data
            Values of its inputs by name where they are known.
        """
        from onnx import checker, shape_inference

        schema = self._schema(node)
        if schema is None and is_activation(node):
            return {node.outputs[0]: types[node.inputs[0]]}, ""
        if schema is None:
            return {}, ""
        has_rule = schema.has_type_and_shape_inference_function
        if node.type in _LIKE_FIRST_INPUT and not has_rule and node.inputs:
            return {node.outputs[0]: types[node.inputs[0]]}, ""
        try:
            if has_rule:
                return shape_inference.infer_node_outputs(schema, node.proto, types, data, opset_imports=self._opsets()), ""
            return self._infer_as_model(node, types, data, strict=False), ""
        except checker.ValidationError as error:
            complaint = _complaint(error)
            if not any(words in complaint for words in _HARMLESS):
                return {}, complaint
        except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
            return {}, _complaint(error)
        try:
            return self._infer_as_model(node, types, data, strict=True), ""
        except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
            return {}, _complaint(error)

    def _infer_as_model(
        self, node: Node, types: Mapping[str, TypeProto], data: Mapping[str, TensorProto], *, strict: bool
    ) -> Mapping[str, TypeProto]:
        """Infer through a model of one node, which looks into operators that ONNX defines by others and checks no element types."""
        from onnx import helper, shape_inference

        inputs = [helper.make_value_info(name, proto) for name, proto in types.items()]
        graph = helper.make_graph([self._with_defaults(node)], "one node", inputs, [], initializer=list(data.values()))
        for name in filter(None, node.outputs):
            graph.output.add(name=name)
        model = helper.make_model(graph, opset_imports=self._opsets())
        found = shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)
        return {value.name: value.type for value in found.graph.output if value.HasField("type")}

    def _with_defaults(self, node: Node) -> NodeProto:
        """Write out the attributes that a node leaves at their defaults, because the bodies of operators do not know them."""
        from onnx import NodeProto

        full = NodeProto()
        full.CopyFrom(node.proto)
        given = {entry.name for entry in full.attribute}
        schema = self._schema(node)
        for name, rule in schema.attributes.items() if schema is not None else ():
            if name not in given and rule.default_value.name:
                full.attribute.append(rule.default_value)
        return full

    def _opsets(self) -> list[OperatorSetIdProto]:
        from onnx import helper

        return [helper.make_opsetid(domain, version) for domain, version in self._versions.items()]

    def _schema(self, node: Node) -> OpSchema | None:
        from onnx import defs

        key = (node.domain, node.type)
        if key not in self._schemas:
            try:
                self._schemas[key] = defs.get_schema(node.type, self._versions.get(node.domain, 1), node.domain)
            except defs.SchemaError:
                self._schemas[key] = None
        return self._schemas[key]


def _complaint(error: Exception) -> str:
    """Return the sentence of an error without the C++ place in front of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.rsplit("] ", 1)[-1]
