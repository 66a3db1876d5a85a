"""The answer of packing: where each buffer lies, or why there is no place for all of them. ``cosma-sched/packing/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cosma_sched.errors import InputError
from cosma_sched.graph import Buffer, BufferGap
from cosma_sched.result import Answer, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json

SCHEMA = "cosma-sched/packing/1"


@dataclass(frozen=True, slots=True)
class Without:
    """A packing of the buffers of a clash but one: the proof that this one is needed for it.

    Parameters
    ----------
    buffer
        The buffer that is left out.
    offsets
        (id, offset) of all others.
    """

    buffer: str
    offsets: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Clashing:
    """Buffers that cannot be packed together within the capacity.

    Parameters
    ----------
    buffers
        Their ids.
    irreducible
        True where every one of them is proven to be needed: `without` holds a packing of the others for each.
    without
        What is left when one of them is taken away, packed.
    """

    buffers: tuple[str, ...]
    irreducible: bool
    without: tuple[Without, ...] = ()


@dataclass(frozen=True, slots=True)
class Enough:
    """A capacity at which all buffers can be packed, with the packing that shows it.

    Parameters
    ----------
    capacity_bytes
        The least that was found.
    bound_bytes
        Proven: less is not enough.
    offsets
        In the order of the buffers.
    """

    capacity_bytes: int
    bound_bytes: int
    offsets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PackingResult(Answer):
    """Addresses for given lifetimes, with what is proven about them.

    Sizes are in bytes, lifetimes half-open. Without an answer (status ``infeasible`` or ``unknown``) `offsets`, `height_bytes` and `gap`
    are None; `reasons`, `clash` and `enough` say why and what would help.

    Parameters
    ----------
    capacity_bytes
        No buffer ends above it; None where only the least height was asked for.
    height_bytes
        The highest end of a buffer.
    bound_bytes
        Proven lower bound on the height of every packing; above the capacity where infeasible.
    gap
        (height - bound) / height.
    load_bytes, load_time
        The most bytes that live at one time, and the first such time.
    buffers
        As they were given, with alignments, pins (`Buffer.offset`) and gaps.
    offsets
        In the order of `buffers`.
    nodes
        Of the exact search.
    proved_by
        What decided: ``load``, ``heuristic`` (a packing as low as the load), ``search``, ``cpsat``; empty where nothing did.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    capacity_bytes: int | None
    bound_bytes: int
    load_bytes: int
    load_time: int
    buffers: tuple[Buffer, ...]
    provenance: Provenance
    height_bytes: int | None = None
    gap: float | None = None
    offsets: tuple[int, ...] | None = None
    nodes: int = 0
    proved_by: str = ""
    clash: Clashing | None = None
    enough: Enough | None = None
    reasons: tuple[Reason, ...] = ()

    def __post_init__(self) -> None:
        for offsets in (self.offsets, None if self.enough is None else self.enough.offsets):
            if offsets is not None and len(offsets) != len(self.buffers):
                raise InputError("packing", f"has {len(offsets)} offsets for {len(self.buffers)} buffers")

    def offset_of(self, buffer: str) -> int | None:
        """Return the offset of a buffer by its id, None where nothing is packed.

        Raises
        ------
        KeyError
            If there is no such buffer.
        """
        for index, other in enumerate(self.buffers):
            if other.name == buffer:
                return None if self.offsets is None else self.offsets[index]
        raise KeyError(buffer)

    def to_json(self) -> dict[str, Any]:
        """Return the answer as a document ``cosma-sched/packing/1``."""
        document: dict[str, Any] = {"schema": SCHEMA, **{name: getattr(self, name) for name in _PLAIN_FIELDS}}
        document["status"], document["termination"] = str(self.status), str(self.termination)
        document["seconds"] = round(self.seconds, 3)
        if self.reasons:
            document["reasons"] = [reason_to_json(reason) for reason in self.reasons]
        if self.clash is not None:
            document["clash"] = {
                "buffers": list(self.clash.buffers),
                "irreducible": self.clash.irreducible,
                "without": [{"buffer": rest.buffer, "offsets": dict(rest.offsets)} for rest in self.clash.without],
            }
        if self.enough is not None:
            document["enough"] = {**asdict(self.enough), "offsets": list(self.enough.offsets)}
        document["provenance"] = self.provenance.to_json()
        offsets = self.offsets if self.offsets is not None else (None,) * len(self.buffers)
        document["buffers"] = [_entry(buffer, offset) for buffer, offset in zip(self.buffers, offsets, strict=True)]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "packing") -> PackingResult:
        """Rebuild an answer from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.memory.packing_document import checked_packing

        checked_packing(document, path)
        return _decode(document)


_PLAIN_FIELDS = (
    "status",
    "termination",
    "seconds",
    "verified",
    "capacity_bytes",
    "height_bytes",
    "bound_bytes",
    "gap",
    "load_bytes",
    "load_time",
    "nodes",
    "proved_by",
)


def buffer_to_json(buffer: Buffer) -> dict[str, Any]:
    """Return a buffer as JSON types; what is as usual is left out."""
    entry: dict[str, Any] = {"id": buffer.name, "lower": buffer.lower, "upper": buffer.upper, "size_bytes": buffer.size_bytes}
    if buffer.alignment != 1:
        entry["alignment"] = buffer.alignment
    if buffer.offset is not None:
        entry["pin"] = buffer.offset
    if buffer.hint is not None:
        entry["hint"] = buffer.hint
    if buffer.gaps:
        entry["gaps"] = [
            {"lower": gap.lower, "upper": gap.upper, "window": None if gap.window is None else list(gap.window)} for gap in buffer.gaps
        ]
    return entry


def buffer_from_json(entry: Mapping[str, Any]) -> Buffer:
    """Rebuild a buffer from `buffer_to_json`'s output; further keys are ignored.

    Raises
    ------
    InputError
        If the buffer makes no sense.
    """
    gaps = tuple(
        BufferGap(gap["lower"], gap["upper"], None if gap["window"] is None else (gap["window"][0], gap["window"][1]))
        for gap in entry.get("gaps", ())
    )
    where = (entry["id"], entry["lower"], entry["upper"], entry["size_bytes"])
    return Buffer(*where, entry.get("alignment", 1), entry.get("pin"), entry.get("hint"), gaps)


def _entry(buffer: Buffer, offset: int | None) -> dict[str, Any]:
    plain = buffer_to_json(buffer)
    first = {name: plain.pop(name) for name in ("id", "lower", "upper", "size_bytes")}
    return {**first, "offset": offset, **plain}


def _decode(document: Mapping[str, Any]) -> PackingResult:
    values = {name: document[name] for name in _PLAIN_FIELDS}
    values["status"], values["termination"] = Status(document["status"]), Termination(document["termination"])
    offsets = [entry["offset"] for entry in document["buffers"]]
    packed = values["height_bytes"] is not None
    clash, enough = document.get("clash"), document.get("enough")
    return PackingResult(
        **values,
        buffers=tuple(buffer_from_json(entry) for entry in document["buffers"]),
        offsets=tuple(offsets) if packed else None,
        provenance=Provenance.from_json(document["provenance"]),
        clash=None
        if clash is None
        else Clashing(
            tuple(clash["buffers"]),
            clash["irreducible"],
            tuple(Without(rest["buffer"], tuple(rest["offsets"].items())) for rest in clash["without"]),
        ),
        enough=None if enough is None else Enough(enough["capacity_bytes"], enough["bound_bytes"], tuple(enough["offsets"])),
        reasons=tuple(reason_from_json(reason) for reason in document.get("reasons", ())),
    )
