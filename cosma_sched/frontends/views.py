"""Views: operators that only look at a tensor create neither an operator nor a tensor; who reads the view reads the tensor.

The rules are those of the memory planner (section 3 of its specification). A partial view (``Slice``, ``Split``, ``Gather`` with constant
indices) keeps the whole tensor alive; ``--views strict`` makes partial views and ``Transpose`` real operators.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cosma_sched.errors import Defect
from cosma_sched.frontends.constness import Constness, constness, data_arguments
from cosma_sched.frontends.element_types import element_type
from cosma_sched.frontends.network import Draft, Network, Operand
from cosma_sched.frontends.onnx_attributes import json_attributes
from cosma_sched.frontends.onnx_document import Document, Node
from cosma_sched.frontends.onnx_types import TensorType, Types
from cosma_sched.frontends.onnx_values import Array
from cosma_sched.frontends.options import ReadingOptions, Views
from cosma_sched.frontends.view_steps import view_step

_RESHAPING = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
_CASTS = {"Cast", "CastLike"}
_PARTIAL = {"Slice", "Split", "Gather"}


def look_through(document: Document, known: Types, options: ReadingOptions) -> tuple[Network, list[Defect]]:
    """Return the network without views, host data and operators that nobody needs, and what could not be read.

    Parameters
    ----------
    document
        The checked file.
    known
        Types and values of its tensors.
    options
        Which views are free, and the widths that decide whether a cast is one.
    """
    resolver = _Resolver(document, known, options)
    for node in document.nodes:
        resolver.visit(node)
    outputs = frozenset(resolver.operand(name).tensor for name in document.outputs if name not in resolver.host)
    network = Network(
        tuple(resolver.drafts),
        resolver.types,
        frozenset(resolver.parameters),
        tuple(document.inputs),
        outputs - resolver.parameters,
    )
    return _needed(network), resolver.defects


class _Resolver:
    """Walk over the nodes; remember for each value which tensor it is a view of."""

    def __init__(self, document: Document, known: Types, options: ReadingOptions) -> None:
        self.options = options
        self.types: dict[str, TensorType] = dict(known.types)
        self.values = known.values
        self.drafts: list[Draft] = []
        self.defects: list[Defect] = []
        fixed = constness(document)
        self.parameters = {name for name, how in fixed.items() if how is Constness.PARAMETER}
        self.host = {name for name, how in fixed.items() if how is Constness.HOST}
        self._views: dict[str, Operand] = {}
        self._read = {name for node in document.nodes for name in node.inputs} | set(document.outputs)
        self._taken = _pieces_taken(document, known.values)

    def operand(self, name: str) -> Operand:
        """Return what reading a value means."""
        if name in self._views:
            return self._views[name]
        return Operand(name, self.types[name].shape if name in self.types else ())

    def visit(self, node: Node) -> None:
        """Take a node in: as a view, as an operator, or not at all where its outputs are host data."""
        outputs = [name for name in node.outputs if name]
        if all(name in self.host for name in outputs):
            return
        if all(name in self.parameters for name in outputs):
            self._visit_constant(node)
        elif not node.domain and node.type == "SequenceAt":
            self._take_piece(node)
        elif not node.domain and node.type == "SplitToSequence":
            self._split_to_sequence(node)
        elif (source := self._viewed(node)) is not None:
            for name in outputs:
                self._view(name, source, node)
        else:
            self._add(node, tuple(outputs))

    def _visit_constant(self, node: Node) -> None:
        """Let a whole view of a parameter be that parameter, so that tied weights are one tensor; other results are new parameters."""
        source = next(iter(data_arguments(node)), None)
        if source is None or node.domain or source not in self.types or not self._is_whole_view(node, source):
            return
        self._view(node.outputs[0], source, node)

    def _view(self, name: str, source: str, node: Node | None = None) -> None:
        beneath = self.operand(source)
        shape = self.types[name].shape if name in self.types else ()
        step = view_step(node, name, beneath.shape, shape, self.values) if node is not None else {"type": "Piece", "shape": list(shape)}
        self._views[name] = Operand(beneath.tensor, shape, (*beneath.steps, step))

    def _add(self, node: Node, outputs: tuple[str, ...]) -> None:
        if any(name not in self.types for name in outputs if name in self._read):
            self.defects.append(Defect(node.place, "works on a sequence or an optional value; only tensors have a size"))
            return
        arguments = data_arguments(node)
        attributes = json_attributes(node.proto)
        if node.domain:
            attributes["domain"] = node.domain
        elif node.type in _PARTIAL:
            attributes |= self._output_views(node, outputs)
        draft = Draft(
            node.name,
            node.type,
            node.domain,
            tuple(self.operand(name) for name in arguments if name not in self.host and not self._is_empty_parameter(name)),
            tuple(name for name in outputs if name in self.types),
            attributes,
            reads_constant=any(name in self.host or name in self.parameters for name in arguments),
        )
        self.drafts.append(draft)

    def _output_views(self, node: Node, outputs: tuple[str, ...]) -> dict[str, Any]:
        """Return what each output of a strict view shows, where the limits are known."""
        source = self.operand(node.inputs[0]).shape
        known = [name for name in outputs if name in self.types]
        steps = {name: view_step(node, name, source, self.types[name].shape, self.values) for name in known}
        return {"output_views": steps} if all(step["type"] == "Slice" for step in steps.values()) else {}

    def _is_empty_parameter(self, name: str) -> bool:
        """True for a constant without elements, which some exporters write where an argument is meant to be left out."""
        return name in self.parameters and name in self.types and self.types[name].elements == 0

    # Which nodes are views

    def _viewed(self, node: Node) -> str | None:
        """Return the value that a node looks at, or None where it is an operator."""
        arguments = data_arguments(node)
        if node.domain or not arguments or arguments[0] in self.parameters or arguments[0] in self.host:
            return None
        source = arguments[0]
        if source not in self.types:
            return None
        return source if self._is_whole_view(node, source) or self._is_partial_view(node, source) else None

    def _is_whole_view(self, node: Node, source: str) -> bool:
        output = node.outputs[0]
        if output not in self.types:
            return False
        if node.type in _RESHAPING:
            return True
        if node.type == "Transpose":
            return self.options.views is Views.FREE or source in self.parameters
        if node.type == "Dropout":
            return not any(name in self._read for name in node.outputs[1:])
        if node.type in _CASTS:
            return self._bits(source) == self._bits(output) is not None
        return node.type == "Expand" and self.types[output].elements == self.types[source].elements

    def _is_partial_view(self, node: Node, source: str) -> bool:
        if node.type not in _PARTIAL or self.options.views is Views.STRICT:
            return False
        indices = [name for name in node.inputs[1:] if name]
        grows = any(name in self.types and self.types[name].elements > self.types[source].elements for name in node.outputs)
        return not grows and all(name in self.parameters or name in self.host for name in indices)

    def _bits(self, name: str) -> int | None:
        element = element_type(self.types[name].number)
        return None if element is None else self.options.width_in_effect(element).bits

    # Sequences: a split whose pieces are taken out one by one is a split

    def _split_to_sequence(self, node: Node) -> None:
        sequence, source = node.outputs[0], node.inputs[0]
        taken = self._taken.get(sequence)
        sizes_known = all(name in self.parameters or name in self.host for name in node.inputs[1:] if name)
        if taken is None or not sizes_known:
            self.defects.append(Defect(node.place, "makes a sequence of tensors that is not taken apart at constant indices"))
        elif self.options.views is Views.FREE:
            self._view(sequence, source)
        else:
            self._add(node, tuple(taken.values()))

    def _take_piece(self, node: Node) -> None:
        sequence, piece = node.inputs[0], node.outputs[0]
        if sequence not in self._taken:
            self.defects.append(Defect(node.place, "takes a tensor out of a sequence that no SplitToSequence made"))
            return
        pieces = self._taken[sequence]
        if pieces is None:
            return  # the split has been refused
        first = pieces[int(self.values[node.inputs[1]])]
        if self.options.views is Views.FREE:
            self._view(piece, sequence)
        elif first != piece:
            self._view(piece, first)


def _pieces_taken(document: Document, values: Mapping[str, Array]) -> dict[str, dict[int, str] | None]:
    """Return for each sequence the first name under which each of its tensors is taken out; None where it is used in another way."""
    sequences = {node.outputs[0] for node in document.nodes if node.type == "SplitToSequence" and not node.domain}
    taken: dict[str, dict[int, str] | None] = {name: None if name in document.outputs else {} for name in sequences}
    for node in document.nodes:
        for position, name in enumerate(node.inputs):
            if name not in sequences:
                continue
            index = values.get(node.inputs[1]) if node.type == "SequenceAt" and position == 0 else None
            pieces = taken[name]
            if index is None:
                taken[name] = None
            elif pieces is not None:
                pieces.setdefault(int(index), node.outputs[0])
    return taken


def _needed(network: Network) -> Network:
    """Leave out operators none of whose outputs are read or graph outputs, and outputs beyond the first that nobody reads."""
    wanted = set(network.outputs)
    kept: list[Draft] = []
    for draft in reversed(network.drafts):
        if wanted.intersection(draft.outputs):
            wanted.update(operand.tensor for operand in draft.operands)
            outputs = tuple(name for index, name in enumerate(draft.outputs) if index == 0 or name in wanted)
            kept.append(replace(draft, outputs=outputs))
    return replace(network, drafts=tuple(reversed(kept)))
