"""The form of ``cosma-sched/packing/1``; what its parts mean together is checked in `verify_packing`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

from cosma_sched._result_document import Entry, ProvenanceBlock, ReasonEntry, checked
from cosma_sched.errors import Defect, InputError
from cosma_sched.memory.packing_answer import SCHEMA, buffer_from_json
from cosma_sched.result import Status, Termination

_Count = Annotated[StrictInt, Field(ge=0)]


class GapEntry(Entry):
    """One entry of ``buffers[].gaps``."""

    lower: StrictInt
    upper: StrictInt
    window: Annotated[list[_Count], Field(min_length=2, max_length=2)] | None


class BufferEntry(Entry):
    """One entry of ``buffers``."""

    id: StrictStr
    lower: StrictInt
    upper: StrictInt
    size_bytes: StrictInt
    offset: StrictInt | None
    alignment: StrictInt = 1
    pin: StrictInt | None = None
    hint: StrictInt | None = None
    gaps: Annotated[list[GapEntry], Field(default_factory=list)]


class WithoutEntry(Entry):
    """One entry of ``clash.without``."""

    buffer: StrictStr
    offsets: dict[StrictStr, StrictInt]


class ClashEntry(Entry):
    """The block ``clash``."""

    buffers: list[StrictStr]
    irreducible: StrictBool
    without: list[WithoutEntry]


class EnoughEntry(Entry):
    """The block ``enough``."""

    capacity_bytes: _Count
    bound_bytes: _Count
    offsets: list[StrictInt]


class PackingDocument(Entry):
    """A document ``cosma-sched/packing/1``."""

    schema_: Literal["cosma-sched/packing/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: Annotated[float, Field(ge=0)]
    verified: StrictBool
    capacity_bytes: _Count | None
    height_bytes: StrictInt | None
    bound_bytes: StrictInt
    gap: float | None
    load_bytes: StrictInt
    load_time: StrictInt
    nodes: _Count
    proved_by: StrictStr
    buffers: list[BufferEntry]
    clash: ClashEntry | None = None
    enough: EnoughEntry | None = None
    reasons: Annotated[list[ReasonEntry], Field(default_factory=list)]
    provenance: ProvenanceBlock


def checked_packing(document: Mapping[str, Any], path: str) -> None:
    """Check a decoded document against its form, and its buffers for sense.

    Raises
    ------
    InputError
        With every mistake at once.
    """
    checked(PackingDocument, document, SCHEMA, path)
    if defects := list(_defects(document)):
        raise InputError(path, defects)


def _defects(document: Mapping[str, Any]) -> Iterator[Defect]:
    is_packed = document["height_bytes"] is not None
    seen: dict[str, int] = {}
    for index, entry in enumerate(document["buffers"]):
        place = f"buffers[{index}]"
        if seen.setdefault(entry["id"], index) != index:
            yield Defect(f"{place}.id", f"stands in buffers[{seen[entry['id']]}] too; ids must be unique")
        if (entry["offset"] is not None) != is_packed:
            yield Defect(f"{place}.offset", "all offsets and height_bytes are given together or not at all")
        try:
            buffer_from_json(entry)
        except InputError as error:
            yield from (Defect(f"{place}.{defect.where.replace('offset', 'pin')}", defect.problem) for defect in error.defects)
    enough = document.get("enough")
    if enough is not None and len(enough["offsets"]) != len(document["buffers"]):
        yield Defect("enough.offsets", f"must be one for each of the {len(document['buffers'])} buffers, got {len(enough['offsets'])}")
