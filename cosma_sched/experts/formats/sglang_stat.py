"""SGLang's expert statistics: ``logical_count`` [layers, experts] or [steps, layers, experts], as JSON or ``.pt``."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, ReadOptions
from cosma_sched.experts.profile import Scenario
from cosma_sched.experts.statistics import Numbers, whole_counts
from cosma_sched.files import decode_json


def read(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read the JSON form."""
    document = decode_json(path, content)
    return from_document(path, document, options)


def from_document(path: str, document: Any, options: ReadOptions) -> Raw:
    """Read a decoded document; all-zero rows are dense layers."""
    del options
    counts = number_array(document.get("logical_count") if isinstance(document, dict) else None, path, "logical_count")
    if counts.ndim not in {2, 3}:
        raise InputError(
            path, [Defect("logical_count", f"must have shape [layers, experts] or [steps, layers, experts], got {counts.shape}")]
        )
    counts = whole_counts(counts, path, "logical_count")
    return Raw((Scenario(stem(path), counts.sum(axis=0) if counts.ndim == 3 else counts),))


def number_array(values: Any, path: str, where: str) -> Numbers:
    """Return nested lists of numbers as an array.

    Raises
    ------
    InputError
        If rows have different lengths or an entry is no number; names the row.
    """
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, list) or not values:
        raise InputError(path, [Defect(where, f"must be a list of rows of numbers, got {shown(values)}")])
    _check_rows(values, path, where)
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise InputError(path, [Defect(where, "has rows of different length")]) from error
    if array.dtype.kind not in "iuf":
        raise InputError(path, [Defect(where, "holds something that is not a number, or a number that is too large")])
    return array


def _check_rows(values: list[Any], path: str, where: str) -> None:
    lengths = [len(row) if isinstance(row, list) else None for row in values]
    for i, length in enumerate(lengths):
        if length != lengths[0]:
            found = "a number" if length is None else f"{length} entries"
            expected = "a number" if lengths[0] is None else f"{lengths[0]} entries"
            raise InputError(path, [Defect(f"{where}[{i}]", f"has {found}, the rows before have {expected}")])
    for i, row in enumerate(values):
        if isinstance(row, list):
            _check_rows(row, path, f"{where}[{i}]")
        elif isinstance(row, bool) or not isinstance(row, int | float):
            raise InputError(path, [Defect(f"{where}[{i}]", f"must be a number, got {shown(row)}")])
