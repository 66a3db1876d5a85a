"""Which node makes each single element, and which tile holds it: the slow way, with numpy arrays of sets.

Nothing here knows of boxes: views are numpy's own, a softmax is a union over its row, a product unites a row and a column.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from cosma_sched.graph import Graph, Operator
from cosma_sched.multicore.nodes import Expansion, Work

Sets = np.ndarray
Both = tuple[Sets, Sets]
"""For each element: the nodes that make it, and the tiles that hold it."""


def expected(expansion: Expansion, *, inplace: bool) -> list[tuple[frozenset[int], frozenset[int]]]:
    """Return what each node needs and reads: positions of nodes and of tiles."""
    graph = expansion.graph
    known: dict[str, Both] = {}
    for name, tensor in graph.tensors.items():
        if not tensor.kind.is_produced:
            known[name] = _empty(tensor.shape or ()), _tiles(expansion, name, tensor.shape or ())
    answers: list[tuple[frozenset[int], frozenset[int]]] = [(frozenset(), frozenset())] * len(expansion.nodes)
    for operator in graph:
        mine = [index for index, work in enumerate(expansion.works) if work.operator == operator.name]
        operands = [_seen(operator, position, known[name]) for position, name in enumerate(operator.inputs)]
        if not mine:
            known.update(_view(graph, operator, operands, inplace=inplace))
            continue
        output = operator.outputs[0]
        shape = graph.tensors[output].shape or ()
        made = _empty(shape)
        for index in mine:
            answers[index] = _node(expansion, index, operator, operands)
            _unite(made, tuple(slice(*limits) for limits in expansion.works[index].box), frozenset([index]))
        known[output] = made, _tiles(expansion, output, shape)
    return answers


def _node(expansion: Expansion, index: int, operator: Operator, operands: list[Both]) -> tuple[frozenset[int], frozenset[int]]:
    work, node = expansion.works[index], expansion.nodes[index]
    made, held = (READ[operator.type](operator, work, [operand[which] for operand in operands]) for which in (0, 1))
    earlier = {other for other in range(index) if expansion.nodes[other].writes == node.writes}
    return made | earlier, held - {node.writes}


def _empty(shape: tuple[int, ...]) -> Sets:
    array = np.empty(shape, dtype=object)
    array.fill(frozenset())
    return array


def _unite(array: Sets, place: tuple[slice, ...], more: frozenset[int]) -> None:
    for index in itertools.product(*(range(*part.indices(size)) for part, size in zip(place, array.shape, strict=True))):
        array[index] |= more


def _tiles(expansion: Expansion, tensor: str, shape: tuple[int, ...]) -> Sets:
    array = _empty(shape)
    for position, (tile, box) in enumerate(zip(expansion.tiles, expansion.boxes, strict=True)):
        if tile.tensor == tensor:
            _unite(array, tuple(slice(*limits) for limits in box), frozenset([position]))
    return array


def _seen(operator: Operator, position: int, operand: Both) -> Both:
    for step in (operator.attributes.get("input_views") or [[]] * (position + 1))[position]:
        assert step["type"] == "Transpose"
        operand = np.transpose(operand[0], step["perm"]), np.transpose(operand[1], step["perm"])
    return operand


def union(array: Sets) -> frozenset[int]:
    return frozenset().union(*array.ravel())


def _view(graph: Graph, operator: Operator, operands: list[Both], *, inplace: bool) -> Mapping[str, Both]:
    first = operands[0]
    if operator.type == "Transpose":
        return {operator.outputs[0]: tuple(np.transpose(array, operator.attributes["perm"]) for array in first)}
    if operator.type == "Reshape":
        return {operator.outputs[0]: tuple(array.reshape(graph.tensors[operator.outputs[0]].shape) for array in first)}
    if operator.type == "Slice":
        (start,), (end,), (axis,) = (operator.attributes[key] for key in ("starts", "ends", "axes"))
        place = tuple(slice(start, end) if index == axis else slice(None) for index in range(first[0].ndim))
        return {operator.outputs[0]: tuple(array[place] for array in first)}
    if operator.type == "Concat":
        joined = tuple(np.concatenate([operand[which] for operand in operands], operator.attributes["axis"]) for which in (0, 1))
        return {operator.outputs[0]: joined}
    if operator.type == "Split":
        sizes = np.cumsum(operator.attributes["split"])[:-1]
        pieces = [np.split(array, sizes, operator.attributes["axis"]) for array in first]
        return {name: (pieces[0][index], pieces[1][index]) for index, name in enumerate(operator.outputs)}
    assert operator.type == "Softmax"
    assert inplace
    made = _empty(first[0].shape)
    for row in range(made.shape[0]):
        made[row, :].fill(union(first[0][row]))
    return {operator.outputs[0]: (made, first[1])}


# What a node reads, element by element


def _matmul(_: Operator, work: Work, operands: list[Sets]) -> frozenset[int]:
    rows, columns = (slice(*limits) for limits in work.box)
    summed = slice(*work.summed)
    return union(operands[0][rows, summed]) | union(operands[1][summed, columns])


def _pointwise(_: Operator, work: Work, operands: list[Sets]) -> frozenset[int]:
    place = tuple(slice(*limits) for limits in work.box)
    shape = np.broadcast_shapes(*(array.shape for array in operands))
    return frozenset().union(*(union(np.broadcast_to(array, shape)[place]) for array in operands))


def _rows(_: Operator, work: Work, operands: list[Sets]) -> frozenset[int]:
    return union(operands[0][slice(*work.box[0])])


def _window(operator: Operator, work: Work, operands: list[Sets]) -> frozenset[int]:
    """Every tap of every output element, for convolutions and pools."""
    data = operands[0]
    kernel, strides, pads = (operator.attributes[key] for key in ("kernel_shape", "strides", "pads"))
    found: set[int] = set()
    inputs = range(*work.summed) if operator.type == "Conv" else None
    for n, k, p, q in itertools.product(*(range(*limits) for limits in work.box)):
        for r, s in itertools.product(range(kernel[0]), range(kernel[1])):
            row, column = p * strides[0] - pads[0] + r, q * strides[1] - pads[1] + s
            if 0 <= row < data.shape[2] and 0 <= column < data.shape[3]:
                for channel in inputs if inputs is not None else [k]:
                    found |= data[n, channel, row, column]
        if operator.type == "Conv":
            for channel in inputs or ():
                found |= union(operands[1][k, channel])
    return frozenset(found)


READ: Mapping[str, Callable[[Operator, Work, list[Sets]], frozenset[int]]] = {
    "MatMul": _matmul,
    "Add": _pointwise,
    "Relu": _pointwise,
    "Softmax": _rows,
    "LayerNormalization": _rows,
    "Conv": _window,
    "MaxPool": _window,
}
