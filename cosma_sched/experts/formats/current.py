"""The placement that runs now (``--current``): a saved result, or a file in any of the engines' formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.experts.formats import reread
from cosma_sched.experts.placement import SCHEMA, Placement
from cosma_sched.experts.profile import Profile
from cosma_sched.experts.statistics import Numbers
from cosma_sched.files import decode_json, read_bytes


def read_current(path: str, profile: Profile) -> Numbers:
    """Return slots [L, S] of the MoE layers of a profile.

    Raises
    ------
    InputError
        If the file is no placement, or lacks one of the layers.
    """
    content = read_bytes(path)
    name = _recognise(content)
    if name is None:
        document = decode_json(path, content)
        if isinstance(document, dict) and document.get("schema") == SCHEMA:
            return _from_result(path, document, profile)
        known = f"a result of cosma-sched experts, or a file of {', '.join(reread.PARSERS)}"
        raise InputError(path, f"is no placement: must be {known}")
    try:
        found = reread.PARSERS[name](content)
    except ValueError as error:
        raise InputError(path, f"is no placement for {name}: {error}") from error
    numbers = range(profile.num_layers) if found.counts_moe_layers else profile.layers
    missing = [layer for layer in numbers if layer not in found.rows]
    if missing:
        raise InputError(path, [Defect(f"layer {missing[0]}", "is missing")])
    extra = sorted(set(found.rows) - set(numbers)) if not found.has_dense_layers else []
    if extra:
        raise InputError(path, [Defect(f"layer {extra[0]}", "is not in the profile")])
    rows = [found.rows[layer] for layer in numbers]
    if len({len(row) for row in rows}) != 1:
        raise InputError(path, "layers have different numbers of slots")
    return np.asarray(rows, np.int64)


def _recognise(content: bytes) -> str | None:
    head = content[:4096].lstrip()
    if head.startswith(b"layer,slot"):
        return "csv"
    if b'"schema"' in head:
        return None
    for mark, name in (
        (b"physical_to_logical_map", "sglang"),
        (b"eplb_initial_mapping", "vllm"),
        (b"moe_layer_count", "vllm-ascend"),
        (b"initial_global_assignments", "trtllm"),
    ):
        if mark in content:
            return name
    return None


def _from_result(path: str, document: dict[str, Any], profile: Profile) -> Numbers:
    placement = Placement.from_json(document, path)
    if placement.slots is None:
        raise InputError(path, "holds no placement: its status is infeasible")
    if (placement.layers, placement.experts) != (profile.layers, profile.num_experts):
        shape = f"{len(placement.layers)} layers of {placement.experts} experts"
        raise InputError(path, f"is a placement of {shape}, the profile has {profile.num_layers} of {profile.num_experts}")
    if len({len(row) for row in placement.slots}) != 1:
        raise InputError(path, [Defect("placement", f"rows have different lengths: {shown([len(row) for row in placement.slots])}")])
    return placement.array
