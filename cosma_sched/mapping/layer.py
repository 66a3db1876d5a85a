"""Layers: the seven loop dimensions of a convolution or matrix product, with strides, and what is known of the whole network.

Dims are N K C P Q R S: batch, output channels, input channels, output rows, output columns, kernel rows, kernel columns. P goes with R and
`stride_p`, Q with S and `stride_q`. One word is one 8-bit element of W, I or the final O.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cosma_sched.errors import Defect, InputError
from cosma_sched.graph import Origin

DIMS = ("N", "K", "C", "P", "Q", "R", "S")
N, K, C, P, Q, R, S = range(7)
RELEVANT = {"W": frozenset({K, C, R, S}), "I": frozenset({N, C, P, Q, R, S}), "O": frozenset({N, K, P, Q})}
"""Dims that index each tensor; the dims left over partition the seven."""

_MOST_MACS = 2**48
"""Counts of larger layers could leave what double precision holds exactly."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Parameters
    ----------
    name
        Operator or row of a table.
    dims
        Extents in the order of `DIMS`.
    stride_p, stride_q, dilation_p, dilation_q
        Of rows and of columns.
    repeat
        Independent copies that run in sequence as one layer: groups of a convolution, matrices of a batched product. Multiplies counts
        before they are rounded.
    count
        Times the layer stands in the network. Multiplies energy and latency after rounding.
    element_bytes
        Bytes of an element of W, I and O; each counts as so many words in scratchpad and DRAM.
    drain_words
        Words of further operands that element-wise operators read while this layer drains, one number for each operand.
    pad_p, pad_q
        Padding before the first row and column, which layer fusion needs; None for unknown.

    Raises
    ------
    InputError
        With every value that is not positive.
    """

    name: str
    dims: tuple[int, ...]
    stride_p: int = 1
    stride_q: int = 1
    dilation_p: int = 1
    dilation_q: int = 1
    repeat: int = 1
    count: int = 1
    element_bytes: tuple[int, int, int] = (1, 1, 1)
    drain_words: tuple[int, ...] = ()
    pad_p: int | None = None
    pad_q: int | None = None

    def __post_init__(self) -> None:
        defects = list(self._defects())
        if defects:
            raise InputError(f"layer {self.name}", defects)

    def _defects(self) -> Iterator[Defect]:
        if len(self.dims) != len(DIMS):
            yield Defect("dims", f"must be the seven extents of {', '.join(DIMS)}, got {len(self.dims)} numbers")
            return
        plain = ("stride_p", "stride_q", "dilation_p", "dilation_q", "repeat", "count")
        values = [*zip(DIMS, self.dims, strict=True), *((name, getattr(self, name)) for name in plain)]
        values += [(f"element_bytes of {tensor}", size) for tensor, size in zip("WIO", self.element_bytes, strict=True)]
        for name, value in values:
            if value < 1:
                yield Defect(name, f"must be >= 1, got {value}")
        if all(value >= 1 for _, value in values) and self.macs > _MOST_MACS:
            yield Defect("dims", f"ask for {self.macs:,} multiplications; at most {_MOST_MACS:,} are counted exactly")

    def __getitem__(self, dim: str) -> int:
        return self.dims[DIMS.index(dim)]

    @property
    def macs(self) -> int:
        """Multiplications of one instance, all its repetitions included."""
        return math.prod(self.dims) * self.repeat

    @property
    def problem(self) -> Layer:
        """The layer without what does not change its best mapping; equal problems are solved once."""
        return replace(self, name="", count=1, pad_p=None, pad_q=None)

    def size(self, tensor: str) -> int:
        """Return the elements of W or of O, or of I with its padding, of one repetition."""
        if tensor == "I":
            n, c = self["N"], self["C"]
            return n * c * math.prod(self.input_extent)
        return math.prod(self.dims[d] for d in RELEVANT[tensor])

    @property
    def input_extent(self) -> tuple[int, int]:
        """Rows and columns of the input that the layer's windows cover."""
        rows = (self["P"] - 1) * self.stride_p + (self["R"] - 1) * self.dilation_p + 1
        cols = (self["Q"] - 1) * self.stride_q + (self["S"] - 1) * self.dilation_q + 1
        return rows, cols

    def __str__(self) -> str:
        text = " ".join(f"{dim}{extent}" for dim, extent in zip(DIMS, self.dims, strict=True) if extent > 1) or "N1"
        pairs = (("stride", self.stride_p, self.stride_q), ("dilation", self.dilation_p, self.dilation_q))
        for word, down, across in pairs:
            if (down, across) != (1, 1):
                text += f" {word} {down}" if down == across else f" {word} {down}x{across}"
        return f"{text} x{self.repeat}" if self.repeat > 1 else text


@dataclass(frozen=True, slots=True)
class VectorOperator:
    """An operator that is no convolution or matrix product.

    Parameters
    ----------
    name, type
        Of the operator.
    words
        Words of every operand and result, one number for each tensor; empty for a view.
    folded_into
        The layer in whose drain it runs, or None where it stands alone.
    """

    name: str
    type: str
    words: tuple[int, ...] = ()
    folded_into: str | None = None


@dataclass(frozen=True, slots=True)
class Unsupported:
    """An operator that the seven dims cannot express, and why."""

    name: str
    type: str
    reason: str


@dataclass(frozen=True, slots=True)
class Workload:
    """A network as the mapping planner sees it.

    Parameters
    ----------
    name
        Name for tables.
    layers
        In the order in which they run.
    vector_operators
        Everything else that the model understands.
    unsupported
        What it does not.
    remarks
        Approximations that were made, one sentence each.
    origin
        Where it was read from.
    """

    name: str
    layers: tuple[Layer, ...]
    vector_operators: tuple[VectorOperator, ...] = ()
    unsupported: tuple[Unsupported, ...] = ()
    remarks: tuple[str, ...] = ()
    origin: Origin | None = None
