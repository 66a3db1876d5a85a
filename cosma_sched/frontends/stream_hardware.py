"""Reader of the hardware files of Stream and ZigZag: a system file that names core files; sizes in bits, rates in bits per cycle.

All mistakes of a system and its core files are reported at once; keys that nobody knows become warnings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cosma_sched._yaml import decode_yaml
from cosma_sched.accelerator import MAX_FILE_BYTES, Accelerator, Core, Link
from cosma_sched.errors import Defect, InputError, shown, suggestion
from cosma_sched.files import read_bytes
from cosma_sched.frontends._stream_core import CoreReader
from cosma_sched.frontends._stream_values import Place

_SYSTEM_KEYS = (
    "name",
    "cores",
    "offchip_core_id",
    "unit_energy_cost",
    "core_connectivity",
    "core_memory_sharing",
    "core_coordinates",
    "technology_node",
)
_CONNECTION_KEYS = ("type", "cores", "bandwidth", "unit_energy_cost")


def is_stream(content: bytes) -> bool:
    """Return whether a file looks like a system of Stream: it names its connectivity in Stream's words."""
    return (
        re.search(rb"^(core_connectivity|offchip_core_id|core_memory_sharing|operational_array)\s*:", content, flags=re.MULTILINE)
        is not None
    )


def read_stream(name: str, content: bytes) -> Accelerator:
    """Build an accelerator from a system file; its core files are looked for beside it.

    Parameters
    ----------
    name
        Path of the system file.
    content
        Its bytes.

    Raises
    ------
    InputError
        With every mistake of the system and of its core files.
    """
    document, _ = decode_yaml(name, content, number_keys=True)
    defects: list[Defect] = []
    warnings: list[str] = []
    root = Place("", defects, warnings)
    if not isinstance(document, Mapping):
        raise InputError(name, f"must be a mapping, got {shown(document)}")
    if "operational_array" in document:
        raise InputError(name, "is one core of a Stream system; give the system file, which lists its cores and what joins them")
    root.known(document, _SYSTEM_KEYS)
    title = root.text(document, "name", default=Path(name).stem)
    cores = _cores(name, document, root)
    links = _links(document, root, tuple(cores))
    shared = _shared(document, root, cores)
    if not defects and not any(core.is_compute for core in cores.values()):
        root.at("cores").wrong("none has an operational array, so nothing can run")
    if defects:
        raise InputError(name, defects)
    return Accelerator(title, tuple(cores.values()), links, shared, facts=tuple(_facts(document, root)), warnings=tuple(warnings))


def _facts(document: Mapping[str, Any], root: Place) -> list[tuple[str, str]]:
    kept = [(key, str(document[key])) for key in ("technology_node", "core_coordinates") if key in document]
    return kept + root.facts


# Cores


def _cores(system: str, document: Mapping[str, Any], root: Place) -> dict[str, Core]:
    place = root.at("cores")
    listed = document.get("cores")
    if not isinstance(listed, Mapping) or not listed:
        place.wrong(f"must name the file of each core by its id, got {shown(listed)}" if listed is not None else "is missing")
        return {}
    offchip = document.get("offchip_core_id")
    if offchip is not None and str(offchip) not in listed:
        root.at("offchip_core_id").wrong(f"no core has the id {shown(offchip)}; ids are {', '.join(listed)}")
    read: dict[str, Core | None] = {}
    found: dict[str, Core] = {}
    for identity, path in listed.items():
        where = place.at(identity)
        if not isinstance(path, str):
            where.wrong(f"must be the path of a core file, got {shown(path)}")
            continue
        if path not in read:
            read[path] = _core(system, path, where)
        core = read[path]
        if core is not None:
            found[identity] = _in_its_role(replace(core, id=identity), None if offchip is None else str(offchip), where)
    return found


def _in_its_role(core: Core, offchip: str | None, place: Place) -> Core:
    """Return a core as the system uses it: the named off-chip core is one whatever its type says, and no other is."""
    if offchip is None or offchip == core.id:
        if offchip == core.id and core.offchip is None:
            place.wrong("is the off-chip core, but has no memory with ports that everything is read from and written to")
        return replace(core, levels=(), array=None, lanes=None, operators=None) if core.offchip is not None else core
    return replace(core, offchip=None)


def _core(system: str, path: str, place: Place) -> Core | None:
    tried = _candidates(system, path)
    file = next((candidate for candidate in tried if os.path.isfile(candidate)), None)
    if file is None:
        place.wrong(f"no such core file {shown(path)}; tried {', '.join(tried)}")
        return None
    try:
        document, _ = decode_yaml(file, read_bytes(file, limit_bytes=MAX_FILE_BYTES), number_keys=True)
    except InputError as error:
        for defect in error.defects:
            place.wrong(f"{file}: {defect}")
        return None
    return CoreReader(place.inside(file)).core(document, Path(file).stem)


def _candidates(system: str, path: str) -> list[str]:
    """Return where a core file may lie: as written relative to the system file, beside it in ``cores``, or beside it."""
    folder = Path(system).parent
    name = Path(path).name
    return list(dict.fromkeys(str(candidate) for candidate in (folder / path, folder / "cores" / name)))


# Connections


def _links(document: Mapping[str, Any], root: Place, ids: tuple[str, ...]) -> tuple[Link, ...]:
    place = root.at("core_connectivity")
    energy = root.number(document, "unit_energy_cost", default=0.0)
    listed = document.get("core_connectivity", [])
    if not isinstance(listed, list):
        place.wrong(f"must be a list, got {shown(listed)}")
        return ()
    links = [_link(entry, place.item(index), index, energy, ids) for index, entry in enumerate(listed)]
    return tuple(link for link in links if link is not None)


def _link(entry: Any, place: Place, index: int, energy: float, ids: tuple[str, ...]) -> Link | None:
    if not isinstance(entry, Mapping):
        place.wrong(f"must be a mapping, got {shown(entry)}")
        return None
    place.known(entry, _CONNECTION_KEYS)
    kind = entry.get("type", "link")
    if kind not in ("link", "bus"):
        place.at("type").wrong(f"must be link or bus, got {shown(kind)}")
    cores = entry.get("cores")
    named = [str(core) for core in cores] if isinstance(cores, list) else []
    if not isinstance(cores, list):
        place.at("cores").wrong("is missing" if cores is None else f"must be a list of core ids, got {shown(cores)}")
    elif len(set(named)) != len(named):
        place.at("cores").wrong(f"names a core twice, got {shown(cores)}")
    elif kind == "link" and len(named) != 2:
        place.at("cores").wrong(f"a link joins exactly 2 cores, got {len(named)}; a bus joins any number")
    elif len(named) < 2:
        place.at("cores").wrong(f"a bus joins at least 2 cores, got {len(named)}")
    for position, core in enumerate(named):
        if ids and core not in ids:
            place.at("cores").item(position).wrong(f"no core has the id {shown(core)}; ids are {', '.join(ids)}{suggestion(core, ids)}")
    rate = place.count(entry, "bandwidth")
    per_word = place.number(entry, "unit_energy_cost", default=energy)
    return Link(str(kind), tuple(named), rate, per_word / max(rate, 1), f"{kind}{index}")


def _shared(document: Mapping[str, Any], root: Place, cores: Mapping[str, Core]) -> tuple[tuple[str, ...], ...]:
    place = root.at("core_memory_sharing")
    listed = document.get("core_memory_sharing") or []
    if not isinstance(listed, list):
        place.wrong(f"must be a list of groups of core ids, got {shown(listed)}")
        return ()
    groups = []
    for index, entry in enumerate(listed):
        members = [part.strip() for part in entry.split(",")] if isinstance(entry, str) else entry
        if not isinstance(members, list) or len(members) < 2:
            place.item(index).wrong(f'must name two or more cores, such as "0, 1", got {shown(entry)}')
            continue
        names = tuple(map(str, members))
        for core in names:
            if core not in cores and cores:
                place.item(index).wrong(f"no core has the id {shown(core)}; ids are {', '.join(cores)}")
        sizes = {core: cores[core].levels[-1].size_bytes for core in names if core in cores and cores[core].levels}
        if len(set(sizes.values())) > 1:
            place.item(index).wrong(
                f"one memory has one size, got {', '.join(f'core {core} {size} bytes' for core, size in sizes.items())}"
            )
        groups.append(names)
    return tuple(groups)
