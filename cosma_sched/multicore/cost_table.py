"""Tables of node costs, as YAML, JSON or CSV: ours, and Stream's ``core_cost_lut.yaml``."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosma_sched._yaml import Lines, decode_yaml
from cosma_sched.accelerator import Accelerator
from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.files import decode_json, decode_text, read_bytes
from cosma_sched.multicore.costs import NodeCost, Piece, allowed_cores

SCHEMA = "cosma-sched/costs/1"
_MAX_BYTES = 64 * 2**20
_COLUMNS = ("node", "layer", "core", "latency_cycles", "energy_pj")


@dataclass(frozen=True, slots=True)
class _Row:
    """One cost as it stands in a file: place, key, core, what was written for cycles and energy."""

    where: str
    key: Any
    core: Any
    cycles: Any
    energy: Any
    keys: tuple[str, ...] = ()


def read_cost_table(path: str | os.PathLike[str], accelerator: Accelerator) -> TableCosts:
    """Read a table.

    Parameters
    ----------
    path
        ``.csv`` with the columns node or layer, core, latency_cycles and perhaps energy_pj; else YAML or JSON, a list ``costs`` of such
        entries, or Stream's ``nodes: [{name, cores: [{core_id, latency_total, energy_total}]}]``.
    accelerator
        Whose cores it is about.

    Raises
    ------
    InputError
        With every entry that has no place, or a cost that is missing, negative or zero.
    """
    name = os.fspath(path)
    content = read_bytes(name, limit_bytes=_MAX_BYTES)
    suffix = Path(name).suffix.lower()
    defects: list[Defect] = []
    if suffix == ".csv":
        rows = list(_csv_rows(name, content, defects))
    else:
        document, lines = (decode_json(name, content), None) if suffix == ".json" else decode_yaml(name, content)
        rows = list(_rows(name, document, lines, defects))
    table: dict[str, dict[str, NodeCost]] = {}
    for row in rows:
        _enter(row, table, {core.id for core in accelerator.cores if core.is_compute}, defects)
    if not defects and not table:
        raise InputError(name, "holds no cost")
    if defects:
        raise InputError(name, defects)
    return TableCosts(name, table, accelerator)


def _enter(row: _Row, table: dict[str, dict[str, NodeCost]], cores: set[str], defects: list[Defect]) -> None:
    """Put a row into the table, or note what is wrong with it, with node and core in the words."""
    if not isinstance(row.key, str) or not row.key:
        defects.append(Defect(row.where, f"names no node or layer, got {shown(row.key)}"))
        return
    core = str(row.core)
    if row.core is None or core not in cores:
        known = ", ".join(sorted(cores))
        defects.append(Defect(row.where, f"node {shown(row.key)}: no compute core has the id {shown(row.core)}; ids are {known}"))
        return
    who = f"node {shown(row.key)} on core {core}"
    cycles, energy = _number(row.cycles), _number(0 if row.energy is None else row.energy)
    if cycles is None or cycles <= 0:
        found = "is missing" if row.cycles is None else f"must be > 0, got {shown(row.cycles)}"
        defects.append(Defect(row.where, f"{who}: latency_cycles {found}"))
    if energy is None or energy < 0:
        defects.append(Defect(row.where, f"{who}: energy_pj must be >= 0, got {shown(row.energy)}"))
    if core in table.get(row.key, {}):
        defects.append(Defect(row.where, f"{who} stands twice"))
    if cycles is not None and cycles > 0 and energy is not None and energy >= 0:
        table.setdefault(row.key, {})[core] = NodeCost(math.ceil(cycles), round(energy))


def _number(value: Any) -> int | float | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", value.strip(), flags=re.ASCII):
        text = value.strip()
        return float(text) if "." in text else int(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if math.isfinite(value) else None


def _csv_rows(name: str, content: bytes, defects: list[Defect]) -> Iterator[_Row]:
    try:
        rows = list(csv.reader(io.StringIO(decode_text(name, content)), strict=True))
    except csv.Error as error:
        raise InputError(name, f"is not CSV: {error}") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    keys = [cell for cell in ("node", "layer") if cell in header]
    if len(keys) != 1 or "core" not in header or "latency_cycles" not in header:
        told = "node or layer, core, latency_cycles and perhaps energy_pj"
        raise InputError(name, [Defect("line 1", f"must name the columns {told}; got {', '.join(header) or 'nothing'}")])
    defects += [Defect("line 1", f"unknown column {shown(unknown)}") for unknown in sorted({*header} - {*_COLUMNS})]
    for line, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            defects.append(Defect(f"line {line}", f"has {len(cells)} cells, the header {len(header)}"))
            continue
        row = {key: cell.strip() or None for key, cell in zip(header, cells, strict=True)}
        yield _Row(f"line {line}", row[keys[0]], row["core"], row["latency_cycles"], row.get("energy_pj"))


def _rows(name: str, document: Any, lines: Lines | None, defects: list[Defect]) -> Iterator[_Row]:
    if isinstance(document, Mapping) and isinstance(document.get("nodes"), list):
        yield from _stream_rows(document["nodes"], lines, defects)
        return
    listed = document.get("costs") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise InputError(name, f"must hold a list costs, or Stream's list nodes; got {shown(document)}")
    if document.get("schema", SCHEMA) != SCHEMA:
        defects.append(Defect("schema", f'must be "{SCHEMA}", got {shown(document["schema"])}'))
    for index, entry in enumerate(listed):
        where = _at(("costs", index), f"costs[{index}]", lines)
        if not isinstance(entry, Mapping):
            defects.append(Defect(where, f"must be a mapping, got {shown(entry)}"))
            continue
        defects += [Defect(where, f"unknown field {shown(unknown)}") for unknown in sorted({*entry} - {*_COLUMNS})]
        yield _Row(where, entry.get("node", entry.get("layer")), entry.get("core"), entry.get("latency_cycles"), entry.get("energy_pj"))


def _stream_rows(nodes: list[Any], lines: Lines | None, defects: list[Defect]) -> Iterator[_Row]:
    for index, node in enumerate(nodes):
        where = _at(("nodes", index), f"nodes[{index}]", lines)
        if not isinstance(node, Mapping) or not isinstance(node.get("cores"), list):
            defects.append(Defect(where, f"must be a mapping with node and cores, got {shown(node)}"))
            continue
        for position, entry in enumerate(node["cores"]):
            place = _at(("nodes", index, "cores", position), f"nodes[{index}].cores[{position}]", lines)
            if not isinstance(entry, Mapping):
                defects.append(Defect(place, f"must be a mapping, got {shown(entry)}"))
                continue
            cycles, energy = (entry.get(ours, entry.get(total)) for ours, total in _STREAM_WORDS)
            yield _Row(place, node.get("node", node.get("name")), entry.get("core_id"), cycles, energy)


_STREAM_WORDS = (("latency_cycles", "latency_total"), ("energy_pj", "energy_total"))


def _at(loc: tuple[int | str, ...], place: str, lines: Lines | None) -> str:
    line = lines.of(loc) if lines is not None else None
    return place if line is None else f"line {line}: {place}"


class TableCosts:
    """Costs of listed nodes as they stand; of pieces of listed layers by their share of the multiplications.

    Parameters
    ----------
    path
        Of the table.
    table
        Costs by node or layer, and core.
    accelerator
        Whose cores they are.
    """

    def __init__(self, path: str, table: Mapping[str, Mapping[str, NodeCost]], accelerator: Accelerator) -> None:
        self._path = path
        self._table = table
        self._accelerator = accelerator
        self._scaled: dict[str, None] = {}

    @property
    def table(self) -> Mapping[str, Mapping[str, NodeCost]]:
        """All costs, by node or layer, and core."""
        return self._table

    @property
    def name(self) -> str:
        """``table`` and the file."""
        return f"table {self._path}"

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the answers rest on."""
        if not self._scaled:
            return ()
        listed = ", ".join(self._scaled)
        return (f"linear: a piece of a listed node costs ceil(latency x its multiplications / those of the node): {listed}",)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Nothing: what the table lacks is a mistake."""
        return ()

    def costs(self, piece: Piece) -> Mapping[str, NodeCost]:
        """Return the cost on every allowed core."""
        allowed = allowed_cores(piece.type, self._accelerator)
        key = piece.node if piece.node in self._table else piece.layer
        listed = self._table.get(key, {})
        missing = [
            Defect(f"node {shown(piece.node)} on core {core}", f"no cost of it or of layer {shown(piece.layer)}") for core in allowed
        ]
        missing = [defect for core, defect in zip(allowed, missing, strict=True) if core not in listed]
        if missing:
            raise InputError(self._path, missing)
        return {core: self._share(piece, key, listed[core]) for core in allowed}

    def cost(self, piece: Piece, core: str) -> NodeCost:
        """Return the cost on one core."""
        return self.costs(piece)[core]

    def _share(self, piece: Piece, key: str, whole: NodeCost) -> NodeCost:
        if key == piece.node or piece.layer_work in (0, piece.work):
            return whole
        self._scaled[key] = None
        work, all_work = piece.work, piece.layer_work
        return NodeCost(max(1, -(-whole.cycles * work // all_work)), (2 * whole.energy_pj * work + all_work) // (2 * all_work))
