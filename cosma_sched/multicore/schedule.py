"""The multi-core scheduler's answer: who runs where and when, what moves, what lies where, what is proven. ``cosma-sched/schedule/1``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cosma_sched.multicore.problem import Objective, Semantics
from cosma_sched.result import Answer, Provenance, Reason, Status, Termination, reason_from_json, reason_to_json

SCHEMA = "cosma-sched/schedule/1"
GROUPED = "this grouping"
SCOPES = ("all splits", "this split", GROUPED, "this split and peak")
GROUPING = "grouping"
"""Name of the bound that holds only for the schedule's groups one after the other; it stands where it equals the latency."""


@dataclass(frozen=True, slots=True)
class NodeRun:
    """One run of a computation node, [start, end) in cycles."""

    name: str
    layer: str
    core: str
    start: int
    end: int

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``nodes``."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Transfer:
    """One transfer of a tile, [start, end) in cycles.

    Parameters
    ----------
    tile
        Name of the tile.
    source
        A core id, or ``offchip``.
    targets
        Core ids, or ``offchip`` alone; several where a bus carries it to several cores at once.
    start, end
        All resources of the route are busy for that time.
    size_bytes
        Bytes that pass once, however many targets there are.
    route
        Names of the resources, as in `cosma_sched.multicore.platform.Route`.
    """

    tile: str
    source: str
    targets: tuple[str, ...]
    start: int
    end: int
    size_bytes: int
    route: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``transfers``; ``targets`` stands only where there are several."""
        entry: dict[str, Any] = {"tensor": self.tile, "source": self.source, "target": self.targets[0]}
        if len(self.targets) > 1:
            entry["targets"] = list(self.targets)
        return {**entry, "start": self.start, "end": self.end, "size_bytes": self.size_bytes, "route": list(self.route)}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Transfer:
        """Rebuild from `to_json`'s output."""
        targets = tuple(entry.get("targets") or (entry["target"],))
        return cls(entry["tensor"], entry["source"], targets, entry["start"], entry["end"], entry["size_bytes"], tuple(entry["route"]))


@dataclass(frozen=True, slots=True)
class Residency:
    """A tile lies in a core's memory during [start, end) and takes that many bytes there.

    A tile that grows from partial sums has two entries that touch, the first one with the larger size. `offset` is its address in the
    memory, None where no addresses were asked for.
    """

    tile: str
    core: str
    start: int
    end: int
    size_bytes: int
    offset: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``residency``; ``offset`` stands only where there is one."""
        entry = {"tensor": self.tile, "core": self.core, "start": self.start, "end": self.end, "size_bytes": self.size_bytes}
        return entry if self.offset is None else {**entry, "offset": self.offset}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Residency:
        """Rebuild from `to_json`'s output."""
        return cls(entry["tensor"], entry["core"], entry["start"], entry["end"], entry["size_bytes"], entry.get("offset"))


@dataclass(frozen=True, slots=True)
class Period:
    """A part that repeats: `nodes` run `iterations` times, every `ii_cycles`, the first time from `start`."""

    iterations: int
    ii_cycles: int
    start: int
    nodes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return one entry of ``periods``."""
        return {**asdict(self), "nodes": list(self.nodes)}


@dataclass(frozen=True, slots=True)
class OffchipBytes:
    """Bytes read from off-chip, written to it, and, of the latter, those of intermediate tiles that nobody asked for (spills)."""

    read: int = 0
    write: int = 0
    spilled: int = 0


@dataclass(frozen=True, slots=True)
class EnergySplit:
    """Energy in picojoules: of nodes, of transfers between cores, of transfers from and to off-chip."""

    compute: int = 0
    links: int = 0
    offchip: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.compute + self.links + self.offchip


@dataclass(frozen=True, slots=True)
class ScheduleBounds:
    """Proven lower bounds; None where none is known.

    Parameters
    ----------
    latency_cycles, energy_pj
        On latency and energy.
    peak_bytes
        On `Schedule.peak_total_bytes`.
    by_name
        Each argument by its name, such as ``load`` or ``critical_path``; those on bytes and energy carry ``_bytes`` and ``_pj``.
    """

    latency_cycles: int | None = None
    peak_bytes: int | None = None
    energy_pj: int | None = None
    by_name: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Schedule(Answer):
    """A schedule with its figures and what is proven about it.

    Without an answer (status ``infeasible`` or ``unknown``) the figures are None, there are no nodes, and `reasons` says why.

    Parameters
    ----------
    objective, method
        What was minimised, and how.
    accelerator
        Facts of the accelerator file, so that a result can be checked without it.
    semantics
        Under what terms memory and time were counted.
    costs
        ``provider`` and ``assumptions`` of the node costs.
    split
        How layers were cut.
    groups
        Names of the layers of each fusion group, where groups were scheduled one after the other.
    latency_cycles
        End of the last node or transfer.
    peak_bytes
        For each core, the most bytes that lie in its memories at one instant; cores that share a memory show the same figure.
    peak_total_bytes
        The most bytes that lie on the chip at one instant.
    utilization
        Share of the latency for which each core computes.
    gap
        (value - bound) / value of the objective; None where no bound is known.
    scope
        What the bound, and so ``optimal``, holds for: one of `SCOPES`; with ``and peak``, for schedules whose peak in all is no higher.
    periods
        Parts that repeat and are not listed node by node.
    warnings, remarks
        What rests on a guess; what the figures may be compared with.
    """

    status: Status
    termination: Termination
    seconds: float
    verified: bool
    provenance: Provenance
    objective: Objective
    method: str
    semantics: Semantics
    scope: str = "this split"
    accelerator: Mapping[str, Any] = field(default_factory=dict)
    costs: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[tuple[str, ...], ...] = ()
    latency_cycles: int | None = None
    energy_pj: int | None = None
    peak_bytes: Mapping[str, int] = field(default_factory=dict)
    peak_total_bytes: int | None = None
    offchip_bytes: OffchipBytes = OffchipBytes()
    energy: EnergySplit = EnergySplit()
    utilization: Mapping[str, float] = field(default_factory=dict)
    bounds: ScheduleBounds = ScheduleBounds()
    gap: float | None = None
    nodes: tuple[NodeRun, ...] = ()
    transfers: tuple[Transfer, ...] = ()
    residency: tuple[Residency, ...] = ()
    periods: tuple[Period, ...] = ()
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    reasons: tuple[Reason, ...] = ()

    @property
    def value(self) -> int | None:
        """The value of the objective; the worst core's peak where that is what memory means."""
        if self.objective is Objective.LATENCY:
            return self.latency_cycles
        if self.objective is Objective.ENERGY:
            return self.energy_pj
        if self.semantics.memory_scope == "worst-core" and self.peak_total_bytes is not None:
            return max(self.peak_bytes.values(), default=0)
        return self.peak_total_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the schedule as a document ``cosma-sched/schedule/1``."""
        document: dict[str, Any] = {
            "schema": SCHEMA,
            "status": str(self.status),
            "termination": str(self.termination),
            "seconds": round(self.seconds, 3),
            "verified": self.verified,
            "objective": str(self.objective),
            "method": self.method,
            "latency_cycles": self.latency_cycles,
            "energy_pj": self.energy_pj,
            "peak_bytes": dict(self.peak_bytes),
            "peak_total_bytes": self.peak_total_bytes,
            "bounds": {**asdict(replace(self.bounds, by_name={})), "by_name": dict(self.bounds.by_name)},
            "gap": self.gap,
            "scope": self.scope,
            "utilization": dict(self.utilization),
            "offchip_bytes": asdict(self.offchip_bytes),
            "energy": asdict(self.energy),
            "accelerator": dict(self.accelerator),
            "semantics": asdict(self.semantics),
            "costs": dict(self.costs),
            "split": dict(self.split),
            "groups": [list(group) for group in self.groups],
            "periods": [period.to_json() for period in self.periods],
            "nodes": [run.to_json() for run in self.nodes],
            "transfers": [transfer.to_json() for transfer in self.transfers],
            "residency": [entry.to_json() for entry in self.residency],
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "provenance": self.provenance.to_json(),
        }
        if self.reasons:
            document["reasons"] = [reason_to_json(reason) for reason in self.reasons]
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], path: str = "schedule") -> Schedule:
        """Rebuild a schedule from `to_json`'s output.

        Raises
        ------
        InputError
            With every mistake in the form of the document.
        """
        from cosma_sched.multicore._documents import ScheduleDocument, checked

        checked(ScheduleDocument, document, SCHEMA, path)
        return _decode(document)


_SAME = ("seconds", "verified", "method", "scope", "accelerator", "costs", "split", "latency_cycles", "energy_pj", "peak_bytes")
_SAME_TOO = ("peak_total_bytes", "utilization", "gap")


def _decode(document: Mapping[str, Any]) -> Schedule:
    return Schedule(
        **{name: document[name] for name in (*_SAME, *_SAME_TOO)},
        status=Status(document["status"]),
        termination=Termination(document["termination"]),
        provenance=Provenance.from_json(document["provenance"]),
        objective=Objective(document["objective"]),
        semantics=Semantics(**document["semantics"]),
        groups=tuple(tuple(group) for group in document["groups"]),
        offchip_bytes=OffchipBytes(**document["offchip_bytes"]),
        energy=EnergySplit(**document["energy"]),
        bounds=ScheduleBounds(**document["bounds"]),
        nodes=tuple(NodeRun(**entry) for entry in document["nodes"]),
        transfers=tuple(Transfer.from_json(entry) for entry in document["transfers"]),
        residency=tuple(Residency.from_json(entry) for entry in document["residency"]),
        periods=tuple(Period(**{**entry, "nodes": tuple(entry["nodes"])}) for entry in document["periods"]),
        warnings=tuple(document["warnings"]),
        remarks=tuple(document.get("remarks") or ()),
        reasons=tuple(reason_from_json(reason) for reason in document.get("reasons", ())),
    )
