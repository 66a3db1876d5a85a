"""The form of ``cosma-sched/mapping/1``; what its parts mean together is checked in `verify`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

from cosma_sched._result_document import Entry, ProvenanceBlock, ReasonEntry, checked
from cosma_sched.result import Status, Termination

__all__ = ["MappingDocument", "checked"]

Extent = Annotated[StrictInt, Field(ge=1)]
Count = Annotated[StrictInt, Field(ge=0)]
Pair = Annotated[list[Extent], Field(min_length=2, max_length=2)]


class DimsEntry(Entry):
    """The extents of a layer."""

    N: Extent
    K: Extent
    C: Extent
    P: Extent
    Q: Extent
    R: Extent
    S: Extent


class WordsEntry(Entry):
    """DRAM words of a layer."""

    w: Count
    i: Count
    o: Count
    psum: Count


class SplitEntry(Entry):
    """Energy of a layer by level."""

    mac: Count
    register_: Annotated[Count, Field(alias="register")]
    accumulator: Count
    scratchpad: Count
    dram: Count


class TradeOffEntry(Entry):
    """A trade-off point of a layer."""

    energy_pj: Count
    latency_cycles: Count
    scratchpad_bytes: Count
    mapping: StrictStr


class NetworkPoint(Entry):
    """A trade-off point of the network."""

    energy_pj: Count
    latency_cycles: Count


class LayerEntry(Entry):
    """One entry of ``layers``."""

    name: StrictStr
    count: Extent
    dims: DimsEntry
    stride: Pair
    dilation: Pair | None = None
    repeat: Extent
    element_bytes: Annotated[list[Extent], Field(min_length=3, max_length=3)] | None = None
    drain_words: list[Count] | None = None
    pad: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    mapping: StrictStr
    energy_pj: Count
    latency_cycles: Count
    words: WordsEntry
    roof: Literal["compute", "accumulator", "scratchpad", "dram"]
    utilization: float
    energy_split_pj: SplitEntry
    scratchpad_bytes: Count
    accumulator_bytes: Count
    tradeoffs: list[TradeOffEntry] | None = None


class VectorEntry(Entry):
    """One entry of ``vector_operators``."""

    name: StrictStr
    type: StrictStr
    words: list[Count]
    folded_into: StrictStr | None
    energy_pj: Count
    latency_cycles: Count


class SkippedEntry(Entry):
    """One entry of ``skipped``."""

    name: StrictStr
    type: StrictStr
    reason: StrictStr


class BoundsEntry(Entry):
    """The block ``bounds``."""

    edp: StrictInt | None
    energy_pj: StrictInt | None
    latency_cycles: StrictInt | None


class OptionsEntry(Entry):
    """The block ``options``."""

    halo: Literal["parity", "reuse"]
    psum_words: Extent
    vector_ops: Literal["free", "charged"]
    space: StrictStr


class MappingDocument(Entry):
    """A document ``cosma-sched/mapping/1``."""

    schema_: Literal["cosma-sched/mapping/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: Annotated[float, Field(ge=0)]
    verified: StrictBool
    objective: Literal["edp", "energy", "latency"]
    method: StrictStr
    options: OptionsEntry
    energy_pj: StrictInt | None
    latency_cycles: StrictInt | None
    edp: StrictInt | None
    bound_edp: StrictInt | None
    bounds: BoundsEntry
    gap: float | None
    evaluations: Count
    accelerator: dict[str, Any]
    provenance: ProvenanceBlock
    layers: list[LayerEntry]
    vector_operators: list[VectorEntry]
    skipped: list[SkippedEntry]
    remarks: list[StrictStr]
    tradeoffs: list[NetworkPoint] | None = None
    ceiling_edp: StrictInt | None = None
    reasons: list[ReasonEntry] | None = None
