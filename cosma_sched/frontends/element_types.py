"""Element types: their names, their widths, and the bytes of a tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cosma_sched.errors import UsageError, shown, suggestion


@dataclass(frozen=True, slots=True)
class ElementType:
    """How wide one element is, and whether ``--dtype`` may narrow it."""

    name: str
    bits: int
    is_floating: bool = False


# Keys are the numbers of onnx.TensorProto.DataType, which its format fixes for ever; strings have no width.
_BY_NUMBER = {
    1: ElementType("float32", 32, True),
    2: ElementType("uint8", 8),
    3: ElementType("int8", 8),
    4: ElementType("uint16", 16),
    5: ElementType("int16", 16),
    6: ElementType("int32", 32),
    7: ElementType("int64", 64),
    9: ElementType("bool", 8),
    10: ElementType("float16", 16, True),
    11: ElementType("float64", 64, True),
    12: ElementType("uint32", 32),
    13: ElementType("uint64", 64),
    14: ElementType("complex64", 64),
    15: ElementType("complex128", 128),
    16: ElementType("bfloat16", 16, True),
    17: ElementType("float8e4m3fn", 8, True),
    18: ElementType("float8e4m3fnuz", 8, True),
    19: ElementType("float8e5m2", 8, True),
    20: ElementType("float8e5m2fnuz", 8, True),
    21: ElementType("uint4", 4),
    22: ElementType("int4", 4),
    23: ElementType("float4e2m1", 4, True),
    24: ElementType("float8e8m0", 8, True),
    25: ElementType("uint2", 2),
    26: ElementType("int2", 2),
    27: ElementType("float6e2m3", 6, True),
    28: ElementType("float6e3m2", 6, True),
}
_BY_NAME = {element.name: element for element in _BY_NUMBER.values()}


def element_type(number: int) -> ElementType | None:
    """Return the element type of an ONNX number; None for strings and numbers that have no width."""
    return _BY_NUMBER.get(number)


def named_element_type(name: str) -> ElementType:
    """Return the element type of a name such as ``int8``.

    Raises
    ------
    UsageError
        If no element type has the name.
    """
    if name not in _BY_NAME:
        near = suggestion(name, _BY_NAME)
        raise UsageError(f"--dtype {shown(name)}: no such element type; known names are {', '.join(_BY_NAME)}{near}")
    return _BY_NAME[name]


def size_bytes(shape: Sequence[int], element: ElementType) -> int:
    """Return the bytes of a tensor; elements narrower than a byte are packed and the last byte is filled up."""
    return -(-math.prod(shape) * element.bits // 8)
