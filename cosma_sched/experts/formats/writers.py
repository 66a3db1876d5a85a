"""Placements in the formats of the serving engines; `reread` holds the rules they are checked against."""

from __future__ import annotations

import json
from collections.abc import Callable

from cosma_sched.errors import InfeasibleError, Reason, UsageError, VerificationError, shown, suggestion
from cosma_sched.experts.formats import reread
from cosma_sched.experts.placement import Placement
from cosma_sched.files import read_bytes, write_whole

Rows = tuple[tuple[int, ...], ...]


def _sglang(placement: Placement, rows: Rows) -> str:
    """One key only: SGLang hands every key of the file to a function as an argument. Dense layers have a row too."""
    by_layer = dict(zip(placement.layers, rows, strict=True))
    total = placement.gpus * placement.slots_per_gpu
    dense = [slot % placement.experts for slot in range(total)]
    every = range(max(*placement.layers, *placement.dense_layers, 0) + 1)
    return json.dumps({"physical_to_logical_map": [list(by_layer.get(layer, dense)) for layer in every]}) + "\n"


def _trtllm(placement: Placement, rows: Rows) -> str:
    lines = ["initial_global_assignments:"]
    lines += [f"  {layer}: [{', '.join(map(str, row))}]" for layer, row in zip(placement.layers, rows, strict=True)]
    return "\n".join([*lines, f"num_slots: {placement.gpus * placement.slots_per_gpu}", "layer_updates_per_iter: 0", ""])


def _vllm(placement: Placement, rows: Rows) -> str:
    slots = placement.gpus * placement.slots_per_gpu
    record = {"record_type": "eplb_initial_mapping", "version": 1, "num_redundant_experts": slots - placement.experts, "num_slots": slots}
    return json.dumps({**record, "initial_global_assignments": {str(i): list(row) for i, row in enumerate(rows)}}) + "\n"


def _vllm_ascend(placement: Placement, rows: Rows) -> str:
    room = placement.slots_per_gpu
    layers = []
    for i, row in enumerate(rows):
        held = [list(row[g * room : (g + 1) * room]) for g in range(placement.gpus)]
        devices = [{"device_id": g, "device_expert": experts} for g, experts in enumerate(held)]
        for g, experts in enumerate(held):
            if len(set(experts)) < room:
                where = f"layer {placement.layers[i]} device {g}"
                statement = f"{where} holds an expert twice, which vllm-ascend refuses; another method than eplb keeps replicas apart"
                raise InfeasibleError([Reason("replicas-apart", "", statement, unit="slots")])
        layers.append({"layer_id": i, "device_count": placement.gpus, "device_list": devices})
    return json.dumps({"moe_layer_count": len(rows), "layer_list": layers}) + "\n"


def _csv(placement: Placement, rows: Rows) -> str:
    lines = ["layer,slot,gpu,expert"]
    for layer, row in zip(placement.layers, rows, strict=True):
        lines += [f"{layer},{slot},{slot // placement.slots_per_gpu},{expert}" for slot, expert in enumerate(row)]
    return "\n".join([*lines, ""])


WRITERS: dict[str, Callable[[Placement, Rows], str]] = {
    "sglang": _sglang,
    "trtllm": _trtllm,
    "vllm": _vllm,
    "vllm-ascend": _vllm_ascend,
    "csv": _csv,
}
REMARKS = {"vllm": "vllm: a proposed interface (initial_mapping_path); released versions of vLLM cannot load such a file"}
"""What a user has to know about a format."""


def check_format(name: str) -> str:
    """Return the name of an output format if it is one.

    Raises
    ------
    UsageError
        If it is none.
    """
    if name not in WRITERS:
        raise UsageError(f"format must be one of {', '.join(WRITERS)}, got {shown(name)}{suggestion(name, WRITERS)}")
    return name


def rendered(placement: Placement, name: str) -> str:
    """Return a placement in the format of an engine, checked by the independent reader.

    Raises
    ------
    InfeasibleError
        If there is no placement, or the format cannot hold it.
    VerificationError
        If the reader does not find the placement again: a bug.
    """
    if placement.slots is None:
        raise InfeasibleError(placement.reasons)
    text = WRITERS[check_format(name)](placement, placement.slots)
    problems = reread.compare(placement, name, text.encode())
    if problems:
        raise VerificationError(problems)
    return text


def export(placement: Placement, name: str, path: str) -> None:
    """Write a placement for an engine and read the file again.

    Raises
    ------
    InputError
        If the file cannot be written.
    VerificationError
        If what is in the file afterwards is not the placement.
    """
    write_whole(path, rendered(placement, name))
    if path == "-":
        return
    problems = reread.compare(placement, name, read_bytes(path))
    if problems:
        raise VerificationError(problems)
