"""vLLM's expert loads: ``eplb_load_stats`` records (JSONL, physical ids with their map) and load histories (JSON, logical ids)."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosma_sched.errors import Defect, InputError
from cosma_sched.experts.formats.lines import Lines
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, ReadOptions
from cosma_sched.experts.formats.sglang_stat import number_array
from cosma_sched.experts.profile import Scenario
from cosma_sched.experts.statistics import Numbers, whole_counts
from cosma_sched.files import decode_json

RECORD = "eplb_load_stats"


def read(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read JSONL records: physical loads are folded to logical experts and summed over steps; other records are skipped."""
    lines = Lines(path, content, options)
    total: Numbers | None = None
    for number, record in lines:
        if record.get("record_type") != RECORD:
            continue
        try:
            loads = _folded(record, path, options.num_experts)
            if total is not None and total.shape != loads.shape:
                raise InputError(path, f"has {list(loads.shape)} layers and experts, the records before have {list(total.shape)}")
        except InputError as error:
            lines.bad(number, "; ".join(map(str, error.defects)), error)
            continue
        total = loads if total is None else total + loads
    if total is None:
        raise InputError(path, f"holds no record of type {RECORD}")
    return Raw((Scenario(stem(path), total),), notes=tuple(lines.notes()))


def _folded(record: dict[str, Any], path: str, num_experts: int | None) -> Numbers:
    if record.get("version") != 1:
        raise InputError(path, [Defect("version", f"must be 1, got {record.get('version')!r}")])
    loads = whole_counts(number_array(record.get("expert_load"), path, "expert_load"), path, "expert_load")
    mapping = number_array(record.get("p2l_map"), path, "p2l_map")
    if loads.ndim != 2 or mapping.shape != loads.shape or mapping.dtype.kind not in "iu":
        raise InputError(
            path, [Defect("p2l_map", f"must hold ids of shape {list(loads.shape)}, got {mapping.dtype} {list(mapping.shape)}")]
        )
    experts = num_experts or int(mapping.max()) + 1
    if mapping.min() < 0 or mapping.max() >= experts:
        layer, slot = np.argwhere((mapping < 0) | (mapping >= experts))[0]
        raise InputError(path, [Defect(f"p2l_map layer {layer} slot {slot}", f"expert {mapping[layer, slot]} is out of range")])
    folded = np.zeros((len(loads), experts), loads.dtype)
    np.add.at(folded, (np.arange(len(loads))[:, None], mapping), loads)
    return folded


def read_history(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read a load history: logical loads, summed over its entries."""
    del options
    document = decode_json(path, content)
    history = document.get("load_history") if isinstance(document, dict) else None
    if not isinstance(history, list) or not history or not all(isinstance(entry, dict) for entry in history):
        raise InputError(path, [Defect("load_history", "must be a list of objects with logical_expert_load")])
    parts = []
    for i, entry in enumerate(history):
        where = f"load_history[{i}].logical_expert_load"
        parts.append(whole_counts(number_array(entry.get("logical_expert_load"), path, where), path, where))
        if parts[-1].shape != parts[0].shape:
            raise InputError(path, [Defect(where, f"has shape {list(parts[-1].shape)}, the entries before have {list(parts[0].shape)}")])
    total: Numbers = sum(parts[1:], parts[0])
    return Raw((Scenario(stem(path), total),))
