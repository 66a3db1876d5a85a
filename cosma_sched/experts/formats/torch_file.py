"""SGLang's ``.pt`` dumps, statistics and per-token, read by torch with ``weights_only``: nothing is ever unpickled freely."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np

from cosma_sched.errors import Defect, InputError
from cosma_sched.experts.formats import sglang_stat
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, ReadOptions, tokens_raw
from cosma_sched.experts.statistics import Numbers
from cosma_sched.extras import need

_RESAVE = "re-save it as tensors, numbers, strings, lists and dicts only, such as torch.save({k: v.cpu() for k, v in d.items()}, path)"


def read(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read a dump.

    Raises
    ------
    InputError
        If it holds other objects than tensors, numbers, strings, lists and dicts, or is no dump of SGLang.
    MissingError
        If torch is not installed.
    """
    torch = need("torch", extra="torch")
    try:
        document = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(path, f"cannot be read safely ({type(error).__name__}); {_RESAVE}") from error
    document = _plain(document, path)
    if isinstance(document, dict) and "logical_count" in document:
        return sglang_stat.from_document(path, document, options)
    if isinstance(document, dict) and "records" in document:
        return _tokens(path, document, options)
    raise InputError(path, 'is no dump of SGLang: has neither "logical_count" nor "records"')


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item, path) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, path) for item in value]
    if hasattr(value, "numpy"):
        return np.asarray(value.numpy())
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise InputError(path, f"holds a {type(value).__name__}; {_RESAVE}")


def _tokens(path: str, document: dict[str, Any], options: ReadOptions) -> Raw:
    """Read ``topk_ids_of_layer`` [L, tokens, k] of every record: physical ids, -1 for padding and in dense layers."""
    physical = document.get("last_physical_to_logical_map")
    parts = [
        np.asarray(record["topk_ids_of_layer"])
        for record in document["records"]
        if isinstance(record, dict) and "topk_ids_of_layer" in record
    ]
    if not parts or any(part.ndim != 3 for part in parts):
        raise InputError(path, [Defect("records", "must hold topk_ids_of_layer of shape [layers, tokens, k]")])
    if len({(part.shape[0], part.shape[2]) for part in parts}) > 1:
        raise InputError(path, [Defect("records", "have different numbers of layers or of experts per token")])
    ids = np.concatenate(parts, axis=1).transpose(1, 0, 2)  # [tokens, L, k]
    used = np.flatnonzero((ids >= 0).any(axis=(0, 2)))
    if not len(used):
        raise InputError(path, "holds no routed tokens")
    ids = ids[:, used]
    whole: Numbers = np.asarray((ids >= 0).all(axis=(1, 2)))
    notes = [f"{path}: {int((~whole).sum())} of {len(whole)} tokens dropped: padded in some layer"] if not whole.all() else []
    experts = options.num_experts
    ids = ids[whole]
    if physical is not None:
        ids, found = _logical(ids, np.asarray(physical), used, path)
        experts = experts or found
    rank = re.search(r"_(\d+)\.pt$", path)
    return tokens_raw(
        stem(path),
        path,
        ids,
        ReadOptions(experts),
        layers=tuple(int(layer) for layer in used),
        rank=int(rank.group(1)) if rank else None,
        notes=tuple(notes),
    )


def _logical(ids: Numbers, mapping: Numbers, layers: Numbers, path: str) -> tuple[Numbers, int]:
    """Return logical ids for physical ones and the number of experts."""
    if mapping.ndim != 2 or len(mapping) <= int(layers.max()):
        raise InputError(
            path,
            [Defect("last_physical_to_logical_map", f"has shape {list(mapping.shape)}, the records have {int(layers.max()) + 1} layers")],
        )
    if ids.size and int(ids.max()) >= mapping.shape[1]:
        token, layer, _ = np.argwhere(ids >= mapping.shape[1])[0]
        where = f"token {token} layer {layers[layer]}"
        raise InputError(path, [Defect(where, f"physical expert {int(ids.max())} is out of range, there are {mapping.shape[1]}")])
    return mapping[layers][np.arange(len(layers))[None, :, None], ids], int(mapping.max()) + 1
