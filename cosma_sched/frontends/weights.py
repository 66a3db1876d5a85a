"""Weights that a file does not hold: values that are missing, and weights that stand among the graph inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from cosma_sched.errors import Defect, shown, suggestion
from cosma_sched.frontends.onnx_document import Document
from cosma_sched.frontends.onnx_types import Types

_PRODUCTS = {"MatMul", "Gemm"}
_MATRIX = 2


def missing_values(document: Document, folder: Path) -> Iterator[str]:
    """Yield a warning for each file of weights that is missing, and one for weights whose values are nowhere."""
    for place in document.stored_at:
        if not (folder / place).exists():
            yield f"its weights are stored in {shown(place)}, which is missing; only their shapes count"
    if document.without_values:
        names = ", ".join(map(shown, document.without_values[:3])) + (", ..." if len(document.without_values) > 3 else "")
        yield f"{len(document.without_values)} of its weights hold no values ({names}); only their shapes count"


def weights_among_inputs(document: Document) -> tuple[str, ...]:
    """Return the graph inputs that are matrices of fixed size in the file and only ever the second operand of a matrix product.

    Ask before types are inferred, which writes the sizes given for symbolic dimensions into them.
    """
    found = []
    for name, proto in document.inputs.items():
        dims = proto.tensor_type.shape.dim if proto.HasField("tensor_type") else ()
        fixed = len(dims) == _MATRIX and all(dim.HasField("dim_value") and dim.dim_value > 0 for dim in dims)
        uses = [(node, position) for node in document.nodes for position, read in enumerate(node.inputs) if read == name]
        multiplies = all(node.type in _PRODUCTS and not node.domain and position == 1 for node, position in uses)
        if fixed and uses and multiplies and name not in document.outputs:
            found.append(name)
    return tuple(found)


def unknown_parameters(document: Document, names: Sequence[str]) -> Iterator[Defect]:
    """Yield the names that are neither graph inputs nor initializers."""
    for name in names:
        if name not in document.inputs and name not in document.initializers:
            known = list(document.inputs)
            yield Defect(f"--parameters {name}", f"no such input; the inputs are {', '.join(known)}{suggestion(name, known)}")


def with_parameters(document: Document, known: Types, names: Sequence[str]) -> Document:
    """Return the document with some of its inputs as initializers without values."""
    from onnx import TensorProto

    moved = {
        name: TensorProto(name=name, dims=known.types[name].shape, data_type=known.types[name].number)
        for name in names
        if name in document.inputs and name in known.types
    }
    inputs = {name: proto for name, proto in document.inputs.items() if name not in moved}
    return replace(document, inputs=inputs, initializers={**document.initializers, **moved}) if moved else document
