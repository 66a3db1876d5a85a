"""Accelerators: cores of a PE array and a stack of memory levels, read from YAML and checked.

Schema ``cosma-sched/accelerator/1``. A file with ``array`` and ``levels`` at the top describes one core; energies are in pJ, bandwidths in
words per cycle, a word being one 8-bit element.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from cosma_sched.errors import InputError, suggestion
from cosma_sched.files import read_bytes

SCHEMA = "cosma-sched/accelerator/1"
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class PEArray:
    """A two-dimensional array of processing elements.

    Parameters
    ----------
    rows, cols
        Its sides.
    row_dim, col_dim
        Loop dimensions that may be spread over rows and over columns.
    mac_pj
        Energy of one multiplication and addition.
    """

    rows: int
    cols: int
    row_dim: str = "C"
    col_dim: str = "K"
    mac_pj: float = 0.0


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """One level of memory, from the registers out to DRAM.

    Parameters
    ----------
    name
        Unique in its core.
    holds
        Tensors that it keeps: some of ``W``, ``I``, ``O``.
    pj_per_word
        Energy of moving one word.
    size_bytes
        Capacity; None where it does not bind.
    element_bytes
        Bytes that one element takes at this level.
    words_per_cycle, words_per_cycle_per_column
        Bandwidth of the level, or of each used column of the array; None where it does not bind.
    block_words
        Words of one transfer: energy is charged for whole blocks of each tensor.
    psum_words
        Words that one spilled partial sum counts.
    """

    name: str
    holds: tuple[str, ...]
    pj_per_word: float
    size_bytes: int | None = None
    element_bytes: int = 1
    words_per_cycle: float | None = None
    words_per_cycle_per_column: float | None = None
    block_words: int = 1
    psum_words: int = 1


@dataclass(frozen=True, slots=True)
class Core:
    """A PE array and its memory levels, innermost first."""

    name: str
    array: PEArray
    levels: tuple[MemoryLevel, ...]

    def level(self, name: str) -> MemoryLevel | None:
        """Return a level by name, or None."""
        return next((level for level in self.levels if level.name == name), None)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator: its cores.

    Parameters
    ----------
    name
        Name for tables and files.
    cores
        At least one.
    """

    name: str
    cores: tuple[Core, ...]

    @property
    def core(self) -> Core:
        """The only core.

        Raises
        ------
        InputError
            If there are several.
        """
        if len(self.cores) != 1:
            raise InputError(self.name, f"has {len(self.cores)} cores; this planner works on one")
        return self.cores[0]

    def to_json(self) -> dict[str, Any]:
        """Return the accelerator as a document ``cosma-sched/accelerator/1``; facts that do not bind are left out."""
        core = self.core
        array = {name: getattr(core.array, name) for name in PEArray.__slots__}
        return {"schema": SCHEMA, "name": self.name, "array": array, "levels": [_level_to_json(level) for level in core.levels]}

    @classmethod
    def from_json(cls, document: Any, path: str = "accelerator") -> Accelerator:
        """Build an accelerator from a decoded document.

        Raises
        ------
        InputError
            With every mistake of the document at once.
        """
        from cosma_sched._accelerator_document import decode

        return decode(document, path)


def _level_to_json(level: MemoryLevel) -> dict[str, Any]:
    plain = MemoryLevel("", (), 0.0)
    facts = {name: getattr(level, name) for name in MemoryLevel.__slots__}
    kept = {name: value for name, value in facts.items() if name in {"name", "holds", "pj_per_word"} or value != getattr(plain, name)}
    return {**kept, "holds": list(level.holds)}


def builtin_names() -> tuple[str, ...]:
    """Return the names of the accelerators that ship with the package."""
    return tuple(sorted(path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml")))


def load_accelerator(source: str | os.PathLike[str] | Accelerator) -> Accelerator:
    """Return an accelerator by built-in name or from a YAML file.

    Parameters
    ----------
    source
        A name of `builtin_names`, the path of a YAML file, or an accelerator, which is returned as it is.

    Raises
    ------
    InputError
        If there is no such name or file, or with every mistake of the file.
    """
    if isinstance(source, Accelerator):
        return source
    name = os.fspath(source)
    if name in builtin_names():
        return _decoded(f"{name}.yaml", (_folder() / f"{name}.yaml").read_bytes())
    if not _looks_like_a_path(name):
        known = builtin_names()
        problem = f"no such accelerator; known names are {', '.join(known)}{suggestion(name, known)}, or a YAML file"
        raise InputError(name, problem)
    return _decoded(name, read_bytes(name, limit_bytes=MAX_FILE_BYTES))


def _folder() -> Path:
    return Path(str(files("cosma_sched"))) / "accelerators"


def _looks_like_a_path(name: str) -> bool:
    return os.sep in name or Path(name).suffix.lower() in {".yaml", ".yml", ".json"} or os.path.exists(name)


def _decoded(name: str, content: bytes) -> Accelerator:
    from cosma_sched._accelerator_document import decode
    from cosma_sched._yaml import decode_yaml

    document, lines = decode_yaml(name, content)
    return decode(document, name, lines)


def gemmini_energy(levels: Mapping[str, int], array_side: int) -> dict[str, float]:
    """Return pJ per word of the three upper levels of a Gemmini-like core in 40 nm.

    Fits of Accelergy and CACTI published with DOSA (BSD-2): register 0.48746172; accumulator 1.94 + 0.1005 KiB / side of the array;
    scratchpad 0.49 + 0.02513 KiB; DRAM 100.

    Parameters
    ----------
    levels
        Size in bytes of ``accumulator`` and ``scratchpad``.
    array_side
        Columns of the array: the accumulator has one bank per column.
    """
    accumulator_kib, scratchpad_kib = levels["accumulator"] / 1024, levels["scratchpad"] / 1024
    return {
        "register": 0.48746172,
        "accumulator": round(1.94 + 0.1005 * accumulator_kib / array_side, 10),
        "scratchpad": round(0.49 + 0.02513 * scratchpad_kib, 10),
        "dram": 100.0,
    }
