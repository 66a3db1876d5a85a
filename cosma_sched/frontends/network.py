"""The network between the file and the graph: operators that read views of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cosma_sched.frontends.onnx_types import TensorType


@dataclass(frozen=True, slots=True)
class Operand:
    """What an operator reads: a tensor, in the shape in which it sees it.

    A view has the name of the tensor it looks at and a shape of its own; a partial view has fewer elements than the tensor. `steps` are the
    views between the two, the one next to the tensor first: a mapping each, with the view's ``type``, the ``shape`` that it gives and what
    else is known of it.
    """

    tensor: str
    shape: tuple[int, ...]
    steps: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """An operator on its way into the graph.

    Parameters
    ----------
    name, type, domain
        As in the file; `domain` is empty for ONNX's own operators.
    operands
        Activations, inputs and parameters in argument order; host data and arguments left out do not appear.
    outputs
        Tensors it writes.
    attributes
        JSON values.
    reads_constant
        True where some argument is known before the network runs, even if it takes no memory.
    folded
        Operators that have joined this one, in the order in which they run.
    """

    name: str
    type: str
    domain: str
    operands: tuple[Operand, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    reads_constant: bool = False
    folded: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Network:
    """Operators in the order of the file, and what they work on.

    Parameters
    ----------
    drafts
        The operators.
    types
        Type of every tensor by name.
    parameters
        Names of the tensors that are known before the network runs.
    inputs
        Names of the graph inputs, in the order of the file.
    outputs
        Names of the tensors that hold a graph output.
    """

    drafts: tuple[Draft, ...]
    types: Mapping[str, TensorType]
    parameters: frozenset[str]
    inputs: tuple[str, ...]
    outputs: frozenset[str] = field(default_factory=frozenset)

    def data(self, draft: Draft) -> tuple[Operand, ...]:
        """Return the operands of an operator that are no parameters."""
        return tuple(operand for operand in draft.operands if operand.tensor not in self.parameters)

    def readers(self) -> dict[str, list[Draft]]:
        """Return who reads each tensor; an operator that reads it twice stands once."""
        found: dict[str, list[Draft]] = {}
        for draft in self.drafts:
            for name in dict.fromkeys(operand.tensor for operand in draft.operands):
                found.setdefault(name, []).append(draft)
        return found
