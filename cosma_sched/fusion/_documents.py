"""The form of ``cosma-sched/fusion/1``; what its parts mean together is checked in `verify`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

from cosma_sched._result_document import Entry, ProvenanceBlock, ReasonEntry, checked
from cosma_sched.mapping._documents import BoundsEntry, Count, DimsEntry, Extent, Pair, SkippedEntry, WordsEntry
from cosma_sched.result import Status, Termination

__all__ = ["FusionDocument", "checked"]


class TileEntry(Entry):
    """Batch, rows and columns."""

    N: Extent
    P: Extent
    Q: Extent


class SlicedTileEntry(TileEntry):
    """A row tile, and the features of a slice."""

    F: Extent | None = None


class StepEntry(Entry):
    """One entry of ``steps``."""

    layer: StrictStr
    extents: TileEntry
    multiplicity: Extent
    weights: Literal["streamed", "loaded", "resident"] | None
    mapping: StrictStr | None
    energy_pj: Count
    latency_cycles: Count
    scratchpad_bytes: Count
    words: WordsEntry
    part: Literal["every", "first", "later", "middle", "last", "only"] | None = None


class HeldEntry(Entry):
    """One entry of ``held``."""

    layer: StrictStr
    maps_bytes: Count
    weights_bytes: Count
    working_bytes: Count


class GroupEntry(Entry):
    """One entry of ``groups``."""

    layers: Annotated[list[StrictStr], Field(min_length=1)]
    tile: SlicedTileEntry
    row_tile: Literal["resident", "streamed"] | None = None
    mode: Literal["recompute", "h-cached", "cached", "sliced"]
    resident_weights: list[StrictStr]
    energy_pj: Count
    latency_cycles: Count
    peak_bytes: Count
    dram_words: Count
    unfused_dram_words: Count
    steps: list[StepEntry]
    held: list[HeldEntry]


class LayerEntry(Entry):
    """One entry of ``layers``."""

    name: StrictStr
    count: Extent
    dims: DimsEntry
    stride: Pair
    repeat: Extent
    mapping: StrictStr
    energy_pj: Count
    latency_cycles: Count
    words: WordsEntry


class OptionsEntry(Entry):
    """The block ``options``."""

    halo: Literal["parity", "reuse"]
    psum_words: Extent
    vector_ops: Literal["free", "charged"]
    overlap: Literal["layer", "group"]
    space: StrictStr


class FusionDocument(Entry):
    """A document ``cosma-sched/fusion/1``."""

    schema_: Literal["cosma-sched/fusion/1"] = Field(alias="schema")
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
    unfused_energy_pj: StrictInt | None
    unfused_latency_cycles: StrictInt | None
    unfused_edp: StrictInt | None
    ceiling_edp: StrictInt | None
    evaluations: Count
    accelerator: dict[str, Any]
    provenance: ProvenanceBlock
    groups: list[GroupEntry]
    layers: list[LayerEntry]
    skipped: list[SkippedEntry]
    barriers: list[StrictStr]
    remarks: list[StrictStr]
    reasons: list[ReasonEntry] | None = None
