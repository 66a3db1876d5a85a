"""A softmax as the four operators that some hardware runs it as: maximum, exponential of the difference, sum, division."""

from __future__ import annotations

import math

from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.multicore.loops import normalized_axes
from cosma_sched.multicore.sources import SOFTMAX


def expanded_softmax(graph: Graph) -> Graph:
    """Return the graph with every softmax as ``ReduceMax``, ``Exp`` (of the scores less their maximum), ``ReduceSum`` and ``Div``.

    The operators and their outputs are called ``NAME.max``, ``NAME.exp``, ``NAME.sum`` and ``NAME.div``; the last one writes what the
    softmax wrote.
    """
    tensors = list(graph.tensors.values())
    operators: list[Operator] = []
    for operator in graph:
        if operator.type not in SOFTMAX:
            operators.append(operator)
            continue
        made, parts = _parts(graph, operator)
        tensors += made
        operators += parts
    return Graph(tensors, operators, graph.name, graph.origin)


def _parts(graph: Graph, operator: Operator) -> tuple[list[Tensor], list[Operator]]:
    result = graph.tensors[operator.outputs[0]]
    shape = result.shape or ()
    axes = normalized_axes(operator, len(shape)) or ()
    rows = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    row_bytes = -(-result.size_bytes * math.prod(rows) // math.prod(shape))
    names = {word: f"{operator.name}.{word}" for word in ("max", "exp", "sum", "div")}
    source = {key: operator.attributes[key] for key in ("input_shapes", "input_views") if key in operator.attributes}
    both = {"input_shapes": [*source["input_shapes"], list(rows)]} if "input_shapes" in source else {}
    if "input_views" in source:
        both |= {"input_views": [*source["input_views"], []]}
    axis = {"axes": list(axes), "keepdims": 1}
    made = [
        Tensor(names["max"], row_bytes, shape=rows, dtype=result.dtype),
        Tensor(names["exp"], result.size_bytes, shape=shape, dtype=result.dtype),
        Tensor(names["sum"], row_bytes, shape=rows, dtype=result.dtype),
    ]
    scores = operator.inputs[0]
    parts = [
        Operator(names["max"], "ReduceMax", (scores,), (names["max"],), {**source, **axis}),
        Operator(names["exp"], "Exp", (scores, names["max"]), (names["exp"],), both),
        Operator(names["sum"], "ReduceSum", (names["exp"],), (names["sum"],), axis),
        Operator(names["div"], "Div", (names["exp"], names["sum"]), operator.outputs, {}),
    ]
    return made, parts
