"""Networks that are built from a description: attention heads, a transformer layer, SwiGLU, two convolutions.

``attention-head:1024x128,dtype=int8`` and its relatives need no file. Their operators are taken as they stand here: nothing is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cosma_sched.errors import Defect, InputError, UsageError, shown, suggestion
from cosma_sched.frontends.element_types import ElementType, named_element_type, size_bytes
from cosma_sched.frontends.options import Fold, ReadingOptions, Views
from cosma_sched.graph import Graph, Operator, Origin, Tensor, TensorKind

DTYPES = {"int8": "int8", "bf16": "bfloat16", "fp32": "float32"}
"""Words that ``dtype=`` takes, and the element types they stand for."""

_MOST = 2**24
_MOST_HEADS = 1024


@dataclass(frozen=True, slots=True)
class _Family:
    """How one kind of network is described: its form, its leading words, its numbers by name, and who builds it."""

    form: str
    leading: tuple[str, ...]
    required: tuple[str, ...]
    optional: tuple[str, ...]
    build: Callable[[_Builder, Mapping[str, int]], None]


def is_description(source: str) -> bool:
    """Return whether a name describes a network to build: a family's name and a colon."""
    return source.partition(":")[0] in FAMILIES and ":" in source


def forms() -> tuple[str, ...]:
    """Return what descriptions look like, one for each family."""
    return tuple(f"{name}:{family.form}" for name, family in FAMILIES.items())


def build(description: str, options: ReadingOptions) -> Graph:
    """Build the graph of a description.

    Parameters
    ----------
    description
        A family, a colon and comma-separated values, such as ``attention-heads:81x32,heads=8,dtype=int8``.
    options
        ``views`` decides whether a transposition is an operator; ``dtype`` counts where the description names none.

    Raises
    ------
    InputError
        With every value that is missing, unknown or out of range.
    UsageError
        If an option contradicts the description or cannot apply to it.
    """
    _refuse_options(description, options)
    kind, _, rest = description.partition(":")
    family = FAMILIES[kind]
    values, dtype, defects = _parse(family, rest)
    defects += _misfits(values)
    if defects:
        raise InputError(description, [*defects, Defect("", f"the form is {kind}:{family.form}[,dtype={'|'.join(DTYPES)}]")])
    builder = _Builder(_element(description, dtype, options), options.views)
    family.build(builder, values)
    graph = Graph(builder.tensors.values(), builder.operators, description)
    in_effect = {"views": options.views.value, "dtype": builder.element.name}
    return graph.with_origin(Origin(description, graph.sha256, in_effect))


def _refuse_options(description: str, options: ReadingOptions) -> None:
    if options.fold not in {Fold.NONE, Fold.ELEMENTWISE}:
        raise UsageError(f"--fold {options.fold}: {shown(description)} is built as it is described; nothing is folded")
    if options.parameters:
        raise UsageError(f"--parameters {','.join(options.parameters)}: {shown(description)} says itself what its parameters are")
    if options.dims:
        raise UsageError(f"--dim {next(iter(options.dims))}: {shown(description)} has no symbolic dimension")


def _element(description: str, dtype: str | None, options: ReadingOptions) -> ElementType:
    if dtype is None:
        return options.dtype or named_element_type("int8")
    element = named_element_type(DTYPES[dtype])
    if options.dtype not in {None, element}:
        raise UsageError(f"--dtype {options.dtype.name if options.dtype else None}: {shown(description)} names another element type")
    return element


# Reading a description


def _parse(family: _Family, text: str) -> tuple[dict[str, int], str | None, list[Defect]]:
    """Return the numbers by name, the element type's word, and what is wrong."""
    values: dict[str, int] = {}
    defects: list[Defect] = []
    dtype: str | None = None
    words = text.split(",")
    leading, rest = words[: len(family.leading)], words[len(family.leading) :]
    for form, word in zip(family.leading, leading, strict=False):
        defects += _read_leading(form, word, values)
    missing = family.leading[len(leading) :]
    defects += [Defect("", f"ends before {form}") for form in missing]
    for word in rest:
        key, equals, value = word.partition("=")
        if key == "dtype" and equals:
            dtype = value
        elif not equals or key not in {*family.required, *family.optional}:
            known = (*family.required, *family.optional, "dtype")
            defects.append(Defect(shown(word), f"is none of {', '.join(f'{name}=' for name in known)}{suggestion(key, known)}"))
        elif key in values:
            defects.append(Defect(key, "stands twice"))
        else:
            defects += _read_number(key, value, values)
    named = {word.partition("=")[0] for word in rest}
    defects += [Defect(key, "is missing") for key in family.required if key not in named]
    if dtype is not None and dtype not in DTYPES:
        defects.append(Defect("dtype", f"must be one of {', '.join(DTYPES)}, got {shown(dtype)}{suggestion(dtype, DTYPES)}"))
    return values, dtype, defects


def _read_leading(form: str, word: str, values: dict[str, int]) -> Iterator[Defect]:
    """Read a word such as ``1024x128`` by its form ``MxN``, or ``k3`` by ``kK``."""
    names = form.split("x")
    prefix = names[0][:-1] if names[0][:-1].islower() else ""
    parts = word.removeprefix(prefix).split("x")
    if len(parts) != len(names) or not word.startswith(prefix):
        yield Defect(form, f"must be {len(names)} whole number{'s' if len(names) > 1 else ''} written {form}, got {shown(word)}")
        return
    for name, part in zip(names, parts, strict=True):
        yield from _read_number(name.removeprefix(prefix), part, values)


def _read_number(key: str, text: str, values: dict[str, int]) -> Iterator[Defect]:
    most = _MOST_HEADS if key == "heads" else _MOST
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 1 <= int(text) <= most):
        yield Defect(key, f"must be a whole number from 1 to {most}, got {shown(text)}")
    else:
        values[key] = int(text)


def _misfits(values: Mapping[str, int]) -> list[Defect]:
    """Return what is wrong between values that are right alone."""
    if values.keys() >= {"width", "heads", "seq"} and values["width"] % values["heads"]:
        return [Defect("heads", f"must divide width {values['width']}, got {values['heads']}")]
    if values.get("K", 1) % 2 == 0:
        return [Defect("K", f"must be odd, so that the padding keeps rows and columns, got {values['K']}")]
    return []


# Building


@dataclass(slots=True)
class _Builder:
    """Tensors and operators so far."""

    element: ElementType
    views: Views
    tensors: dict[str, Tensor] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    _transposed: dict[str, str] = field(default_factory=dict)

    def tensor(self, name: str, shape: Sequence[int], kind: TensorKind) -> str:
        self.tensors[name] = Tensor(name, size_bytes(shape, self.element), kind, tuple(shape), self.element.name)
        return name

    def input(self, name: str, *shape: int) -> str:
        return self.tensor(name, shape, TensorKind.INPUT)

    def parameter(self, name: str, *shape: int) -> str:
        return self.tensor(name, shape, TensorKind.PARAMETER)

    def operator(self, name: str, kind: str, inputs: Iterable[str], shape: Sequence[int], **attributes: Any) -> str:
        """Add an operator whose one output has its name."""
        read = tuple(inputs)
        if self._transposed.keys() & set(read):
            attributes |= self._views_of(read)
        tensors = tuple(self._transposed.get(name, name) for name in read)
        self.operators.append(Operator(name, kind, tensors, (name,), attributes))
        return self.tensor(name, shape, TensorKind.ACTIVATION)

    def transpose(self, name: str, source: str) -> str:
        """Transpose a matrix: an operator, or a view that its readers look through."""
        rows, columns = self.shape(source)
        if self.views is Views.STRICT:
            return self.operator(name, "Transpose", [source], (columns, rows), perm=[1, 0])
        self._transposed[name] = source
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape in which a name is read."""
        return self.tensors[name].shape or () if name in self.tensors else tuple(reversed(self.shape(self._transposed[name])))

    def _views_of(self, read: Iterable[str]) -> dict[str, Any]:
        shapes = [list(self.shape(name)) for name in read]
        steps = [
            [{"type": "Transpose", "perm": [1, 0], "shape": shape}] if name in self._transposed else []
            for name, shape in zip(read, shapes, strict=True)
        ]
        return {"input_shapes": shapes, "input_views": steps}

    def matmul(self, name: str, left: str, right: str) -> str:
        return self.operator(name, "MatMul", [left, right], (*self.shape(left)[:-1], self.shape(right)[-1]))

    def projection(self, name: str, source: str, weight: str, width: int) -> str:
        """Multiply by a weight matrix of that many columns."""
        return self.matmul(name, source, self.parameter(weight, self.shape(source)[-1], width))

    def like(self, name: str, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator whose output has the shape of its first input."""
        return self.operator(name, kind, inputs, self.shape(inputs[0]), **attributes)

    def finish(self, *outputs: str) -> None:
        for name in outputs:
            self.tensor(name, self.shape(name), TensorKind.OUTPUT)

    def head(self, source: str, width: int, prefix: str = "") -> str:
        """Add one attention head."""
        query, key, value = (self.projection(f"{prefix}{name}", source, f"{prefix}W_{name}", width) for name in "QKV")
        scores = self.matmul(f"{prefix}S", query, self.transpose(f"{prefix}Kt", key))
        return self.matmul(f"{prefix}A", self.like(f"{prefix}P", "Softmax", scores, axis=-1), value)


def _heads(builder: _Builder, values: Mapping[str, int]) -> None:
    count = values.get("heads")
    source = builder.input("I", values["M"], values.get("width", values["N"]))
    prefixes = [""] if count is None else [f"head{index}." for index in range(count)]
    builder.finish(*[builder.head(source, values["N"], prefix) for prefix in prefixes])


def _transformer_layer(builder: _Builder, values: Mapping[str, int]) -> None:
    rows, width, count = values["seq"], values["width"], values["heads"]
    source = builder.input("x", rows, width)
    heads = [builder.head(source, width // count, f"head{index}.") for index in range(count)]
    joined = builder.operator("concat", "Concat", heads, (rows, width), axis=-1)
    projected = builder.projection("projection", joined, "W_O", width)
    attended = builder.like("norm1", "LayerNormalization", builder.like("add1", "Add", projected, source), axis=-1)
    inner = builder.like("gelu", "Gelu", builder.projection("ffn1", attended, "W_1", values["ffn"]))
    added = builder.like("add2", "Add", builder.projection("ffn2", inner, "W_2", width), attended)
    builder.finish(builder.like("norm2", "LayerNormalization", added, axis=-1))


def _swiglu(builder: _Builder, values: Mapping[str, int]) -> None:
    source = builder.input("x", values["T"], values["E"])
    gate = builder.projection("gate", source, "W_1", values["F"])
    up = builder.projection("up", source, "W_2", values["F"])
    hidden = builder.like("mul", "Mul", builder.like("silu", "Silu", gate), up)
    builder.finish(builder.projection("down", hidden, "W_3", values["E"]))


def _two_conv(builder: _Builder, values: Mapping[str, int]) -> None:
    kernel = values["K"]
    channels, size, last = values["C"], (values["H"], values["W"]), builder.input("x", 1, values["C"], values["H"], values["W"])
    for number, outputs in ((1, values["C1"]), (2, values["C2"])):
        weight = builder.parameter(f"W_{number}", outputs, channels, kernel, kernel)
        attributes = {"kernel_shape": [kernel, kernel], "pads": [kernel // 2] * 4, "strides": [1, 1]}
        last = builder.operator(f"conv{number}", "Conv", [last, weight], (1, outputs, *size), **attributes)
        channels = outputs
    builder.finish(last)


FAMILIES: Mapping[str, _Family] = {
    "attention-head": _Family("MxN", ("MxN",), (), ("width",), _heads),
    "attention-heads": _Family("MxN,heads=H", ("MxN",), ("heads",), ("width",), _heads),
    "transformer-layer": _Family("seq=L,width=D,heads=H,ffn=F", (), ("seq", "width", "heads", "ffn"), (), _transformer_layer),
    "swiglu": _Family("TxExF", ("TxExF",), (), (), _swiglu),
    "two-conv": _Family("CxHxW,C1,C2,kK", ("CxHxW", "C1", "C2", "kK"), (), (), _two_conv),
}
"""The families by name."""
