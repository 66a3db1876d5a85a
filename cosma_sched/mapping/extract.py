"""From operators to layers: what each operator of a graph means in seven dims, and what cannot be said in them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.graph import Graph, Operator, Origin, Tensor, TensorKind
from cosma_sched.mapping.layer import Layer, Unsupported, VectorOperator, Workload

VIEWS = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout"})
ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Div",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Sum",
        "Swish",
        "Tanh",
        "Where",
    }
)
_OTHER_PRODUCTS = {
    "LSTM": "a recurrence is no single loop nest",
    "GRU": "a recurrence is no single loop nest",
    "RNN": "a recurrence is no single loop nest",
    "Einsum": "the indices of its equation are not read",
    "DeformConv": "its input addresses are data",
    "ConvInteger": "only Conv is read; export it as Conv with an element type",
    "QLinearConv": "only Conv is read; export it as Conv with an element type",
    "MatMulInteger": "only MatMul is read; export it as MatMul with an element type",
    "QLinearMatMul": "only MatMul is read; export it as MatMul with an element type",
}


class _InexpressibleError(Exception):
    """An operator that the seven dims cannot express; the text says why."""


@dataclass(slots=True)
class _Reading:
    """What has been read so far."""

    graph: Graph
    layers: list[Layer] = field(default_factory=list)
    vectors: list[VectorOperator] = field(default_factory=list)
    unsupported: list[Unsupported] = field(default_factory=list)
    remarks: dict[str, None] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)
    drains: dict[str, str] = field(default_factory=dict)
    """Tensor -> layer in whose drain it is made."""

    def shape(self, operator: Operator, position: int) -> tuple[int, ...]:
        """Return the shape in which an operator sees an operand.

        Raises
        ------
        InputError
            If it is not known.
        """
        seen = operator.attributes.get("input_shapes")
        if seen is not None and position < len(seen):
            return tuple(int(size) for size in seen[position])
        return self.known(operator, self.graph.tensors[operator.inputs[position]])

    def known(self, operator: Operator, tensor: Tensor) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        if tensor.shape is None:
            raise self.refusal(operator, f"tensor {shown(tensor.name)} has no shape; mapping needs one")
        return tensor.shape

    def refusal(self, operator: Operator, problem: str) -> InputError:
        """Return the error that names an operator and what is wrong with it."""
        place = f"operators[{self.graph.operator_index[operator.name]}] {shown(operator.name)}"
        return InputError(self.graph.name, [Defect(place, problem)])

    def require_equal(self, operator: Operator, what: str, one: int, other: int) -> None:
        """Check that two extents of an operator's operands agree.

        Raises
        ------
        InputError
            If they do not.
        """
        if one != other:
            raise self.refusal(operator, f"its operands do not fit together: {what} {one} and {other}")

    def bytes_of(self, name: str) -> int:
        """Return the bytes of an element of a tensor."""
        tensor = self.graph.tensors[name]
        return max(1, -(-tensor.size_bytes // math.prod(tensor.shape or (tensor.size_bytes,))))

    def words(self, operator: Operator) -> tuple[int, ...]:
        """Return the words of an operator's operands, as far as it reads them, and of its results; axes and sizes are no words."""
        results = tuple(self.graph.tensors[name].size_bytes for name in operator.outputs)
        return (*(self._read_words(operator, position, sum(results)) for position in range(len(operator.inputs))), *results)

    def _read_words(self, operator: Operator, position: int, result: int) -> int:
        tensor = self.graph.tensors[operator.inputs[position]]
        if tensor.kind == TensorKind.PARAMETER and tensor.dtype == "int64":
            return 0
        if operator.type == "Gather" and position == 0:
            return min(result, tensor.size_bytes)  # the rows that are looked up
        seen = operator.attributes.get("input_shapes")
        if seen is None or position >= len(seen):
            return tensor.size_bytes
        return min(math.prod(int(size) for size in seen[position]) * self.bytes_of(tensor.name), tensor.size_bytes)


def workload_of(graph: Graph, *, charged: bool = False) -> Workload:
    """Read the layers of a graph.

    Parameters
    ----------
    graph
        The network; its convolutions and products need shapes.
    charged
        Let element-wise operators with a further operand drain with the layer before them, and give that layer their words.

    Raises
    ------
    InputError
        With every tensor whose shape is missing, or if there is no convolution and no product at all.
    """
    reading = _Reading(graph)
    for operator in graph:
        _read(reading, operator)
    if reading.defects:
        raise InputError(graph.name, reading.defects)
    if not reading.layers and not reading.unsupported:
        raise InputError(graph.name, "holds no convolution and no matrix product, so there is nothing to map")
    layers = tuple(reading.layers)
    if charged:
        layers = tuple(_with_drain(layer, reading.vectors) for layer in layers)
    if any(max(layer.element_bytes) > 1 for layer in layers):
        reading.remarks["energies are certified for elements of one byte; wider ones count as so many words in scratchpad and DRAM"] = None
    origin = graph.origin or Origin("", graph.sha256)
    return Workload(graph.name, layers, tuple(reading.vectors), tuple(reading.unsupported), tuple(reading.remarks), origin)


def _with_drain(layer: Layer, vectors: Sequence[VectorOperator]) -> Layer:
    words = tuple(word for vector in vectors if vector.folded_into == layer.name for word in vector.words)
    return replace(layer, drain_words=words) if words else layer


def _read(reading: _Reading, operator: Operator) -> None:
    if operator.attributes.get("domain"):
        domain = operator.attributes["domain"]
        reading.unsupported.append(
            Unsupported(operator.name, operator.type, f"belongs to the domain {shown(domain)}, whose loops are not known")
        )
        return
    reader = READERS.get(operator.type)
    if reader is not None:
        try:
            _take_layers(reading, operator, reader(reading, operator))
        except _InexpressibleError as error:
            reading.unsupported.append(Unsupported(operator.name, operator.type, str(error)))
        except InputError as error:
            reading.defects += error.defects
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            problem = f"its operands or attributes are not those of {operator.type}"
            reading.defects += reading.refusal(operator, problem).defects
    elif operator.type in _OTHER_PRODUCTS:
        reading.unsupported.append(Unsupported(operator.name, operator.type, _OTHER_PRODUCTS[operator.type]))
    else:
        _read_vector(reading, operator)


def _take_layers(reading: _Reading, operator: Operator, layers: Sequence[Layer]) -> None:
    reading.layers += layers
    for name in operator.outputs:
        reading.drains[name] = layers[-1].name


def _read_vector(reading: _Reading, operator: Operator) -> None:
    if operator.type in VIEWS:
        reading.vectors.append(VectorOperator(operator.name, operator.type))
        return
    host = _host(reading, operator)
    words = reading.words(operator)
    if host is None:
        reading.vectors.append(VectorOperator(operator.name, operator.type, words))
        return
    position = operator.inputs.index(host)
    others = words[: len(operator.inputs)]
    layer = reading.drains[host]
    reading.vectors.append(VectorOperator(operator.name, operator.type, others[:position] + others[position + 1 :], layer))
    reading.drains[operator.outputs[0]] = layer


def _host(reading: _Reading, operator: Operator) -> str | None:
    """Return the operand in whose producer's drain an element-wise operator can run: the last one that only it reads."""
    graph = reading.graph
    if operator.type not in ELEMENTWISE or len(operator.outputs) != 1:
        return None
    size = graph.tensors[operator.outputs[0]].size_bytes
    eligible = [
        name
        for name in dict.fromkeys(operator.inputs)
        if name in reading.drains
        and len(graph.consumers(name)) == 1
        and graph.tensors[name].kind != TensorKind.OUTPUT
        and operator.inputs.count(name) == 1
        and graph.tensors[name].size_bytes == size
    ]
    positions = {layer.name: index for index, layer in enumerate(reading.layers)}
    return max(eligible, key=lambda name: positions[reading.drains[name]], default=None)


# One function for each operator


def _conv(reading: _Reading, operator: Operator) -> list[Layer]:
    x, w = reading.shape(operator, 0), reading.shape(operator, 1)
    y = reading.known(operator, reading.graph.tensors[operator.outputs[0]])
    spatial = len(w) - 2
    if spatial not in {1, 2, 3} or len(x) != len(w) or len(y) != len(w):
        raise _InexpressibleError(f"has {spatial} spatial dims; the model has two")
    groups = int(operator.attributes.get("group", 1))
    reading.require_equal(operator, "input channels", x[1], w[1] * groups)
    reading.require_equal(operator, "output channels", y[1], w[0])
    window = _Window.of(operator, w[2:])
    batch, channels, output = y[0], w[1], y[2:]
    pads = _pads(operator, x[2:], output, window)
    if spatial == 3:
        batch, output, window, pads = _flatten_depth(batch, output, window, pads)
    if spatial == 1:
        output, window, pads = (1, *output), window.with_rows(), (0, *pads)
    return [
        Layer(
            operator.name,
            (batch, w[0] // groups, channels, output[0], output[1], window.kernel[0], window.kernel[1]),
            stride_p=window.stride[0],
            stride_q=window.stride[1],
            dilation_p=window.dilation[0],
            dilation_q=window.dilation[1],
            repeat=groups,
            element_bytes=_element_bytes(reading, operator),
            pad_p=pads[0],
            pad_q=pads[1],
        )
    ]


@dataclass(frozen=True, slots=True)
class _Window:
    """Kernel, strides and dilations, one number for each spatial dim."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]

    @classmethod
    def of(cls, operator: Operator, kernel: Sequence[int]) -> _Window:
        """Read the attributes of an operator."""
        ones = [1] * len(kernel)
        stride, dilation = operator.attributes.get("strides") or ones, operator.attributes.get("dilations") or ones
        return cls(tuple(kernel), tuple(int(s) for s in stride), tuple(int(d) for d in dilation))

    def with_rows(self) -> _Window:
        """Return the window of one dim as one of two, with one row."""
        return _Window((1, *self.kernel), (1, *self.stride), (1, *self.dilation))

    def part(self, *axes: int) -> _Window:
        """Return the window along some dims."""
        return _Window(*(tuple(values[axis] for axis in axes) for values in (self.kernel, self.stride, self.dilation)))


def _flatten_depth(
    batch: int, output: tuple[int, ...], window: _Window, pads: tuple[int, ...]
) -> tuple[int, tuple[int, ...], _Window, tuple[int, ...]]:
    """Return a convolution of three dims as one of two, where its kernel is 1 along the depth or 1 across rows and columns."""
    if window.kernel[0] == 1:
        return batch * output[0], output[1:], window.part(1, 2), pads[1:]
    if window.kernel[1:] == (1, 1) and window.stride[1:] == (1, 1):
        flat = _Window((window.kernel[0], 1), (window.stride[0], 1), (window.dilation[0], 1))
        return batch, (output[0], output[1] * output[2]), flat, (pads[0], 0)
    raise _InexpressibleError(f"its {'x'.join(map(str, window.kernel))} kernel moves along three dims; the model has two")


def _pads(operator: Operator, size: Sequence[int], output: Sequence[int], window: _Window) -> tuple[int, ...]:
    """Return the padding before the first element of each spatial dim."""
    mode = str(operator.attributes.get("auto_pad") or "NOTSET")
    if mode.startswith("SAME"):
        reach = [(e - 1) * s + (k - 1) * d + 1 for e, s, k, d in zip(output, window.stride, window.kernel, window.dilation, strict=True)]
        total = [max(0, covered - extent) for covered, extent in zip(reach, size, strict=True)]
        return tuple(t // 2 if mode == "SAME_UPPER" else t - t // 2 for t in total)
    pads = operator.attributes.get("pads") or [0] * 2 * len(size)
    return tuple(int(pad) for pad in pads[: len(size)])


def _conv_transpose(reading: _Reading, operator: Operator) -> list[Layer]:
    x, w = reading.shape(operator, 0), reading.shape(operator, 1)
    spatial = len(w) - 2
    if spatial not in {1, 2}:
        raise _InexpressibleError(f"has {spatial} spatial dims; the model has two")
    window = _Window.of(operator, w[2:])
    if set(window.dilation) != {1}:
        raise _InexpressibleError("a dilated transposed convolution is no convolution with fewer taps")
    size = x[2:]
    if spatial == 1:
        size, window = (1, *size), window.with_rows()
    groups = int(operator.attributes.get("group", 1))
    reading.require_equal(operator, "input channels", x[1], w[0])
    taps = tuple(-(-k // s) for k, s in zip(window.kernel, window.stride, strict=True))
    if window.kernel != window.stride:
        kernel, stride = ("x".join(map(str, pair)) for pair in (window.kernel, window.stride))
        reading.remarks[
            f"{operator.name}: a {kernel} transposed convolution of stride {stride} counts as {'x'.join(map(str, taps))} taps for each of "
            f"its {math.prod(window.stride)} phases, zero taps included"
        ] = None
    channels = w[1] * math.prod(window.stride)
    dims = (x[0], channels, w[0] // groups, size[0], size[1], taps[0], taps[1])
    return [Layer(operator.name, dims, repeat=groups, element_bytes=_element_bytes(reading, operator), pad_p=0, pad_q=0)]


def _gemm(reading: _Reading, operator: Operator) -> list[Layer]:
    a, b = reading.shape(operator, 0), reading.shape(operator, 1)
    rows, reduced = (a[1], a[0]) if operator.attributes.get("transA") else a
    outputs, other = b if operator.attributes.get("transB") else (b[1], b[0])
    reading.require_equal(operator, "reduced extents", reduced, other)
    return [_product(reading, operator, rows, reduced, outputs, 1)]


def _matmul(reading: _Reading, operator: Operator) -> list[Layer]:
    a, b = reading.shape(operator, 0), reading.shape(operator, 1)
    a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
    reading.require_equal(operator, "reduced extents", a[-1], b[-2])
    batch = _broadcast(a[:-2], b[:-2])
    repeat = math.prod(b[:-2])
    return [_product(reading, operator, a[-2] * math.prod(batch) // repeat, a[-1], b[-1], repeat)]


def _broadcast(a: Sequence[int], b: Sequence[int]) -> list[int]:
    length = max(len(a), len(b))
    left, right = [1] * (length - len(a)) + list(a), [1] * (length - len(b)) + list(b)
    return [max(x, y) for x, y in zip(left, right, strict=True)]


def _product(reading: _Reading, operator: Operator, rows: int, reduced: int, outputs: int, repeat: int, suffix: str = "") -> Layer:
    dims = (1, outputs, reduced, rows, 1, 1, 1)
    element_bytes = _element_bytes(reading, operator)
    return Layer(operator.name + suffix, dims, repeat=repeat, element_bytes=element_bytes, pad_p=0, pad_q=0)


def _attention(reading: _Reading, operator: Operator) -> list[Layer]:
    query, key, value = (reading.shape(operator, position) for position in range(3))
    heads, key_heads = (int(operator.attributes.get(name, 0)) for name in ("q_num_heads", "kv_num_heads"))
    if len(query) == 3:
        if not heads or not key_heads:
            raise _InexpressibleError("its operands have three dims, and q_num_heads or kv_num_heads is missing")
        query = (query[0], heads, query[1], query[2] // heads)
        key, value = ((t[0], key_heads, t[1], t[2] // key_heads) for t in (key, value))
    batch, heads, tokens, depth = query
    context, width = key[2] + _past(reading, operator), value[3]
    softmax = 2 * batch * heads * tokens * context * reading.bytes_of(operator.outputs[0])
    reading.vectors.append(VectorOperator(f"{operator.name}.softmax", "Softmax", (softmax // 2, softmax // 2)))
    return [
        _product(reading, operator, tokens, depth, context, batch * heads, ".scores"),
        _product(reading, operator, tokens, context, width, batch * heads, ".values"),
    ]


def _past(reading: _Reading, operator: Operator) -> int:
    """Return the tokens that an attention takes from a cache of keys and values: its last two operands, if it has that many."""
    own = len(operator.inputs) - sum(len(entry.get("inputs", ())) for entry in operator.attributes.get("folded", ()))
    return reading.shape(operator, own - 2)[2] if own >= 5 else 0


def _element_bytes(reading: _Reading, operator: Operator) -> tuple[int, int, int]:
    x, w = operator.inputs[0], operator.inputs[1]
    return reading.bytes_of(w), reading.bytes_of(x), reading.bytes_of(operator.outputs[0])


READERS: dict[str, Callable[[_Reading, Operator], list[Layer]]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Attention": _attention,
}
"""How each operator that is a convolution or a product is read."""
