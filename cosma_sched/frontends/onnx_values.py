"""Values that are known before the network runs: shapes, axes, indices, and the arithmetic that files do on them.

The rules cover what exporters write between a ``Shape`` and the ``Reshape`` that reads it. Anything else simply stays unknown, and so
does everything larger than `MAX_VALUES` elements.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cosma_sched.frontends.onnx_attributes import attribute
from cosma_sched.frontends.onnx_document import MAX_VALUES, Node

if TYPE_CHECKING:
    from onnx import TensorProto

Array = NDArray[Any]
Rule = Callable[[Node, list[Array | None]], list[Array]]

_READABLE = {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13}
"""Numbers of the element types that numpy has itself; values of other types are no shapes."""


def tensor_values(tensor: TensorProto) -> Array | None:
    """Return the values of a small tensor, or None where the file does not carry them."""
    from onnx import TensorProto, numpy_helper

    count = math.prod(tensor.dims)
    if count > MAX_VALUES or tensor.data_type not in _READABLE or tensor.data_location == TensorProto.EXTERNAL:
        return None
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except ValueError:  # the values were taken out of the file
        return None


def constant_values(node: Node) -> Array | None:
    """Return the values of a ``Constant`` node, or None where they are large or not numbers."""
    for entry in node.proto.attribute:
        if entry.name == "value":
            return tensor_values(entry.t)
        if entry.name in {"value_int", "value_ints"}:
            return np.asarray(attribute(node.proto, entry.name), dtype=np.int64)
        if entry.name in {"value_float", "value_floats"}:
            return np.asarray(entry.f if entry.name == "value_float" else list(entry.floats), dtype=np.float32)
    return None


def evaluate(node: Node, arguments: Sequence[Array | None], number: int) -> list[Array] | None:
    """Return the outputs of a node whose arguments are known, or None where no rule covers it.

    Parameters
    ----------
    node
        The node; the caller has made sure that its outputs are small.
    arguments
        Value of each input, None for an input that is left out.
    number
        ONNX number of the element type of the outputs.
    """
    from onnx import helper

    rule = _RULES.get(node.type) if not node.domain else None
    if rule is None or number not in _READABLE:
        return None
    try:
        with np.errstate(all="ignore"):
            outputs = rule(node, list(arguments))
            return [np.asarray(output).astype(helper.tensor_dtype_to_np_dtype(number)) for output in outputs]
    except (ValueError, TypeError, IndexError, ZeroDivisionError, OverflowError, AttributeError):
        return None  # a malformed node: shape inference has the better message


def _pointwise(function: Callable[..., Array]) -> Rule:
    return lambda _, given: [function(*given)]


def _folded(function: Callable[[Array, Array], Array]) -> Rule:
    return lambda _, given: [reduce(function, given)]  # type: ignore[arg-type]


def _divide(left: Array, right: Array) -> Array:
    if np.issubdtype(left.dtype, np.integer):
        return np.asarray(np.sign(left) * np.sign(right) * (np.abs(left) // np.abs(right)))  # ONNX rounds towards zero
    return np.asarray(np.divide(left, right))


def _axes(node: Node, given: list[Array | None], position: int) -> tuple[int, ...] | None:
    """Return the axes of a node, which are an attribute in old operator sets and an input in new ones."""
    if len(given) > position and given[position] is not None:
        return tuple(int(axis) for axis in np.ravel(given[position]))  # type: ignore[arg-type]
    axes = attribute(node.proto, "axes")
    return None if axes is None else tuple(axes)


def _array(given: list[Array | None], position: int) -> Array:
    value = given[position]
    if value is None:
        raise ValueError("an argument is left out")
    return value


def _gather(node: Node, given: list[Array | None]) -> list[Array]:
    return [np.take(_array(given, 0), _array(given, 1), axis=attribute(node.proto, "axis", 0))]


def _concat(node: Node, given: list[Array | None]) -> list[Array]:
    return [np.concatenate([_array(given, index) for index in range(len(given))], axis=attribute(node.proto, "axis", 0))]


def _unsqueeze(node: Node, given: list[Array | None]) -> list[Array]:
    return [np.expand_dims(_array(given, 0), _axes(node, given, 1) or ())]


def _squeeze(node: Node, given: list[Array | None]) -> list[Array]:
    return [np.squeeze(_array(given, 0), _axes(node, given, 1))]


def _slice(node: Node, given: list[Array | None]) -> list[Array]:
    data = _array(given, 0)
    if len(given) > 1:
        starts, ends = _array(given, 1).tolist(), _array(given, 2).tolist()
        axes = _axes(node, given, 3)
        steps = given[4].tolist() if len(given) > 4 and given[4] is not None else [1] * len(starts)
    else:
        starts, ends = attribute(node.proto, "starts"), attribute(node.proto, "ends")
        axes, steps = _axes(node, given, 1), [1] * len(starts)
    cut = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes or range(len(starts)), steps, strict=True):
        open_end = step < 0 and end < -data.shape[axis]
        cut[axis] = slice(start, None if open_end else end, step)
    return [data[tuple(cut)]]


def _reshape(node: Node, given: list[Array | None]) -> list[Array]:
    data, target = _array(given, 0), _array(given, 1).tolist()
    keeps_zero = attribute(node.proto, "allowzero", 0)
    return [data.reshape([data.shape[axis] if size == 0 and not keeps_zero else size for axis, size in enumerate(target)])]


def _transpose(node: Node, given: list[Array | None]) -> list[Array]:
    return [np.transpose(_array(given, 0), attribute(node.proto, "perm"))]


def _expand(_: Node, given: list[Array | None]) -> list[Array]:
    data, target = _array(given, 0), tuple(_array(given, 1).tolist())
    return [np.broadcast_to(data, np.broadcast_shapes(data.shape, target))]


def _constant_of_shape(node: Node, given: list[Array | None]) -> list[Array]:
    fill = attribute(node.proto, "value", {"values": [0.0]})["values"][0]
    return [np.full(_array(given, 0).tolist(), fill)]


def _range(_: Node, given: list[Array | None]) -> list[Array]:
    return [np.arange(*(_array(given, index).item() for index in range(3)))]


def _tile(_: Node, given: list[Array | None]) -> list[Array]:
    return [np.tile(_array(given, 0), _array(given, 1).tolist())]


def _split(node: Node, given: list[Array | None]) -> list[Array]:
    data, axis = _array(given, 0), attribute(node.proto, "axis", 0)
    sizes = given[1].tolist() if len(given) > 1 and given[1] is not None else attribute(node.proto, "split")
    if sizes is None:
        parts = len(node.outputs)
        sizes = [-(-data.shape[axis] // parts)] * (parts - 1)
        return list(np.split(data, np.cumsum(sizes), axis=axis))
    return list(np.split(data, np.cumsum(sizes)[:-1], axis=axis))


def _reduce(function: Callable[..., Array]) -> Rule:
    def rule(node: Node, given: list[Array | None]) -> list[Array]:
        keeps = bool(attribute(node.proto, "keepdims", 1))
        axes = _axes(node, given, 1)
        if not axes and attribute(node.proto, "noop_with_empty_axes", 0):
            return [_array(given, 0)]
        return [function(_array(given, 0), axis=axes or None, keepdims=keeps)]

    return rule


def _first(_: Node, given: list[Array | None]) -> list[Array]:
    return [_array(given, 0)]


_RULES: dict[str, Rule] = {
    "Identity": _first,
    "Cast": _first,
    "CastLike": _first,
    "Gather": _gather,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Range": _range,
    "Tile": _tile,
    "Split": _split,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "Add": _pointwise(np.add),
    "Sub": _pointwise(np.subtract),
    "Mul": _pointwise(np.multiply),
    "Div": _pointwise(_divide),
    "Pow": _pointwise(np.power),
    "Mod": _pointwise(np.mod),
    "Neg": _pointwise(np.negative),
    "Abs": _pointwise(np.abs),
    "Floor": _pointwise(np.floor),
    "Ceil": _pointwise(np.ceil),
    "Sqrt": _pointwise(np.sqrt),
    "Max": _folded(np.maximum),
    "Min": _folded(np.minimum),
    "Equal": _pointwise(np.equal),
    "Less": _pointwise(np.less),
    "LessOrEqual": _pointwise(np.less_equal),
    "Greater": _pointwise(np.greater),
    "GreaterOrEqual": _pointwise(np.greater_equal),
    "And": _pointwise(np.logical_and),
    "Or": _pointwise(np.logical_or),
    "Not": _pointwise(np.logical_not),
    "Where": _pointwise(np.where),
}
