"""Random small networks and splits, and a price list that knows no hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from cosma_sched.graph import Graph, Operator, Tensor
from cosma_sched.multicore.costs import NodeCost, Piece
from cosma_sched.multicore.splits import Cut, Split


class Flat:
    """One cycle for each multiplication or element, on every core."""

    def __init__(self, *cores: str) -> None:
        self.cores = cores or ("0",)
        self.pieces: list[Piece] = []

    def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
        """Return the same price for every core."""
        self.pieces.append(piece)
        return dict.fromkeys(self.cores, NodeCost(max(1, piece.macs or piece.elements), 1))


class Sketch:
    """A network under construction; every tensor has one byte for each element."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.read: set[str] = set()

    def tensor(self, name: str, shape: Sequence[int], kind: str = "activation") -> str:
        size = 1
        for extent in shape:
            size *= extent
        self.tensors[name] = Tensor(name, size, kind, tuple(shape))  # type: ignore[arg-type]
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape or ()

    def add(self, kind: str, inputs: Sequence[str], *shapes: Sequence[int], **attributes: Any) -> list[str]:
        name = f"{kind.lower()}{len(self.operators)}"
        outputs = [self.tensor(f"{name}.{index}" if index else name, shape) for index, shape in enumerate(shapes)]
        self.operators.append(Operator(name, kind, tuple(inputs), tuple(outputs), attributes))
        self.read.update(inputs)
        return outputs

    def graph(self) -> Graph:
        for name, tensor in self.tensors.items():
            if name not in self.read and tensor.kind == "activation":
                self.tensors[name] = Tensor(name, tensor.size_bytes, "output", tensor.shape)  # type: ignore[arg-type]
        return Graph(self.tensors.values(), self.operators, "sketch")


def _fitting(sketch: Sketch, known: Sequence[str], wanted: set[tuple[int, ...]]) -> list[str]:
    return [name for name in known if sketch.shape(name) in wanted]


def _multiply(draw: st.DrawFn, sketch: Sketch, one: str, known: Sequence[str]) -> list[str]:
    """Multiply by a weight or by another matrix that fits."""
    rows, columns = sketch.shape(one)
    fits = [name for name in known if sketch.shape(name)[0] == columns]
    if not fits or draw(st.booleans()):
        fits = [sketch.tensor(f"w{len(sketch.operators)}", (columns, draw(st.integers(1, 5))), "parameter")]
    other = draw(st.sampled_from(fits))
    return sketch.add("MatMul", [one, other], (rows, sketch.shape(other)[1]))


def _attend(draw: st.DrawFn, sketch: Sketch, one: str, known: Sequence[str]) -> list[str]:
    """Scores that only a softmax reads, and a product with what it makes of them."""
    scores = _multiply(draw, sketch, one, known)
    weights = sketch.add("Softmax", scores, sketch.shape(scores[0]), axis=-1)
    if draw(st.booleans()):
        weights = _transpose(draw, sketch, weights[0], known)
    return _multiply(draw, sketch, weights[0], known)


def _add(draw: st.DrawFn, sketch: Sketch, one: str, known: Sequence[str]) -> list[str]:
    rows, columns = sketch.shape(one)
    fits = _fitting(sketch, known, {(rows, columns), (1, columns), (rows, 1), (1, 1)})
    return sketch.add("Add", [one, draw(st.sampled_from(fits))], (rows, columns))


def _by_element(draw: st.DrawFn, sketch: Sketch, one: str, _: Sequence[str]) -> list[str]:
    kind = draw(st.sampled_from(["Relu", "LayerNormalization", "Softmax", "Softmax"]))
    return sketch.add(kind, [one], sketch.shape(one), **({} if kind == "Relu" else {"axis": -1}))


def _transpose(_: st.DrawFn, sketch: Sketch, one: str, _known: Sequence[str]) -> list[str]:
    return sketch.add("Transpose", [one], sketch.shape(one)[::-1], perm=[1, 0])


def _reshape(draw: st.DrawFn, sketch: Sketch, one: str, _: Sequence[str]) -> list[str]:
    rows, columns = sketch.shape(one)
    return sketch.add("Reshape", [one], (1, rows * columns) if draw(st.booleans()) else (rows * columns, 1))


def _slice(draw: st.DrawFn, sketch: Sketch, one: str, _: Sequence[str]) -> list[str]:
    shape = list(sketch.shape(one))
    axis = draw(st.integers(0, 1))
    start = draw(st.integers(0, shape[axis] - 1))
    end = draw(st.integers(start + 1, shape[axis]))
    shape[axis] = end - start
    return sketch.add("Slice", [one], shape, starts=[start], ends=[end], axes=[axis])


def _concat(draw: st.DrawFn, sketch: Sketch, one: str, known: Sequence[str]) -> list[str]:
    axis, shape = draw(st.integers(0, 1)), list(sketch.shape(one))
    other = draw(st.sampled_from([name for name in known if sketch.shape(name)[1 - axis] == shape[1 - axis]]))
    shape[axis] += sketch.shape(other)[axis]
    return sketch.add("Concat", [one, other], shape, axis=axis)


def _split(draw: st.DrawFn, sketch: Sketch, one: str, _: Sequence[str]) -> list[str]:
    rows, columns = sketch.shape(one)
    first = draw(st.integers(1, max(1, columns - 1)))
    if columns == 1:
        return []
    return sketch.add("Split", [one], (rows, first), (rows, columns - first), axis=1, split=[first, columns - first])


@st.composite
def matrix_networks(draw: st.DrawFn, *, reshapes: bool = False) -> Graph:
    """Products, element-wise operators, row barriers and views of matrices."""
    sketch, size = Sketch(), st.integers(1, 5)
    known = [sketch.tensor("x", (draw(size), draw(size)), "input")]
    steps = [
        _multiply,
        _attend,
        _attend,
        _by_element,
        _by_element,
        _add,
        _transpose,
        _slice,
        _concat,
        _split,
        *([_reshape] if reshapes else []),
    ]
    for _ in range(draw(st.integers(2, 8))):
        known += draw(st.sampled_from(steps))(draw, sketch, draw(st.sampled_from(known[-3:])), known)
    known += _multiply(draw, sketch, known[-1], known)
    return sketch.graph()


@st.composite
def image_networks(draw: st.DrawFn) -> Graph:
    """Chains of convolutions, pools and residual sums; windows leave no holes."""
    sketch = Sketch()
    last = sketch.tensor("x", (1, draw(st.integers(1, 3)), draw(st.integers(3, 8)), draw(st.integers(3, 6))), "input")
    known = [last]
    for _ in range(draw(st.integers(2, 4))):
        _, channels, height, width = sketch.shape(last)
        kind = draw(st.sampled_from(["Conv", "MaxPool", "Relu", "Add"]))
        if kind in {"Conv", "MaxPool"}:
            kernel = [draw(st.integers(1, min(3, extent))) for extent in (height, width)]
            strides = [draw(st.integers(1, extent)) for extent in kernel]
            pads = [(extent - 1) // draw(st.integers(1, 2)) // 2 for extent in kernel] * 2
            size = [(extent + 2 * p - k) // s + 1 for extent, p, k, s in zip((height, width), pads, kernel, strides, strict=False)]
            attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
            outputs = draw(st.integers(1, 4)) if kind == "Conv" else channels
            weights = [sketch.tensor(f"w{len(known)}", (outputs, channels, *kernel), "parameter")] if kind == "Conv" else []
            (last,) = sketch.add(kind, [last, *weights], (1, outputs, *size), **attributes)
        else:
            fits = [name for name in known if sketch.shape(name) == sketch.shape(last)]
            inputs = [last, draw(st.sampled_from(fits))] if kind == "Add" else [last]
            (last,) = sketch.add(kind, inputs, sketch.shape(last))
        known.append(last)
    return sketch.graph()


@st.composite
def splits(draw: st.DrawFn, layers: Mapping[str, Mapping[str, int]], *, spread: bool = False) -> Split:
    """Any cuts of any layers."""
    chosen: dict[str, tuple[Cut, ...]] = {}
    for name, extents in layers.items():
        dims = draw(st.lists(st.sampled_from(sorted(extents)), unique=True, min_size=1, max_size=2)) if extents else []
        cuts = []
        for dim in dims:
            number = draw(st.integers(min(2, extents[dim]), extents[dim]))
            between = spread and dim == "contraction" and draw(st.booleans())
            cuts.append(Cut(dim, parts=number, spread=between) if draw(st.booleans()) else Cut(dim, size=number, spread=between))
        chosen[name] = tuple(cuts)
    return Split(layers=chosen)
