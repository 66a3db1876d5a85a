"""Accelerators: cores with a PE array or vector lanes and a stack of memory levels, and what joins them; read from YAML and checked.

Schema ``cosma-sched/accelerator/1``. A file with ``array`` and ``levels`` at the top describes one core, one with ``cores`` any number;
energies are in pJ, bandwidths of levels in words per cycle, a word being one 8-bit element, those of links and ports in bits per cycle.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from cosma_sched.errors import InputError, suggestion
from cosma_sched.files import read_bytes

SCHEMA = "cosma-sched/accelerator/1"
MAX_FILE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class PEArray:
    """An array of processing elements.

    Parameters
    ----------
    unroll
        (dim, extent) of each axis, rows first: the loop dimension that is spread over the axis.
    sizes
        Extents of the axes instead, where any dimension may be spread over each.
    mac_pj
        Energy of one multiplication and addition.
    """

    unroll: tuple[tuple[str, int], ...] = ()
    sizes: tuple[int, ...] = ()
    mac_pj: float = 0.0

    @property
    def extents(self) -> tuple[int, ...]:
        """Extents of the axes."""
        return self.sizes or tuple(extent for _, extent in self.unroll)

    @property
    def elements(self) -> int:
        """Processing elements: multiplications per cycle at full use."""
        return math.prod(self.extents)

    @property
    def rows(self) -> int:
        """Extent of the first axis."""
        return self.extents[0]

    @property
    def cols(self) -> int:
        """Extent of the second axis; 1 where there is none."""
        return self.extents[1] if len(self.extents) > 1 else 1

    @property
    def row_dim(self) -> str | None:
        """Dimension spread over the rows, if it is fixed."""
        return self.unroll[0][0] if self.unroll else None

    @property
    def col_dim(self) -> str | None:
        """Dimension spread over the columns, if there are columns and it is fixed."""
        return self.unroll[1][0] if len(self.unroll) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the array as the block ``array``."""
        if self.sizes:
            return {"sizes": list(self.sizes), "mac_pj": self.mac_pj}
        if len(self.unroll) == 2:
            (row_dim, rows), (col_dim, cols) = self.unroll
            return {"rows": rows, "cols": cols, "row_dim": row_dim, "col_dim": col_dim, "mac_pj": self.mac_pj}
        return {"unroll": dict(self.unroll), "mac_pj": self.mac_pj}


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
    write_words_per_cycle, write_pj_per_word
        Of writing, where they differ from reading.
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
    write_words_per_cycle: float | None = None
    write_pj_per_word: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the level as an entry of ``levels``; facts that do not bind are left out."""
        plain = MemoryLevel("", (), 0.0)
        facts = {name: getattr(self, name) for name in MemoryLevel.__slots__}
        kept = {name: value for name, value in facts.items() if name in {"name", "holds", "pj_per_word"} or value != getattr(plain, name)}
        return {**kept, "holds": list(self.holds)}


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the off-chip core: ``read``, ``write`` or ``readwrite``, one transfer at a time."""

    direction: str
    bits_per_cycle: int


@dataclass(frozen=True, slots=True)
class OffChip:
    """What makes a core the way off-chip: its ports, and the energy of moving one word there or back."""

    ports: tuple[Port, ...]
    pj_per_word: float = 0.0


@dataclass(frozen=True, slots=True)
class Core:
    """A PE array or vector lanes, and memory levels, innermost first.

    Parameters
    ----------
    name
        For people.
    array
        Multiplies and adds; None for a core without one.
    levels
        Its memories.
    id
        Unique in its accelerator.
    lanes
        Elements that it works on in one cycle, element by element; a core without array and lanes only holds copies.
    lane_pj
        Energy of one element in a lane.
    operators
        Operator types that run on it; None where it takes what no core lists.
    offchip
        Set for the core that is the way off-chip.
    """

    name: str
    array: PEArray | None
    levels: tuple[MemoryLevel, ...]
    id: str = "0"
    lanes: int | None = None
    lane_pj: float = 0.0
    operators: tuple[str, ...] | None = None
    offchip: OffChip | None = None

    @property
    def is_compute(self) -> bool:
        """Whether anything can run on it."""
        return self.array is not None or self.lanes is not None

    def level(self, name: str) -> MemoryLevel | None:
        """Return a level by name, or None."""
        return next((level for level in self.levels if level.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return the core as an entry of ``cores``."""
        found: dict[str, Any] = {"id": self.id, "name": self.name}
        if self.array is not None:
            found["array"] = self.array.to_json()
        if self.lanes is not None:
            found |= {"lanes": self.lanes, "lane_pj": self.lane_pj}
        if self.operators is not None:
            found["operators"] = list(self.operators)
        if self.levels:
            found["levels"] = [level.to_json() for level in self.levels]
        if self.offchip is not None:
            ports = [{"direction": port.direction, "bits_per_cycle": port.bits_per_cycle} for port in self.offchip.ports]
            found["offchip"] = {"ports": ports, "pj_per_word": self.offchip.pj_per_word}
        return found


@dataclass(frozen=True, slots=True)
class Link:
    """What joins cores.

    Parameters
    ----------
    kind
        ``link``: two cores, one transfer at a time in each direction. ``bus``: one transfer at a time, which may reach several cores.
    cores
        Ids of the cores that it joins.
    bits_per_cycle
        Rate; None for no limit.
    pj_per_bit
        Energy.
    name
        Unique in its accelerator.
    """

    kind: str
    cores: tuple[str, ...]
    bits_per_cycle: int | None
    pj_per_bit: float = 0.0
    name: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the link as an entry of ``links``."""
        found = {"name": self.name, "kind": self.kind, "cores": list(self.cores), "pj_per_bit": self.pj_per_bit}
        return found if self.bits_per_cycle is None else {**found, "bits_per_cycle": self.bits_per_cycle}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """An accelerator: its cores and what joins them.

    Parameters
    ----------
    name
        Name for tables and files.
    cores
        At least one.
    links
        Links and buses between cores.
    shared_memory
        Groups of core ids whose outermost level is one physical memory.
    forwarding
        Whether a core may get a weight or an input from another core that has it; if not, only from off-chip.
    facts
        What a report may want to show, such as areas or coordinates, as (name, value).
    warnings
        What its reader did not understand; no part of what the accelerator is.
    """

    name: str
    cores: tuple[Core, ...]
    links: tuple[Link, ...] = ()
    shared_memory: tuple[tuple[str, ...], ...] = ()
    forwarding: bool = True
    facts: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False)

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
        head: dict[str, Any] = {"schema": SCHEMA, "name": self.name}
        only = self.cores[0]
        if self == Accelerator(self.name, (Core(self.name, only.array, only.levels),)) and only.array is not None:
            return {**head, "array": only.array.to_json(), "levels": [level.to_json() for level in only.levels]}
        head["cores"] = [core.to_json() for core in self.cores]
        if self.links:
            head["links"] = [link.to_json() for link in self.links]
        if self.shared_memory:
            head["shared_memory"] = [list(group) for group in self.shared_memory]
        if not self.forwarding:
            head["forwarding"] = False
        return {**head, "facts": dict(self.facts)} if self.facts else head

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


def builtin_names() -> tuple[str, ...]:
    """Return the names of the accelerators that ship with the package."""
    return tuple(sorted(path.name.removesuffix(".yaml") for path in _folder().iterdir() if path.name.endswith(".yaml")))


def load_accelerator(source: str | os.PathLike[str] | Accelerator) -> Accelerator:
    """Return an accelerator by built-in name or from a YAML file.

    Parameters
    ----------
    source
        A name of `builtin_names`, the path of a YAML file (this package's format or that of Stream and ZigZag systems), or an accelerator,
        which is returned as it is.

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
    from cosma_sched.frontends.stream_hardware import is_stream, read_stream

    if is_stream(content):
        return read_stream(name, content)
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
