"""Layer tables: a network as a CSV file, one layer a row.

Columns ``name,count,N,K,C,P,Q,R,S,stride_p,stride_q,repeat`` and, for fusion, ``pad_p,pad_q``; ``name`` and the dims K, C, P, Q, R, S must
be there, the others are 1, paddings (kernel - 1) // 2.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cosma_sched.errors import Defect, InputError, shown, suggestion
from cosma_sched.files import decode_text, read_bytes, sha256
from cosma_sched.graph import Origin
from cosma_sched.mapping.layer import DIMS, Layer, Workload

COLUMNS = ("name", "count", *DIMS, "stride_p", "stride_q", "repeat", "pad_p", "pad_q")
_NEEDED = ("name", "K", "C", "P", "Q", "R", "S")
_MOST_BYTES = 16 * 2**20


def read_layer_table(path: str | os.PathLike[str]) -> Workload:
    """Read a layer table.

    Raises
    ------
    InputError
        With every mistake of the file and its line.
    """
    name = os.fspath(path)
    content = read_bytes(name, limit_bytes=_MOST_BYTES)
    text = decode_text(name, content)
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise InputError(name, f"is not CSV: {error}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    defects = list(_header_defects(header))
    if defects:
        raise InputError(name, defects)
    layers: list[Layer] = []
    seen: dict[str, int] = {}
    for line, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        found = list(_row_defects(header, cells, line, seen))
        defects += found
        if not found:
            try:
                layers.append(_layer(dict(zip(header, (cell.strip() for cell in cells), strict=True))))
            except InputError as error:
                defects += [Defect(f"line {line}: {defect.where}", defect.problem) for defect in error.defects]
    if defects:
        raise InputError(name, defects)
    if not layers:
        raise InputError(name, "holds no layers")
    return Workload(Path(name).stem, tuple(layers), origin=Origin(name, sha256(content)))


def _header_defects(header: Sequence[str]) -> Iterator[Defect]:
    for column in header:
        if column not in COLUMNS:
            yield Defect("line 1", f"unknown column {shown(column)}{suggestion(column, COLUMNS)}; columns are {', '.join(COLUMNS)}")
        elif header.count(column) > 1:
            yield Defect("line 1", f"column {column} stands twice")
    missing = [column for column in _NEEDED if column not in header]
    if missing:
        yield Defect("line 1", f"lacks the columns {', '.join(missing)}")


def _row_defects(header: Sequence[str], cells: Sequence[str], line: int, seen: dict[str, int]) -> Iterator[Defect]:
    if len(cells) != len(header):
        yield Defect(f"line {line}", f"has {len(cells)} cells, the header {len(header)}")
        return
    for column, cell in zip(header, cells, strict=True):
        text = cell.strip()
        where = f"line {line}: {column}"
        if column == "name":
            if not text:
                yield Defect(where, "must not be empty")
            elif seen.setdefault(text, line) != line:
                yield Defect(where, f"{shown(text)} stands in line {seen[text]} too; names must be unique")
        elif not re.fullmatch("[0-9]{1,12}", text, flags=re.ASCII):
            yield Defect(where, f"must be a whole number, got {shown(text)}")


def _layer(row: dict[str, str]) -> Layer:
    values = {column: int(text) for column, text in row.items() if column != "name"}
    dims = tuple(values.get(dim, 1) for dim in DIMS)
    return Layer(
        row["name"],
        dims,
        stride_p=values.get("stride_p", 1),
        stride_q=values.get("stride_q", 1),
        repeat=values.get("repeat", 1),
        count=values.get("count", 1),
        pad_p=values.get("pad_p", (values["R"] - 1) // 2),
        pad_q=values.get("pad_q", (values["S"] - 1) // 2),
    )
