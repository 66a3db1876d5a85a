"""Counts as CSV: ``layer,expert,count`` with an optional ``scenario``, or SGLang's old ``layer_id,expert_id,count`` (one file per rank)."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator

import numpy as np

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, ReadOptions
from cosma_sched.experts.profile import Scenario
from cosma_sched.files import decode_text

_HEADERS = ({"layer", "expert", "count"}, {"layer_id", "expert_id", "count"}, {"layer", "expert", "count", "scenario"})
_MOST_IDS = 1_000_000


def is_header(line: str) -> bool:
    """Return whether a line is the header of such a file."""
    return {name.strip() for name in line.split(",")} in _HEADERS


def read(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read a table; counts of repeated rows add up, absent rows are 0."""
    found: dict[str, dict[tuple[int, int], float]] = {}
    for scenario, layer, expert, count in _rows(path, content, options):
        cells = found.setdefault(scenario, {})
        cells[layer, expert] = cells.get((layer, expert), 0) + count
    if not found:
        raise InputError(path, "holds no counts")
    layers = sorted({layer for cells in found.values() for layer, _ in cells})
    experts = options.num_experts or max(expert for cells in found.values() for _, expert in cells) + 1
    row = {layer: i for i, layer in enumerate(layers)}
    scenarios = []
    for name, cells in found.items():
        loads = np.zeros((len(layers), experts))
        for (layer, expert), count in cells.items():
            loads[row[layer], expert] = count
        scenarios.append(Scenario(name or stem(path), loads))
    return Raw(tuple(scenarios), tuple(layers))


def _rows(path: str, content: bytes, options: ReadOptions) -> Iterator[tuple[str, int, int, float]]:
    reader = csv.reader(io.StringIO(decode_text(path, content)))
    header = [name.strip() for name in next(reader, [])]
    where = {name.removesuffix("_id"): i for i, name in enumerate(header)}
    for cells in reader:
        if not cells:
            continue
        try:
            if len(cells) != len(header):
                raise ValueError(f"has {len(cells)} cells, the header has {len(header)}")
            layer, expert = (_id(cells[where[name]], name) for name in ("layer", "expert"))
            if options.num_experts is not None and expert >= options.num_experts:
                raise ValueError(f"layer {layer}: expert {expert} is out of range, the model has {options.num_experts}")
            yield (
                cells[where["scenario"]].strip() if "scenario" in where else "",
                layer,
                expert,
                _count(cells[where["count"]], layer, expert),
            )
        except ValueError as error:
            raise InputError(path, [Defect(f"line {reader.line_num}", str(error))]) from error


def _id(text: str, name: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit() or len(text.strip()) > 9 or int(text) > _MOST_IDS:
        raise ValueError(f"{name} must be a whole number >= 0, got {shown(text)}")
    return int(text)


def _count(text: str, layer: int, expert: int) -> float:
    try:
        count = float(text)
    except ValueError:
        raise ValueError(f"layer {layer} expert {expert}: count must be a number, got {shown(text)}") from None
    if not math.isfinite(count) or count < 0:
        raise ValueError(f"layer {layer} expert {expert}: count must be finite and >= 0, got {shown(text)}")
    return count
