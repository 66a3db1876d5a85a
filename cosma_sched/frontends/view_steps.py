"""What a view does to the indices of a tensor, as a JSON mapping that an operator carries along where shapes alone do not tell.

``{"type": "Transpose", "perm": [1, 0], "shape": [8, 4]}``: axis i of what is seen is axis ``perm[i]`` of what lies beneath.
``{"type": "Slice", "start": [0, 4], "step": [1, 1], "shape": [8, 4]}``: index i of axis a is index ``start[a] + i * step[a]`` beneath.
With ``"drops": a``, axis a, of one index, is not seen.
``{"type": "Reshape", "shape": [...]}``: the same elements in the same row-major order. Any other type: some elements of what lies beneath.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cosma_sched.frontends.onnx_attributes import attribute
from cosma_sched.frontends.onnx_document import Node
from cosma_sched.frontends.onnx_values import Array

_RESHAPES = {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Cast", "CastLike", "Expand"}


def only_reshapes(steps: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the shapes before and after some views say all about them."""
    return all(step["type"] == "Reshape" for step in steps)


def view_step(node: Node, output: str, source: Sequence[int], shape: Sequence[int], values: Mapping[str, Array]) -> dict[str, Any]:
    """Return what a node that is a view does.

    Parameters
    ----------
    node, output
        The node, and the one of its outputs that is meant.
    source, shape
        Shapes of what lies beneath and of what is seen.
    values
        Small constants of the file by name.
    """
    step: dict[str, Any] = {"type": node.type, "shape": list(shape)}
    if node.type in _RESHAPES:
        step["type"] = "Reshape"
    elif node.type == "Transpose":
        perm = attribute(node.proto, "perm")
        step["perm"] = [int(axis) for axis in perm] if perm is not None else list(range(len(source)))[::-1]
    elif node.type == "Slice":
        step.update(_slice(node, source, shape, values))
    elif node.type == "Split":
        step.update(_split(node, output, source, values))
    elif node.type == "Gather":
        step.update(_gather(node, source, values))
    return step


def _from(source: Sequence[int], axis: int, start: int, stride: int = 1) -> dict[str, Any]:
    """Return a slice that begins inside along one axis."""
    starts, strides = [0] * len(source), [1] * len(source)
    starts[axis], strides[axis] = start, stride
    return {"type": "Slice", "start": starts, "step": strides}


def _slice(node: Node, source: Sequence[int], shape: Sequence[int], values: Mapping[str, Array]) -> dict[str, Any]:
    if len(source) != len(shape):
        return {"type": "Part"}
    if len(node.inputs) > 1:
        given = [values.get(name) if name else None for name in (*node.inputs, "", "")][1:5]
        starts = None if given[0] is None else [int(v) for v in np.ravel(given[0])]
        axes = None if given[2] is None else [int(v) for v in np.ravel(given[2])]
        strides = None if given[3] is None else [int(v) for v in np.ravel(given[3])]
        unread = any(name and values.get(name) is None for name in node.inputs[3:])
    else:
        starts, axes, strides, unread = attribute(node.proto, "starts"), attribute(node.proto, "axes"), None, False
    if starts is None or unread:
        return {"type": "Part"}
    axes = list(range(len(starts))) if axes is None else axes
    strides = [1] * len(starts) if strides is None else strides
    result = {"type": "Slice", "start": [0] * len(source), "step": [1] * len(source)}
    for start, axis, stride in zip(starts, axes, strides, strict=True):
        size = source[axis]
        first = start + size if start < 0 else start
        result["start"][axis] = min(max(first, 0), size - 1)  # type: ignore[index]
        result["step"][axis] = stride  # type: ignore[index]
    return result


def _split(node: Node, output: str, source: Sequence[int], values: Mapping[str, Array]) -> dict[str, Any]:
    axis = int(attribute(node.proto, "axis", 0))
    position = node.outputs.index(output)
    sizes = values.get(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] else attribute(node.proto, "split")
    if sizes is not None:
        return _from(source, axis, sum(int(size) for size in np.ravel(sizes)[:position]))
    if len(node.inputs) > 1 and node.inputs[1]:
        return {"type": "Part"}
    return _from(source, axis, position * -(-source[axis] // len(node.outputs)))


def _gather(node: Node, source: Sequence[int], values: Mapping[str, Array]) -> dict[str, Any]:
    """Return the slice that a gather with one index is; a plain number drops the axis."""
    indices, axis = values.get(node.inputs[1]), int(attribute(node.proto, "axis", 0))
    if indices is None or indices.size != 1:
        return {"type": "Part"}
    index = int(np.ravel(indices)[0])
    step = _from(source, axis, index + source[axis] if index < 0 else index)
    return step if indices.ndim else {**step, "drops": axis % len(source)}
