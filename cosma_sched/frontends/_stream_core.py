"""One core file of Stream or ZigZag: memories in bits, ports in bits per cycle, an operational array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosma_sched.accelerator import Core, MemoryLevel, OffChip, PEArray, Port
from cosma_sched.errors import shown
from cosma_sched.frontends._stream_values import Place

_CORE_KEYS = ("name", "type", "memories", "operational_array", "operator_types", "dataflows", "operand_precision")
_MEMORY_KEYS = ("size", "r_cost", "w_cost", "area", "latency", "auto_cost_extraction", "operands", "ports", "served_dimensions")
_PORT_KEYS = ("name", "type", "bandwidth_min", "bandwidth_max", "allocation")
_ARRAY_KEYS = ("unit_energy", "unit_area", "dimensions", "sizes", "input_precision", "multiplier_type")
_OPERANDS = {"I1": "I", "I2": "W", "O": "O"}
_DIRECTIONS = {"read": "read", "write": "write", "read_write": "readwrite"}
_DIMS = {"B": "N", "K": "K", "C": "C", "OY": "P", "OX": "Q", "FY": "R", "FX": "S"}
"""ZigZag's loop names and ours."""

MAC_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
"""A core that lists operators and none of these works element by element: its array is lanes."""

_KINDS = ("compute", "memory", "offchip")


@dataclass(frozen=True, slots=True)
class _Array:
    axes: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    mac_pj: float = 0.0

    @property
    def exists(self) -> bool:
        return bool(self.sizes) and all(size > 0 for size in self.sizes)


@dataclass(frozen=True, slots=True)
class _Ports:
    """The widest port of each direction, in bits per cycle, and all of them."""

    read: int
    write: int
    ports: tuple[Port, ...]


class CoreReader:
    """Reads one core file.

    Parameters
    ----------
    place
        Root of the file; mistakes and warnings go there.
    """

    def __init__(self, place: Place) -> None:
        self._place = place

    def core(self, document: Any, stem: str) -> Core | None:
        """Return the core; what is wrong was noted at its place."""
        place = self._place
        if not isinstance(document, Mapping):
            place.wrong(f"must be a mapping, got {shown(document)}")
            return None
        place.known(document, _CORE_KEYS)
        kind = self._kind(document)
        array = self._array(document)
        levels, ports, energy = self._memories(document, array)
        if "operand_precision" in document:
            place.keep("operand_precision", document["operand_precision"])
        name = place.text(document, "name", default=stem)
        operators = self._operators(document)
        offchip = OffChip(ports.ports, energy) if ports is not None else None
        if kind == "offchip":
            return Core(name, None, levels, offchip=offchip)
        if kind == "memory" or not array.exists:
            return Core(name, None, levels, offchip=offchip)
        lanes = math.prod(array.sizes) if sum(size > 1 for size in array.sizes) <= 1 else None
        if operators is not None and not MAC_OPERATORS & set(operators):
            return Core(name, None, levels, "0", math.prod(array.sizes), array.mac_pj, operators, offchip)
        return Core(name, self._unrolled(document, array), levels, "0", lanes, array.mac_pj if lanes else 0.0, operators, offchip)

    def _kind(self, document: Mapping[str, Any]) -> str:
        found = document.get("type", "compute")
        kind = found.rsplit(".", maxsplit=1)[-1] if isinstance(found, str) else found
        if kind not in _KINDS or (isinstance(found, str) and "." in found and found.split(".")[0] != "zigzag"):
            self._place.at("type").wrong(f"must be compute, memory or offchip, with or without zigzag. before it; got {shown(found)}")
        return str(kind)

    def _operators(self, document: Mapping[str, Any]) -> tuple[str, ...] | None:
        found = document.get("operator_types")
        if found is None:
            return None
        if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
            self._place.at("operator_types").wrong(f"must be a list of operator types, got {shown(found)}")
            return None
        return tuple(dict.fromkeys(found))

    # The array

    def _array(self, document: Mapping[str, Any]) -> _Array:
        place, entry = self._place.at("operational_array"), document.get("operational_array")
        if entry is None:
            return _Array()
        if not isinstance(entry, Mapping):
            place.wrong(f"must be a mapping, got {shown(entry)}")
            return _Array()
        place.known(entry, _ARRAY_KEYS)
        if "unit_area" in entry:
            place.keep("unit_area", entry["unit_area"])
        axes, sizes = entry.get("dimensions", []), entry.get("sizes", [])
        if not isinstance(axes, list) or not isinstance(sizes, list) or len(axes) != len(sizes):
            place.at("sizes").wrong(f"must be one size for each of dimensions {shown(axes)}, got {shown(sizes)}")
            return _Array()
        for index, size in enumerate(sizes):
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                place.at("sizes").item(index).wrong(f"must be a whole number >= 0, got {shown(size)}")
                return _Array()
        if any(sizes) and not all(sizes):
            place.at("sizes").wrong(f"must be all 0 (no array) or all > 0, got {sizes}")
        return _Array(tuple(map(str, axes)), tuple(sizes), place.number(entry, "unit_energy", default=0.0))

    def _unrolled(self, document: Mapping[str, Any], array: _Array) -> PEArray:
        """Return the array with the unrolling that the file fixes; a free one where it fixes none."""
        free = PEArray(sizes=array.sizes, mac_pj=array.mac_pj)
        flows = document.get("dataflows")
        if flows is None:
            return free
        fixed = [self._flow(flows.get(axis)) if isinstance(flows, Mapping) else None for axis in array.axes]
        dims = [entry[0] for entry in fixed if entry is not None]
        if len(dims) != len(fixed) or len(set(dims)) != len(dims):
            self._place.at("dataflows").warn("is not one dim for each axis; the unrolling is taken as free")
            return free
        return PEArray(tuple(entry for entry in fixed if entry is not None), (), array.mac_pj)

    @staticmethod
    def _flow(entry: Any) -> tuple[str, int] | None:
        item = entry[0] if isinstance(entry, list) and len(entry) == 1 else entry
        parts = [part.strip() for part in item.split(",")] if isinstance(item, str) else item
        if not isinstance(parts, list) or len(parts) != 2 or str(parts[0]) not in _DIMS:
            return None
        size = str(parts[1])
        return (_DIMS[str(parts[0])], int(size)) if size.isascii() and size.isdigit() and int(size) > 0 else None

    # Memories

    def _memories(self, document: Mapping[str, Any], array: _Array) -> tuple[tuple[MemoryLevel, ...], _Ports | None, float]:
        """Return the levels, and ports and pJ per word of the outermost one, through which an off-chip core works."""
        place, listed = self._place.at("memories"), document.get("memories")
        if not isinstance(listed, Mapping) or not listed:
            place.wrong("is missing" if listed is None else f"must be a mapping of memories, got {shown(listed)}")
            return (), None, 0.0
        levels: list[MemoryLevel] = []
        ports: _Ports | None = None
        for name, entry in listed.items():
            if not isinstance(entry, Mapping):
                place.at(name).wrong(f"must be a mapping, got {shown(entry)}")
                continue
            level, ports = self._level(name, entry, array)
            levels.append(level)
        energy = max(levels[-1].pj_per_word, levels[-1].write_pj_per_word or 0.0) if levels else 0.0
        return tuple(levels), ports, energy

    def _level(self, name: str, entry: Mapping[str, Any], array: _Array) -> tuple[MemoryLevel, _Ports]:
        place = self._place.at("memories").at(name)
        place.known(entry, _MEMORY_KEYS)
        if entry.get("area"):
            place.keep("area", entry["area"])
        ports = self._ports(entry, place)
        copies = self._copies(entry, array, place)
        read, write = (place.number(entry, key) * 8 / bits for key, bits in (("r_cost", ports.read), ("w_cost", ports.write)))
        size_bits = place.count(entry, "size") * copies
        words, write_words = ports.read * copies / 8, ports.write * copies / 8
        level = MemoryLevel(
            name=name,
            holds=self._holds(entry, place),
            pj_per_word=read,
            size_bytes=max(1, size_bits // 8),
            words_per_cycle=words,
            write_words_per_cycle=None if write_words == words else write_words,
            write_pj_per_word=None if write == read else write,
        )
        return level, ports

    @staticmethod
    def _holds(entry: Mapping[str, Any], place: Place) -> tuple[str, ...]:
        operands = entry.get("operands")
        if not isinstance(operands, list) or not operands or any(operand not in _OPERANDS for operand in map(str, operands)):
            place.at("operands").wrong(f"must be some of I1, I2, O, got {shown(operands)}")
            return ("W", "I", "O")
        held = {_OPERANDS[str(operand)] for operand in operands}
        return tuple(tensor for tensor in ("W", "I", "O") if tensor in held)

    @staticmethod
    def _copies(entry: Mapping[str, Any], array: _Array, place: Place) -> int:
        """Return how many of a memory there are: one for each position along the axes that it does not serve."""
        served = entry.get("served_dimensions", [])
        if not isinstance(served, list):
            place.at("served_dimensions").wrong(f"must be a list of array dimensions, got {shown(served)}")
            return 1
        for index, axis in enumerate(served):
            if array.axes and str(axis) not in array.axes:
                place.at("served_dimensions").item(index).wrong(f"must be one of {', '.join(array.axes)}, got {shown(axis)}")
        if not array.exists:
            return 1
        return math.prod(size for axis, size in zip(array.axes, array.sizes, strict=True) if axis not in map(str, served))

    @staticmethod
    def _ports(entry: Mapping[str, Any], place: Place) -> _Ports:
        listed = entry.get("ports")
        if not isinstance(listed, list) or not listed:
            place.at("ports").wrong("is missing" if listed is None else f"must be a list of ports, got {shown(listed)}")
            return _Ports(8, 8, ())
        found: list[Port] = []
        for index, port in enumerate(listed):
            where = place.at("ports").item(index)
            if not isinstance(port, Mapping):
                where.wrong(f"must be a mapping, got {shown(port)}")
                continue
            where.known(port, _PORT_KEYS)
            kind = str(port.get("type", "read_write"))
            if kind not in _DIRECTIONS:
                where.at("type").wrong(f"must be read, write or read_write, got {shown(port.get('type'))}")
            found.append(Port(_DIRECTIONS.get(kind, "readwrite"), where.count(port, "bandwidth_max")))
        rates = {way: [port.bits_per_cycle for port in found if port.direction in (way, "readwrite")] for way in ("read", "write")}
        for way, rate in rates.items():
            if not rate:
                place.at("ports").wrong(f"none of them can {way}")
        return _Ports(max(rates["read"], default=8), max(rates["write"], default=8), tuple(found))
