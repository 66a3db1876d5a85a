"""What each operator reads for a box of what it writes: one function for each kind of operator.

The boxes are exact, or cover more where a docstring says so; an operator that no rule covers is read as one that cannot be cut and needs
all of its operands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cosma_sched.graph import Operator
from cosma_sched.mapping.extract import ELEMENTWISE
from cosma_sched.multicore.boxes import Box, Range, Shape, broadcast, concatenated, spanned, spread, volume, whole, window

Nest = tuple[tuple[int, ...], int]
"""Extents in the order N K C P Q R S, and how often they are repeated."""

POINTWISE = ELEMENTWISE | {
    "And",
    "Ceil",
    "Celu",
    "Cos",
    "Dropout",
    "Equal",
    "Expand",
    "FastGelu",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "HardTanh",
    "Less",
    "LessOrEqual",
    "Log",
    "Mod",
    "Not",
    "Or",
    "QuickGelu",
    "Relu6",
    "Round",
    "Sign",
    "Silu",
    "Sin",
    "Softsign",
    "ThresholdedRelu",
    "Xor",
}
"""Operators whose elements depend on the same elements of their operands, after broadcasting."""


@dataclass(frozen=True)
class Loops:
    """An operator as splits and boxes see it.

    Parameters
    ----------
    output
        Shape of its first output.
    axes
        Axis of the output for each dimension that can be cut.
    reads
        For a box of the output and a range of the contraction, the box of each operand; None for an operand that it does not touch.
    contraction
        Extent of the contraction; 0 where there is none that can be cut.
    nest
        For a box and a range of the contraction, the loops of a convolution or product; None for other operators.
    strides, dilations
        Of rows and columns.
    work
        Elements that a vector operator handles for each one that it writes; None: it handles what it reads of its first operand.
    is_known
        Whether a rule covers the operator.
    """

    output: Shape
    axes: Mapping[str, int]
    reads: Callable[[Box, Range], tuple[Box | None, ...]]
    contraction: int = 0
    nest: Callable[[Box, Range], Nest] | None = None
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    work: int | None = 1
    is_known: bool = True

    @property
    def extents(self) -> dict[str, int]:
        """Extent of each dimension that can be cut."""
        found = {dim: self.output[axis] for dim, axis in self.axes.items()}
        return {**found, "contraction": self.contraction} if self.contraction else found

    def elements(self, box: Box) -> int:
        """Return the elements that a vector operator handles for a box of its output."""
        if self.work is not None:
            return volume(box) * self.work
        first = self.reads(box, (0, 1))[0]
        return volume(box if first is None else first)


def loops_of(operator: Operator, shapes: Sequence[Shape], output: Shape) -> Loops:
    """Return the loops of an operator.

    Parameters
    ----------
    operator
        The operator; operands that joined it by folding stand after its own.
    shapes
        Shape in which it sees each operand.
    output
        Shape of its first output.
    """
    own = len(shapes) - sum(len(entry.get("inputs", ())) for entry in operator.attributes.get("folded", ()))
    rule = RULES.get(operator.type) or (_pointwise if operator.type in POINTWISE else None)
    found = rule(operator, tuple(shapes[:own]), output) if rule is not None else None
    if found is None:
        return Loops(output, {}, lambda _box, _range: tuple(whole(shape) for shape in shapes), work=None if shapes else 1, is_known=False)
    if own == len(shapes):
        return found
    joined, channel, main = tuple(shapes[own:]), found.axes.get("channels"), found.reads

    def reads(box: Box, limits: Range) -> tuple[Box | None, ...]:
        return (*main(box, limits), *(_beside(box, shape, output, channel) for shape in joined))

    return Loops(found.output, found.axes, reads, found.contraction, found.nest, found.strides, found.dilations, found.work, found.is_known)


def axes_by_rank(rank: int) -> dict[str, int]:
    """Return which axis of a tensor goes by which name: channels first from four axes on, as convolutions have it."""
    names: dict[str, int] = {}
    if rank >= 3:
        names["channels"] = 1 if rank >= 4 else 0
    if rank >= 2:
        names["rows"] = rank - 2
    if rank >= 1:
        names["columns"] = rank - 1
    return names


def normalized_axes(operator: Operator, rank: int) -> tuple[int, ...] | None:
    """Return the axes that an operator needs whole before it can write any element along them, or None where it needs none.

    Softmax without an attribute ``axis`` means the last axis or all but the first, depending on the operator set: both are covered.
    """
    axis = operator.attributes.get("axis")
    if operator.type in {"Softmax", "LogSoftmax", "Hardmax"}:
        return tuple(range(min(1, rank - 1), rank)) if axis is None else (int(axis) % rank,)
    if operator.type == "LpNormalization":
        return (int(-1 if axis is None else axis) % rank,)
    if operator.type in {"LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "SkipLayerNormalization"}:
        return tuple(range(int(-1 if axis is None else axis) % rank, rank))
    if operator.type in {"InstanceNormalization", "MeanVarianceNormalization"}:
        return tuple(range(2, rank))
    return tuple(range(1, rank)) if operator.type == "GroupNormalization" else None


# Products


def _matmul(_: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    if len(shapes) != 2 or not all(shapes):
        return None
    a, b = shapes
    left, right = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    rows, columns = len(a) > 1, len(b) > 1
    axes = axes_by_rank(len(output)) if rows and columns else {"rows": len(output) - 1} if rows else {"columns": len(output) - 1}
    if not output or (not rows and not columns):
        axes = {}

    def parts(box: Box) -> tuple[Box, Range, Range]:
        limits = list(box)
        across = limits.pop() if columns else (0, 1)
        down = limits.pop() if rows else (0, 1)
        return tuple(limits), down, across

    def reads(box: Box, summed: Range) -> tuple[Box, ...]:
        batch, down, across = parts(box)
        one, other = (*broadcast(batch, left[:-2]), down, summed), (*broadcast(batch, right[:-2]), summed, across)
        return one if rows else one[:-2] + one[-1:], other if columns else other[:-1]

    def nest(box: Box, summed: Range) -> Nest:
        batch, down, across = parts(box)
        repeat = volume(tuple(limits for limits, size in zip(batch[::-1], right[:-2][::-1], strict=False) if size > 1))
        lines = volume(batch) * volume((down,)) // repeat
        return (1, volume((across,)), volume((summed,)), lines, 1, 1, 1), repeat

    return Loops(output, axes, reads, left[-1], nest)


def _gemm(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    if len(shapes) not in {2, 3} or len(shapes[0]) != 2 or len(shapes[1]) != 2:
        return None
    flipped = bool(operator.attributes.get("transA")), bool(operator.attributes.get("transB"))

    def reads(box: Box, summed: Range) -> tuple[Box, ...]:
        one, other = (box[0], summed), (summed, box[1])
        bias = [broadcast(box, shape) for shape in shapes[2:]]
        return one[::-1] if flipped[0] else one, other[::-1] if flipped[1] else other, *bias

    def nest(box: Box, summed: Range) -> Nest:
        return (1, volume(box[1:]), volume((summed,)), volume(box[:1]), 1, 1, 1), 1

    return Loops(output, {"rows": 0, "columns": 1}, reads, shapes[0][0 if flipped[0] else 1], nest)


def _attention(_: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops:
    """The fused operator: rows of the query need all of everything else."""

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        query = whole(shapes[0])
        return (*query[:-2], box[-2], *query[-1:]), *(whole(shape) for shape in shapes[1:])

    return Loops(output, {"rows": len(output) - 2}, reads)


# Windows


@dataclass(frozen=True, slots=True)
class _Window:
    """Kernel, strides, padding before the first element and dilations, one number for each spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def of(cls, operator: Operator, kernel: Sequence[int], size: Sequence[int], output: Sequence[int]) -> _Window:
        """Read the attributes of an operator whose input and output have those spatial sizes."""
        ones = [1] * len(kernel)
        attributes = operator.attributes
        strides, dilations = attributes.get("strides") or ones, attributes.get("dilations") or ones
        pads = list(attributes.get("pads") or [0] * len(kernel))[: len(kernel)]
        mode = str(attributes.get("auto_pad") or "NOTSET")
        if mode.startswith("SAME"):
            reach = [(e - 1) * s + (k - 1) * d + 1 for e, s, k, d in zip(output, strides, kernel, dilations, strict=True)]
            missing = [max(0, covered - extent) for covered, extent in zip(reach, size, strict=True)]
            pads = [total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in missing]
        elif mode == "VALID":
            pads = [0] * len(kernel)
        return cls(*(tuple(int(value) for value in values) for values in (kernel, strides, pads, dilations)))

    def read(self, box: Sequence[Range], size: Sequence[int], back: bool = False) -> Box:
        """Return the spatial input box that an output box sees, forwards or through a transposed convolution."""
        rule = spread if back else window
        return tuple(rule(*entry) for entry in zip(box, size, self.kernel, self.strides, self.pads, self.dilations, strict=True))

    def pair(self, values: tuple[int, ...]) -> tuple[int, int]:
        """Return a number for rows and one for columns."""
        return (values[0], values[-1]) if len(values) > 1 else (values[0], 1)


def _conv(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    if len(shapes) < 2 or len(shapes[0]) != len(shapes[1]) or len(output) != len(shapes[0]) or len(output) < 3:
        return None
    x, w = shapes[0], shapes[1]
    groups = int(operator.attributes.get("group", 1))
    shape = _Window.of(operator, w[2:], x[2:], output[2:])
    each = max(1, w[0] // groups)

    def reads(box: Box, summed: Range) -> tuple[Box, ...]:
        first, last = box[1][0] // each, (box[1][1] - 1) // each
        channels = (first * w[1] + summed[0], last * w[1] + summed[1])
        data = (box[0], channels, *shape.read(box[2:], x[2:]))
        return data, (box[1], summed, *whole(w[2:])), *((box[1],) for _ in shapes[2:])

    def nest(box: Box, summed: Range) -> Nest:
        outputs, repeat = _grouped(box[1], each)
        return _window_nest(box, outputs, volume((summed,)), shape.kernel), repeat

    axes = {"channels": 1, "rows": 2, **({"columns": len(output) - 1} if len(output) > 3 else {})}
    return Loops(output, axes, reads, w[1], nest, shape.pair(shape.strides), shape.pair(shape.dilations))


def _grouped(channels: Range, each: int) -> tuple[int, int]:
    """Return the output channels of one group and the groups inside a range of channels, if the range holds whole groups."""
    count = channels[1] - channels[0]
    return (each, count // each) if channels[0] % each == 0 and count % each == 0 else (count, 1)


def _window_nest(box: Box, outputs: int, inputs: int, kernel: Sequence[int]) -> tuple[int, ...]:
    """Return the seven extents; with one spatial axis it is the rows, with three the depth joins batch and input channels."""
    sizes, taps = [volume((limits,)) for limits in box[2:]], list(kernel)
    depth, deep = (sizes.pop(0), taps.pop(0)) if len(sizes) == 3 else (1, 1)
    rows, columns = (*sizes, 1)[:2]
    return volume(box[:1]) * depth, outputs, inputs * deep, rows, columns, *(*taps, 1)[:2]


def _conv_transpose(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    """Read a transposed convolution; rows and columns between the taps are covered too."""
    if len(shapes) < 2 or len(shapes[0]) != len(shapes[1]) or len(output) != len(shapes[0]) or len(output) < 3:
        return None
    x, w = shapes[0], shapes[1]
    groups = int(operator.attributes.get("group", 1))
    if str(operator.attributes.get("auto_pad") or "NOTSET") != "NOTSET" or operator.attributes.get("output_shape"):
        return None
    shape = _Window.of(operator, w[2:], x[2:], output[2:])
    inputs = x[1] // groups

    def reads(box: Box, summed: Range) -> tuple[Box, ...]:
        first, last = box[1][0] // w[1], (box[1][1] - 1) // w[1]
        channels = (first * inputs + summed[0], last * inputs + summed[1])
        kernels = (0, w[1]) if last > first else (box[1][0] - first * w[1], box[1][1] - first * w[1])
        spatial = shape.read(box[2:], x[2:], back=True)
        return (box[0], channels, *spatial), (channels, kernels, *whole(w[2:])), *((box[1],) for _ in shapes[2:])

    def nest(box: Box, summed: Range) -> Nest:
        outputs, repeat = _grouped(box[1], w[1])
        taps = [-(-k // s) for k, s in zip(shape.kernel, shape.strides, strict=True)]
        return _window_nest(box, outputs, volume((summed,)), taps), repeat

    axes = {"channels": 1, "rows": 2, **({"columns": len(output) - 1} if len(output) > 3 else {})}
    return Loops(output, axes, reads, inputs, nest)


def _pool(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    x = shapes[0]
    if len(x) < 3 or len(output) != len(x):
        return None
    size = list(x[2:])
    is_global = operator.type.startswith("Global")
    kernel = size if is_global else operator.attributes.get("kernel_shape") or size
    shape = _Window.of(operator, kernel, size, output[2:])
    axes = {"channels": 1, "rows": 2, **({"columns": len(output) - 1} if len(output) > 3 else {})}

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        spatial = whole(size) if is_global else shape.read(box[2:], size)
        return ((*box[:2], *spatial),)

    return Loops(output, axes, reads, work=math.prod(kernel))


# Element by element, along an axis, and what moves elements


def _beside(box: Box, shape: Shape, output: Shape, channel: int | None) -> Box:
    """Return what is read of an operand that is broadcast, or that holds one value for each channel; else all of it."""
    if channel is not None and len(output) > 1 and shape == (output[channel],) and shape != output[-1:]:
        return (box[channel],)
    fits = len(shape) <= len(output) and all(size in {1, full} for size, full in zip(shape[::-1], output[::-1], strict=False))
    return broadcast(box, shape) if fits else whole(shape)


def _pointwise(_: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops:
    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        return tuple(_beside(box, shape, output, None) for shape in shapes)

    return Loops(output, axes_by_rank(len(output)), reads)


def _by_channel(_: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops:
    """Batch normalisation: one value of each vector for each channel, which is axis 1."""

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        return box, *((box[1],) if len(output) > 1 else whole(shape) for shape in shapes[1:])

    return Loops(output, axes_by_rank(len(output)), reads)


def _normalization(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    axes = normalized_axes(operator, len(output))
    if axes is None or shapes[0] != output:
        return None

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        channel = 1 if operator.type in {"InstanceNormalization", "GroupNormalization"} else None
        data = spanned(box, output, axes)
        return data, *(data if shape == output else _beside(box, shape, output, channel) for shape in shapes[1:])

    return Loops(output, axes_by_rank(len(output)), reads)


def _local_response(operator: Operator, _: tuple[Shape, ...], output: Shape) -> Loops | None:
    size = int(operator.attributes.get("size", 1))
    if len(output) < 2:
        return None

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        first, last = box[1][0] - (size - 1) // 2, box[1][1] + size // 2
        return ((box[0], (max(0, first), min(output[1], last)), *box[2:]),)

    return Loops(output, axes_by_rank(len(output)), reads)


def _reduction(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    """Sums, means and extremes along axes: those of the attribute, else those whose size has changed."""
    x = shapes[0]
    given = operator.attributes.get("axes", operator.attributes.get("axis"))
    if given is not None:
        axes = {int(axis) % len(x) for axis in (given if isinstance(given, list | tuple) else [given])}
    elif len(output) == len(x):
        axes = {axis for axis, (before, after) in enumerate(zip(x, output, strict=True)) if before != after}
    else:
        return None
    keeps = len(output) == len(x)

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        rest = iter(box)
        data = []
        for axis, size in enumerate(x):
            limits = next(rest) if keeps or axis not in axes else None
            data.append((0, size) if axis in axes else limits or (0, size))
        return tuple(data), *(whole(shape) for shape in shapes[1:])

    return Loops(output, axes_by_rank(len(output)), reads, work=None)


def _gather(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    """A look-up whose indices are data: it may need any row."""
    if len(shapes) != 2:
        return None
    data, indices = shapes
    axis = int(operator.attributes.get("axis", 0)) % len(data)

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        middle = axis + len(indices)
        return (*box[:axis], (0, data[axis]), *box[middle:]), box[axis:middle]

    return Loops(output, axes_by_rank(len(output)), reads)


def _concat(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops:
    """Read a concatenation that others have joined, so that it is no view."""
    axis = int(operator.attributes.get("axis", 0)) % len(output)
    starts = [sum(shape[axis] for shape in shapes[:position]) for position in range(len(shapes))]

    def reads(box: Box, _range: Range) -> tuple[Box | None, ...]:
        return tuple(concatenated(box, shape, axis, start) for shape, start in zip(shapes, starts, strict=True))

    return Loops(output, axes_by_rank(len(output)), reads)


def _resize(operator: Operator, shapes: tuple[Shape, ...], output: Shape) -> Loops | None:
    """Read the neighbourhood that any interpolation needs, a few elements more on either side."""
    x = shapes[0]
    if (
        len(x) != len(output)
        or operator.attributes.get("antialias")
        or "crop" in str(operator.attributes.get("coordinate_transformation_mode"))
    ):
        return None

    def reads(box: Box, _range: Range) -> tuple[Box, ...]:
        data = []
        for (start, stop), before, after in zip(box, x, output, strict=True):
            margin = 0 if before == after else 3 + -(-before // after)
            data.append((max(0, start * before // after - margin), min(before, -(-stop * before // after) + margin)))
        return tuple(data), *(whole(shape) for shape in shapes[1:])

    return Loops(output, axes_by_rank(len(output)), reads)


RULES: Mapping[str, Callable[[Operator, tuple[Shape, ...], Shape], Loops | None]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Attention": _attention,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"), _pool),
    "BatchNormalization": _by_channel,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "LayerNormalization", "RMSNormalization"), _normalization),
    **dict.fromkeys(("SimplifiedLayerNormalization", "InstanceNormalization", "GroupNormalization"), _normalization),
    **dict.fromkeys(("SkipLayerNormalization", "MeanVarianceNormalization"), _normalization),
    "LRN": _local_response,
    **dict.fromkeys((f"Reduce{what}" for what in ("Max", "Min", "Sum", "Mean", "Prod", "L1", "L2", "SumSquare", "LogSumExp")), _reduction),
    **dict.fromkeys(("ArgMax", "ArgMin"), _reduction),
    "Gather": _gather,
    "Concat": _concat,
    "Resize": _resize,
    "Upsample": _resize,
}
"""Rules by operator type."""
