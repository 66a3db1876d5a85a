"""What is known before the network runs: parameters, which take memory, and host data, which the compiler keeps for itself."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from cosma_sched.frontends.onnx_document import Document, Node

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_MEASURES = {"Shape", "Size"}


class Constness(Enum):
    """How a value is known before the network runs."""

    PARAMETER = auto()
    """Made of initializers and constants only."""
    HOST = auto()
    """A shape or a size, or computed from one."""


def constness(document: Document) -> Mapping[str, Constness]:
    """Return how each value is known; values that depend on the network's inputs do not appear."""
    known = dict.fromkeys(document.initializers, Constness.PARAMETER)
    for node in document.nodes:
        found = _of_outputs(node, known)
        if found is not None:
            known.update(dict.fromkeys(filter(None, node.outputs), found))
    return known


def data_arguments(node: Node) -> tuple[str, ...]:
    """Return the arguments whose values a node reads; the second one of ``CastLike`` only lends its type."""
    arguments = node.inputs[:1] if node.type == "CastLike" and not node.domain else node.inputs
    return tuple(name for name in arguments if name)


def _of_outputs(node: Node, known: Mapping[str, Constness]) -> Constness | None:
    if not node.domain and node.type in _MEASURES:
        return Constness.HOST
    if not node.domain and node.type in _RANDOM:
        return None
    arguments = data_arguments(node)
    if any(name not in known for name in arguments):
        return None
    if any(known[name] is Constness.HOST for name in arguments):
        return Constness.HOST
    is_constant = bool(arguments) or (node.type == "Constant" and not node.domain)
    return Constness.PARAMETER if is_constant else None
