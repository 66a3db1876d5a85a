"""Attributes of an ONNX node as JSON values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import AttributeProto, NodeProto, TensorProto

_MAX_LISTED = 64
"""Elements of the largest tensor attribute that is written out."""


def json_attributes(node: NodeProto) -> dict[str, Any]:
    """Return the attributes of a node by name: numbers, strings and lists; a tensor becomes an object with shape, type and values."""
    return {attribute.name: _value(attribute) for attribute in node.attribute}


def attribute(node: NodeProto, name: str, default: Any = None) -> Any:
    """Return one attribute of a node as a JSON value, or `default` where the node does not carry it."""
    for entry in node.attribute:
        if entry.name == name:
            return _value(entry)
    return default


def _value(entry: AttributeProto) -> Any:
    kinds = {"FLOAT": "f", "INT": "i", "STRING": "s", "FLOATS": "floats", "INTS": "ints", "STRINGS": "strings"}
    kind = entry.AttributeType.Name(entry.type)
    if kind in kinds:
        value = getattr(entry, kinds[kind])
        return [_scalar(item) for item in value] if kind.endswith("S") else _scalar(value)
    if kind == "TENSOR":
        return _tensor(entry.t)
    if kind == "TENSORS":
        return [_tensor(tensor) for tensor in entry.tensors]
    return kind.lower()


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if isinstance(value, float):
        return _float(value)
    return value


def _float(value: float) -> float | str:
    """Return the shortest number that means the same 32-bit float; infinities, which JSON lacks, as words."""
    return float(str(np.float32(value))) if math.isfinite(value) else str(value)


def _tensor(tensor: TensorProto) -> dict[str, Any]:
    from onnx import TensorProto, numpy_helper

    block: dict[str, Any] = {"shape": list(tensor.dims), "dtype": TensorProto.DataType.Name(tensor.data_type).lower()}
    if math.prod(tensor.dims) <= _MAX_LISTED and tensor.data_location != TensorProto.EXTERNAL:
        values = numpy_helper.to_array(tensor).ravel().tolist()
        block["values"] = [str(item) if isinstance(item, complex | bytes) else _scalar(item) for item in values]
    return block
