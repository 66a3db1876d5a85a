"""Routing traces as JSON lines: one row per token and layer with ``layer``, ``token_idx`` and ``experts`` or ``topk_ids``.

Only tokens that occur exactly once in every layer are kept; how many were dropped is reported.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from cosma_sched.errors import InputError, shown
from cosma_sched.experts.formats.lines import Lines
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, ReadOptions, tokens_raw

_IDS = ("experts", "topk_ids")
_REQUESTS = ("problem_id", "request", "request_id", "rid")
_Token = tuple[Hashable, Hashable, int]


def read(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read a trace; the request of a token is its ``problem_id`` or ``request``, together with its ``dataset``."""
    lines = Lines(path, content, options)
    seen: dict[_Token, dict[int, list[tuple[int, ...]]]] = {}
    layers: set[int] = set()
    width: int | None = None
    for number, row in lines:
        try:
            token, layer, ids = _row(row, options.num_experts)
            if width is not None and len(ids) != width:
                raise ValueError(f"layer {layer}: {len(ids)} experts, the rows before have {width}")
        except ValueError as error:
            lines.bad(number, str(error), error)
            continue
        width = len(ids)
        layers.add(layer)
        seen.setdefault(token, {}).setdefault(layer, []).append(ids)
    ordered = sorted(layers)
    whole = [token for token, rows in seen.items() if len(rows) == len(ordered) and all(len(found) == 1 for found in rows.values())]
    if not whole:
        raise InputError(path, "has no token that occurs once in every layer")
    tokens = np.asarray([[seen[token][layer][0] for layer in ordered] for token in whole])
    requests = {token[:2]: i for i, token in enumerate(dict.fromkeys((token[0], token[1], 0) for token in whole))}
    numbers = np.asarray([requests[token[:2]] for token in whole])
    notes = lines.notes()
    if len(whole) < len(seen):
        notes.append(f"{path}: {len(seen) - len(whole)} of {len(seen)} tokens dropped: not exactly once in every layer")
    known = numbers if any(token[1] is not None for token in whole) else None
    return tokens_raw(stem(path), path, tokens, options, layers=tuple(ordered), requests=known, notes=tuple(notes))


def _row(row: dict[str, Any], num_experts: int | None) -> tuple[_Token, int, tuple[int, ...]]:
    layer, index = row.get("layer"), row.get("token_idx")
    ids = next((row[name] for name in _IDS if name in row), None)
    for name, value in (("layer", layer), ("token_idx", index)):
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} must be a whole number >= 0, got {shown(value)}")
    if not isinstance(ids, list) or not ids or any(type(expert) is not int for expert in ids):
        raise ValueError(f"layer {layer}: experts must be a list of whole numbers, got {shown(ids)}")
    wrong = [expert for expert in ids if expert < 0 or expert >= (num_experts or 2**31)]
    if wrong:
        raise ValueError(f"layer {layer}: expert {wrong[0]} is out of range")
    if len(set(ids)) != len(ids):
        raise ValueError(f"layer {layer}: an expert stands twice in {ids}")
    request = next((row[name] for name in _REQUESTS if name in row), None)
    parts = (row.get("dataset"), request)
    if any(isinstance(part, list | dict) for part in parts):
        raise ValueError("dataset and request must be plain values")
    return (parts[0], parts[1], int(index or 0)), int(layer or 0), tuple(ids)
