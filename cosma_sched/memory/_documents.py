"""The form of the planner's documents; what their parts mean together is checked in `verify`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from cosma_sched.errors import Defect, InputError, shown
from cosma_sched.files import validation_defects
from cosma_sched.result import Status, Termination


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ResidencyEntry(_Entry):
    """One entry of ``residency``."""

    tensor: StrictStr
    start: StrictInt
    end: StrictInt
    offset: StrictInt
    size_bytes: StrictInt


class TransferEntry(_Entry):
    """One entry of ``transfers``."""

    tensor: StrictStr
    step: StrictInt
    kind: Literal["load", "store", "spill", "retrieve"]
    size_bytes: StrictInt


class BudgetsEntry(_Entry):
    """The block ``budgets``."""

    m_r_bytes: StrictInt
    m_h_bytes: StrictInt
    m_p_bytes: StrictInt


class TermEntry(_Entry):
    """One entry of ``reasons[].terms``."""

    name: StrictStr
    value: StrictInt


class LeverEntry(_Entry):
    """One entry of ``reasons[].levers``."""

    option: StrictStr
    value: StrictInt | StrictStr
    text: StrictStr


class ReasonEntry(_Entry):
    """One entry of ``reasons``."""

    rule: StrictStr
    where: StrictStr
    statement: StrictStr
    demand: StrictInt | None = None
    limit: StrictInt | None = None
    short: StrictInt | None = None
    unit: StrictStr = "bytes"
    terms: list[TermEntry] = []
    levers: list[LeverEntry] = []


class ProvenanceBlock(BaseModel):
    """The block ``provenance``; fields that a later version adds are let through."""

    version: StrictStr
    model: StrictStr | None
    sha256: StrictStr
    solver: StrictStr
    profile: StrictStr
    seed: StrictInt
    workers: StrictInt
    options: dict[str, Any]
    proved_by: list[StrictStr] = []
    versions: dict[str, StrictStr] = {}


class PlanDocument(_Entry):
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
    reasons: list[ReasonEntry] = []
    provenance: ProvenanceBlock


class BoundsDocument(_Entry):
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


def checked(form: type[BaseModel], document: Mapping[str, Any], schema: str, path: str) -> None:
    """Check a decoded document against its form.

    Raises
    ------
    InputError
        With every mistake at once.
    """
    if document.get("schema") != schema:
        raise InputError(path, [Defect("schema", f'must be "{schema}", got {shown(document.get("schema"))}')])
    try:
        form.model_validate(document)
    except ValidationError as error:
        raise InputError(path, validation_defects(error.errors(include_url=False))) from error
