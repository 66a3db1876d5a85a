"""The safetensors container, read without its library: a length, a JSON header, raw data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.experts.statistics import Numbers
from cosma_sched.files import decode_json

_TYPES = {
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "F64": "<f8",
    "F32": "<f4",
}


def read_tensors(path: str, content: bytes) -> dict[str, Numbers]:
    """Return the tensors of a file by name.

    Raises
    ------
    InputError
        If the header or a tensor does not lie inside the file, or an element type is not a number that is read.
    """
    length = int.from_bytes(content[:8], "little") if len(content) >= 8 else -1
    if not 2 <= length <= len(content) - 8:
        raise InputError(path, "is no safetensors file: the header does not fit")
    header = decode_json(path, content[8 : 8 + length])
    if not isinstance(header, dict):
        raise InputError(path, "is no safetensors file: the header is no object")
    data = memoryview(content)[8 + length :]
    return {name: _tensor(path, name, entry, data) for name, entry in header.items() if name != "__metadata__"}


def _tensor(path: str, name: str, entry: Any, data: memoryview) -> Numbers:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
        raise InputError(path, [Defect(name, "must have dtype, shape and data_offsets")])
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _TYPES:
        raise InputError(path, [Defect(name, f"has element type {shown(dtype)}; known ones are {', '.join(_TYPES)}")])
    whole = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not whole or not isinstance(offsets, list) or len(offsets) != 2 or not all(type(at) is int for at in offsets):
        raise InputError(path, [Defect(name, "has a malformed shape or data_offsets")])
    start, end = offsets
    size = np.dtype(_TYPES[dtype]).itemsize * math.prod(shape)
    if not 0 <= start <= end <= len(data) or end - start != size:
        raise InputError(path, [Defect(name, f"occupies bytes {start} to {end}, its shape {shape} needs {size} of {len(data)}")])
    return np.frombuffer(data[start:end], _TYPES[dtype]).reshape(shape)
