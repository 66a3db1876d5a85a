"""Where what an operator reads comes from: through views, concatenations and a softmax in place, down to the tensors that hold it.

Two boxes travel together: what is *read*, which must be resident, and what is *needed*, whose producers must have ended. They differ behind
a softmax in place: an element of its output lies where the score lay, and exists only once all scores of its row do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.graph import Graph, Operator, TensorKind
from cosma_sched.multicore.boxes import Box, Shape, concatenated, permuted, reshaped, spanned, whole
from cosma_sched.multicore.loops import normalized_axes

RESHAPES = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})
PARTIAL = frozenset({"Slice", "Split", "Gather"})
SOFTMAX = frozenset({"Softmax", "LpNormalization"})
"""What ``softmax=inplace`` covers; LpNormalization is what exporters write in place of a softmax."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a tensor that holds data: what of it is read, if anything, and what is needed."""

    tensor: str
    reads: Box | None
    needs: Box


@dataclass(frozen=True, slots=True)
class _Way:
    """One operand that a view looks at: its position, what boxes become, and the axes that needs stretch over."""

    position: int
    beneath: Callable[[Box], Box | None]
    barrier: tuple[int, ...] = ()


class Sources:
    """The views of a graph.

    Parameters
    ----------
    graph
        The network; every tensor needs a shape.
    inplace
        Whether a softmax whose scores nobody else reads takes no memory and no time of its own.

    Raises
    ------
    InputError
        With every operator that reads or writes a tensor without a shape.
    """

    def __init__(self, graph: Graph, *, inplace: bool) -> None:
        self._graph = graph
        self._refuse_unshaped()
        self._ways: dict[str, tuple[Operator, tuple[_Way, ...]]] = {}
        self._known: dict[tuple[str, Box | None, Box], tuple[Part, ...]] = {}
        self.views: set[str] = set()
        for operator in graph:
            ways = self._view(operator, inplace)
            if ways is not None:
                self.views.add(operator.name)
                self._ways.update((name, (operator, found)) for name, found in zip(operator.outputs, ways, strict=True))

    def _refuse_unshaped(self) -> None:
        tensors = self._graph.tensors
        defects = [
            Defect(f"operators[{index}] {shown(operator.name)}", f"tensor {shown(name)} has no shape; scheduling needs one")
            for index, operator in enumerate(self._graph)
            for name in dict.fromkeys((*operator.inputs, *operator.outputs))
            if tensors[name].shape is None
        ]
        if defects:
            raise InputError(self._graph.name, defects)

    def shape(self, tensor: str) -> Shape:
        """Return the shape of a tensor."""
        return self._graph.tensors[tensor].shape or ()

    def seen(self, operator: Operator, position: int) -> Shape:
        """Return the shape in which an operator sees an operand."""
        steps = self._steps(operator, position)
        return tuple(steps[-1]["shape"]) if steps else self.shape(operator.inputs[position])

    def trace(self, operator: Operator, position: int, reads: Box | None, needs: Box) -> tuple[Part, ...]:
        """Return which parts of tensors that hold data lie behind boxes of an operand."""
        steps, tensor = self._steps(operator, position), operator.inputs[position]
        for index in reversed(range(len(steps))):
            beneath = tuple(steps[index - 1]["shape"]) if index else self.shape(tensor)
            seen = tuple(steps[index]["shape"])
            reads = None if reads is None else _through(steps[index], reads, seen, beneath)
            needs = _through(steps[index], needs, seen, beneath)
        return self.of(tensor, reads, needs)

    def of(self, tensor: str, reads: Box | None, needs: Box) -> tuple[Part, ...]:
        """Return which parts of tensors that hold data lie behind boxes of a tensor."""
        if tensor not in self._ways:
            return (Part(tensor, reads, needs),)
        key = tensor, reads, needs
        if key not in self._known:
            operator, ways = self._ways[tensor]
            found: list[Part] = []
            for way in ways:
                wanted = way.beneath(needs)
                if wanted is not None:
                    stretched = spanned(wanted, self.seen(operator, way.position), way.barrier) if way.barrier else wanted
                    found += self.trace(operator, way.position, None if reads is None else way.beneath(reads), stretched)
            self._known[key] = tuple(found)
        return self._known[key]

    def _steps(self, operator: Operator, position: int) -> Sequence[Mapping[str, Any]]:
        """Return the views between a tensor and what an operator sees of it."""
        views = operator.attributes.get("input_views")
        if views is not None and position < len(views) and views[position]:
            steps: Sequence[Mapping[str, Any]] = views[position]
            return steps
        shapes = operator.attributes.get("input_shapes")
        shape = self.shape(operator.inputs[position])
        if shapes is None or position >= len(shapes) or tuple(shapes[position]) == shape:
            return ()
        same = math.prod(shapes[position]) == math.prod(shape)
        return ({"type": "Reshape" if same else "Part", "shape": shapes[position]},)

    def _view(self, operator: Operator, inplace: bool) -> tuple[tuple[_Way, ...], ...] | None:
        """Return for each output of a view what it looks at, or None for an operator that computes."""
        if not operator.inputs or operator.attributes.get("folded"):
            return None
        source, output = self.seen(operator, 0), self.shape(operator.outputs[0])
        if operator.type in RESHAPES or (operator.type == "Dropout" and len(operator.outputs) == 1):
            return ((_Way(0, lambda box: reshaped(box, output, source)),),)
        if operator.type == "Transpose":
            perm = operator.attributes.get("perm") or list(range(len(source)))[::-1]
            return ((_Way(0, lambda box: permuted(box, perm)),),)
        if operator.type == "Concat":
            return (self._joined(operator, output),)
        if operator.type in PARTIAL:
            return self._pieces(operator, source)
        if inplace and operator.type in SOFTMAX and self._is_inplace(operator):
            return ((_Way(0, lambda box: box, normalized_axes(operator, len(source)) or ()),),)
        return None

    def _joined(self, operator: Operator, output: Shape) -> tuple[_Way, ...]:
        axis = int(operator.attributes.get("axis", 0)) % len(output)
        ways, offset = [], 0
        for position in range(len(operator.inputs)):
            shape = self.seen(operator, position)
            ways.append(_Way(position, lambda box, shape=shape, offset=offset: concatenated(box, shape, axis, offset)))  # type: ignore[misc]
            offset += shape[axis]
        return tuple(ways)

    def _pieces(self, operator: Operator, source: Shape) -> tuple[tuple[_Way, ...], ...] | None:
        """Return what each output of a Slice, Split or Gather looks at; None for a look-up whose indices are data."""
        tensors = self._graph.tensors
        steps: Mapping[str, Mapping[str, Any]] = operator.attributes.get("output_views") or {}
        fixed = all(tensors[name].kind is TensorKind.PARAMETER for name in operator.inputs[1:])
        if not fixed or (operator.type == "Gather" and not steps):
            return None
        if not steps:
            steps = _from_attributes(operator, source, [self.shape(name) for name in operator.outputs])
        return tuple((_Way(0, self._step_of(steps.get(name), self.shape(name), source)),) for name in operator.outputs)

    @staticmethod
    def _step_of(step: Mapping[str, Any] | None, output: Shape, source: Shape) -> Callable[[Box], Box]:
        return lambda box: _through(step, box, output, source) if step is not None else whole(source)

    def _is_inplace(self, operator: Operator) -> bool:
        """True where the scores are computed here, nobody else reads them, and all of them are normalised."""
        tensor = self._graph.tensors[operator.inputs[0]]
        alone = len(self._graph.consumers(tensor.name)) == 1 and tensor.kind is TensorKind.ACTIVATION
        return alone and self.seen(operator, 0) == self.shape(operator.outputs[0])


def _from_attributes(operator: Operator, source: Shape, outputs: Sequence[Shape]) -> dict[str, Mapping[str, Any]]:
    """Return the steps of a Split into all of its pieces, or of a Slice with its limits as attributes; nothing where they are not known."""
    starts = operator.attributes.get("starts")
    if operator.type == "Slice" and starts is not None and len(operator.inputs) == 1:
        begin = [0] * len(source)
        for start, axis in zip(starts, operator.attributes.get("axes") or range(len(starts)), strict=False):
            size = source[axis]
            begin[axis] = min(max(start + size if start < 0 else start, 0), size - 1)
        return {operator.outputs[0]: {"type": "Slice", "start": begin, "step": [1] * len(source)}}
    axis = int(operator.attributes.get("axis", 0)) % len(source)
    steps: dict[str, Mapping[str, Any]] = {}
    offset = 0
    for name, shape in zip(operator.outputs, outputs, strict=True):
        begin = [0] * len(source)
        begin[axis] = offset
        offset += shape[axis]
        steps[name] = {"type": "Slice", "start": begin, "step": [1] * len(source)}
    return steps if operator.type == "Split" and offset == source[axis] else {}


def _through(step: Mapping[str, Any], box: Box, seen: Shape, source: Shape) -> Box:
    """Return the box beneath a view; the whole of what lies beneath one of an unknown kind."""
    kind = step["type"]
    if kind == "Reshape":
        return reshaped(box, seen, source)
    if kind == "Transpose":
        return permuted(box, step["perm"])
    if kind == "Slice":
        limits = list(box)
        if "drops" in step:
            limits.insert(step["drops"], (0, 1))
        return tuple(_strided(entry, *how) for entry, how in zip(limits, zip(step["start"], step["step"], strict=True), strict=True))
    return whole(source)


def _strided(limits: tuple[int, int], start: int, step: int) -> tuple[int, int]:
    ends = start + limits[0] * step, start + (limits[1] - 1) * step
    return min(ends), max(ends) + 1
