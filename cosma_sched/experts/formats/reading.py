"""Reading profiles: every file is recognised by its content."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from cosma_sched.errors import InputError, UsageError, shown, suggestion
from cosma_sched.experts.formats import archive, counts_csv, sglang_stat, token_jsonl, torch_file, trtllm_statistics, vllm_load
from cosma_sched.experts.formats.names import stem
from cosma_sched.experts.formats.raw import Raw, Reader, ReadOptions, joined
from cosma_sched.experts.profile import Profile, build_profile, with_scenarios
from cosma_sched.experts.synthetic import PREFIX, synthetic_profile
from cosma_sched.files import read_bytes, sha256

READERS: dict[str, Reader] = {
    "sglang": sglang_stat.read,
    "sglang-pt": torch_file.read,
    "csv": counts_csv.read,
    "vllm": vllm_load.read,
    "vllm-history": vllm_load.read_history,
    "exflow": archive.read_exflow,
    "tokens": token_jsonl.read,
    "npz": archive.read,
}
"""Readers by the name that ``--input-format`` takes."""

_LIMIT = 4 * 2**30
_SUFFIXES = {".json", ".jsonl", ".pt", ".csv", ".npy", ".npz"}


def read_profile(
    source: str | Sequence[str],
    *,
    scenarios: Sequence[str] = (),
    input_format: str | None = None,
    num_experts: int | None = None,
    skip_bad_lines: bool = False,
) -> Profile:
    """Read a routing profile.

    Parameters
    ----------
    source
        A file, a directory, several files of one workload, or ``synthetic:PRESET``.
    scenarios
        Further files, each a workload of its own.
    input_format
        One of `READERS`, instead of looking at the content.
    num_experts
        Experts per layer where a file does not say.
    skip_bad_lines
        Skip and count malformed lines of JSONL files.

    Raises
    ------
    InputError
        Naming file, layer, expert and value.
    """
    if input_format is not None and input_format not in READERS:
        known = f"known ones are {', '.join(READERS)}{suggestion(input_format, READERS)}"
        raise UsageError(f"{shown(input_format)} is no input format; {known}")
    options = ReadOptions(num_experts, skip_bad_lines)
    sources = [source] if isinstance(source, str) else list(source)
    profile = _read_one(sources, input_format, options)
    others = [_read_one([path], input_format, options) for path in scenarios]
    return with_scenarios(profile, others) if others else profile


def _read_one(sources: Sequence[str], input_format: str | None, options: ReadOptions) -> Profile:
    if len(sources) == 1 and sources[0].startswith(PREFIX):
        return synthetic_profile(sources[0])
    parts: list[Raw] = []
    digests: list[str] = []
    for path in sources:
        raw, found = _read_path(path, input_format, options)
        parts.append(raw)
        digests += found
    name = sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} more"
    raw = joined(parts, name, stem(sources[0]))
    digest = digests[0] if len(digests) == 1 else sha256("".join(digests).encode())
    profile = build_profile(
        raw.scenarios, path=name, layers=raw.layers, top_k=raw.top_k, coactivation=raw.coactivation, sha256=digest, notes=raw.notes
    )
    return replace(profile, source=sources[0] if len(sources) == 1 else "\n".join(sources), inputs=(("\n".join(sources), digest),))


def _read_path(path: str, input_format: str | None, options: ReadOptions) -> tuple[Raw, list[str]]:
    if not Path(path).is_dir():
        content = read_bytes(path, limit_bytes=_LIMIT)
        reader = READERS[input_format] if input_format else recognise(path, content)
        return reader(path, content, options), [sha256(content)]
    if (Path(path) / trtllm_statistics.META).is_file():
        raw, files = trtllm_statistics.read_directory(path, options)
        return raw, [sha256(read_bytes(file, limit_bytes=_LIMIT)) for file in files]
    files = sorted(str(file) for file in Path(path).iterdir() if file.suffix in _SUFFIXES and file.is_file())
    if not files:
        raise InputError(path, f"is a directory without {trtllm_statistics.META} and without profiles ({', '.join(sorted(_SUFFIXES))})")
    parts, digests = [], []
    for file in files:
        raw, found = _read_path(file, input_format, options)
        parts.append(raw)
        digests += found
    return joined(parts, path, Path(path).name), digests


def recognise(path: str, content: bytes) -> Reader:
    """Return the reader for a file's content.

    Raises
    ------
    InputError
        If no reader knows it.
    """
    if not content:
        raise InputError(path, "is empty")
    if content.startswith(b"PK"):
        return torch_file.read if _holds_pickle(content) else archive.read
    if content.startswith(b"\x93NUMPY"):
        return archive.read_exflow
    if content.startswith(b"\x80"):
        return torch_file.read
    head = content[:65536].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"{"):
        return _recognise_json(path, content)
    if counts_csv.is_header(head.split(b"\n", 1)[0].decode("utf-8", "replace").strip()):
        return counts_csv.read
    raise InputError(path, f"is no known kind of profile; --input-format takes {', '.join(READERS)}")


def _holds_pickle(content: bytes) -> bool:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archived:
            return any(name.endswith("data.pkl") for name in archived.namelist())
    except (zipfile.BadZipFile, NotImplementedError, ValueError):
        return False


def _recognise_json(path: str, content: bytes) -> Reader:
    """Return the reader for JSON or JSON lines by the names that stand at the beginning."""
    line = content.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n", 1)[0].decode("utf-8", "replace")
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        document = None
    keys = set(document) if isinstance(document, dict) else set()
    if "record_type" in keys:
        return vllm_load.read
    if {"layer"} <= keys and keys & {"experts", "topk_ids"}:
        return token_jsonl.read
    head = content[:65536]
    if b'"load_history"' in head:
        return vllm_load.read_history
    if b'"logical_count"' in content:
        return sglang_stat.read
    if b'"record_type"' in head:
        return vllm_load.read
    if b'"token_idx"' in head:
        return token_jsonl.read
    known = '"logical_count" (SGLang), "load_history" or "record_type" (vLLM), "layer" with "experts" (token trace)'
    raise InputError(path, f"is JSON but no known kind of profile: has none of {known}")
