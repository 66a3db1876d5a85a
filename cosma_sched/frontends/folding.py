"""Folding: operators that a compiler runs as part of a neighbour join it and write no tensor of their own.

A merged operator keeps the name and attributes of its main operator; ``attributes["folded"]`` lists what has joined it, in the order in
which it runs, each with the parameters it brings. The rules are those of the memory planner (section 3 of its specification).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cosma_sched.frontends.network import Draft, Network, Operand
from cosma_sched.frontends.options import Fold

_UNARY = {
    "BatchNormalization",
    "Relu",
    "Clip",
    "Sigmoid",
    "HardSigmoid",
    "HardSwish",
    "Gelu",
    "Tanh",
    "LeakyRelu",
    "PRelu",
    "Erf",
    "Sqrt",
    "Exp",
}
_WITH_CONSTANT = {"Add", "Sub", "Mul", "Div", "Pow"}
_LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_TAKES_PROLOGUE = {"Conv", "Gemm", "MatMul", "MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"}


def fold(network: Network, level: Fold) -> Network:
    """Return the network after folding at a level; the levels above ``none`` include those below them."""
    if level is Fold.NONE:
        return network
    network = _fold_into_producers(network, level)
    return _fold_into_consumers(network) if level is Fold.PROLOGUE else network


def is_elementwise(network: Network, draft: Draft) -> bool:
    """True for an operator that computes each element of its one output from the same element of its one data operand."""
    if draft.domain or len(draft.outputs) != 1:
        return False
    if draft.type not in _UNARY and not (draft.type in _WITH_CONSTANT and draft.reads_constant):
        return False
    data = network.data(draft)
    if len({operand.tensor for operand in data}) != 1:
        return False
    elements = network.types[draft.outputs[0]].elements
    return network.types[data[0].tensor].elements == elements == _elements(data[0])


def _elements(operand: Operand) -> int:
    count = 1
    for size in operand.shape:
        count *= size
    return count


def _fold_into_producers(network: Network, level: Fold) -> Network:
    """Let element-wise operators join the producer of what they read where nobody else reads it; chains collapse."""
    readers = network.readers()
    groups: list[Draft] = []
    writer: dict[str, int] = {}  # tensor -> position in groups of the operator that writes it
    for draft in network.drafts:
        joined = _producer_to_join(network, level, draft, groups, writer)
        if joined is not None:
            source = network.data(draft)[0].tensor
            if len(readers[source]) == 1 and source not in network.outputs:
                groups[joined] = _with_epilogue(network, groups[joined], draft, source)
                writer[draft.outputs[0]] = joined
                continue
        writer.update(dict.fromkeys(draft.outputs, len(groups)))
        groups.append(draft)
    return replace(network, drafts=tuple(groups))


def _producer_to_join(network: Network, level: Fold, draft: Draft, groups: list[Draft], writer: Mapping[str, int]) -> int | None:
    """Return the position of the operator that a draft may join by its kind, or None."""
    if not is_elementwise(network, draft):
        return None
    position = writer.get(network.data(draft)[0].tensor)
    if position is None or level is not Fold.BATCHNORM:
        return position
    main = groups[position]
    is_plain_linear = not main.domain and main.type in _LINEAR and not main.folded
    return position if draft.type == "BatchNormalization" and is_plain_linear else None


def _with_epilogue(network: Network, main: Draft, draft: Draft, source: str) -> Draft:
    """Return `main` with an element-wise operator run after it: its output takes the place of `source`."""
    parameters = _parameters_brought(network, main, draft)
    return replace(
        main,
        operands=main.operands + parameters,
        outputs=tuple(draft.outputs[0] if name == source else name for name in main.outputs),
        folded=(*main.folded, _entry(draft, parameters), *draft.folded),
    )


def _parameters_brought(network: Network, main: Draft, draft: Draft) -> tuple[Operand, ...]:
    """Return the parameters that an operator brings along.

    A batch normalisation right after a convolution or a matrix product scales its weights once and for all; what is left of its four
    vectors is one bias, and nothing where there is a bias already.
    """
    parameters = tuple(operand for operand in draft.operands if operand.tensor in network.parameters)
    if draft.type != "BatchNormalization" or main.domain or main.type not in _LINEAR or main.folded:
        return parameters
    has_bias = len(main.operands) > 2
    return () if has_bias else parameters[1:2]


def _entry(draft: Draft, parameters: tuple[Operand, ...]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": draft.name, "type": draft.type, "inputs": [operand.tensor for operand in parameters]}
    return {**entry, "attributes": dict(draft.attributes)} if draft.attributes else entry


def _fold_into_consumers(network: Network) -> Network:
    """Let element-wise operators and paddings join the one convolution, matrix product or pooling that reads them."""
    drafts: dict[str, Draft] = {draft.name: draft for draft in network.drafts}
    readers = {name: [draft.name for draft in found] for name, found in network.readers().items()}
    for draft in reversed(network.drafts):
        if len(draft.outputs) != 1 or draft.outputs[0] in network.outputs or not _is_prologue(network, draft):
            continue
        output = draft.outputs[0]
        names = readers.get(output, [])
        if len(names) != 1 or drafts[names[0]].domain or drafts[names[0]].type not in _TAKES_PROLOGUE:
            continue
        source = network.data(draft)[0].tensor
        drafts[names[0]] = _with_prologue(network, drafts[names[0]], draft)
        readers[source] = list(dict.fromkeys(names[0] if name == draft.name else name for name in readers[source]))
        del drafts[draft.name]
    return replace(network, drafts=tuple(drafts.values()))


def _is_prologue(network: Network, draft: Draft) -> bool:
    """True for an element-wise operator, or a Pad, whatever of the same kind has joined it."""
    if draft.type == "Pad" and not draft.domain:
        return len({operand.tensor for operand in network.data(draft)}) == 1
    return is_elementwise(network, draft)


def _with_prologue(network: Network, main: Draft, draft: Draft) -> Draft:
    """Return `main` reading what `draft` reads, with `draft` run before it."""
    source = network.data(draft)[0]
    before = source.steps if draft.type != "Pad" else (*source.steps, {"type": "Pad", "shape": list(network.types[draft.outputs[0]].shape)})
    parameters = tuple(operand for operand in draft.operands if operand.tensor in network.parameters)
    operands = tuple(
        replace(operand, tensor=source.tensor, steps=(*before, *operand.steps)) if operand.tensor == draft.outputs[0] else operand
        for operand in main.operands
    )
    return replace(main, operands=operands + parameters, folded=(_entry(draft, parameters), *draft.folded, *main.folded))
