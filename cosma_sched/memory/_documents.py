"""The form of the planner's documents; what their parts mean together is checked in `verify`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, StrictStr

from cosma_sched._result_document import Entry, ProvenanceBlock, ReasonEntry, checked
from cosma_sched.result import Status, Termination

__all__ = ["BoundsDocument", "PlanDocument", "checked"]


class ResidencyEntry(Entry):
    """One entry of ``residency``."""

    tensor: StrictStr
    start: StrictInt
    end: StrictInt
    offset: StrictInt
    size_bytes: StrictInt


class TransferEntry(Entry):
    """One entry of ``transfers``."""

    tensor: StrictStr
    step: StrictInt
    kind: Literal["load", "store", "spill", "retrieve"]
    size_bytes: StrictInt


class BudgetsEntry(Entry):
    """The block ``budgets``."""

    m_r_bytes: StrictInt
    m_h_bytes: StrictInt
    m_p_bytes: StrictInt


class PlanDocument(Entry):
    """A document ``cosma-sched/plan/1``."""

    schema_: Literal["cosma-sched/plan/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: Annotated[float, Field(ge=0)]
    verified: StrictBool
    scratchpad_bytes: Annotated[StrictInt, Field(gt=0)]
    traffic_bytes: StrictInt | None
    spill_bytes: StrictInt | None
    retrieve_bytes: StrictInt | None
    compulsory_bytes: StrictInt | None
    bound_bytes: StrictInt | None
    gap: float | None
    peak_bytes: StrictInt | None
    height_bytes: StrictInt | None
    order: list[StrictStr] | None
    residency: list[ResidencyEntry] | None
    transfers: list[TransferEntry] | None
    budgets: BudgetsEntry | None = None
    bound_scope: StrictStr | None = None
    reasons: Annotated[list[ReasonEntry], Field(default_factory=list)]
    provenance: ProvenanceBlock


class BoundsDocument(Entry):
    """A document ``cosma-sched/bounds/1``."""

    schema_: Literal["cosma-sched/bounds/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: Annotated[float, Field(ge=0)]
    verified: StrictBool
    provenance: ProvenanceBlock
    m_r_bytes: StrictInt
    m_r_operator: StrictStr
    m_p_bytes: StrictInt
    m_p_bound_bytes: StrictInt
    m_p_status: Status
    m_h_bytes: StrictInt
    given_order_peak_bytes: StrictInt
    order: list[StrictStr]
    states: StrictInt


class CurvePointEntry(Entry):
    """One entry of ``points``."""

    scratchpad_bytes: StrictInt
    traffic_bytes: StrictInt
    bound_bytes: StrictInt
    status: Status
    packed: StrictBool


class CurveDocument(Entry):
    """A document ``cosma-sched/curve/1``."""

    schema_: Literal["cosma-sched/curve/1"] = Field(alias="schema")
    status: Status
    termination: Termination
    seconds: Annotated[float, Field(ge=0)]
    verified: StrictBool
    order: Literal["free", "given"]
    from_bytes: StrictInt
    to_bytes: StrictInt
    points: list[CurvePointEntry]
    provenance: ProvenanceBlock
