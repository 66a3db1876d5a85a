"""The form of ``cosma-sched/schedule/1``; what its parts mean together is checked in `verify`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, StrictBool, StrictInt, StrictStr

from cosma_sched._result_document import Entry, ProvenanceBlock, ReasonEntry, checked
from cosma_sched.multicore.problem import Objective
from cosma_sched.result import Status, Termination

__all__ = ["ScheduleDocument", "checked"]

Count = Annotated[StrictInt, Field(ge=0)]
Extent = Annotated[StrictInt, Field(ge=1)]


class NodeEntry(Entry):
    """One entry of ``nodes``."""

    name: StrictStr
    layer: StrictStr
    core: StrictStr
    start: Count
    end: Count


class TransferEntry(Entry):
    """One entry of ``transfers``."""

    tensor: StrictStr
    source: StrictStr
    target: StrictStr
    targets: Annotated[list[StrictStr], Field(min_length=2)] | None = None
    start: Count
    end: Count
    size_bytes: Count
    route: list[StrictStr]


class ResidencyEntry(Entry):
    """One entry of ``residency``."""

    tensor: StrictStr
    core: StrictStr
    start: Count
    end: Count
    size_bytes: Count
    offset: Count | None = None


class PeriodEntry(Entry):
    """One entry of ``periods``."""

    iterations: Extent
    ii_cycles: Extent
    start: Count
    nodes: list[StrictStr]


class SemanticsBlock(Entry):
    """The block ``semantics``."""

    inputs: Literal["streamed", "resident", "fetched"]
    weights: Literal["free", "fetched"]
    outputs: Literal["kept", "streamed", "written"]
    partial_sum_factor: Extent
    softmax: Literal["inplace", "node", "expanded"]
    timing: Literal["strict", "stream"]
    capacity_rule: Literal["unified", "split"]
    memory_scope: Literal["total", "worst-core"]


class OffchipBlock(Entry):
    """The block ``offchip_bytes``."""

    read: Count
    write: Count
    spilled: Count


class EnergyBlock(Entry):
    """The block ``energy``."""

    compute: Count
    links: Count
    offchip: Count


class BoundsBlock(Entry):
    """The block ``bounds``."""

    latency_cycles: Count | None
    peak_bytes: Count | None
    energy_pj: Count | None
    by_name: dict[str, Count]


class ScheduleDocument(Entry):
    """The whole document."""

    schema_: Literal["cosma-sched/schedule/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: FiniteFloat
    verified: StrictBool
    objective: Objective
    method: StrictStr
    latency_cycles: Count | None
    energy_pj: Count | None
    peak_bytes: dict[str, Count]
    peak_total_bytes: Count | None
    bounds: BoundsBlock
    gap: FiniteFloat | None
    scope: Literal["all splits", "this split", "this grouping", "this split and peak"]
    utilization: dict[str, FiniteFloat]
    offchip_bytes: OffchipBlock
    energy: EnergyBlock
    accelerator: dict[str, Any]
    semantics: SemanticsBlock
    costs: dict[str, Any]
    split: dict[str, Any]
    groups: list[list[StrictStr]]
    periods: list[PeriodEntry]
    nodes: list[NodeEntry]
    transfers: list[TransferEntry]
    residency: list[ResidencyEntry]
    warnings: list[StrictStr]
    remarks: list[StrictStr] | None = None
    provenance: ProvenanceBlock
    reasons: list[ReasonEntry] | None = None
