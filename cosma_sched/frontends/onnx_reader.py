"""From an ONNX file to the graph: decode, find the types, look through views, fold, count bytes.

The seven rules of section 3 of the memory planner's specification, one module each: `onnx_document` (no weights, no control flow),
`onnx_types` (shapes), `constness` (parameters and host data), `views`, `folding`, `element_types` (sizes). An ``Attention`` node stays
one operator because nothing here takes operators apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.files import sha256
from cosma_sched.frontends.element_types import ElementType, element_type, size_bytes
from cosma_sched.frontends.folding import fold
from cosma_sched.frontends.network import Draft, Network
from cosma_sched.frontends.onnx_document import read_document
from cosma_sched.frontends.onnx_inference import ACTIVATIONS
from cosma_sched.frontends.onnx_types import TensorType, infer_types
from cosma_sched.frontends.options import Functions, ReadingOptions
from cosma_sched.frontends.view_steps import only_reshapes
from cosma_sched.frontends.views import look_through
from cosma_sched.frontends.weights import missing_values, unknown_parameters, weights_among_inputs, with_parameters
from cosma_sched.graph import Graph, Operator, Origin, Tensor, TensorKind


def read_onnx(content: bytes, *, path: str, name: str, options: ReadingOptions, folder: Path | None = None) -> Graph:
    """Return the graph of an ONNX file.

    Parameters
    ----------
    content
        The bytes of the file.
    path
        Name of the file for error messages.
    name
        Name of the graph.
    options
        How to read it.
    folder
        Where files that it refers to lie; None where nobody is to be told that they are missing.

    Returns
    -------
    Graph
        The graph; its origin carries the warnings, and the graph inputs that count as parameters if they were to be found.

    Raises
    ------
    InputError
        With every mistake that was found: the form of the file, unknown dimensions, missing shape rules, tensors without a size.
    """
    kept = ACTIVATIONS if options.functions is Functions.KEEP else frozenset()
    document = read_document(path, content, kept_functions=kept)
    weights = weights_among_inputs(document) if options.parameters is None else options.parameters
    known = infer_types(document, options.dims)
    _refuse(path, known.defects)
    _refuse(path, unknown_parameters(document, weights))
    warnings = [*missing_values(document, folder)] if folder is not None else []
    if options.parameters is None and weights:
        warnings.append(f"graph inputs {', '.join(map(shown, weights))} only ever multiply: they count as parameters (see --parameters)")
    document = with_parameters(document, known, weights)
    network, defects = look_through(document, known, options)
    _refuse(path, defects)
    network = fold(network, options.fold)
    _refuse(path, _size_defects(network))
    if not network.drafts:
        raise InputError(path, "holds no operators: every output is an input, a view of one, or known before the network runs")
    operators = [_operator(network, draft) for draft in network.drafts]
    origin = Origin(path, sha256(content), {"parameters": list(weights)} if weights else {}, tuple(warnings))
    return Graph(_tensors(network, options), operators, name, origin)


def float_type(graph: Graph) -> str | None:
    """Return the one floating-point type of a graph's tensors, or None where it has none or several."""
    names = {tensor.dtype for tensor in graph.tensors.values() if tensor.dtype and "float" in tensor.dtype}
    return names.pop() if len(names) == 1 else None


def _refuse(path: str, defects: Iterable[Defect]) -> None:
    found = list(defects)
    if found:
        raise InputError(path, found)


def _used_names(network: Network) -> Iterator[tuple[str, TensorKind]]:
    """Yield every tensor of the graph once with its kind: inputs first, then what each operator reads and writes."""
    read = network.readers()
    for name in network.inputs:
        if name in read:
            yield name, TensorKind.INPUT
    seen = set(network.inputs)
    for draft in network.drafts:
        for operand in draft.operands:
            if operand.tensor in network.parameters and operand.tensor not in seen:
                seen.add(operand.tensor)
                yield operand.tensor, TensorKind.PARAMETER
        for name in draft.outputs:
            yield name, TensorKind.OUTPUT if name in network.outputs else TensorKind.ACTIVATION


def _size_defects(network: Network) -> Iterator[Defect]:
    """Yield tensors without a size; an empty tensor that follows from an empty operand is not mentioned again."""
    empty = {name for name, tensor in network.types.items() if tensor.elements == 0}
    follows = {name for draft in network.drafts if any(o.tensor in empty for o in draft.operands) for name in draft.outputs}
    for name, kind in _used_names(network):
        where = f"{'tensor' if kind is TensorKind.ACTIVATION else kind} {shown(name)}"
        tensor = network.types.get(name)
        if tensor is None:
            yield Defect(where, "has no known shape; state it in the file's value_info")
            continue
        if element_type(tensor.number) is None:
            yield Defect(where, f"has the element type {_type_name(tensor.number)}, which has no size")
        for axis, size in enumerate(tensor.shape):
            if size == 0 and name not in follows:
                yield Defect(where, f"axis {axis} has size 0 (shape {list(tensor.shape)}); every dimension must be >= 1")


def _type_name(number: int) -> str:
    from onnx import TensorProto

    return TensorProto.DataType.Name(number).lower() if number in TensorProto.DataType.values() else str(number)


def _tensors(network: Network, options: ReadingOptions) -> Iterator[Tensor]:
    for name, kind in _used_names(network):
        tensor = network.types[name]
        element = options.width_in_effect(_element(tensor))
        yield Tensor(name, size_bytes(tensor.shape, element), kind, tensor.shape, element.name)


def _element(tensor: TensorType) -> ElementType:
    element = element_type(tensor.number)
    if element is None:
        raise ValueError(f"element type {tensor.number} has no size")
    return element


def _operator(network: Network, draft: Draft) -> Operator:
    attributes: dict[str, Any] = dict(draft.attributes)
    if any(operand.shape != network.types[operand.tensor].shape for operand in draft.operands):
        attributes["input_shapes"] = [list(operand.shape) for operand in draft.operands]
    if any(not only_reshapes(operand.steps) for operand in draft.operands):
        attributes["input_views"] = [[dict(step) for step in operand.steps] for operand in draft.operands]
    if draft.folded:
        attributes["folded"] = [dict(entry) for entry in draft.folded]
    inputs = tuple(operand.tensor for operand in draft.operands)
    return Operator(draft.name, draft.type, inputs, draft.outputs, attributes)
