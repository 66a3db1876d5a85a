"""The form of an accelerator file with several cores, links between them and memory that they share; every mistake at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

from cosma_sched._accelerator_document import (
    ArrayEntry,
    Count,
    Entry,
    LevelEntry,
    Loc,
    Name,
    NotNegative,
    Rule,
    array_rules,
    built_array,
    built_level,
    known_forms,
    level_rules,
    placed,
    validated,
)
from cosma_sched._yaml import Lines
from cosma_sched.accelerator import Accelerator, Core, Link, MemoryLevel, OffChip, Port
from cosma_sched.errors import Defect, InputError, shown, suggestion

Id = StrictInt | Name


class PortEntry(Entry):
    """One entry of ``offchip.ports``."""

    direction: Literal["read", "write", "readwrite"]
    bits_per_cycle: Count


class OffChipEntry(Entry):
    """The block ``offchip``."""

    ports: Annotated[list[PortEntry], Field(min_length=1)]
    pj_per_word: NotNegative = 0.0


class CoreEntry(Entry):
    """One entry of ``cores``."""

    id: Id
    name: Name | None = None
    array: ArrayEntry | None = None
    lanes: Count | None = None
    lane_pj: NotNegative = 0.0
    operators: list[Name] | None = None
    levels: list[LevelEntry] = Field(default_factory=list)
    offchip: OffChipEntry | None = None


class LinkEntry(Entry):
    """One entry of ``links``."""

    kind: Literal["link", "bus"]
    cores: list[Id]
    bits_per_cycle: Count | None = None
    pj_per_bit: NotNegative = 0.0
    name: Name | None = None


class CoresDocument(Entry):
    """What stands around the lists of a document with several cores."""

    schema_: Literal["cosma-sched/accelerator/1"] = Field(alias="schema")
    name: Name
    cores: Annotated[list[Any], Field(min_length=1)]
    links: list[Any] = Field(default_factory=list)
    shared_memory: list[Any] = Field(default_factory=list)
    forwarding: StrictBool = True
    facts: dict[StrictStr, StrictStr] = Field(default_factory=dict)


class GroupEntry(Entry):
    """One entry of ``shared_memory``, wrapped."""

    group: Annotated[list[Id], Field(min_length=2)]


known_forms().update(cores=CoreEntry, links=LinkEntry, ports=PortEntry, offchip=OffChipEntry)


@dataclass(frozen=True, slots=True)
class _Parts:
    """The entries that have their form, each with its position in the file, and all core ids, also of entries that have not."""

    cores: tuple[tuple[int, CoreEntry], ...]
    links: tuple[tuple[int, LinkEntry], ...]
    groups: tuple[tuple[int, GroupEntry], ...]
    ids: tuple[str, ...]


def decode_cores(document: Mapping[str, Any], path: str, lines: Lines | None) -> Accelerator:
    """Build an accelerator from a document with ``cores``.

    Raises
    ------
    InputError
        With every mistake at once: those of form and those of what its parts say against each other.
    """
    frame, defects = validated(CoresDocument, dict(document), (), lines)
    lists = {key: value if isinstance(value := document.get(key), list) else [] for key in ("cores", "links", "shared_memory")}
    cores = _entries(CoreEntry, lists["cores"], "cores", lines, defects)
    links = _entries(LinkEntry, lists["links"], "links", lines, defects)
    groups = _groups(lists["shared_memory"], lines, defects)
    ids = tuple(str(entry["id"]) for entry in lists["cores"] if isinstance(entry, Mapping) and "id" in entry)
    parts = _Parts(tuple(cores), tuple(links), tuple(groups), ids)
    defects += [placed(rule, lines) for rule in _rules(parts)]
    if defects or frame is None:
        raise InputError(path, defects)
    return Accelerator(
        name=frame.name,
        cores=tuple(_built_core(entry) for _, entry in parts.cores),
        links=tuple(_built_link(index, entry) for index, entry in parts.links),
        shared_memory=tuple(tuple(map(str, entry.group)) for _, entry in parts.groups),
        forwarding=frame.forwarding,
        facts=tuple(frame.facts.items()),
    )


def _entries(form: Any, found: Sequence[Any], key: str, lines: Lines | None, defects: list[Defect]) -> list[tuple[int, Any]]:
    kept = []
    for index, entry in enumerate(found):
        parsed, wrong = validated(form, entry, (key, index), lines)
        defects += wrong
        if parsed is not None:
            kept.append((index, parsed))
    return kept


def _groups(found: Sequence[Any], lines: Lines | None, defects: list[Defect]) -> list[tuple[int, GroupEntry]]:
    kept = []
    for index, entry in enumerate(found):
        parsed, wrong = validated(GroupEntry, {"group": entry}, ("shared_memory", index), lines)
        defects += [Defect(defect.where.replace("].group", "]"), defect.problem) for defect in wrong]
        if parsed is not None:
            kept.append((index, parsed))
    return kept


# What the parts say against each other


def _rules(parts: _Parts) -> Iterator[Rule]:
    for index, core in parts.cores:
        yield from _core_rules(index, core)
    yield from _across_cores(parts)
    names: dict[str, int] = {}
    for index, link in parts.links:
        place, loc = f"links[{index}]", ("links", index)
        yield from _unknown(link.cores, parts.ids, f"{place}.cores", (*loc, "cores"))
        if link.kind == "link" and len(link.cores) != 2:
            yield (*loc, "cores"), f"{place}.cores", f"a link joins exactly 2 cores, got {len(link.cores)}; a bus joins any number"
        elif len(link.cores) < 2:
            yield (*loc, "cores"), f"{place}.cores", f"a bus joins at least 2 cores, got {len(link.cores)}"
        name = link.name or _link_name(index, link)
        if names.setdefault(name, index) != index:
            yield (*loc, "name"), f"{place}.name", f"links[{names[name]}] has the name {shown(name)} too"
    yield from _sharing_rules(parts)


def _core_rules(index: int, core: CoreEntry) -> Iterator[Rule]:
    place, loc = f"cores[{index}]", ("cores", index)
    if core.array is not None:
        yield from array_rules(core.array, (*loc, "array"), f"{place}.array")
    yield from level_rules(core.levels, loc, f"{place}.", needs_energy=True)
    for position, operator in enumerate(core.operators or ()):
        if operator in (core.operators or ())[:position]:
            yield (*loc, "operators", position), f"{place}.operators[{position}]", f"names {operator} twice"
    computes = core.array is not None or core.lanes is not None
    if core.offchip is not None:
        if computes or core.levels:
            yield loc, place, "the off-chip core has ports only, no array, lanes or levels"
        directions = {port.direction for port in core.offchip.ports}
        for needed in ("read", "write"):
            if not directions & {needed, "readwrite"}:
                yield (*loc, "offchip", "ports"), f"{place}.offchip.ports", f"none of them can {needed}"
    elif core.operators is not None and not computes:
        yield (*loc, "operators"), f"{place}.operators", "a core without array and lanes runs nothing"


def _across_cores(parts: _Parts) -> Iterator[Rule]:
    first: dict[str, int] = {}
    for index, core in parts.cores:
        if first.setdefault(str(core.id), index) != index:
            yield ("cores", index, "id"), f"cores[{index}].id", f"cores[{first[str(core.id)]}] has the id {core.id} too"
    offchip = [index for index, core in parts.cores if core.offchip is not None]
    for index in offchip[1:]:
        yield ("cores", index, "offchip"), f"cores[{index}].offchip", f"cores[{offchip[0]}] is the off-chip core already"
    if len(parts.cores) == len(parts.ids) and not any(core.array or core.lanes for _, core in parts.cores):
        yield ("cores",), "cores", "none has an array or lanes, so nothing can run"
    shared = {str(core) for _, entry in parts.groups for core in entry.group}
    for index, core in parts.cores:
        lone = not core.levels and core.offchip is None and str(core.id) not in shared
        if lone:
            yield ("cores", index), f"cores[{index}].levels", "is missing; only the off-chip core and cores with shared memory need none"


def _unknown(named: Sequence[int | str], ids: Sequence[str], place: str, loc: Loc) -> Iterator[Rule]:
    for position, core in enumerate(named):
        if str(core) not in ids:
            problem = f"no core has the id {shown(core)}; ids are {', '.join(ids)}{suggestion(str(core), ids)}"
            yield (*loc, position), f"{place}[{position}]", problem
    for core, times in Counter(map(str, named)).items():
        if times > 1:
            yield loc, place, f"names core {core} twice"


def _sharing_rules(parts: _Parts) -> Iterator[Rule]:
    """A shared memory is one memory: of cores with memory, of one size, without a link inside, and of no core twice."""
    by_id = {str(core.id): core for _, core in parts.cores}
    seen: dict[str, int] = {}
    for index, entry in parts.groups:
        place, loc = f"shared_memory[{index}]", ("shared_memory", index)
        yield from _unknown(entry.group, parts.ids, place, loc)
        members = {str(core) for core in entry.group}
        for core in members:
            if seen.setdefault(core, index) != index:
                yield loc, place, f"core {core} stands in shared_memory[{seen[core]}] too"
        known = [by_id[core] for core in map(str, entry.group) if core in by_id]
        sizes = {str(core.id): core.levels[-1].size_bytes for core in known if core.levels}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"core {core} {size}" for core, size in sizes.items())
            yield loc, place, f"one memory has one size_bytes, got {told}"
        if known and not sizes and len(known) == len(members):
            yield loc, place, "none of these cores has levels"
        yield from (
            (loc, place, f"core {core.id} is the off-chip core, which has no memory to share") for core in known if core.offchip is not None
        )
        for position, link in parts.links:
            both = members & set(map(str, link.cores))
            if link.kind == "link" and len(both) == 2:
                problem = f"joins cores {' and '.join(sorted(both))}, which share their memory ({place}); nothing moves between them"
                yield ("links", position), f"links[{position}]", problem


# Building


def _built_core(entry: CoreEntry) -> Core:
    offchip = None
    if entry.offchip is not None:
        offchip = OffChip(tuple(Port(port.direction, port.bits_per_cycle) for port in entry.offchip.ports), entry.offchip.pj_per_word)
    levels: tuple[MemoryLevel, ...] = tuple(built_level(level, {}) for level in entry.levels)
    return Core(
        name=entry.name or f"core {entry.id}",
        array=None if entry.array is None else built_array(entry.array),
        levels=levels,
        id=str(entry.id),
        lanes=entry.lanes,
        lane_pj=entry.lane_pj,
        operators=None if entry.operators is None else tuple(entry.operators),
        offchip=offchip,
    )


def _built_link(index: int, entry: LinkEntry) -> Link:
    cores = tuple(map(str, entry.cores))
    return Link(entry.kind, cores, entry.bits_per_cycle, entry.pj_per_bit, entry.name or _link_name(index, entry))


def _link_name(index: int, entry: LinkEntry) -> str:
    return f"{entry.kind}{index}"
