"""TensorRT-LLM's expert statistics: ``meta_info.json``, ``rank*.safetensors`` (counts), ``rank*_raw.safetensors`` (token ids)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.experts.formats.raw import Raw, ReadOptions, tokens_raw
from cosma_sched.experts.formats.safetensors import read_tensors
from cosma_sched.experts.profile import Scenario
from cosma_sched.experts.statistics import Numbers
from cosma_sched.files import decode_json, read_bytes

META = "meta_info.json"


def read_directory(path: str, options: ReadOptions) -> tuple[Raw, list[str]]:
    """Return the content of a directory and the files that were read.

    Raises
    ------
    InputError
        If counts and ids contradict each other, or a file is malformed.
    """
    meta_path = str(Path(path) / META)
    meta = decode_json(meta_path, read_bytes(meta_path))
    experts, top_k = (_positive(meta, name, meta_path) for name in ("num_experts", "num_experts_per_token"))
    if options.num_experts not in {None, experts}:
        raise InputError(meta_path, f"says {experts} experts, --num-experts says {options.num_experts}")
    files = sorted(str(file) for file in Path(path).glob("rank*.safetensors"))
    raw_files = [file for file in files if file.endswith("_raw.safetensors")]
    count_files = [file for file in files if file not in raw_files]
    if not files:
        raise InputError(path, "holds no rank*.safetensors")
    loads = _counts(count_files, experts)
    if not raw_files:
        layers = tuple(sorted(loads))
        return Raw((Scenario(Path(path).name, np.stack([loads[layer] for layer in layers])),), layers, top_k), [meta_path, *files]
    layers, tokens = _token_ids(raw_files, path)
    if tokens.shape[2] != top_k:
        raise InputError(path, f"{META} says {top_k} experts per token, the ids have {tokens.shape[2]}")
    raw = tokens_raw(Path(path).name, path, tokens, ReadOptions(experts), layers=layers, top_k=top_k)
    for row, layer in enumerate(layers):
        counted = raw.scenarios[0].loads[row]
        if layer in loads and not np.array_equal(loads[layer], counted):
            expert = int(np.argmax(loads[layer] != counted))
            values = f"{loads[layer][expert]} tokens, the ids count {counted[expert]}"
            raise InputError(path, [Defect(f"layer {layer} expert {expert}", f"the statistics have {values}")])
    return raw, [meta_path, *files]


def _positive(meta: object, name: str, path: str) -> int:
    value = meta.get(name) if isinstance(meta, dict) else None
    if type(value) is not int or value < 1:
        raise InputError(path, [Defect(name, f"must be a whole number >= 1, got {shown(value)}")])
    return value


def _entries(path: str) -> Iterator[tuple[int, int, Numbers]]:
    for name, values in read_tensors(path, read_bytes(path)).items():
        match = re.fullmatch(r"(\d+)_(\d+)", name, flags=re.ASCII)
        if match is None:
            raise InputError(path, [Defect(name, "must be named <iteration>_<layer>")])
        yield int(match.group(1)), int(match.group(2)), values


def _counts(files: list[str], experts: int) -> dict[int, Numbers]:
    loads: dict[int, Numbers] = {}
    for file in files:
        for iteration, layer, values in _entries(file):
            if values.shape != (experts,):
                raise InputError(file, [Defect(f"{iteration}_{layer}", f"must have {experts} counts, got shape {list(values.shape)}")])
            loads[layer] = loads.get(layer, np.zeros(experts, np.int64)) + values
    return loads


def _token_ids(files: list[str], path: str) -> tuple[tuple[int, ...], Numbers]:
    found: dict[int, list[Numbers]] = {}
    for file in files:
        for iteration, layer, values in sorted(_entries(file), key=lambda entry: (entry[0], entry[1])):
            if values.ndim != 2:
                raise InputError(file, [Defect(f"{iteration}_{layer}", f"must have shape [tokens, k], got {list(values.shape)}")])
            found.setdefault(layer, []).append(values)
    layers = tuple(sorted(found))
    joined = [np.concatenate(found[layer]) for layer in layers]
    if len({part.shape for part in joined}) > 1:
        sizes = ", ".join(f"layer {layer} {part.shape[0]}" for layer, part in zip(layers, joined, strict=True))
        raise InputError(path, f"layers have different numbers of tokens: {sizes}")
    return layers, np.stack(joined, axis=1)
