"""numpy files: ``.npz`` archives of P, R, C, H or token ids, and ExFlow's ``.npy`` of token ids; never unpickled."""

from __future__ import annotations

import io
import zipfile

import numpy as np

from cosma_sched.errors import Defect, InputError
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, ReadOptions, tokens_raw
from cosma_sched.experts.profile import Scenario
from cosma_sched.experts.statistics import Numbers

_MOST_BYTES = 8 * 2**30
_KNOWN = {"P", "R", "C", "C_all", "H", "T", "tokens", "request", "names", "dataset"}


def read(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read an archive: any of P, R, C, H, tokens (or T), request, names; P and R with a leading axis are scenarios.

    Raises
    ------
    InputError
        If it holds pickled objects, is damaged, or has none of these arrays.
    """
    arrays = _arrays(path, content)
    ids = next((arrays[name] for name in ("T", "tokens") if name in arrays and arrays[name].ndim == 3), None)
    if ids is not None:
        return _token_archive(path, ids, arrays, options)
    loads = arrays.get("P")
    if loads is None:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise InputError(path, f"has no token ids (T or tokens) and no counts (P); found {found}")
    if loads.ndim == 2:
        scenario = Scenario(stem(path), loads, arrays.get("R"), arrays.get("C"), homes=arrays.get("H"))
        return Raw((scenario,), coactivation=arrays.get("C_all"))
    if loads.ndim != 3:
        raise InputError(path, [Defect("P", f"must have shape [layers, experts] or [scenarios, layers, experts], got {list(loads.shape)}")])
    return _scenarios(path, loads, arrays)


def _arrays(path: str, content: bytes) -> dict[str, Numbers]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MOST_BYTES:
            raise InputError(path, f"unpacks to {size:,} bytes, more than the {_MOST_BYTES:,} that are read")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            return {name: loaded[name] for name in loaded.files if name in _KNOWN}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(path, f"cannot be read as an .npz archive without pickled objects: {error}") from error


def _token_archive(path: str, ids: Numbers, arrays: dict[str, Numbers], options: ReadOptions) -> Raw:
    requests = arrays.get("request")
    if requests is not None and requests.shape != ids.shape[:1]:
        raise InputError(path, [Defect("request", f"must have one entry per token, {len(ids)}, got shape {list(requests.shape)}")])
    if requests is not None and requests.dtype.kind not in "iuUS":
        raise InputError(path, [Defect("request", f"must hold numbers or names, got {requests.dtype}")])
    numbers = None if requests is None else np.unique(requests, return_inverse=True)[1]
    raw = tokens_raw(stem(path), path, ids, options, requests=numbers)
    loads = arrays.get("P")
    if loads is not None and not np.array_equal(loads, raw.scenarios[0].loads):
        raise InputError(path, [Defect("P", "differs from what the token ids count")])
    return raw


def _scenarios(path: str, loads: Numbers, arrays: dict[str, Numbers]) -> Raw:
    count = len(loads)
    names = [f"{stem(path)}[{i}]" for i in range(count)]
    if "names" in arrays:
        if arrays["names"].shape != (count,):
            raise InputError(
                path, [Defect("names", f"must have {count} entries, one per scenario, got shape {list(arrays['names'].shape)}")]
            )
        names = [str(name) for name in arrays["names"]]
    parts: dict[str, list[Numbers | None]] = {}
    for symbol in ("R", "C", "H"):
        array = arrays.get(symbol)
        if array is not None and len(array) != count:
            raise InputError(path, [Defect(symbol, f"must have {count} scenarios as P, got shape {list(array.shape)}")])
        parts[symbol] = [None] * count if array is None else list(array)
    rows = zip(names, loads, parts["R"], parts["C"], parts["H"], strict=True)
    scenarios = tuple(Scenario(name, p, r, c, homes=h) for name, p, r, c, h in rows)
    return Raw(scenarios, coactivation=arrays.get("C_all"))


def read_exflow(path: str, content: bytes, options: ReadOptions) -> Raw:
    """Read ``.npy`` token ids [tokens, layers] (top-1) or [tokens, layers, k]."""
    try:
        ids = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(path, f"cannot be read as an .npy file without pickled objects: {error}") from error
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "iu" or ids.ndim not in {2, 3}:
        raise InputError(path, "must hold whole numbers of shape [tokens, layers] or [tokens, layers, k]")
    return tokens_raw(stem(path), path, ids if ids.ndim == 3 else ids[:, :, None], options)
